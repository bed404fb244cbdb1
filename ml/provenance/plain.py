"""Strings out of strangers' files, fit to be stored and shown: short, one line, nothing that hides or reorders."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

#: Controls, surrogates, private characters and those of format: zero-width, right-to-left overrides.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}
_SPACE = re.compile(r"\s+")


def plain(value: Any, most: int = 200) -> str:
    """``value`` as one line of at most ``most`` characters; "" for what is neither text nor number."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    text = _SPACE.sub(" ", str(value)[: 4 * most])
    text = "".join(c for c in text if unicodedata.category(c) not in _HIDDEN).strip()
    return text if len(text) <= most else text[: most - 1] + "…"
