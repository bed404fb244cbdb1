"""What may stand in a JSON document that is to be stored, and how a place in it is named."""

from __future__ import annotations

import json
import math


def escaped(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901), cut where it is long."""
    return name[:100].encode("utf-8", "replace").decode().replace("~", "~0").replace("/", "~1")


def why_unstorable(document: object, max_bytes: int) -> str:
    """Why the document cannot be stored as it is, or empty."""
    try:
        content = json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError):
        return "This holds a number that is not finite, half a character, or is nested too deeply."
    if len(content) > max_bytes:
        return f"At most {max_bytes:,} bytes."
    if b"\\u0000" in content:
        return "Text must not contain NUL characters."
    return "" if _storable(document) else "Numbers have at most 15 digits, and parts stand 20 deep at most."


def _storable(value: object, depth: int = 0) -> bool:
    if depth > 20:
        return False
    if isinstance(value, dict):
        return all(_storable(one, depth + 1) for one in value.values())
    if isinstance(value, list):
        return all(_storable(one, depth + 1) for one in value)
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) < 10**15
    return True
