"""Names of uploaded files: what is kept of one, how its words are found, and under which name a download is saved."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

MAX_FILENAME = 255
# Of a longer name the end is kept up to this, so that it still tells the kind of file.
MAX_SUFFIX = 20

# Controls, surrogates, private and unassigned characters, and line breaks are dropped. Of the format characters
# (Cf) only these: they reverse or hide parts of a name, others join letters of Persian or people of an emoji.
_DROPPED = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_DECEIVING = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
)
_CAMEL = re.compile(
    r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])"
)
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}$", re.ASCII)


def clean_filename(given: str | None) -> str:
    """The name without folders, controls and characters that turn text around, in NFC, at most MAX_FILENAME
    characters; empty where nothing is left.

    A name is shown and searched and never used as a path.
    """
    name = (given or "")[-16 * MAX_FILENAME :].replace("\\", "/").rpartition("/")[2]
    kept = "".join(c for c in _DECEIVING.sub("", name) if unicodedata.category(c) not in _DROPPED)
    name = " ".join(unicodedata.normalize("NFC", kept).split()).rstrip(" .")
    if len(name) > MAX_FILENAME:
        stem, dot, suffix = name.rpartition(".")
        ending = f".{suffix}" if dot and len(suffix) < MAX_SUFFIX else ""
        name = f"{(stem if ending else name)[: MAX_FILENAME - len(ending)]}{ending}"
    return name


def stem(filename: str) -> str:
    """The name without its suffix."""
    return _SUFFIX.sub("", filename)


def searchable_text(filename: str) -> str:
    """The name as text for the lexical index: also with its words apart where it writes them as one (RedBicycle2)."""
    apart = _CAMEL.sub(" ", filename)
    return filename if apart == filename else f"{filename} {apart}"


def download_name(filename: str, suffix: str, aliases: Mapping[str, str]) -> str:
    """The name with this suffix, which tells what the content is: in place of another kind's, or behind the name.

    `aliases` are other spellings of suffixes, such as jpeg for jpg.
    """
    ending = _SUFFIX.search(filename)
    own = ending.group()[1:].lower() if ending else ""
    return filename if aliases.get(own, own) == suffix else f"{filename}.{suffix}"
