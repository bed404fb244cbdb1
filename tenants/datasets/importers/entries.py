"""Files of an archive, folder or bucket: which names are taken, and how their bytes get out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from ml.media import sniff
from tenants.datasets.importers import limits
from tenants.datasets.importers.model import Save
from tenants.errors import Invalid, ServiceError, TooLarge, room_on_disk

ARCHIVES = frozenset(
    ("zip", "tar", "gz", "tgz", "bz2", "tbz2", "xz", "txz", "zst", "7z", "rar", "jar", "lz4")
)
_ARCHIVE_TYPES = frozenset(
    f"application/{name}"
    for name in (
        "zip",
        "x-tar",
        "gzip",
        "x-bzip2",
        "x-xz",
        "zstd",
        "x-7z-compressed",
        "vnd.rar",
    )
)
_DRIVE = re.compile(r"[A-Za-z]:")
_LEFT_BEHIND = re.compile(r"(?:^|/)(?:\.(?!\.?(?:/|$))|__MACOSX(?:/|$)|(?i:thumbs\.db|desktop\.ini)$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
NESTED = gettext_noop("An archive inside the source; unpack it, or import it separately.")


@dataclass(frozen=True)
class Entry:
    """A file by its path in the source, or why it is refused. ``chunks()`` streams its checked bytes."""

    name: str
    chunks: Callable[[], Iterator[bytes]]
    size: int | None = None
    error: str | None = None

    def save(self, target: Path, limit: int) -> int:
        """As ``Item.save``."""
        if self.error:
            raise Invalid(self.error, pointer="/file")
        return copy(self.chunks(), target, limit, self.size)

    def read(self, limit: int) -> bytes:
        """The whole content. Raises TooLarge above ``limit`` bytes, and what ``save`` raises."""
        if self.error:
            raise Invalid(self.error, pointer="/file")
        return b"".join(_limited(self.chunks(), limit, self.size))


class Files(Protocol):
    """The files of a source in a stable order; what operating systems leave behind is passed over.

    ``total`` and ``rows`` count the files and those that are no sidecars; None where counting takes long.
    """

    total: int | None
    rows: int | None

    def entries(self) -> Iterator[Entry]: ...

    def find(self, name: str) -> Entry | None:
        """The file with exactly this path."""
        ...

    def top_folder(self) -> str:
        """The folder at the root that holds everything, empty if there is none."""
        ...

    def has_partner(self, name: str) -> bool:
        """There is a file beside ``name`` with the same stem that is no sidecar."""
        ...


def copy(chunks: Iterable[bytes], target: Path, limit: int, size: int | None = None) -> int:
    """Write ``chunks`` to ``target``; on any failure nothing stays there. Raises TooLarge, Invalid, StorageFull."""
    written = 0
    try:
        with room_on_disk(), target.open("wb") as stream:
            for chunk in _limited(chunks, limit, size):
                written += stream.write(chunk)
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise
    return written


def save_bytes(content: bytes) -> Save:
    def save(target: Path, limit: int) -> int:
        return copy([content], target, limit, len(content))

    return save


def _limited(chunks: Iterable[bytes], limit: int, size: int | None) -> Iterator[bytes]:
    # The size that a header states only ever refuses early; what counts is what comes out.
    if size is not None and size > limit:
        raise _too_large(limit)
    got = 0
    for chunk in chunks:
        if got == 0 and sniff(chunk[:4096]) in _ARCHIVE_TYPES:
            raise Invalid(_(NESTED), pointer="/file")
        got += len(chunk)
        if got > limit:
            raise _too_large(limit)
        yield chunk


def _too_large(limit: int) -> ServiceError:
    return TooLarge(_("The file is larger than %(value)s.") % {"value": format_size(limit)})


def format_size(count: int) -> str:
    return f"{count / limits.MIB:.4g} MiB" if count >= limits.MIB else f"{count} bytes"


def is_ignored(name: str) -> bool:
    """What systems and editors leave behind: dot files, resource forks, thumbnails."""
    return _LEFT_BEHIND.search(name) is not None


def refusal(name: str) -> str | None:
    """Why a path inside a source is not taken."""
    parts = name.split("/")
    if len(name) > limits.NAME:
        return f"The path has more than {limits.NAME} characters."
    if "\\" in name or _DRIVE.match(name):
        return "The path has a backslash or a drive letter; use forward slashes."
    if name.startswith("/") or ".." in parts or "." in parts or "" in parts:
        return "The path leads out of the archive or is not in plain form (no /, ., .. or // in it)."
    if _CONTROL.search(name) or any("\ud800" <= char <= "\udfff" for char in name):
        return "The path holds control characters or is not in a known encoding."
    if suffix(name) in ARCHIVES:
        return _(NESTED)
    return None


def suffix(name: str) -> str:
    """The last suffix of the base name in small letters, without its dot; a leading dot makes none."""
    base = name[name.rfind("/") + 1 :]
    dot = base.rfind(".")
    return base[dot + 1 :].lower() if dot > 0 else ""


def stem(name: str) -> str:
    """The path without its last suffix."""
    kind = suffix(name)
    return name[: -len(kind) - 1] if kind else name


def shown_name(name: str) -> str:
    """A path for people and for the database: nothing that UTF-8 cannot hold, not endless."""
    return _CONTROL.sub("\ufffd", name.encode("utf-8", "replace").decode())[-limits.ROW_NAME :]
