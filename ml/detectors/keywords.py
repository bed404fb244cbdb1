"""Lists of words by category, shipped and a tenant's own: a match is a match, no probability.

A word does not tell what was meant. Profanity is a tone, not an offence; words of self-harm are said by people who need
help far oftener than by those who urge others, and the evidence says which of the two a match is.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from ml import auditing
from ml.detectors._text import Piece, text_pieces, truncation_evidence
from ml.detectors.base import Category, Detector, Finding, Item

# --- Matching --------------------------------------------------------------------------------------------
# Words and phrases of a list found in text, in time that does not grow with the list's length.
#
# Latin terms match whole words, also with more letters than needed (``fuuck``), a plural s, or stars for letters
# (``f*ck``); a term that ends in ``*`` matches what begins with it. Terms with Chinese characters match anywhere.


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
        return letter_runs(self.text)


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
            self._phrases[key_of(words[0])].append(([letter_runs(word) for word in words], term))
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


def letter_runs(word: str) -> Runs:
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


# --- Detector --------------------------------------------------------------------------------------------


FOLDER = Path(auditing.__file__).with_name("keyword_lists")
SHIPPED = ("profanity", "self_harm", "sexual", "spam", "violence")
MAX_EVIDENCE, MAX_SUPPORT = 50, 5
#: Of one list in one text: what repeats a word ten thousand times is not examined further.
MAX_MATCHES = 200
#: Of a tenant's own lists.
MAX_CATEGORIES, MAX_TERMS = 20, 2_000

Section = Literal["strong", "weak", "urging", "at_risk", "support", "own"]
#: What a match of a section counts. Several weak words make a strong one; nobody who asks for help gets over .3.
WEIGHTS: dict[str, float] = {
    "strong": 0.7,
    "weak": 0.3,
    "urging": 0.7,
    "at_risk": 0.3,
    "own": 0.7,
    "support": 0.0,
}
MEANINGS = {
    "strong": "offence", "weak": "hint", "urging": "offence", "own": "listed",
    "at_risk": "person_at_risk", "support": "support",
}  # fmt: skip


@dataclass(frozen=True)
class _List:
    """One section of one list."""

    category: str
    section: Section
    name: str
    terms: Terms


@dataclass(frozen=True, eq=False)
class _Match:
    found_by: _List
    term: str
    start: int
    end: int
    piece: Piece

    @cached_property
    def evidence(self) -> dict[str, Any]:
        section = self.found_by.section
        return {
            "kind": "list-match",
            "list": self.found_by.name,
            "term": self.term,
            "meaning": MEANINGS[section],
            **self.piece.span(self.start, self.end),
        }


class Keywords(Detector):
    name = "keywords"
    version = "1"
    tier = "rules"
    modalities: ClassVar = frozenset({"text", "image", "audio", "video"})
    sees = (
        "Words and phrases of lists, also where they are spelt so as not to be found; a tenant's own lists."
    )
    blind_to = (
        "What is meant: quotation, irony, news and advice contain the same words. Languages without a list."
    )
    order = 35
    categories: ClassVar = SHIPPED

    def examine(self, item: Item) -> Finding:
        read = list(text_pieces(item))
        if not read:
            return Finding("not_applicable", "There are no words in it.")
        own, notes = own_lists(item.options.get("keywords"))
        lists = [*shipped_lists(), *own]
        matches = [match for piece in read for match in _matches(piece, lists)]
        names = dict.fromkeys([*SHIPPED, *(each.category for each in own)])
        notes += [note for note in [truncation_evidence(item)] if note]
        return Finding(
            categories={
                name: _category([m for m in matches if m.found_by.category == name]) for name in names
            },
            evidence=notes,
        )


def load(argument: str) -> Detector:
    return Keywords()


def own_lists(given: Any) -> tuple[list[_List], list[Mapping[str, Any]]]:
    """A tenant's lists, ``{category: [terms]}``, and notes on what of them could not be used."""
    if given is None:
        return [], []
    if not isinstance(given, Mapping):
        return [], [
            {"kind": "setting-refused", "setting": "keywords", "reason": "It maps categories to lists."}
        ]
    lists: list[_List] = []
    notes: list[Mapping[str, Any]] = []
    for category, terms in list(given.items())[:MAX_CATEGORIES]:
        usable = [term for term in terms if isinstance(term, str)] if isinstance(terms, list | tuple) else []
        compiled = _own_terms(tuple(usable[:MAX_TERMS]))
        lists.append(_List(str(category)[:60], "own", "own", compiled))
        refused = compiled.refused + max(0, len(usable) - MAX_TERMS)
        refused += len(terms) - len(usable) if isinstance(terms, list | tuple) else 1
        if refused:
            notes.append({"kind": "terms-refused", "category": str(category)[:60], "count": refused})
    if len(given) > MAX_CATEGORIES:
        notes.append({"kind": "terms-refused", "category": "", "count": len(given) - MAX_CATEGORIES})
    return lists, notes


@cache
def shipped_lists() -> tuple[_List, ...]:
    """Every section of every file in the folder, compiled once a process."""
    return tuple(
        _List(path.name.split(".")[0], section, path.stem, Terms.compile(terms))  # type: ignore[arg-type]
        for path in sorted(FOLDER.glob("*.*.txt"))
        for section, terms in sections(path.read_text("utf-8")).items()
    )


def sections(content: str) -> dict[str, list[str]]:
    """The terms of a list's file by section. Raises ValueError for an unknown section or a term outside one."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for number, line in enumerate(content.splitlines(), 1):
        text = line.partition("#")[0].strip()
        if heading := re.fullmatch(r"\[(\w+)\]", text):
            if heading[1] not in WEIGHTS:
                raise ValueError(
                    f"line {number}: a section is one of {', '.join(WEIGHTS)}, not {heading[1]!r}"
                )
            current = found.setdefault(heading[1], [])
        elif text and current is None:
            raise ValueError(f"line {number}: {text!r} stands before the first [section]")
        elif text and current is not None:
            current.append(text)
    return found


@cache
def _compiled(terms: tuple[str, ...]) -> Terms:
    return Terms.compile(terms)


def _own_terms(terms: tuple[str, ...]) -> Terms:
    # One tenant's lists after another's: kept for a while, not for ever.
    if _compiled.cache_info().currsize > 100:
        _compiled.cache_clear()
    return _compiled(terms)


def _matches(piece: Piece, lists: Iterable[_List]) -> Iterator[_Match]:
    """Of both readings, each place and term once."""
    seen: set[tuple[str, str, int, int]] = set()
    plain, folded = piece.read.plain, piece.read.folded
    for reading in (plain, folded) if folded.text != plain.text else (plain,):
        text = Text(reading.text)
        for each in lists:
            for start, end, term in itertools.islice(each.terms.find(text), MAX_MATCHES):
                place = reading.span(start, end)
                key = (each.category, term, *place)
                if key not in seen:
                    seen.add(key)
                    yield _Match(each, term, *place, piece)


def _category(matches: list[_Match]) -> Category:
    """The strongest match counts; different weak words add up, to less than a strong one unless there are many."""
    said = [match for match in matches if match.found_by.section != "support"]
    support = [match for match in matches if match.found_by.section == "support"]
    terms = {match.term: WEIGHTS[match.found_by.section] for match in said}
    weak = sum(weight for weight in terms.values() if weight < 0.5)
    strong = max((weight for weight in terms.values() if weight >= 0.5), default=0.0)
    if any(match.found_by.section == "at_risk" for match in said) and not strong:
        weak = WEIGHTS["at_risk"]
        weak /= 3 if support else 1
    ordered = sorted(said, key=lambda match: -WEIGHTS[match.found_by.section])
    shown = [match.evidence for match in [*ordered[:MAX_EVIDENCE], *support[:MAX_SUPPORT]]]
    return Category(round(min(max(strong, weak), 0.9), 2), evidence=shown if said else [])
