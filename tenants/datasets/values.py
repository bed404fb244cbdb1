"""One metadata value: its type, how filters see it, and how it is read from the text of a table's cell."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import re

TYPES = ("text", "number", "bool", "time", "tags")
MAX_VALUES = 100
MAX_TAG = 100
FACET_TEXT = 300
# Above, float8 (and JavaScript) cannot tell neighbouring integers apart.
MAX_INTEGER = 2**53

# No leading zeros, signs or thousands separators: "007" is a code, and "1,200" means two things.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_TAG_BREAK = re.compile("[;|,]")
_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def guess_type(value: object) -> str:
    """The type of one JSON value; empty for null and for nested values, which are not filterable."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "time" if parse_time(value) is not None else "text"
    return _type_of_list(value) if isinstance(value, list) else ""


def _type_of_list(items: list[object]) -> str:
    kinds = {guess_type(item) for item in items[:MAX_VALUES] if not isinstance(item, list)} - {""}
    if len(kinds) == 1 and kinds != {"text"}:
        return kinds.pop()
    return ("tags" if _are_tags(items) else "text") if kinds else ""


def _are_tags(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_VALUES
        and all(isinstance(item, str) and len(item) <= MAX_TAG for item in value)
    )


def fits(value: object, kind: str) -> bool:
    """Whether a JSON value is of this type. A list fits text, number, bool and time if all that is in it does."""
    if kind == "tags":
        return _are_tags(value)
    if isinstance(value, list):
        return all(item is None or (not isinstance(item, list) and fits(item, kind)) for item in value)
    return isinstance(value, str) if kind == "text" else guess_type(value) == kind


def parse_time(value: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 date or time with dashes (UTC where it names no zone)."""
    if not 8 <= len(value) <= 40 or value[4] != "-":
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def read_number(text: str) -> int | float | None:
    """The number that a text spells; None if it is none, or has more digits than a number keeps."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    if match[1] or match[2]:
        number = float(text)
        return number if math.isfinite(number) else None
    # Its length first: int() takes long over thousands of digits, and refuses more than 4,300.
    return int(text) if len(text) <= 17 and abs(int(text)) <= MAX_INTEGER else None


def read_as(text: str, kind: str) -> object:
    """The text as a value of this type, or None if it spells none. Tags stand between commas, semicolons or bars."""
    if kind == "number":
        return read_number(text)
    if kind == "bool":
        return _BOOLS.get(text.lower())
    if kind == "time":
        return text if parse_time(text) is not None else None
    if kind == "tags":
        tags = list(dict.fromkeys(filter(None, map(str.strip, _TAG_BREAK.split(text)))))
        return tags if _are_tags(tags) else None
    return text


def read_cell(text: str) -> object:
    """The text of a cell whose type nobody declared: a number, true or false, or itself."""
    if text.lower() in {"true", "false"}:
        return _BOOLS[text.lower()]
    number = read_number(text)
    return text if number is None else number


def as_text(value: object) -> str | None:
    """How a value stands in the facet table as text, equal for equal values; None for null and nested ones."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(float(value) + 0.0)  # so that -0.0 is 0
    if isinstance(value, str):
        return value if len(value) <= FACET_TEXT else _shortened(value)
    return None


def _shortened(value: str) -> str:
    """A text that is too long for a btree: its beginning and its digest, equal only for equal texts."""
    return f"{value[:FACET_TEXT]}#{hashlib.sha256(value.encode()).hexdigest()[:24]}"


def as_number(value: object) -> float | None:
    """How a value stands in the facet table as a number: itself, or a time as seconds since 1970."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    return parse_time(value) if isinstance(value, str) else None
