"""Sentences that abuse and hate are learnt from, with what belongs together, and the frozen cases that nothing is
learnt from.

Open sets (hatemoji_build, toxigen_statements, davidson_hate, cold_zh), everyday questions, and templates of our own:
contrast pairs, in which a group is attacked, quoted as attacked, defended, only named, or something else is attacked,
and those of attributes, of which each positive has harmless twins.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from research.auditing import abuse_data

FROZEN = Path(__file__).with_name("frozen_tests")
CONTRAST = Path(__file__).with_name("contrast")
ATTRIBUTES = Path(__file__).with_name("attributes")
FROZEN_ATTRIBUTES = Path(__file__).with_name("frozen_attributes")
FROZEN_GROUPS = Path(__file__).with_name("frozen_groups")
#: What is told of a text, in the order of the outputs.
CATEGORIES = ("abuse", "hate", "insult", "threat", "sexual")
#: Functions of contrast and frozen cases in which a group is named and nobody attacked.
NAMED = ("neutral", "positive")
#: Kinds of harmless sentences, by function of the contrast pairs: a threshold minds each kind by itself.
HARMLESS = {
    **dict.fromkeys((*NAMED, "acquaintance", "voice", "praise"), "a group named"),
    **dict.fromkeys(("fact", "self"), "facts and self-description"),
}
#: How often a template of the contrast pairs is filled.
FILLINGS = 10
FILLINGS_ATTRIBUTES = 6
TWEETS = 10
#: Everyday questions of each language.
MOST = 600


@dataclass(frozen=True)
class Example:
    """A sentence that is learnt from.

    ``labels`` by category, of those that its source says something of. Sentences of one ``group`` are never on both
    sides of a split. ``harmless``: of what kind, where hardly any of its kind may be flagged (``HARMLESS``, or
    "everyday"). ``topic``: of COLD, its subject.
    """

    text: str
    language: str
    source: str
    group: str
    labels: Mapping[str, bool]
    function: str = ""
    harmless: str = ""
    topic: str = ""


@dataclass(frozen=True)
class FrozenCase:
    """A case of ``frozen_tests``: written before anything was trained, never learnt from, nothing chosen by it."""

    text: str
    function: str
    hate: bool
    abuse: bool


def digest(folder: Path, language: str) -> str:
    """SHA-256 of the file of a language's frozen cases; the model card names it."""
    return hashlib.sha256((folder / f"{language}.jsonl").read_bytes()).hexdigest()


def frozen_cases(language: str) -> list[FrozenCase]:
    """The cases of ``en`` or ``zh``, in the order of the file."""
    return [FrozenCase(**row) for row in _lines(FROZEN / f"{language}.jsonl")]


def group_cases(language: str) -> list[FrozenCase]:
    """The cases of ``frozen_groups``, in ``en`` or ``zh``, which are counterparts line by line."""
    rows = _lines(FROZEN_GROUPS / f"{language}.jsonl")
    return [FrozenCase(row["text"], row["function"], row["hate"], row["abuse"]) for row in rows]


@dataclass(frozen=True)
class AttributeCase:
    """A case of ``frozen_attributes``, as a `FrozenCase`; ``labels``: insult, threat, sexual, profanity, abuse."""

    text: str
    function: str
    labels: Mapping[str, bool]


def attribute_cases(language: str) -> list[AttributeCase]:
    """The cases of ``en`` or ``zh``, in the order of the file."""
    rows = _lines(FROZEN_ATTRIBUTES / f"{language}.jsonl")
    return [AttributeCase(row.pop("text"), row.pop("function"), row) for row in rows]


def examples(data: Path) -> list[Example]:
    """All that is learnt from, always in the same order. Raises FileNotFoundError for a set that is not there."""
    return [
        *_hatemoji(data), *_toxigen(data), *_labelled(data, "en"), *_labelled(data, "zh"),
        *_everyday(data, "en", "clinc150_small"), *_everyday(data, "zh", "zh_medical_qa"),
        *contrast_pairs("en"), *contrast_pairs("zh"), *templates("en"), *templates("zh"),
    ]  # fmt: skip


def templates(language: str) -> Iterator[Example]:
    """Each template of ``attributes``, filled up to ``FILLINGS_ATTRIBUTES`` times; drawn by a fixed seed."""
    for entry, template, text in _filled(ATTRIBUTES / f"{language}.jsonl", FILLINGS_ATTRIBUTES):
        labels = {name: bool(entry[name]) for name in CATEGORIES if name in entry}
        # What is said of a group may be hate or not.
        if "group" not in entry["function"]:
            labels["hate"] = False
        name = f"attributes/{language}/{template}"
        yield Example(text, language, "templates", name, labels, entry["function"])


def contrast_pairs(language: str) -> Iterator[Example]:
    """Each template of ``contrast``, filled up to ``FILLINGS`` times; drawn by a fixed seed."""
    for entry, template, text in _filled(CONTRAST / f"{language}.jsonl", FILLINGS):
        function = entry["function"]
        if entry["hate"] or function == "person":
            labels = {"hate": bool(entry["hate"]), "abuse": True}
        else:
            labels = dict.fromkeys(CATEGORIES, False)
        name = f"contrast/{language}/{template}"
        yield Example(text, language, "contrast", name, labels, function, HARMLESS.get(function, ""))


def _filled(path: Path, times: int) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Of each template its line, itself, and texts with words in its places; once where it has none."""
    head, *functions = _lines(path)
    rng = np.random.default_rng(0)
    for entry in functions:
        for template in entry["texts"]:
            names = re.findall(r"{(\w+)}", template)
            drawn = [
                {name: head["slots"][name][rng.integers(len(head["slots"][name]))] for name in names}
                for _ in range(times if names else 1)
            ]
            for text in dict.fromkeys(template.format(**words) for words in drawn):
                yield entry, template, text[:1].upper() + text[1:]


def _hatemoji(data: Path) -> Iterator[Example]:
    """What is not hateful may attack a person, and says nothing of other categories."""
    attacks = {"threateninglanguage": "threat", "derogation": "insult", "dehumanizinglanguage": "insult"}
    for row in _lines(data / "hatemoji_build" / "manifest.jsonl"):
        pair = min(row["id"], row.get("pair") or row["id"], key=int)
        labels = {"hate": row["label"] == "hateful"}
        if labels["hate"]:
            labels["abuse"] = True
        if attack := attacks.get(row["type"]):
            labels[attack] = True
        yield Example(row["text"], "en", "hatemoji", f"hatemoji/{pair}", labels)


def _toxigen(data: Path) -> Iterator[Example]:
    for row in _lines(data / "toxigen_statements" / "manifest.jsonl"):
        labels = dict.fromkeys(("hate", "abuse"), row["label"] == "hateful")
        yield Example(row["text"], "en", "toxigen", f"toxigen/{row['target']}", labels)


def _labelled(data: Path, language: str) -> Iterator[Example]:
    """davidson_hate and cold_zh without their test split; COLD's label "offensive" is taken for hate, too.

    Of tweets without hate, which are sixteen times as many, one in ``TWEETS`` teaches what hate is not.
    """
    texts, source = abuse_data.load(data, language), abuse_data.SETS[language].partition("_")[0]
    split = texts.split(0)
    for at in map(int, np.flatnonzero(split != "test")):
        abuse, hate = bool(texts.labels[at, 0]), bool(texts.labels[at, -1])
        labels = {"abuse": abuse}
        if hate or language == "zh" or int(_digest(texts.raw[at])[:4], 16) % TWEETS == 0:
            labels["hate"] = hate
        name = f"{source}/{texts.groups[at]}"
        yield Example(texts.raw[at], language, source, name, labels, topic=texts.topics[at])


def _everyday(data: Path, language: str, name: str) -> Iterator[Example]:
    rows = _lines(data / name / "manifest.jsonl")
    texts = sorted({row.get("title") or row["text"] for row in rows}, key=_digest)
    for text in texts[:MOST]:
        labels = dict.fromkeys(CATEGORIES, False)
        yield Example(text, language, "everyday", f"everyday/{text}", labels, harmless="everyday")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _lines(path: Path) -> Sequence[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
