"""What kind of source a file is: by its content; the name only tells kinds of text from one another."""

from __future__ import annotations

import codecs
import tarfile
from pathlib import Path, PurePosixPath

from django.utils.translation import gettext as _

from ml.media import sniff
from tenants.datasets.importers.content import open_content
from tenants.datasets.importers.encodings import MARKING, encoding
from tenants.datasets.importers.json_lines import check_head
from tenants.errors import Invalid, UnsupportedMedia

ACCEPTED = "Accepted are .zip, .tar (not compressed), .csv, .tsv, .jsonl and .parquet."

_OFFICE = frozenset((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers"))
_DOCUMENTS = frozenset((".docx", ".pptx", ".odt", ".odp", ".epub", ".jar", ".apk", ".npz", ".pages", ".key"))
_TABLES = frozenset((".csv", ".tsv", ".tab", ".psv", ".ssv"))
_LINES = frozenset((".jsonl", ".ndjson", ".jsonlines", ".ldjson"))
_COMPRESSED = {
    "application/gzip": "gzip",
    "application/x-bzip2": "bzip2",
    "application/x-xz": "xz",
    "application/zstd": "Zstandard",
}
_ARCHIVES = {"application/x-7z-compressed": "7z", "application/vnd.rar": "RAR"}
_OTHERS = (
    (b"ARROW1", "Arrow IPC (Feather) files: write Parquet instead."),
    (b"ORC", "ORC files: write Parquet instead."),
    (b"Obj\x01", "Avro files: write Parquet or JSON Lines instead."),
    (b"SQLite format 3\x00", "SQLite databases: export the table as CSV."),
    (b"\xd0\xcf\x11\xe0", "old Office files: save the sheet as CSV (UTF-8)."),
    (b"\x89HDF", "HDF5 files: write Parquet instead."),
)


def detect(path: Path, filename: str) -> str:
    """The format of an uploaded file, one of FORMATS but ``files``. Raises UnsupportedMedia that says what to do."""
    with open_content(path) as content:
        head = content.at(0, 4096)
    suffix = PurePosixPath(filename.lower()).suffix
    kind = sniff(head)
    if kind == "application/zip":
        return _zip(head, suffix)
    if kind == "application/vnd.apache.parquet":
        return "parquet"
    if kind == "application/x-tar" or _is_old_tar(head):
        return "tar"
    _refuse_binary(head, kind, suffix)
    return _text(head, suffix)


def _zip(head: bytes, suffix: str) -> str:
    if suffix in _OFFICE or (b"[Content_Types].xml" in head[:200] and suffix not in _DOCUMENTS):
        raise _unsupported("spreadsheets: save the sheet as CSV (UTF-8), or put CSV and files into a zip.")
    if suffix in _DOCUMENTS:
        raise _unsupported(f"{suffix} files.")
    return "zip"


def _is_old_tar(head: bytes) -> bool:
    """A tar from before 1988, without magic; the header's checksum tells."""
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def _refuse_binary(head: bytes, kind: str | None, suffix: str) -> None:
    if kind in _COMPRESSED:
        raise _unsupported(f"files compressed with {_COMPRESSED[kind]}: unpack it and send what is inside.")
    if kind in _ARCHIVES:
        raise _unsupported(f"{_ARCHIVES[kind]} archives: pack the files as .zip.")
    for magic, words in _OTHERS:
        if head.startswith(magic):
            raise _unsupported(words)
    if kind and kind.split("/")[0] in ("image", "audio", "video") and kind != "image/svg+xml":
        raise _unsupported(f"single files ({kind}): upload it as an asset, or put many of them into a zip.")
    if kind not in (None, "text/plain"):
        raise _unsupported(f"{kind} files.")
    if kind is None and suffix not in (*_TABLES, *_LINES, ".txt") and not _is_utf16(head):
        raise _unsupported("files of this unknown kind.")


def _is_utf16(head: bytes) -> bool:
    return head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def _text(head: bytes, suffix: str) -> str:
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if suffix in _LINES or suffix == ".json" or (start[:1] == b"{" and suffix not in _TABLES):
        _check_lines(head)
        return "jsonl"
    if suffix in _TABLES:
        return "csv"
    if start[:1] == b"[":
        _check_lines(head)
    first = head.decode(encoding(head), MARKING).split("\n", 1)[0]
    if any(delimiter in first for delimiter in (",", ";", "\t", "|")):
        return "csv"
    raise _unsupported("plain texts: upload it as an asset, or make a CSV with one text a line and a header.")


def _check_lines(head: bytes) -> None:
    try:
        check_head(head)
    except Invalid as error:
        raise UnsupportedMedia(str(error)) from None


def _unsupported(words: str) -> UnsupportedMedia:
    return UnsupportedMedia(
        _("This does not take %(words)s %(accepted)s") % {"words": words, "accepted": ACCEPTED}
    )
