"""A file that somebody else opened for this process: read through its descriptor, never by name.

The decoding child may open no file of its own. What it gets has the two methods of a path that its readers use, so that
the same code reads a named file elsewhere.
"""

from __future__ import annotations

import io
import os
from pathlib import Path


class DescriptorFile:
    """An open regular file. Each ``open`` begins at its start and has a position of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def open(self, mode: str = "rb") -> io.BufferedReader:
        if mode != "rb":
            raise ValueError(f"only for reading in binary, not {mode!r}")
        return io.BufferedReader(_Reader(self._descriptor), 1 << 16)

    def stat(self) -> os.stat_result:
        return os.fstat(self._descriptor)

    def close(self) -> None:
        """Close the descriptor; readers fail from then on."""
        os.close(self._descriptor)


class _Reader(io.RawIOBase):
    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._at = descriptor, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = os.preadv(self._descriptor, [buffer], self._at)
        self._at += count
        return count

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = (0, self._at, os.fstat(self._descriptor).st_size)[whence]
        if base + offset < 0:
            raise OSError("a position before the start")
        self._at = base + offset
        return self._at


#: What is decoded: a file by its name, or one that was handed over open.
File = Path | DescriptorFile
