"""A small pool of decoding children: one request, an answer of several pieces, whatever the file does.

A child costs about 0.1 s to start, so it is kept and used again; it is replaced after ``JOBS_PER_CHILD``
files, after any failure that is not a plain refusal, and killed when it takes too long or its answer is not
wanted to the end. Where it dies, a new one is asked once more: it may have been ended from outside.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Generator, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ml.media.fair_queue import FairQueue
from ml.media.model import MediaError
from ml.media.process import Child, ChildDied, ChildTimeout, Piece

JOBS_PER_CHILD = 500
#: How often a file is given to a child that then dies.
TRIES = 2

Path = str | os.PathLike[str]


class Pool:
    """Children with ``memory_bytes`` of address space each; ``turns`` says whose turn it is to have one at work.

    Thread-safe; survives fork and a child's death. An answer that waits for its reader keeps a child, but not
    a place among those at work: readers that hold several answers cannot lock each other out.
    """

    def __init__(self, memory_bytes: int, turns: Callable[[], FairQueue]) -> None:
        self.idle: list[Child] = []
        self._memory_bytes, self._new_turns = memory_bytes, turns
        self._turns = turns()
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def ask_once(self, path: Path, request: dict[str, Any], timeout_s: float, owner: Hashable) -> list[Piece]:
        """All pieces of a short answer, which keeps its place among those at work to the end.

        Raises MediaError, and Crowded where too many wait for their turn.
        """
        self._forget_after_fork()
        with self._turns.of(owner):
            return list(self._tried(path, request, timeout_s, nullcontext))

    def ask(
        self, path: Path, request: dict[str, Any], timeout_s: float, owner: Hashable
    ) -> Generator[Piece, None, None]:
        """The pieces of the answer as they come, each within ``timeout_s``. Raises MediaError and Crowded.

        Headers tell ``waited_s``, the time that this process waited for the piece.
        """
        self._forget_after_fork()
        return self._tried(path, request, timeout_s, lambda: self._turns.of(owner))

    def _tried(
        self,
        path: Path,
        request: dict[str, Any],
        timeout_s: float,
        place: Callable[[], AbstractContextManager[Any]],
    ) -> Generator[Piece, None, None]:
        """The pieces; where a child dies, what was not handed out yet comes from a new one, which begins again."""
        handed_out, cpu_s = 0, 0.0
        for attempt in range(1, TRIES + 1):
            pieces = self._pieces(path, request, timeout_s, place)
            try:
                for piece in itertools.islice(pieces, handed_out, None):
                    handed_out += 1
                    yield piece
            except MediaError as error:
                cpu_s += error.cpu_s
                if error.code != "decoder-died" or attempt == TRIES:
                    error.cpu_s = cpu_s
                    raise
            else:
                return
            finally:
                pieces.close()

    def _pieces(
        self,
        path: Path,
        request: dict[str, Any],
        timeout_s: float,
        place: Callable[[], AbstractContextManager[Any]],
    ) -> Generator[Piece, None, None]:
        child: Child | None = None
        before, refused = 0.0, None
        try:
            while True:
                with place():
                    # Waiting for a place is not the file's fault: the time starts here.
                    start = time.monotonic()
                    if child is None:
                        child = self._take()
                        before = child.cpu_s()
                        child.send({**request, "timeout_s": timeout_s}, path)
                    header, parts = child.receive(start + timeout_s)
                    header["waited_s"] = time.monotonic() - start
                if header.get("end"):
                    break
                before = child.cpu_s()
                yield header, parts
            if "code" in header:
                refused = _charged(MediaError(header["code"], header["message"]), child, before)
            if child.jobs < JOBS_PER_CHILD and not header.get("exhausted"):
                self._give_back(child)
                child = None
        except ChildTimeout:
            raise _charged(timed_out(timeout_s), child, before) from None
        except ChildDied:
            raise _charged(died(), child, before) from None
        finally:
            if child is not None:
                child.stop()
        if refused:
            raise refused

    def close(self) -> None:
        """End the idle children."""
        with self._lock:
            idle, self.idle = self.idle, []
        for child in idle:
            child.stop()

    def _take(self) -> Child:
        with self._lock:
            while self.idle:
                child = self.idle.pop()
                if child.alive():
                    return child
                child.stop()
        return Child(self._memory_bytes)

    def _give_back(self, child: Child) -> None:
        with self._lock:
            self.idle.append(child)

    def _forget_after_fork(self) -> None:
        """A forked process shares its parent's pipes: it must start children of its own."""
        if os.getpid() != self._owner:
            self._lock, self.idle = threading.Lock(), []
            self._turns = self._new_turns()
            self._owner = os.getpid()


def _charged(error: MediaError, child: Child | None, before: float) -> MediaError:
    """With what the child has used since it had used ``before``."""
    error.cpu_s = max(0.0, child.cpu_s() - before) if child else 0.0
    return error


def timed_out(limit_s: float) -> MediaError:
    """The file took longer than ``limit_s``."""
    return MediaError(
        "timeout", f"decoding took longer than {limit_s:g} s: try again, or send the file smaller"
    )


def died() -> MediaError:
    """The decoder process ended, or its answer made no sense: nothing is known about the file."""
    return MediaError(
        "decoder-died", "the file could not be looked at, because the decoder's process ended: try again"
    )
