"""A local file that several readers read at their own places."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from tenants.errors import Invalid

CHUNK = 1 << 18


class Content:
    """Bytes behind a descriptor. Reading moves no shared position, so that readers do not disturb one another."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def close(self) -> None:
        """Later reads fail, also once the number of the descriptor stands for another file."""
        descriptor, self.descriptor = self.descriptor, -1
        os.close(descriptor)

    def at(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, fewer only at the end."""
        parts, got = [], 0
        while got < count and (part := os.pread(self.descriptor, min(count - got, 1 << 24), offset + got)):
            parts.append(part)
            got += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def chunks(self, offset: int, count: int) -> Iterator[bytes]:
        """``count`` bytes from ``offset`` in pieces; fewer where the file ends."""
        while count and (part := self.at(offset, min(count, CHUNK))):
            yield part
            offset, count = offset + len(part), count - len(part)

    def stream(self, offset: int = 0) -> io.BufferedReader:
        return io.BufferedReader(_View(self, offset), CHUNK)


class _View(io.RawIOBase):
    def __init__(self, content: Content, offset: int) -> None:
        self._content, self._offset = content, offset

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._content.descriptor, [buffer], self._offset)
        self._offset += count
        return count


@contextmanager
def open_content(path: Path) -> Iterator[Content]:
    """Opens a regular, not empty file. Raises Invalid for others."""
    content = Content(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    try:
        if not stat.S_ISREG(os.fstat(content.descriptor).st_mode):
            raise Invalid(_("Not a regular file."), pointer="/file")
        if content.size == 0:
            raise Invalid(_("The file is empty."), pointer="/file")
        yield content
    finally:
        content.close()
