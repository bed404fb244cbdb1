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

from tenants.datasets.importers import entries, limits
from tenants.datasets.importers.content import CHUNK
from tenants.datasets.importers.entries import Entry
from tenants.datasets.importers.sidecars import is_sidecar
from tenants.errors import Invalid


@dataclass(frozen=True)
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
    """``Files`` of a disk. In memory is the listing of the folders on the way to the file in hand."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.total: int | None = None
        self._listed: tuple[str, frozenset[str]] = ("\0", frozenset())

    def entries(self) -> Iterator[Entry]:
        for count, entry in enumerate(self._walk("", 0), 1):
            if count > limits.ENTRIES:
                raise Invalid(f"More than {limits.ENTRIES:,} files; import its folders one by one.")
            yield entry

    def find(self, name: str) -> Entry | None:
        if entries.refusal(name):
            return None
        node = self._disk.node(name)
        return self._entry(name, node) if node and not node.is_folder else None

    def top_folder(self) -> str:
        nodes = [node for node in self._disk.listing("") if not entries.passed_over(node.name)]
        return nodes[0].name if len(nodes) == 1 and nodes[0].is_folder else ""

    def has_partner(self, name: str) -> bool:
        folder = name.rpartition("/")[0]
        if self._listed[0] != folder:
            nodes = self._disk.listing(folder)
            self._listed = folder, _stems(folder, nodes)
        return entries.stem(name) in self._listed[1]

    def _walk(self, folder: str, depth: int) -> Iterator[Entry]:
        nodes = [node for node in self._disk.listing(folder) if not entries.passed_over(node.name)]
        nodes.sort(key=lambda node: node.name.encode("utf-8", "surrogatepass"))
        self._listed = folder, _stems(folder, nodes)
        for node in nodes:
            path = f"{folder}/{node.name}" if folder else node.name
            if not node.is_folder:
                yield self._entry(path, node)
            elif depth < limits.DEPTH:
                yield from self._walk(path, depth + 1)
            else:
                yield Entry(path, _nothing, error=f"More than {limits.DEPTH} folders deep.")

    def _entry(self, path: str, node: Node) -> Entry:
        error = node.error or entries.refusal(path)
        return Entry(path, partial(self._disk.chunks, path), node.size, error)


def _stems(folder: str, nodes: list[Node]) -> frozenset[str]:
    prefix = f"{folder}/" if folder else ""
    names = (node.name for node in nodes if not node.is_folder and not node.error)
    return frozenset(entries.stem(prefix + name) for name in names if not is_sidecar(name))


def _nothing() -> Iterator[bytes]:
    return iter(())


class LocalDisk:
    """A folder of this machine, for whoever may run commands on it; links are reported and never followed."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise Invalid(f"{root} is not a folder.", pointer="/location")
        self._root = root

    def listing(self, folder: str) -> list[Node]:
        try:
            with os.scandir(self._root / folder) as found:
                return [_node(one.name, one.stat(follow_symlinks=False)) for one in found]
        except OSError as error:
            return [Node(".", False, error=f"The folder cannot be read: {error.strerror}.")]

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
            raise Invalid(f"The file cannot be read: {error.strerror}.", pointer="/file") from None
        with os.fdopen(descriptor, "rb") as stream:
            yield from iter(partial(stream.read, CHUNK), b"")


def _node(name: str, status: os.stat_result) -> Node:
    if stat.S_ISLNK(status.st_mode):
        return Node(name, False, error="A symbolic link; links are not followed.")
    if stat.S_ISDIR(status.st_mode):
        return Node(name, True)
    error = None if stat.S_ISREG(status.st_mode) else "Not a regular file."
    return Node(name, False, status.st_size, error)
