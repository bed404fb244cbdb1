"""Rows of an archive or folder: those of its manifest if it has one, else its files."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import IO

from django.utils.translation import gettext as _

from tenants.datasets.importers import entries, limits
from tenants.datasets.importers.content import Content
from tenants.datasets.importers.entries import Entry, Files
from tenants.datasets.importers.model import Item
from tenants.datasets.importers.records import Rules, Table, item_of
from tenants.datasets.importers.sidecars import is_sidecar, item_of_entry
from tenants.datasets.importers.zip_directory import digest
from tenants.errors import Invalid

#: In this order; Hugging Face's ImageFolder calls it metadata.
MANIFESTS = tuple(
    f"{name}.{kind}" for name in ("manifest", "metadata") for kind in ("csv", "jsonl", "parquet")
)


def find_manifest(files: Files) -> Entry | None:
    """At the root, or in the folder that holds everything else."""
    for name in MANIFESTS:
        if entry := files.find(name):
            return entry
    top = files.top_folder()
    candidates = (files.find(f"{top}/{name}") for name in MANIFESTS) if top else ()
    return next(filter(None, candidates), None)


def spooled(entry: Entry, folder: str, stack: ExitStack) -> Content:
    """The manifest as a file of its own without a name: a killed process leaves nothing behind."""
    with tempfile.TemporaryFile(dir=folder) as stream:
        _fill(stream, entry)
        content = Content(os.dup(stream.fileno()))
    stack.callback(content.close)
    return content


def _fill(stream: IO[bytes], entry: Entry) -> None:
    if entry.error:
        raise Invalid(f"{entry.name}: {entry.error}", pointer="/file")
    size = 0
    for chunk in entry.chunks():
        size += stream.write(chunk)
        if size > limits.MANIFEST:
            raise Invalid(
                _("The manifest is larger than %(value)s.") % {"value": entries.format_size(limits.MANIFEST)},
                pointer="/file",
            )
    if not size:
        raise Invalid(_("%(name)s is empty.") % {"name": entry.name}, pointer="/file")
    stream.flush()


def plain_items(files: Files, after: int) -> Iterator[Item]:
    """Each file with what lies beside it, but for sidecars of others."""
    row = 0
    for entry in files.entries():
        if is_sidecar(entry.name) and files.has_partner(entry.name):
            continue
        row += 1
        if row > after:
            yield item_of_entry(row, entry, files)


class Manifest:
    """A table whose cells name files, relative to the manifest's own folder."""

    def __init__(self, table: Table, entry: Entry, files: Files) -> None:
        self._table, self._files = table, files
        self._name = entry.name
        self._folder = entry.name.rpartition("/")[0]
        self._named = array("Q")

    def items(self, rules: Rules, after: int) -> Iterator[Item]:
        self._named = array("Q")
        rules = replace(rules, resolve=self._resolve)
        for record in self._table.records(rules.mapping.file, after):
            yield item_of(record, rules)
        if after == 0 and self._files.total is not None:
            self._warn(self._files.total)

    def _resolve(self, named: str) -> Entry:
        path = f"{self._folder}/{named}" if self._folder else named
        path = path.replace("/./", "/").removeprefix("./")
        entry = self._files.find(path)
        if entry is None:
            raise Invalid(entries.refusal(path) or f'There is no file "{entries.shown_name(path)}".')
        self._named.append(digest(path))
        return entry

    def _warn(self, total: int) -> None:
        unused = total - 1 - len(set(self._named))
        if unused > 0:
            self._table.warnings.append(
                f"Files that no row of {self._name} names, and that are left out: {unused:,}."
            )
