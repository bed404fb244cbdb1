"""Sentences that hate is learnt from, with what belongs together, and the frozen cases that nothing is learnt from.

Open sets (hatemoji_build, toxigen_statements, davidson_hate, cold_zh), everyday questions, and contrast pairs of our
own: templates in which a group is attacked, quoted as attacked, defended, only named, or something else is attacked.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FROZEN = Path(__file__).with_name("frozen_tests")
CONTRAST = Path(__file__).with_name("contrast")
#: Functions of contrast and frozen cases in which a group is named and nobody attacked.
NAMED = ("neutral", "positive")
#: How often a template of the contrast pairs is filled.
FILLINGS = 10
#: Sentences of each kind of the large sets that are learnt from: more of one kind would drown the others.
MOST = 600


@dataclass(frozen=True)
class Sentence:
    """``group``: sentences of one group are never on both sides of a split. ``topic``: of COLD, its subject."""

    text: str
    language: str
    hate: bool
    source: str
    group: str
    function: str = ""
    topic: str = ""


@dataclass(frozen=True)
class FrozenCase:
    """A case of ``frozen_tests``: written before anything was trained, never learnt from, nothing chosen by it."""

    text: str
    function: str
    hate: bool
    abuse: bool


def frozen_cases(language: str) -> list[FrozenCase]:
    """The cases of ``en`` or ``zh``, in the order of the file."""
    return [FrozenCase(**row) for row in _lines(FROZEN / f"{language}.jsonl")]


def frozen_digest(language: str) -> str:
    """SHA-256 of the file of frozen cases; the model card names it."""
    return hashlib.sha256((FROZEN / f"{language}.jsonl").read_bytes()).hexdigest()


def sentences(data: Path) -> list[Sentence]:
    """All that is learnt from, always in the same order. Raises FileNotFoundError for a set that is not there."""
    return [
        *_hatemoji(data), *_toxigen(data), *_davidson(data), *_cold(data),
        *_everyday(data, "en", "clinc150_small"), *_everyday(data, "zh", "zh_medical_qa"),
        *contrast_pairs("en"), *contrast_pairs("zh"),
    ]  # fmt: skip


def contrast_pairs(language: str) -> Iterator[Sentence]:
    """Each template with ``FILLINGS`` draws of its words, or once where it has none; drawn by a fixed seed."""
    head, *functions = _lines(CONTRAST / f"{language}.jsonl")
    rng = np.random.default_rng(0)
    for entry in functions:
        for template in entry["texts"]:
            for text in dict.fromkeys(_fillings(template, head["slots"], rng)):
                name = f"contrast/{language}/{template}"
                yield Sentence(text, language, entry["hate"], "contrast", name, entry["function"])


def _fillings(template: str, slots: dict[str, list[str]], rng: np.random.Generator) -> Iterator[str]:
    names = re.findall(r"{(\w+)}", template)
    for _ in range(FILLINGS if names else 1):
        text = template.format(**{name: slots[name][rng.integers(len(slots[name]))] for name in names})
        yield text[:1].upper() + text[1:]


def _hatemoji(data: Path) -> Iterator[Sentence]:
    for row in _lines(data / "hatemoji_build" / "manifest.jsonl"):
        pair = min(row["id"], row.get("pair") or row["id"], key=int)
        yield Sentence(row["text"], "en", row["label"] == "hateful", "hatemoji", f"hatemoji/{pair}")


def _toxigen(data: Path) -> Iterator[Sentence]:
    for row in _lines(data / "toxigen_statements" / "manifest.jsonl"):
        yield Sentence(row["text"], "en", row["label"] == "hateful", "toxigen", f"toxigen/{row['target']}")


def _davidson(data: Path) -> Iterator[Sentence]:
    rows = _lines(data / "davidson_hate" / "manifest.jsonl")
    for label in ("hate", "offensive", "neither"):
        texts = [html.unescape(html.unescape(row["text"])) for row in rows if row["label"] == label]
        for text in sorted(set(texts), key=_digest)[:MOST]:
            yield Sentence(text, "en", label == "hate", "davidson", f"davidson/{text}", label)


def _cold(data: Path) -> Iterator[Sentence]:
    for row in _lines(data / "cold_zh" / "manifest.jsonl"):
        name = f"cold/{row['id']}"
        yield Sentence(row["text"], "zh", row["label"] == "offensive", "cold", name, topic=row["topic"])


def _everyday(data: Path, language: str, name: str) -> Iterator[Sentence]:
    rows = _lines(data / name / "manifest.jsonl")
    texts = sorted({row.get("title") or row["text"] for row in rows}, key=_digest)
    for text in texts[:MOST]:
        yield Sentence(text, language, False, "everyday", f"everyday/{text}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _lines(path: Path) -> Sequence[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
