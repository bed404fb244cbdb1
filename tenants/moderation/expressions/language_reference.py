"""What can stand in an expression, described for people who write one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.utils.translation import gettext as _

from tenants.moderation.expressions.types import Type
from tenants.moderation.expressions.variables import VARIABLES

_ELEMENT = "[]"


def describe_variables() -> list[dict[str, str]]:
    """Every variable by its path, with its type and what it means; entries of a list stand below `name[]`."""
    return [found for name, kind in VARIABLES.items() for found in _described(name, kind)]


def _described(path: str, kind: Type) -> Iterator[dict[str, str]]:
    choices = ", ".join(kind.choices)
    yield {"name": path, "type": kind.told(), "about": kind.about, "values": choices}
    if kind.kind == "list":
        yield from _described(f"{path}{_ELEMENT}", kind.items)
    for name, inner in kind.fields.items():
        yield from _described(f"{path}.{name}", inner)


def describe_functions() -> list[dict[str, str]]:
    """Functions, what is called on a text or a list, and loops, each with how it is written."""
    return [
        {"name": name, "shape": shape, "on": on, "about": about} for name, shape, on, about in _functions()
    ]


def _functions() -> tuple[tuple[str, str, str, str], ...]:
    return (
        ("size", "size(value)", "", _("How long a text (in bytes of UTF-8) or a list is.")),
        ("has", "has(item.metadata.key)", "", _("Whether a field is there; ask before you use it.")),
        ("int", "int(value)", "", _("As a whole number.")),
        (
            "double",
            "double(value)",
            "",
            _("As a number with a fraction, to calculate with others of that kind."),
        ),
        ("string", "string(value)", "", _("As a text.")),
        ("contains", "text.contains('part')", "text", _("Whether a text has this in it.")),
        ("startsWith", "text.startsWith('start')", "text", _("Whether a text begins so.")),
        ("endsWith", "text.endsWith('end')", "text", _("Whether a text ends so.")),
        ("matches", "text.matches('pattern')", "text", _("Whether a pattern fits somewhere in a text.")),
        (
            "exists",
            "list.exists(x, condition)",
            "list",
            _("Whether the condition holds for one entry at least."),
        ),
        ("exists_one", "list.exists_one(x, condition)", "list", _("Whether it holds for exactly one entry.")),
        (
            "all",
            "list.all(x, condition)",
            "list",
            _("Whether it holds for every entry; true of an empty list."),
        ),
        ("filter", "list.filter(x, condition)", "list", _("The entries for which it holds.")),
        ("map", "list.map(x, value)", "list", _("The list of what is made of each entry.")),
    )


def describe_language() -> Mapping[str, object]:
    return {"variables": describe_variables(), "functions": describe_functions()}
