"""Which things a prompt names that drawings exist of, for a layout of parts drawn one by one."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

MOST = 4
_COLOURS = "red|orange|yellow|green|blue|purple|brown|pink|grey|gray|black|white"


def objects_in(prompt: str) -> list[str]:
    """At most ``MOST`` things in the order of the prompt, each with the colour before it; none twice.

    Exact words of a list (English, singular or plural): what is not in it is not a thing.
    """
    found = (match.group().lower() for match in _pattern().finditer(prompt))
    return list(dict.fromkeys(found))[:MOST]


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    listed = (Path(__file__).parent / "things.txt").read_text("utf-8").split("\n")
    # The longest first: "fire engine" is no fire.
    words = "|".join(re.escape(thing) for thing in sorted(filter(None, listed), key=len, reverse=True))
    return re.compile(rf"\b(?:(?:{_COLOURS}) )?(?:{words})(?:e?s)?\b", re.IGNORECASE)
