"""Names that people give and others read: none may hide or turn around what stands beside it."""

from __future__ import annotations

import unicodedata

from django.utils.translation import gettext as _

from tenants.errors import Invalid

# What embeds, overrides or isolates a direction (UAX 9): left open, it turns the rest of a line around. Marks of
# direction (U+200E, U+200F, U+061C) and joiners belong to names in Arabic, Hebrew and Persian and to emoji.
OVERRULING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Controls, among them line breaks and tabs, and both separators of Unicode.
_REFUSED = frozenset({"Cc", "Zl", "Zp"})


def check_name(name: str, pointer: str = "/name") -> None:
    """Raises Invalid, which says which character of the name cannot be used."""
    for character in name:
        if character in OVERRULING or unicodedata.category(character) in _REFUSED:
            raise Invalid(
                _("A name must not contain %(character)s.") % {"character": _described(character)},
                pointer=pointer,
            )


def _described(character: str) -> str:
    match character:
        case "\n" | "\r" | "\x85" | "\u2028" | "\u2029":
            said = _("line breaks")
        case "\t":
            said = _("tabs")
        case _:
            said = unicodedata.name(character, "") or _("control characters")
    return f"{said} (U+{ord(character):04X})"
