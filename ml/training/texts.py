"""Plain texts as training items, read as a stream: .txt with one a line, .jsonl with ``text`` (one or a list)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ml.training.files import expand, open_url
from ml.training.objective import TrainingError
from ml.training.plan import hashed

ENDINGS = (".txt", ".jsonl")


@dataclass(frozen=True, slots=True)
class Text:
    """One text. Equal texts are one group, so they never stand on both sides of a split."""

    text: str
    split: str = ""

    @property
    def key(self) -> str:
        return self.text

    @property
    def group(self) -> str:
        return f"{hashed(self.text.casefold()):x}"


class TextStream:
    """The texts of several files, in order. Iterating starts anew each time."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = expand(urls, *ENDINGS)

    def __iter__(self) -> Iterator[Text]:
        for url in self.urls:
            yield from (Text(text) for text in _texts_of(url))


def _texts_of(url: str) -> Iterator[str]:
    try:
        with open_url(url) as file:
            for line in io.TextIOWrapper(file, "utf-8", errors="replace"):
                yield from _texts_in(line.strip(), url)
    except OSError as error:
        raise TrainingError("unreadable", f"{url} cannot be read: {error}") from error


def _texts_in(line: str, url: str) -> list[str]:
    if not line or not url.partition("?")[0].endswith(".jsonl"):
        return [line] if line else []
    try:
        found: Any = json.loads(line).get("text")
    except (ValueError, AttributeError) as error:
        raise TrainingError(
            "unreadable", f"{url} holds a line that is no JSON object: {line[:80]}"
        ) from error
    texts = found if isinstance(found, list) else [found]
    return [text.strip() for text in texts if isinstance(text, str) and text.strip()]
