"""The files of a local folder or of a bucket's prefix, folder by folder in sorted order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from django.utils.translation import gettext as _

from tenants.datasets.importers import entries, limits
from tenants.datasets.importers.content import CHUNK
from tenants.datasets.importers.entries import Entry
from tenants.datasets.importers.sidecars import is_sidecar
from tenants.errors import Invalid


@dataclass(frozen=True, slots=True)
class Node:
    """A name in a folder. ``error``: why it is refused, as a link is."""

    name: str
    is_folder: bool
    size: int | None = None
    error: str | None = None


class Disk(Protocol):
    """Where the files lie. Paths are relative to the source, with forward slashes, "" for its root."""

    def listing(self, folder: str) -> list[Node]: ...

    def node(self, path: str) -> Node | None:
        """The node at a path, no link followed on the way."""
        ...

    def chunks(self, path: str) -> Iterator[bytes]: ...


class Folder:
    """``Files`` of a disk. In memory are the listings of the folders on the way to the file in hand."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.total: int | None = None
        self.rows: int | None = None
        self._listed = _Listing("", [])

    def entries(self) -> Iterator[Entry]:
        for count, entry in enumerate(self._walk("", 0), 1):
            if count > limits.ENTRIES:
                words = f"More than {limits.ENTRIES:,} files; import its folders one by one. The rest is left out."
                yield Entry(entry.name, _nothing, error=words)
                return
            yield entry

    def find(self, name: str) -> Entry | None:
        if entries.refusal(name):
            return None
        # What was listed need not be asked for: a request for each file of a bucket takes its time.
        node = self._listed.nodes.get(name) or (None if self._listed.covers(name) else self._disk.node(name))
        return self._entry(name, node) if node and not node.is_folder else None

    def top_folder(self) -> str:
        nodes = [node for node in self._disk.listing("") if not entries.is_ignored(node.name)]
        return nodes[0].name if len(nodes) == 1 and nodes[0].is_folder else ""

    def has_partner(self, name: str) -> bool:
        return entries.stem(name) in self._listed.stems

    def _walk(self, folder: str, depth: int) -> Iterator[Entry]:
        listed = _Listing(folder, self._listing(folder))
        for path, node in listed.nodes.items():
            self._listed = listed
            if not node.is_folder:
                yield self._entry(path, node)
            elif depth < limits.DEPTH:
                yield from self._walk(path, depth + 1)
            else:
                yield Entry(path, _nothing, error=f"More than {limits.DEPTH} folders deep.")

    def _listing(self, folder: str) -> list[Node]:
        try:
            return self._disk.listing(folder)
        except Invalid as error:
            if not folder:
                raise
            return [Node(_FOLDER, False, error=error.detail)]

    def _entry(self, path: str, node: Node) -> Entry:
        error = node.error or entries.refusal(path)
        return Entry(path, partial(self._disk.chunks, path), node.size, error)


#: Stands for a folder that cannot be listed.
_FOLDER = "(the folder)"


class _Listing:
    """The nodes of one folder by path, sorted, and the stems of its files that are no sidecars."""

    def __init__(self, folder: str, nodes: list[Node]) -> None:
        self._folder = folder
        kept = [node for node in nodes if not entries.is_ignored(node.name)]
        kept.sort(key=lambda node: node.name.encode("utf-8", "surrogatepass"))
        self.nodes = {f"{folder}/{node.name}" if folder else node.name: node for node in kept}
        files = (path for path, node in self.nodes.items() if not node.is_folder and not node.error)
        self.stems = frozenset(entries.stem(path) for path in files if not is_sidecar(path))

    def covers(self, name: str) -> bool:
        return bool(self.nodes) and name.rpartition("/")[0] == self._folder


def _nothing() -> Iterator[bytes]:
    return iter(())


class LocalDisk:
    """A folder of this machine, for whoever may run commands on it; links are reported and never followed."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise Invalid(_("%(root)s is not a folder.") % {"root": root}, pointer="/location")
        self._root = root

    def listing(self, folder: str) -> list[Node]:
        try:
            with os.scandir(self._root / folder) as found:
                return [_node(one.name, one.stat(follow_symlinks=False)) for one in found]
        except OSError as error:
            raise Invalid(
                _("The folder cannot be read: %(strerror)s.") % {"strerror": error.strerror},
                pointer="/location",
            ) from None

    def node(self, path: str) -> Node | None:
        status = None
        with suppress(OSError, ValueError):
            for part in [*reversed(Path(path).parents), Path(path)]:
                status = (self._root / part).lstat()
                if stat.S_ISLNK(status.st_mode) and part != Path():
                    break
        return _node(path.rpartition("/")[2], status) if status else None

    def chunks(self, path: str) -> Iterator[bytes]:
        try:
            descriptor = os.open(self._root / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise Invalid(
                _("The file cannot be read: %(strerror)s.") % {"strerror": error.strerror}, pointer="/file"
            ) from None
        with os.fdopen(descriptor, "rb") as stream:
            yield from iter(partial(stream.read, CHUNK), b"")


def _node(name: str, status: os.stat_result) -> Node:
    if stat.S_ISLNK(status.st_mode):
        return Node(name, False, error="A symbolic link; links are not followed.")
    if stat.S_ISDIR(status.st_mode):
        return Node(name, True)
    error = None if stat.S_ISREG(status.st_mode) else "Not a regular file."
    return Node(name, False, status.st_size, error)
