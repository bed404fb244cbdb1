"""Words and phrases of a list found in text, in time that does not grow with the list's length.

Latin terms match whole words, also with more letters than needed (``fuuck``), a plural s, or stars for letters
(``f*ck``); a term that ends in ``*`` matches what begins with it. Terms with Chinese characters match anywhere.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

#: Of a term: more is no word that anybody writes on purpose.
MAX_TERM, MAX_WORDS = 100, 8
#: A star may stand for at most so large a part of a word.
MASKED = 0.5

_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_TOKEN = re.compile(r"[a-z0-9\u00c0-\u303f][a-z0-9\u00c0-\u303f'*#%$]*")

Runs = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class _Word:
    text: str
    start: int
    end: int

    @cached_property
    def runs(self) -> Runs:
        return runs_of(self.text)


class Text:
    """A text cut into words once, for many lists; offsets are those of the text as given."""

    def __init__(self, text: str) -> None:
        lowered = text.lower()
        if len(lowered) != len(text):
            lowered = "".join(sign.lower()[0] for sign in text)
        self.lowered = lowered.replace("’", "'")
        self.words = [_Word(found.group(), *found.span()) for found in _TOKEN.finditer(self.lowered)]
        #: What each word may be listed as: itself with every letter once in a row, and as a plural.
        self.keys = [_keys(key_of(word.text)) for word in self.words]


def _keys(key: str) -> tuple[str, ...]:
    if not key.endswith("s"):
        return (key,)
    return (key, key[:-1], key[:-2]) if key.endswith("es") else (key, key[:-1])


@dataclass
class Terms:
    """A compiled list. Terms are lower-cased; what is empty or too long is left out and counted in ``refused``."""

    _phrases: dict[str, list[tuple[list[Runs], str]]] = field(default_factory=lambda: defaultdict(list))
    _prefixes: dict[int, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    _han: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _masked: dict[tuple[int, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    refused: int = 0

    @classmethod
    def compile(cls, terms: Iterable[str]) -> Terms:
        compiled = cls()
        for term in dict.fromkeys(terms):
            compiled._add(term.strip().lower())
        return compiled

    def find(self, text: Text) -> Iterator[tuple[int, int, str]]:
        """(start, end, term) of every match, overlapping ones too."""
        yield from self._in_han(text.lowered)
        for at, word in enumerate(text.words):
            yield from self._at(text, at)
            yield from self._beginning(word)
            if "*" in word.text or "#" in word.text:
                yield from self._hidden(word)

    def _add(self, term: str) -> None:
        words = _TOKEN.findall(term.rstrip("*"))
        if not term or len(term) > MAX_TERM or len(words) > MAX_WORDS:
            self.refused += 1
        elif _HAN.search(term):
            self._han[term[0]].append(term)
        elif term.endswith("*") and len(words) == 1 and len(term) > 3:
            self._prefixes[len(words[0])][words[0]] = term
            self._masked[len(words[0]), words[0][0]].append(words[0])
        elif words:
            self._phrases[key_of(words[0])].append(([runs_of(word) for word in words], term))
            if len(words) == 1:
                self._masked[len(term), term[0]].append(term)
        else:
            self.refused += 1

    def _at(self, text: Text, at: int) -> Iterator[tuple[int, int, str]]:
        for candidate in text.keys[at]:
            for runs, term in self._phrases.get(candidate, ()):
                found = text.words[at : at + len(runs)]
                if len(found) == len(runs) and all(map(_covers, found, runs)):
                    yield found[0].start, found[-1].end, term

    def _beginning(self, word: _Word) -> Iterator[tuple[int, int, str]]:
        for length, prefixes in self._prefixes.items():
            if term := prefixes.get(word.text[:length]):
                yield word.start, word.end, term

    def _hidden(self, word: _Word) -> Iterator[tuple[int, int, str]]:
        text = word.text.rstrip("'")
        visible = sum(sign not in "*#" for sign in text)
        if visible < 2 or visible < len(text) * (1 - MASKED):
            return
        for term in self._masked.get((len(text), text[0]), ()):
            if all(a == b or a in "*#" for a, b in zip(text, term, strict=True)):
                yield word.start, word.end, term

    def _in_han(self, text: str) -> Iterator[tuple[int, int, str]]:
        if not self._han or not _HAN.search(text):
            return
        for at, sign in enumerate(text):
            for term in self._han.get(sign, ()):
                if text.startswith(term, at):
                    yield at, at + len(term), term


def key_of(word: str) -> str:
    """A word with every letter once in a row."""
    return "".join(sign for sign, _ in itertools.groupby(word))


def runs_of(word: str) -> Runs:
    return tuple((sign, len(list(same))) for sign, same in itertools.groupby(word))


def _covers(word: _Word, wanted: Runs) -> bool:
    """The same letters in a row, each at least as often; a plural s more is the same word."""
    runs = word.runs
    if len(runs) == len(wanted) + 1 and runs[-1] == ("s", 1):
        runs = runs[:-1]
    if len(runs) == len(wanted) + 2 and [sign for sign, _ in runs[-2:]] == ["e", "s"]:
        runs = runs[:-2]
    return len(runs) == len(wanted) and all(
        a == b and (have >= need if a.isalpha() else have == need)
        for (a, have), (b, need) in zip(runs, wanted, strict=True)
    )
