"""A small pool of decoding children: one request, an answer of several pieces, whatever the file does.

A child costs about 0.1 s to start, so it is kept and used again; it is replaced after ``JOBS_PER_CHILD``
files, after any failure that is not a plain refusal, and killed when it takes too long or its answer is not
wanted to the end.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from typing import Any

from ml.media.model import MediaError
from ml.media.process import Child, ChildDied, ChildTimeout, Piece

JOBS_PER_CHILD = 500


class Pool:
    """Children with ``memory_bytes`` of address space each, ``children`` of them at work at the same time.

    Thread-safe; survives fork and a child's death. An answer that waits for its reader keeps a child, but not
    a place among those at work: readers that hold several answers cannot lock each other out.
    """

    def __init__(self, memory_bytes: int, children: int) -> None:
        self.idle: list[Child] = []
        self._memory_bytes, self._children = memory_bytes, children
        self._slots = threading.BoundedSemaphore(children)
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def ask(self, request: dict[str, Any], timeout_s: float) -> Generator[Piece, None, None]:
        """The pieces of the answer as they come, each within ``timeout_s``. Raises MediaError.

        Headers tell ``waited_s``, the time that this process waited for the piece.
        """
        self._forget_after_fork()
        child: Child | None = None
        try:
            while True:
                with self._slots:
                    # Waiting for a place is not the file's fault: the time starts here.
                    start = time.monotonic()
                    if child is None:
                        child = self._take()
                        child.send({**request, "timeout_s": timeout_s})
                    header, parts = child.receive(start + timeout_s)
                    header["waited_s"] = time.monotonic() - start
                if header.get("end"):
                    break
                yield header, parts
            if child.jobs < JOBS_PER_CHILD and not header.get("exhausted"):
                self._give_back(child)
                child = None
        except ChildTimeout:
            raise timed_out(timeout_s) from None
        except ChildDied:
            raise died() from None
        finally:
            if child is not None:
                child.stop()
        if "code" in header:
            raise MediaError(header["code"], header["message"])

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
            self._slots = threading.BoundedSemaphore(self._children)
            self._owner = os.getpid()


def timed_out(limit_s: float) -> MediaError:
    """The file took longer than ``limit_s``."""
    return MediaError(
        "timeout", f"decoding took longer than {limit_s:g} s: try again, or send the file smaller"
    )


def died() -> MediaError:
    """The decoder process ended, or its answer made no sense."""
    return MediaError(
        "decoder-died", "decoding the file ended the decoder process: export the file again in another format"
    )
