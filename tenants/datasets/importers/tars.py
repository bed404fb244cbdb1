"""Samples of a tar archive as WebDataset writes them: files that share a key lie one after another.

An own loop over the headers, because ``tarfile`` reads names and extensions of any length into memory and, in Python
versions still in use, can be sent into endless loops. Single headers are parsed by ``tarfile.TarInfo``.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from django.utils.translation import gettext
from django.utils.translation import gettext as _

from tenants.datasets.importers import entries, limits
from tenants.datasets.importers.content import Content
from tenants.datasets.importers.entries import Entry, refusal, suffix
from tenants.datasets.importers.model import Item
from tenants.datasets.importers.sidecars import is_sidecar, item_of_sample
from tenants.errors import Invalid

_BLOCK = tarfile.BLOCKSIZE
_LONG_NAMES = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_KINDS = {
    tarfile.SYMTYPE: "A symbolic link; put the file itself into the archive.",
    tarfile.LNKTYPE: "A hard link; put the file itself into the archive.",
    tarfile.CHRTYPE: "A device, not a file.",
    tarfile.BLKTYPE: "A device, not a file.",
    tarfile.FIFOTYPE: "A pipe, not a file.",
    tarfile.GNUTYPE_SPARSE: "A sparse file; make the archive without --sparse.",
}


@dataclass
class _Sample:
    """Files with one key. ``described``: sidecars by suffix."""

    key: str
    files: list[Entry] = field(default_factory=list)
    described: dict[str, Entry] = field(default_factory=dict)


class Tar:
    """Raises Invalid where not even the first header is one. Entries may be saved in any order and at any time."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self.total: int | None = None
        _header(content, 0)

    def items(self, after: int = 0) -> Iterator[Item]:
        """Damage in the middle ends the archive: a last item says where."""
        row = 0
        for sample in self._samples():
            for at, entry in enumerate(sample.files):
                row += 1
                if row > after:
                    key = sample.key if at == 0 else f"{sample.key}.{entry.name.split('.')[-1]}"
                    yield item_of_sample(row, entry, sample.described, key)

    def _samples(self) -> Iterator[_Sample]:
        sample = _Sample("")
        for entry in self._entries():
            key = _key(entry.name)
            if key != sample.key or len(sample.files) + len(sample.described) >= limits.SAMPLE_MEMBERS:
                yield _complete(sample)
                sample = _Sample(key)
            kind = suffix(entry.name)
            beside = not entry.error and (is_sidecar(entry.name) or kind == "cls")
            if beside and kind not in sample.described:
                sample.described[kind] = entry
            else:
                sample.files.append(entry)
        yield _complete(sample)

    def _entries(self) -> Iterator[Entry]:
        """Files, links and devices; what systems leave behind is passed over."""
        at = 0
        while at + _BLOCK <= self._content.size:
            try:
                header, at = _member(self._content, at)
            except Invalid as error:
                yield Entry(f"byte {at:,}", _nothing, error=f"{error} What follows cannot be read.")
                return
            if header is None:
                return
            name = header.name.removeprefix("./")
            data, at = at, at + _padded(header.size if header.isreg() else 0)
            if not header.isdir() and not entries.is_ignored(name):
                yield self._entry(header, name, data)

    def _entry(self, header: tarfile.TarInfo, name: str, data: int) -> Entry:
        error = _KINDS.get(header.type) or (None if header.isreg() else "Not a regular file.")
        if any(key.startswith("GNU.sparse") for key in header.pax_headers):
            error = _KINDS[tarfile.GNUTYPE_SPARSE]
        if not error and data + header.size > self._content.size:
            error = "The archive ends inside this file."
        return Entry(
            name, partial(self._content.chunks, data, header.size), header.size, error or refusal(name)
        )


def _complete(sample: _Sample) -> _Sample:
    """Without a file beside them, the text and its metadata are the sample."""
    if not sample.files:
        for kind in ("txt", "text", "caption", "json", "cls"):
            if entry := sample.described.pop(kind, None):
                sample.files.append(entry)
                break
    return sample


def _key(name: str) -> str:
    """The path up to the first dot of the base name."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.split(".", 1)[0]


def _member(content: Content, at: int) -> tuple[tarfile.TarInfo | None, int]:
    """The next member and where its data begin; None at the end of the archive."""
    extended: dict[str, str] = {}
    for _round in range(8):
        header = _header(content, at)
        if header is None:
            return None, at
        at += _BLOCK
        if header.type in _LONG_NAMES:
            extended[_LONG_NAMES[header.type]] = _long(content, at, header).rstrip(b"\0").decode(*_NAMES)
        elif header.type in _PAX:
            extended |= _records(_long(content, at, header))
        elif header.type != tarfile.XGLTYPE:
            return _extend(header, extended), at
        at += _padded(header.size)
    raise Invalid(gettext("The archive is damaged: extended headers without a file."), pointer="/file")


_NAMES = ("utf-8", "surrogateescape")


def _header(content: Content, at: int) -> tarfile.TarInfo | None:
    block = content.at(at, _BLOCK)
    if not block.strip(b"\0"):
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, *_NAMES)
    except (tarfile.HeaderError, ValueError):
        raise Invalid(_("The archive is damaged: no valid header at this place."), pointer="/file") from None
    if header.size < 0:
        raise Invalid(_("The archive is damaged: a negative size."), pointer="/file")
    return header


def _long(content: Content, at: int, header: tarfile.TarInfo) -> bytes:
    if header.size > limits.TAR_HEADER:
        raise Invalid(_("An extended header is too long."), pointer="/file")
    return content.at(at, header.size)


def _records(raw: bytes) -> dict[str, str]:
    """pax: "LENGTH KEY=VALUE\\n" one after another, LENGTH of the whole."""
    found = {}
    while raw:
        head, _, _ = raw[:20].partition(b" ")
        length = int(head) if head.isdigit() else 0
        if not len(head) + 1 < length <= len(raw):
            raise Invalid(
                gettext("The archive is damaged: an extended header cannot be read."), pointer="/file"
            )
        key, _, value = raw[len(head) + 1 : length].rstrip(b"\n").partition(b"=")
        found[key.decode(*_NAMES)] = value.decode(*_NAMES)
        raw = raw[length:]
    return found


def _extend(header: tarfile.TarInfo, extended: dict[str, str]) -> tarfile.TarInfo:
    header.name = extended.get("path", header.name)
    header.pax_headers = extended
    if size := extended.get("size"):
        if not size.isdigit() or len(size) > 18:
            raise Invalid(_("The archive is damaged: a size that is no number."), pointer="/file")
        header.size = int(size)
    return header


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _nothing() -> Iterator[bytes]:
    return iter(())
