"""Names that people give and others read: none may hide or turn around what stands beside it."""

from __future__ import annotations

import re
import unicodedata

from django.utils.translation import gettext as _

from tenants.errors import Invalid

# Controls, among them line breaks and tabs, both separators of Unicode, and what embeds, overrides or isolates a
# direction (UAX 9): left open, it turns the rest of a line around. Marks of direction (U+200E, U+200F, U+061C) and
# joiners belong to names in Arabic, Hebrew and Persian and to emoji.
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def check_name(name: str, pointer: str = "/name") -> None:
    """Raises Invalid, which says which character of the name cannot be used."""
    if found := _REFUSED.search(name):
        raise Invalid(
            _("A name must not contain %(character)s.") % {"character": _described(found[0])}, pointer=pointer
        )


def _described(character: str) -> str:
    match character:
        case "\n" | "\r" | "\x85" | "\u2028" | "\u2029":
            said = _("line breaks")
        case "\t" | "\v":
            said = _("tabs")
        case _:
            said = unicodedata.name(character, "") or _("control characters")
    return f"{said} (U+{ord(character):04X})"
