"""Names that people give themselves and their workspaces: what may stand in one, beside `tenants.names`."""

from __future__ import annotations

import unicodedata

from django.utils.translation import gettext as _

from tenants import names
from tenants.errors import Invalid

# Joiners are part of words in Persian and Indian scripts, and of emoji; marks of direction, of names in Arabic, Hebrew
# and Persian.
PART_OF_WORDS = frozenset("\u200c\u200d\u200e\u200f\u061c")
UNSEEN = frozenset({"Cf", "Cs", "Co"})
# What makes an address of a page out of a name in a letter.
ADDRESSES = ("://", "www.")


def check_name(text: str, pointer: str, most: int) -> str:
    """The name as it is kept. Raises Invalid for signs that are not seen or turn the direction of what is read, for an
    empty one or one that is too long."""
    names.check_name(text, pointer)
    name = " ".join(unicodedata.normalize("NFC", text).split(" ")).strip()
    if any(unicodedata.category(sign) in UNSEEN and sign not in PART_OF_WORDS for sign in name):
        raise Invalid(
            _(
                "Write it without line breaks, control characters and signs that turn the direction of the text."
            ),
            pointer=pointer,
        )
    if not any(sign.isalnum() for sign in name):
        raise Invalid(_("Write at least one letter or digit."), pointer=pointer)
    if len(name) > most:
        raise Invalid(_("A name has at most %(most)s characters.") % {"most": most}, pointer=pointer)
    return name


def check_unlinked(name: str, pointer: str) -> str:
    """Of people whom nobody here knows yet: their names stand in letters to others. Raises Invalid."""
    if any(part in name.lower() for part in ADDRESSES):
        raise Invalid(_("A name holds no address of a page."), pointer=pointer)
    return name
