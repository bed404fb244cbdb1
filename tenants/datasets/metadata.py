"""Metadata: what may stand in it, its guessed types, and the facets that filters use.

Types: `text`, `number`, `bool`, `time`. A schema is `{"price": {"type": "number"}, …}`; where a dataset declares
none it is guessed from the values as they come and shown with the dataset.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import sys
from collections.abc import Iterator
from typing import Any

from tenants.datasets.models import Facet
from tenants.errors import Invalid

TYPES = ("text", "number", "bool", "time")
MAX_KEYS = 100
MAX_KEY = 100
MAX_VALUES = 100
FACET_TEXT = 300
MAX_DEPTH = 8


def check_text(value: str, pointer: str) -> None:
    """Raises Invalid for text that PostgreSQL or UTF-8 cannot hold."""
    if "\x00" in value:
        raise Invalid("Text must not contain NUL characters.", pointer=pointer)
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise Invalid("Text must not contain unpaired surrogates.", pointer=pointer)


def check_json(value: Any, pointer: str, depth: int = 0) -> None:
    """Raises Invalid for JSON that cannot be stored: NUL, surrogates, infinities, too deep."""
    if depth > MAX_DEPTH:
        raise Invalid(f"Nested more than {MAX_DEPTH} levels deep.", pointer=pointer)
    if isinstance(value, str):
        check_text(value, pointer)
    elif isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
        # Also for integers: facets and filters compare numbers as float8.
        raise Invalid("Numbers must be finite, and not beyond what 64 bits can hold.", pointer=pointer)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key, pointer)
            check_json(item, f"{pointer}/{key}", depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_json(item, f"{pointer}/{index}", depth + 1)


def check_metadata(metadata: Any, schema: dict[str, Any], pointer: str = "/metadata") -> dict[str, Any]:
    """The metadata, if it is a JSON object that can be stored and fits the declared types. Raises Invalid."""
    if not isinstance(metadata, dict):
        raise Invalid("Metadata must be a JSON object.", pointer=pointer)
    if len(metadata) > MAX_KEYS:
        raise Invalid(f"At most {MAX_KEYS} keys.", pointer=pointer)
    check_json(metadata, pointer)
    for key, value in metadata.items():
        if not key or len(key) > MAX_KEY:
            raise Invalid(f"Keys have 1 to {MAX_KEY} characters.", pointer=pointer)
        declared = _declared(schema, key)
        for item in _values(value):
            if declared and item is not None and guess_type(item) != declared and declared != "text":
                raise Invalid(f"Expected {declared}.", pointer=f"{pointer}/{key}")
    return metadata


def check_schema(schema: Any, pointer: str = "/metadata_schema") -> dict[str, Any]:
    if not isinstance(schema, dict) or len(schema) > MAX_KEYS:
        raise Invalid(f"A schema is an object of at most {MAX_KEYS} keys.", pointer=pointer)
    check_json(schema, pointer)
    for key, entry in schema.items():
        if not key or len(key) > MAX_KEY or not isinstance(entry, dict) or entry.get("type") not in TYPES:
            raise Invalid(
                f'Each key maps to {{"type": one of {", ".join(TYPES)}}}.', pointer=f"{pointer}/{key}"
            )
    return schema


def _declared(schema: dict[str, Any], key: str) -> str:
    entry = schema.get(key) or {}
    return "" if entry.get("guessed") else entry.get("type", "")


def _values(value: Any) -> list[Any]:
    return value[:MAX_VALUES] if isinstance(value, list) else [value]


def guess_type(value: Any) -> str:
    """The facet type of one JSON value; empty for null and for nested values, which are not filterable."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "time" if parse_time(value) is not None else "text"
    return ""


def parse_time(value: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 date or time (UTC where it names no zone)."""
    if not 8 <= len(value) <= 40 or not value[0].isdigit():
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def guessed_schema(schema: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """The schema with guesses for keys that it lacks; a guess that no longer fits falls back to text."""
    merged = dict(schema)
    for key, value in metadata.items():
        kinds = {kind for item in _values(value) if (kind := guess_type(item))}
        if not kinds:
            continue
        kind = kinds.pop() if len(kinds) == 1 else "text"
        if key not in merged and len(merged) < MAX_KEYS:
            merged[key] = {"type": kind, "guessed": True}
        elif merged.get(key, {}).get("guessed") and merged[key]["type"] != kind:
            merged[key] = {"type": "text", "guessed": True}
    return merged


def facets_of(asset_id: Any, metadata: dict[str, Any]) -> Iterator[Facet]:
    """One facet a filterable value. Numbers and times also stand as text, so that a guess can change later."""
    for key, value in metadata.items():
        seen: set[tuple[str | None, float | None]] = set()
        for item in _values(value):
            # Of a nested value only that it is there.
            text, number = as_text(item), as_number(item)
            if item is None or (text, number) in seen:
                continue
            seen.add((text, number))
            yield Facet(asset_id=asset_id, key=key, text=text, number=number)


def as_text(value: Any) -> str | None:
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


def as_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    return parse_time(value) if isinstance(value, str) else None
