"""The files of a zip archive, with every lie that a header can tell refused."""

from __future__ import annotations

import stat
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from functools import partial

from django.utils.translation import gettext as _

from tenants.datasets.importers import entries, limits
from tenants.datasets.importers.content import Content
from tenants.datasets.importers.entries import Entry
from tenants.datasets.importers.sidecars import is_sidecar
from tenants.datasets.importers.zip_directory import ENCRYPTED, LOCAL, Directory, Header, digest
from tenants.errors import Invalid, TooLarge

_STORED, _DEFLATED = 0, 8
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd", 99: "AES"}


class Zip:
    """``Files`` of a zip in the order of its central directory."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._inflated = self._count = 0
        self._stems, self._beside, self._tops = array("Q"), array("Q"), {""}
        self._directory = Directory(content, self._note)
        self._stems = array("Q", sorted(self._stems))
        self.total: int | None = self._count
        self.rows: int | None = self._count - sum(map(self._has_stem, self._beside))

    def _note(self, header: Header) -> None:
        if header.is_directory or entries.is_ignored(header.name):
            return
        self._count += 1
        stems = self._beside if is_sidecar(header.name) else self._stems
        stems.append(digest(entries.stem(header.name)))
        if len(self._tops) < 3:  # "" and at most one are of interest
            folder, slash, _ = header.name.partition("/")
            self._tops.add(folder if slash else "/")

    def entries(self) -> Iterator[Entry]:
        return map(self._entry, self._files())

    def find(self, name: str) -> Entry | None:
        header = self._directory.find(name)
        return self._entry(header) if header and not header.is_directory else None

    def top_folder(self) -> str:
        return max(self._tops) if len(self._tops) == 2 and "/" not in self._tops else ""

    def has_partner(self, name: str) -> bool:
        return self._has_stem(digest(entries.stem(name)))

    def _has_stem(self, wanted: int) -> bool:
        at = bisect_left(self._stems, wanted)
        return at < len(self._stems) and self._stems[at] == wanted

    def _files(self) -> Iterator[Header]:
        for header in self._directory:
            if not header.is_directory and not entries.is_ignored(header.name):
                yield header

    def _entry(self, header: Header) -> Entry:
        refused = entries.refusal(header.name) or self._refusal(header)
        return Entry(header.name, partial(self._chunks, header), header.size, refused)

    def _refusal(self, header: Header) -> str | None:
        kind = stat.S_IFMT(header.mode)
        if kind == stat.S_IFLNK:
            return "A symbolic link; put the file itself into the archive."
        if kind not in (0, stat.S_IFREG):
            return "Not a regular file."
        if header.flags & ENCRYPTED:
            return "Encrypted; make the archive without a password."
        if header.method not in (_STORED, _DEFLATED):
            name = _METHODS.get(header.method, f"method {header.method}")
            return f"Compressed with {name}; make the archive with Deflate, the usual method."
        if self._directory.overlaps(header):
            return "Its bytes overlap with another entry's."
        return None

    def _chunks(self, header: Header) -> Iterator[bytes]:
        raw = self._content.chunks(self._data_at(header), header.compressed)
        crc = size = 0
        for chunk in raw if header.method == _STORED else _inflated(raw):
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
            self._check_growth(len(chunk), size, header.compressed)
            yield chunk
        if crc != header.crc or size != header.size:
            raise Invalid(_("The entry is damaged: its checksum does not match."), pointer="/file")

    def _data_at(self, header: Header) -> int:
        """Behind the local header, which has to agree with the central one."""
        local = self._content.at(header.offset, LOCAL.size)
        if len(local) < LOCAL.size or local[:4] != b"PK\x03\x04":
            raise Invalid(
                _("The entry is damaged: it does not begin where the directory says."), pointer="/file"
            )
        fields = LOCAL.unpack(local)
        name_length, extra_length = fields[9], fields[10]
        if self._content.at(header.offset + LOCAL.size, name_length) != header.raw_name:
            raise Invalid(_("The entry has two names."), pointer="/file")
        return header.offset + LOCAL.size + name_length + extra_length

    def _check_growth(self, chunk: int, size: int, compressed: int) -> None:
        self._inflated += chunk
        if size > limits.RATIO_FLOOR and size > limits.RATIO * compressed:
            raise Invalid(
                _("The entry grows more than %(ratio)s-fold when inflated: a zip bomb.")
                % {"ratio": limits.RATIO},
                pointer="/file",
            )
        if self._inflated > limits.TOTAL:
            raise TooLarge(
                _("The archive inflates to more than %(value)s; split it.")
                % {"value": entries.format_size(limits.TOTAL)}
            )


def _inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for chunk in chunks:
            while chunk and not inflater.eof:
                if out := inflater.decompress(chunk, limits.RATIO_FLOOR):
                    yield out
                chunk = inflater.unconsumed_tail
    except zlib.error:
        raise Invalid(_("The entry is damaged: it cannot be inflated."), pointer="/file") from None
    if not inflater.eof:
        raise Invalid(_("The entry is damaged: it ends too early."), pointer="/file")
