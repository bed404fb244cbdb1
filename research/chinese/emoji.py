"""Labels of emoji in Chinese and English (npm ``emojibase-data``, MIT), with a split that keeps kinds apart.

Emoji of one subgroup (mammals, vehicles on the road, fruit …) are all training, all development or all test: no label
that is asked for has a near relative among the labels that were learnt.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Split = Literal["train", "dev", "test"]

#: Groups of emojibase that say nothing of what is seen: components (skin tones, hair), and flags.
LEFT_OUT = {2, 9}
TEST_SHARE, DEV_SHARE = 0.3, 0.1
#: Skin tones, and women and men beside the person, are the same concept.
_VARIANTS = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
_GENDERS = {"2640", "2642"}


@dataclass(frozen=True)
class Concept:
    """One emoji. ``traditional`` is its label in Taiwan's or Hong Kong's wording."""

    hexcode: str
    subgroup: int
    english: str
    chinese: str
    traditional: str

    @property
    def split(self) -> Split:
        return split_of(self.subgroup)


def split_of(subgroup: int) -> Split:
    """By a hash of the subgroup, so that it stays when others are added."""
    digest = hashlib.sha256(f"emoji subgroup {subgroup}".encode()).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    return "test" if share < TEST_SHARE else "dev" if share < TEST_SHARE + DEV_SHARE else "train"


def read_concepts(package: Path) -> list[Concept]:
    """All concepts with a picture of something. Raises OSError, ValueError for other files."""
    english, chinese, traditional = (_by_code(package, name) for name in ("en", "zh", "zh-hant"))
    return [
        Concept(
            hexcode=code,
            subgroup=entry["subgroup"],
            english=entry["label"],
            chinese=chinese[code]["label"],
            traditional=traditional.get(code, chinese[code])["label"],
        )
        for code, entry in english.items()
        if code in chinese and _shows_something(entry)
    ]


def _by_code(package: Path, language: str) -> dict[str, dict[str, Any]]:
    entries = json.loads((package / language / "data.json").read_text("utf-8"))
    return {entry["hexcode"]: entry for entry in entries}


def _shows_something(entry: dict[str, Any]) -> bool:
    parts = set(entry["hexcode"].split("-"))
    return (
        entry.get("group") is not None
        and entry["group"] not in LEFT_OUT
        and not parts & (_VARIANTS | _GENDERS)
    )
