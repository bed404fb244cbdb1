"""One decoding child process and the pipes to it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from ml import sandbox

#: Linux: pixels of a picture (3 MB) take a few large reads instead of fifty small ones.
F_SETPIPE_SZ, PIPE_BYTES = 1031, 1 << 20

#: A child that does not take a request within this time hangs.
SEND_S = 20.0

#: How often the memory of a child is looked at that has no limit of its address space.
LOOK_S = 0.05

#: Every thread's own malloc arena would reserve 64 MB of the limited address space. And memory of one picture serves
#: the next: asking the kernel anew was a fifth of decoding one.
LEAN = {
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "PILLOW_BLOCKS_MAX": "8",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}

#: Longer answers than a full-size picture can give are a fault of the child, not content.
MAX_HEADER, MAX_PART = 1 << 16, 1 << 30

Piece = tuple[dict[str, Any], list[bytearray]]


class ChildDied(Exception):
    """The child ended or broke the protocol before its answer was complete."""


class ChildExhausted(ChildDied):
    """It took more memory than it may, and was ended."""


class ChildTimeout(Exception):
    """No complete answer before the deadline."""


class Child:
    """A running ``python -m ml.media.child``, or another ``module`` that speaks like it. Used by one thread at a time.

    ``memory_bytes`` limits its address space (RLIMIT_AS), which the kernel keeps without fail. With ``resident`` it
    limits what it has resident, looked at twenty times a second while it works: CUDA reserves address space for the
    memory of all cards and of the machine, and cannot start below that. RLIMIT_DATA would count what it pins and maps
    writable, and a cgroup of its own needs rights that a stack without root does not have. A child that allocates
    faster than it is looked at is the kernel's first choice when memory ends (``oom_score_adj``).

    ``environment``: further variables that it sees; nothing else of this process's reaches it. ``arguments``: further
    ones of its command line.

    It ends by itself when its input does, so also when this process is killed; PR_SET_PDEATHSIG would not do:
    the kernel ties that to the thread that started the child, and threads of a pool come and go.
    """

    def __init__(
        self,
        memory_bytes: int,
        module: str = "ml.media.child",
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        *,
        resident: bool = False,
    ) -> None:
        self.jobs = 0
        self._most_resident = memory_bytes if resident else 0
        self._requests, theirs = socket.socketpair()
        self._requests.settimeout(SEND_S)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(0 if resident else memory_bytes), *arguments],
            cwd="/",
            env=sandbox.environment(**LEAN, **environment or {}),
            stdin=theirs.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        theirs.close()
        if resident:
            with contextlib.suppress(OSError):
                Path(f"/proc/{self._process.pid}/oom_score_adj").write_text("1000")
        self._usage = psutil.Process(self._process.pid)
        if self._process.stdout is None:
            raise RuntimeError("the child has no pipe")
        self._output = self._process.stdout.fileno()
        self._early = b""
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._output, F_SETPIPE_SZ, PIPE_BYTES)

    def send(self, request: dict[str, Any], path: str | os.PathLike[str] | None = None) -> None:
        """Send one request, with the file at ``path`` as it is now; its pieces are then received until one has ``end``.

        Raises ChildDied, and OSError where the file cannot be opened.
        """
        self.jobs += 1
        line = json.dumps(request).encode() + b"\n"
        descriptor = None if path is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            sent = socket.send_fds(self._requests, [line], [] if descriptor is None else [descriptor])
            self._requests.sendall(line[sent:])
        except OSError as error:
            raise ChildDied from error
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def receive(self, deadline: float) -> Piece:
        """The next piece, header and parts. Raises ChildDied or ChildTimeout."""
        header = self._header(deadline)
        parts = [self._part(size, deadline) for size in header.pop("sizes")]
        if self._early and header.get("end"):
            raise ChildDied("more bytes than announced")
        return header, parts

    def cpu_s(self) -> float:
        """Processor seconds that it has used so far; 0 once it is gone."""
        try:
            times = self._usage.cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def alive(self) -> bool:
        """False once the process has ended."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Kill it and release its pipes."""
        self._process.kill()
        self._process.wait()
        self._requests.close()
        if self._process.stdout:
            self._process.stdout.close()

    def _header(self, deadline: float) -> dict[str, Any]:
        received, self._early = bytearray(self._early), b""
        while b"\n" not in received:
            self._wait(deadline)
            received += self._read(MAX_HEADER)
            if len(received) > MAX_HEADER and b"\n" not in received[:MAX_HEADER]:
                raise ChildDied("header too long")
        line, _, self._early = bytes(received).partition(b"\n")
        return _checked(line)

    def _part(self, size: int, deadline: float) -> bytearray:
        content = bytearray(size)
        got = min(size, len(self._early))
        content[:got], self._early = self._early[:got], self._early[got:]
        with memoryview(content) as view:
            while got < size:
                self._wait(deadline)
                count = os.readv(self._output, [view[got:]])
                if count == 0:
                    raise ChildDied
                got += count
        return content

    def _read(self, limit: int) -> bytes:
        received = os.read(self._output, limit)
        if not received:
            raise ChildDied
        return received

    def _wait(self, deadline: float) -> None:
        poller = select.poll()  # not select(): it fails on descriptors above 1023
        poller.register(self._output, select.POLLIN)
        while True:
            left_s = max(0, deadline - time.monotonic())
            wait_s = min(left_s, LOOK_S) if self._most_resident else left_s
            if poller.poll(wait_s * 1000):
                return
            if self._most_resident and resident_bytes(self._process.pid) > self._most_resident:
                self._process.kill()
                raise ChildExhausted("more memory than allowed")
            if wait_s == left_s:
                raise ChildTimeout


def resident_bytes(pid: int) -> int:
    """Memory of a process that no file stands behind; 0 where it is gone. Libraries, of which CUDA has gigabytes, are
    not in it, nor is a card's memory."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def _checked(line: bytes) -> dict[str, Any]:
    """A compromised child must not make the parent allocate or believe whatever it likes."""
    try:
        header = json.loads(line)
        sizes = header["sizes"]
        if all(isinstance(size, int) and 0 <= size <= MAX_PART for size in sizes) and len(sizes) <= 3:
            return dict(header)
    except (ValueError, KeyError, TypeError):
        pass
    raise ChildDied("malformed answer")
