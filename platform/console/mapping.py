"""The mapping editor: what each column of a table becomes, as a form and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.datasets.importers import Column, Preview
from tenants.errors import Invalid

ROLES = (
    ("metadata", gettext_lazy("Metadata")),
    ("text", gettext_lazy("Text or caption")),
    ("captions", gettext_lazy("More captions")),
    ("file", gettext_lazy("File")),
    ("id", gettext_lazy("External id")),
    ("ignore", gettext_lazy("Leave out")),
)
# A tab has no look in a form, so it has a name there.
DELIMITERS = (
    (",", gettext_lazy("comma")),
    (";", gettext_lazy("semicolon")),
    ("tab", gettext_lazy("tab")),
    ("|", gettext_lazy("bar")),
)
SINGLE = {
    "text": gettext_lazy("the text"),
    "captions": gettext_lazy("the further captions"),
    "file": gettext_lazy("the file"),
    "id": gettext_lazy("the external id"),
}


@dataclass(frozen=True)
class Line:
    """One column in the editor: its role, and under which key it becomes metadata."""

    column: Column
    role: str
    key: str


def lines_of(preview: Preview) -> list[Line]:
    roles = {column: role for role in SINGLE if (column := getattr(preview.mapping, role)) is not None}
    return [_line(column, roles.get(column.name), preview.mapping.metadata) for column in preview.columns]


def _line(column: Column, role: str | None, metadata: Any) -> Line:
    if role is not None:
        return Line(column, role, column.name)
    if metadata == "*":
        return Line(column, "metadata", column.name)
    return Line(
        column, "metadata" if column.name in metadata else "ignore", metadata.get(column.name, column.name)
    )


def read_mapping(form: QueryDict) -> dict[str, Any] | None:
    """The mapping that a person chose; None for a source without columns. Raises Invalid."""
    columns, roles, keys = (form.getlist(name) for name in ("column", "role", "key"))
    if not columns:
        return None
    mapping: dict[str, Any] = {"metadata": {}}
    for column, role, key in zip(columns, roles, keys, strict=False):
        if role in SINGLE:
            _take(mapping, role, column)
        elif role == "metadata":
            mapping["metadata"][column] = key.strip() or column
    if _everything(mapping, columns):
        # Also what only later rows have.
        mapping["metadata"] = "*"
    return mapping


def _take(mapping: dict[str, Any], role: str, column: str) -> None:
    if role in mapping:
        words = _("Only one column can be %(role)s: %(one)s or %(other)s.")
        raise Invalid(
            words % {"role": SINGLE[role], "one": mapping[role], "other": column}, pointer="/mapping"
        )
    mapping[role] = column


def _everything(mapping: dict[str, Any], columns: list[str]) -> bool:
    rest = [column for column in columns if column not in [mapping.get(role) for role in SINGLE]]
    return mapping["metadata"] == {column: column for column in rest}


def read_options(form: QueryDict) -> dict[str, Any]:
    """How a person says that the file is to be read; empty where the form does not ask."""
    asked = {name: form[name] for name in ("encoding", "delimiter") if form.get(name)}
    return {name: "\t" if value == "tab" else value for name, value in asked.items()}
