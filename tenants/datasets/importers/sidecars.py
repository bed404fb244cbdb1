"""Captions and metadata that lie beside a file under the same name: photo.jpg, photo.txt, photo.json."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext as _

from tenants.datasets.importers import limits
from tenants.datasets.importers.entries import Entry, Files, shown_name, stem, suffix
from tenants.datasets.importers.json_lines import parse_object
from tenants.datasets.importers.model import Item, is_text_list
from tenants.errors import Invalid, ServiceError

TEXTS = ("txt", "caption", "md", "text")
CAPTIONS = ("txt", "caption", "text")
_SIDECARS = frozenset((*CAPTIONS, "json"))

Find = Callable[[str], Entry | None]


def is_sidecar(name: str) -> bool:
    """It describes the file beside it, if there is one."""
    return suffix(name) in _SIDECARS


def item_of_entry(row: int, entry: Entry, files: Files) -> Item:
    """One file as an item, with what lies beside it."""
    beside = {} if is_sidecar(entry.name) else _find_sidecars(entry.name, files.find)
    return item_of_sample(row, entry, beside, entry.name)


def _find_sidecars(name: str, find: Find) -> dict[str, Entry]:
    base = stem(name)
    found = {kind: find(f"{base}.{kind}") for kind in sorted(_SIDECARS)}
    return {kind: entry for kind, entry in found.items() if entry}


def item_of_sample(row: int, entry: Entry, beside: dict[str, Entry], external_id: str) -> Item:
    """A file and its sidecars by suffix. A text file is a text; JSON alone is metadata with its text inside."""
    name = shown_name(entry.name)
    try:
        return _item(row, name, entry, beside, external_id)
    except ServiceError as error:
        return Item(row, name, error=str(error))


def _item(row: int, name: str, entry: Entry, beside: dict[str, Entry], external_id: str) -> Item:
    if entry.error:
        raise Invalid(entry.error)
    if len(external_id) > limits.ID:
        raise Invalid(
            _("The path serves as id and has more than %(id)s characters; shorten it.") % {"id": limits.ID}
        )
    kind = suffix(entry.name)
    if kind == "json":
        beside = {"json": entry}
    caption, others, metadata = _captions_and_metadata(beside)
    if kind in TEXTS:
        text = _text(entry, limits.TEXT)
        error = None if text.strip() else "Empty text."
        return Item(row, name, external_id, text, metadata, file_name=entry.name, error=error)
    if kind == "json":
        error = None if caption.strip() else 'JSON with no file beside it and no "text" or "caption" inside.'
        return Item(row, name, external_id, caption, metadata, error=error, captions=others)
    return Item(row, name, external_id, caption, metadata, entry.save, entry.name, captions=others)


def _captions_and_metadata(beside: dict[str, Entry]) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    """The first caption, further ones (a list under `captions` in the JSON), and the metadata."""
    metadata = _object(beside["json"]) if "json" in beside else {}
    if "cls" in beside:
        metadata = {"cls": _class(_text(beside["cls"], limits.SIDECAR)), **metadata}
    spoken = [metadata[key] for key in ("caption", "text") if isinstance(metadata.get(key), str)][:1]
    if kind := next((kind for kind in CAPTIONS if kind in beside), None):
        spoken = [_text(beside[kind], limits.SIDECAR)]
    if is_text_list(metadata.get("captions")):
        spoken += metadata["captions"]
        # They are the asset's captions, not a value to filter by.
        metadata = {key: value for key, value in metadata.items() if key != "captions"}
    first, *others = [one.strip() for one in spoken if one.strip()] or [""]
    return first, tuple(others), metadata


def _class(written: str) -> int | str:
    """WebDataset's .cls holds the number of a class."""
    plain = written.strip()
    return int(plain) if re.fullmatch(r"-?\d{1,15}", plain) else plain


def _text(entry: Entry, limit: int) -> str:
    try:
        return entry.read(limit).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Invalid(_("%(value)s is not UTF-8.") % {"value": shown_name(entry.name)[-100:]}) from None


def _object(entry: Entry) -> dict[str, Any]:
    try:
        return parse_object(entry.read(limits.SIDECAR))
    except ValueError as error:
        raise Invalid(f"{shown_name(entry.name)[-100:]}: {error}") from None
