"""What the readers give: items, and what a preview shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tenants.datasets.importers import limits
from tenants.datasets.importers.mapping import Mapping

#: Writes the file's bytes to a path, at most so many; how many there were.
Save = Callable[[Path, int], int]


@dataclass(frozen=True)
class Item:
    """One row of a source: something to make an asset of, or the reason why not.

    ``row`` counts from 1 and is the same in every run over the same source. ``name`` is what a person recognises:
    "line 7", "images/a.jpg". ``text`` is the text or, with a file, its caption; ``captions`` are further ones.
    ``file_name`` is the file's path in the source. ``save(target, limit)`` writes the file's bytes to ``target`` and
    returns how many; it raises TooLarge, Invalid (damaged, an archive, a bomb, …) or Unavailable and then leaves no
    file; call it before the source is closed. With ``error`` only ``record`` holds.
    """

    row: int
    name: str
    external_id: str | None = None
    text: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    save: Save | None = None
    file_name: str = ""
    error: str | None = None
    captions: tuple[str, ...] = ()
    #: The row of a table as it was read, by column: what a person mends where it failed.
    record: dict[str, Any] = field(default_factory=dict)


def is_text_list(value: object) -> bool:
    """Whether it is a list of nothing but texts, as captions are."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


@dataclass(frozen=True)
class Column:
    """``guessed_type``: text, number, bool, time, file (bytes), nested (lists, objects) or empty."""

    name: str
    examples: list[str]
    guessed_type: str


@dataclass(frozen=True)
class Preview:
    """A source at a glance. ``rows`` are the first items as an API or page shows them; ``total`` is None where the
    rows could not be counted in a second; ``options`` are to be stored and given back to ``open_items``."""

    format: str
    columns: list[Column]
    mapping: Mapping
    rows: list[dict[str, Any]]
    total: int | None
    options: dict[str, Any]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "mapping": self.mapping.as_dict()}


def preview_row(item: Item) -> dict[str, Any]:
    """An item for a preview: long values cut. With `captions` where there are further ones."""
    captions = [caption[: limits.EXCERPT] for caption in item.captions]
    shape = {
        "row": item.row,
        "name": item.name,
        "external_id": item.external_id,
        "text": item.text[: limits.EXCERPT],
        "file": item.file_name or None,
        "metadata": {key: excerpt(value) for key, value in list(item.metadata.items())[: limits.COLUMNS]},
        "error": item.error,
    }
    return shape | ({"captions": captions} if captions else {})


def excerpt(value: object) -> object:
    """The value, or its beginning as text where it is long."""
    if isinstance(value, str):
        return value[: limits.EXCERPT]
    if isinstance(value, list | dict) and len(written := str(value)) > limits.EXCERPT:
        return written[: limits.EXCERPT]
    return value
