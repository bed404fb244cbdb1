"""Where the values of a JSON text stand in it, so that what is wrong with one can be shown at its place."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import islice
from json.decoder import scanstring  # type: ignore[attr-defined]  # public in the module, absent from its stubs

from tenants.moderation.json_values import escaped

# Pointers of a policy are no deeper; what is below is only passed over.
DEEPEST = 6
_DECODER = json.JSONDecoder()
_BLANKS = re.compile(r"[ \t\n\r]*")
_HALF = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
#: One character of a string, as it is written.
_CHARACTER = re.compile(rf"{_HALF}|\\u[0-9a-fA-F]{{4}}|\\.|.", re.DOTALL)
_WORD = re.compile(r"[\w.]+|.", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """`start` and `end` count UTF-16 units, as scripts of a browser do; `line` counts from 1."""

    start: int
    end: int
    line: int


class Places:
    """Of a text that is valid JSON."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._spans: dict[str, tuple[int, int]] = {}
        self._walk(_BLANKS.match(text).end(), "", DEEPEST)  # type: ignore[union-attr]  # it matches nothing, too

    def of(self, pointer: str, at: int | None = None) -> Place:
        """Of the value, or of the nearest around it that is there. `at`: from this character of a string on."""
        while pointer not in self._spans:
            pointer = pointer.rpartition("/")[0]
        start, end = self._spans[pointer]
        if at is not None and self._text[start] == '"':
            start, end = self._inside(start, end, at)
        return self.between(start, end)

    def between(self, start: int, end: int) -> Place:
        return Place(self._units(start), self._units(end), self._text.count("\n", 0, start) + 1)

    def _units(self, at: int) -> int:
        if self._text.isascii():
            return at
        return len(self._text[:at].encode("utf-16-le", "surrogatepass")) // 2

    def _inside(self, start: int, end: int, at: int) -> tuple[int, int]:
        """The word that stands at a character of the string; its last one where that is behind the end."""
        found = start + 1
        for character in islice(_CHARACTER.finditer(self._text, start + 1, end - 1), at):
            found = character.end()
        found = min(found, max(start + 1, end - 2))
        word = _WORD.match(self._text, found, max(found + 1, end - 1))
        return found, word.end() if word else end

    # --- Reading ---

    def _walk(self, at: int, pointer: str, depth: int) -> int:
        """Note where the value at `at` stands, and what is in it; returns where it ends."""
        end: int = _DECODER.raw_decode(self._text, at)[1]
        self._spans[pointer] = (at, end)
        if depth and self._text[at] == "{":
            self._object(at, pointer, depth)
        elif depth and self._text[at] == "[":
            self._list(at, pointer, depth)
        return end

    def _object(self, at: int, pointer: str, depth: int) -> None:
        at = self._next(at + 1)
        while self._text[at] != "}":
            name, at = scanstring(self._text, at + 1)
            colon = self._next(at)
            at = self._next(self._walk(self._next(colon + 1), f"{pointer}/{escaped(name)}", depth - 1))
            if self._text[at] == ",":
                at = self._next(at + 1)

    def _list(self, at: int, pointer: str, depth: int) -> None:
        at, count = self._next(at + 1), 0
        while self._text[at] != "]":
            at, count = self._next(self._walk(at, f"{pointer}/{count}", depth - 1)), count + 1
            if self._text[at] == ",":
                at = self._next(at + 1)

    def _next(self, at: int) -> int:
        return _BLANKS.match(self._text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
