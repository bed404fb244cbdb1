"""Which column is the id, the text, the file, and what becomes metadata: guessed, or given and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from django.utils.translation import gettext as _

from tenants.datasets.metadata import check_json
from tenants.errors import Invalid

ROLES = ("id", "text", "file", "captions")

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
    "captions": "captions",
}


@dataclass(frozen=True)
class Mapping:
    """Columns by what they hold. ``captions``: more captions of a file, beside the one in ``text``.

    ``metadata``: from column to key of the metadata, or "*": every other column under its own name.
    """

    id: str | None = None
    text: str | None = None
    file: str | None = None
    metadata: dict[str, str] | Literal["*"] = "*"
    captions: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Without ``captions`` where no column holds any."""
        return {name: value for name, value in asdict(self).items() if name != "captions" or value}

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
                _('A mapping is an object: {"id", "text", "file", "captions", "metadata"}.'),
                pointer="/mapping",
            )
        check_json(value, "/mapping")
        faults = [*_unknown_keys(value), *_bad_roles(value, columns), *_bad_metadata(value, columns, more)]
        if not faults and columns is not None and not any(value.get(role) for role in ROLES[1:]):
            faults = [
                ("/mapping", f"Name the column that holds the text or the file. {_list_columns(columns)}")
            ]
        if faults:
            raise _invalid(faults)
        identity, text, file, captions = (value.get(role) or None for role in ROLES)
        return Mapping(identity, text, file, value.get("metadata", "*"), captions)


def _unknown_keys(value: dict[str, object]) -> Iterable[tuple[str, str]]:
    for key in value:
        if key not in (*ROLES, "metadata"):
            yield f"/mapping/{key}", "Unknown; a mapping has id, text, file, captions and metadata."


def _bad_roles(value: dict[str, object], columns: Sequence[str] | None) -> Iterable[tuple[str, str]]:
    for role in ROLES:
        column = value.get(role)
        if not column:
            continue
        if not isinstance(column, str) or (columns is not None and column not in columns):
            yield f"/mapping/{role}", f"There is no such column. {_list_columns(columns)}"
    for role, other in (("file", "text"), ("captions", "text"), ("captions", "file")):
        if value.get(role) and value.get(role) == value.get(other):
            yield f"/mapping/{role}", f"{other.capitalize()} and {role} cannot be the same column."


def _bad_metadata(
    value: dict[str, object], columns: Sequence[str] | None, more: bool
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
            yield f"/mapping/metadata/{column}", f"There is no such column. {_list_columns(columns)}"
    if len(set(map(str, metadata.values()))) < len(metadata):
        yield "/mapping/metadata", "Two columns go to the same key."


def _list_columns(columns: Sequence[str] | None) -> str:
    if not columns:
        return "" if columns is None else "There are no columns."
    return f"Found: {', '.join(name[:60] for name in columns[:20])}{', …' if len(columns) > 20 else ''}."


def _invalid(faults: list[tuple[str, str]]) -> Invalid:
    error = Invalid(faults[0][1], pointer=faults[0][0])
    error.errors = [{"pointer": pointer, "detail": detail} for pointer, detail in faults]
    return error


def guess(types: dict[str, str], *, files: bool, lists: Sequence[str] = ()) -> Mapping:
    """From the columns' names and guessed types. ``files``: there are files that a cell can name; ``lists``: the
    columns that hold lists of texts."""
    content = [name for name, kind in types.items() if kind == "file"]
    texts = [name for name, kind in types.items() if kind in ("text", "empty")]
    # Before the text: "file_name" ends as a name does.
    file = content[0] if content else _column_named_like(texts, "file", whole=True) if files else None
    # Of texts without files these are metadata. A list under a name for texts is captions, too.
    captions = (
        _column_named_like([*texts, *lists], "captions") or _column_named_like(lists, "text")
        if files or content
        else None
    )
    texts = [name for name in texts if name not in (file, captions)]
    text = _column_named_like(texts, "text")
    if file is None and (files or text is None):
        file = _column_named_like([name for name in texts if name != text], "file")
    if text is None and file is None and captions is None:
        text = texts[0] if texts else None
    taken = (text, file, captions)
    ids = [name for name, kind in types.items() if kind in ("text", "number") and name not in taken]
    return Mapping(_column_named_like(ids, "id"), text, file, captions=captions)


def _column_named_like(columns: Sequence[str], role: str, *, whole: bool = False) -> str | None:
    """The column with the most telling name: as a whole, else (unless ``whole``) as the last word ("product_title")."""
    plain = {re.sub(r"[\s\-]+", "_", name.strip().lower()): name for name in reversed(columns)}
    for name in _NAMES[role].split():
        if name in plain:
            return plain[name]
    if whole or role == "id":
        return None  # a "customer_id" names something else than the row
    for name in _NAMES[role].split():
        for candidate, column in plain.items():
            if candidate.endswith(f"_{name}"):
                return column
    return None
