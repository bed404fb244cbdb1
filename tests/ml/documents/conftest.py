"""A reader for all tests of documents, and a way to read bytes with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml.documents import HEAD_BYTES, Document, Reader, sniff

Read = Callable[..., Document]


@pytest.fixture(scope="session")
def reader() -> Iterator[Reader]:
    with Reader() as reader:
        yield reader


@pytest.fixture
def read(reader: Reader, tmp_path: Path) -> Read:
    """Reads bytes as an upload of this name would be."""

    def read(content: bytes, name: str, by: Reader = reader) -> Document:
        path = tmp_path / "document"
        path.write_bytes(content)
        media_type = sniff(content[:HEAD_BYTES], name)
        assert media_type is not None
        return by.read(path, media_type)

    return read
