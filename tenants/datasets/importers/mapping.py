"""Which column is the id, the text, the file, and what becomes metadata: guessed, or given and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from django.utils.translation import gettext as _

from tenants.datasets.metadata import check_json
from tenants.errors import Invalid

ROLES = ("id", "text", "file")

# Names that people give such columns, the most telling first.
_NAMES = {
    "id": "external_id id uuid guid key uid sku asin isbn ean image_id file_id doc_id item_id product_id 编号",
    "text": (
        "text caption content body description question sentence message transcript title headline summary"
        " prompt abstract review name 文本 内容 描述 正文 标题"
    ),
    "file": (
        "file file_name filename file_path filepath path image image_path image_file img picture photo audio"
        " audio_path audio_file video video_path video_file media media_path url image_url audio_url video_url 文件"
    ),
}


@dataclass(frozen=True)
class Mapping:
    """``metadata``: from column to key of the metadata, or "*": every other column under its own name."""

    id: str | None = None
    text: str | None = None
    file: str | None = None
    metadata: dict[str, str] | Literal["*"] = "*"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def roles(self) -> tuple[str | None, str | None, str | None]:
        return self.id, self.text, self.file

    @staticmethod
    def parse(value: Any, columns: Sequence[str] | None = None, *, more: bool = False) -> Mapping:
        """From JSON. Raises Invalid that names each fault.

        Without ``columns`` only the form is checked; with ``more``, metadata may name columns not yet seen.
        """
        if not isinstance(value, dict):
            raise Invalid(
                _('A mapping is an object: {"id", "text", "file", "metadata"}.'), pointer="/mapping"
            )
        check_json(value, "/mapping")
        faults = [*_unknown_keys(value), *_bad_roles(value, columns), *_bad_metadata(value, columns, more)]
        if not faults and columns is not None and not (value.get("text") or value.get("file")):
            faults = [("/mapping", f"Name the column that holds the text or the file. {_found(columns)}")]
        if faults:
            raise _invalid(faults)
        identity, text, file = (value.get(role) or None for role in ROLES)
        return Mapping(identity, text, file, value.get("metadata", "*"))


def _unknown_keys(value: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for key in value:
        if key not in (*ROLES, "metadata"):
            yield f"/mapping/{key}", "Unknown; a mapping has id, text, file and metadata."


def _bad_roles(value: dict[str, Any], columns: Sequence[str] | None) -> Iterable[tuple[str, str]]:
    for role in ROLES:
        column = value.get(role)
        if not column:
            continue
        if not isinstance(column, str) or (columns is not None and column not in columns):
            yield f"/mapping/{role}", f"There is no such column. {_found(columns)}"
    given = [value[role] for role in ("text", "file") if value.get(role)]
    if len(given) == 2 and given[0] == given[1]:
        yield "/mapping/file", "Text and file cannot be the same column."


def _bad_metadata(
    value: dict[str, Any], columns: Sequence[str] | None, more: bool
) -> Iterable[tuple[str, str]]:
    metadata = value.get("metadata", "*")
    if metadata == "*":
        return
    if not isinstance(metadata, dict):
        yield "/mapping/metadata", 'Either "*" or an object from column to metadata key.'
        return
    for column, key in metadata.items():
        if not isinstance(key, str) or not key:
            yield f"/mapping/metadata/{column}", "The key must be a text that is not empty."
        elif columns is not None and column not in columns and not more:
            yield f"/mapping/metadata/{column}", f"There is no such column. {_found(columns)}"
    if len(set(map(str, metadata.values()))) < len(metadata):
        yield "/mapping/metadata", "Two columns go to the same key."


def _found(columns: Sequence[str] | None) -> str:
    if not columns:
        return "" if columns is None else "There are no columns."
    return f"Found: {', '.join(name[:60] for name in columns[:20])}{', …' if len(columns) > 20 else ''}."


def _invalid(faults: list[tuple[str, str]]) -> Invalid:
    error = Invalid(faults[0][1], pointer=faults[0][0])
    error.errors = [{"pointer": pointer, "detail": detail} for pointer, detail in faults]
    return error


def guess(types: dict[str, str], *, files: bool) -> Mapping:
    """From the columns' names and guessed types. ``files``: there are files that a cell can name."""
    content = [name for name, kind in types.items() if kind == "file"]
    texts = [name for name, kind in types.items() if kind in ("text", "empty")]
    file = content[0] if content else None
    text = _named(texts, "text")
    if file is None and (files or text is None):
        file = _named([name for name in texts if name != text], "file")
    if text is None and file is None:
        text = texts[0] if texts else None
    taken = (text, file)
    ids = [name for name, kind in types.items() if kind in ("text", "number") and name not in taken]
    return Mapping(_named(ids, "id"), text, file)


def _named(columns: list[str], role: str) -> str | None:
    """The column with the most telling name: as a whole, else as the last word ("product_title")."""
    plain = {re.sub(r"[\s\-]+", "_", name.strip().lower()): name for name in reversed(columns)}
    for name in _NAMES[role].split():
        if name in plain:
            return plain[name]
    if role == "id":
        return None  # a "customer_id" names something else than the row
    for name in _NAMES[role].split():
        for candidate, column in plain.items():
            if candidate.endswith(f"_{name}"):
                return column
    return None
