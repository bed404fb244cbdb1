"""From a corpus and a teacher to a folder with a student."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.encoders.base import Encoder
from research.chinese.corpus import Corpus, Lesson, grams_of, vocabulary
from research.chinese.packing import pack, write_student
from research.chinese.student import Lessons, Settings, train

Floats = NDArray[np.float32]
Report = Callable[[dict[str, Any]], None]

LICENCE = "CC BY-SA 4.0 (derived from CC-CEDICT)"


def distil(
    corpus: Corpus, teacher: Encoder, settings: Settings, out: Path, cache: Path | None, report: Report
) -> dict[str, Any]:
    """Train and write; what the manifest says of it comes back. ``cache``: where the teacher's vectors are kept."""
    said = sorted({text for lesson in corpus.lessons for text, _ in lesson.translations})
    report({"event": "teacher", "texts": len(said)})
    vectors = taught(said, teacher, cache)
    simplified = {ord(old): ord(new) for old, new in corpus.simplified.items()}
    found = [grams_of(lesson.text, simplified) for lesson in corpus.lessons]
    known = _vocabulary(corpus, found)
    lessons = _lessons(corpus.lessons, found, known, dict(zip(said, vectors, strict=True)))
    network = train(lessons, len(known), settings, report)
    rows = network.rows.weight.detach().numpy()
    about = _about(corpus, teacher, settings)
    write_student(out, pack(known, rows, network.layers(), corpus.simplified), about)
    return about


def taught(texts: Sequence[str], teacher: Encoder, cache: Path | None) -> Floats:
    """The teacher's vectors [n, 384] of these texts, from ``cache`` where it holds exactly those."""
    key = hashlib.sha256("\n".join([teacher.version, *texts]).encode()).hexdigest()
    if cache is not None and cache.exists():
        with np.load(cache) as kept:
            if str(kept["key"]) == key:
                return kept["vectors"].astype(np.float32)
    # Halved also where nothing is kept: a run gives the same student with and without a cache.
    vectors = teacher.encode(texts).astype(np.float16)
    if cache is not None:
        np.savez(cache, key=np.array(key), vectors=vectors)
    return vectors.astype(np.float32)


def _vocabulary(corpus: Corpus, found: Sequence[list[str]]) -> list[str]:
    pairs = list(zip(corpus.lessons, found, strict=True))
    words, phrases = ([grams for lesson, grams in pairs if lesson.phrase is kind] for kind in (False, True))
    return vocabulary(words, phrases, corpus.used)


def _lessons(
    lessons: Sequence[Lesson], found: Sequence[list[str]], known: Sequence[str], vectors: Mapping[str, Floats]
) -> Lessons:
    place = {gram: number for number, gram in enumerate(known)}
    bags = [[place[gram] for gram in grams if gram in place] or [len(known)] for grams in found]
    targets = np.stack([sum(weight * vectors[text] for text, weight in one.translations) for one in lessons])
    weights = np.array([one.weight for one in lessons])
    return Lessons(
        grams=np.concatenate([np.array(bag, np.int64) for bag in bags]),
        starts=np.concatenate([[0], np.cumsum([len(bag) for bag in bags])]).astype(np.int64),
        targets=(targets / np.linalg.norm(targets, axis=1, keepdims=True)).astype(np.float32),
        shares=weights / weights.sum(),
    )


def _about(corpus: Corpus, teacher: Encoder, settings: Settings) -> dict[str, Any]:
    return {
        "id": "zh-1",
        "licence": LICENCE,
        "teacher": f"{teacher.id} {teacher.version}",
        "corpus": corpus.counts,
        "settings": json.loads(json.dumps(asdict(settings))),
    }
