"""The OpenAPI document as it was last agreed, kept beside the tests: canonical JSON, compressed.

`make update` writes it anew, after a change that clients are meant to see.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KEPT = Path(__file__).with_name("openapi.json.gz")


def canonical(document: Any, key: str = "") -> Any:
    """The same document with what has no order in one order: members, the names of `required` ones, and choices."""
    if isinstance(document, dict):
        return {name: canonical(document[name], name) for name in sorted(document)}
    if isinstance(document, list):
        return (
            sorted(document, key=repr)
            if key in ("required", "enum")
            else [canonical(part) for part in document]
        )
    return document


def generated() -> Any:
    from drf_spectacular.drainage import GENERATOR_STATS

    from api.docs import document

    with GENERATOR_STATS.silence():  # about enumerations that it had to name by itself
        return canonical(json.loads(document()))


def kept() -> Any:
    return canonical(json.loads(gzip.decompress(KEPT.read_bytes())))


def differences(before: Any, after: Any, pointer: str = "") -> Iterator[str]:
    """Where two documents differ, one line each: its JSON pointer, and both values."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
            if name not in after:
                yield f"gone:  {place}"
            elif name not in before:
                yield f"new:   {place}"
            else:
                yield from differences(before[name], after[name], place)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from differences(*pair, f"{pointer}/{number}")
    else:
        yield f"other: {pointer}\n       was {_short(before)}\n       is  {_short(after)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}…"


def main() -> None:
    import django

    django.setup()
    after = generated()
    for line in differences(kept() if KEPT.is_file() else {}, after):
        sys.stdout.write(f"{line}\n")
    text = json.dumps(after, ensure_ascii=False, separators=(",", ":"))
    # Without the time of writing, so that the same document is the same file.
    KEPT.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
