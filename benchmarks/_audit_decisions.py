"""Reviewers' decisions: what the first 200 of a stream save reviewers of what comes after.

A stream is the texts of a set that the detector was not trained on, in a random order; near copies of what was decided
are left out of what comes after. Whoever reviews answers as the set's labels do. Before: all that is flagged at the
shipped threshold goes to people. After: the same at the threshold that `ml.recalibration` accepts; and, as it reports,
what is left where flags that people would confirm are decided without them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _audit_text import _examine
from _data import DATA, rows_of
from _report import TOY, Line, at_most, sized, skip
from numpy.typing import NDArray

from ml import classification, recalibration
from ml.auditing import calibration, text_meaning
from ml.detectors.base import load_detector

DECISIONS = 200
STREAMS = sized(10, 2)
#: The split of the set on which the shipped models were measured.
SEED = 0
GOAL = 0.5

Array = NDArray[Any]


@dataclass(frozen=True)
class Flags:
    """What a detector flagged: scores and truth [n], numbers of near copies, the threshold, and vectors [n, d] of what
    texts mean (None where they are not read)."""

    name: str
    scores: Array
    truth: Array
    groups: Array
    threshold: float
    vectors: Array | None = None


def run(out: Path) -> list[Line]:
    if TOY:
        return _measured(_toy())
    sets = ("davidson_hate", "cold_zh")
    if any(rows_of(name) is None for name in sets):
        return []
    try:
        flagged = [*_davidson(), *_cold()]
    except ImportError as error:
        skip(f"decisions: scikit-learn finds near copies and trains without a topic ({error})")
        return []
    return [line for one in flagged for line in _measured(one)]


def _toy() -> Flags:
    random = np.random.default_rng(0)
    scores = random.uniform(0.5, 1, 400)
    return Flags(
        "toy", scores, random.random(400) < scores**3, np.arange(400), 0.5, random.normal(size=(400, 4))
    )


# --- Streams ---------------------------------------------------------------------------------------------


def _davidson() -> list[Flags]:
    """The test split, by the detector as it ships."""
    from research.auditing import abuse_data

    texts = abuse_data.load(DATA, "en")
    places = np.flatnonzero(texts.split(SEED) == "test")
    detector = load_detector("abuse")
    found = [_examine(detector, texts.raw[place]).categories for place in places]
    flags = []
    for at, name in enumerate(("abuse", "hate")):
        seen = [each.get(name) for each in found]
        inside = np.array([one is not None and one.score >= (one.threshold or 1) for one in seen])
        chosen = places[inside]
        raw = [texts.raw[place] for place in chosen]
        flags.append(
            Flags(
                f"davidson_hate {name}",
                np.array([one.score for one, is_in in zip(seen, inside, strict=True) if one and is_in]),
                texts.labels[chosen, at],
                texts.groups[chosen],
                next(float(one.threshold or 0) for one in seen if one),
                _vectors(raw, "en") if name == "hate" else None,
            )
        )
    return flags


def _cold() -> list[Flags]:
    """Each topic by words that were learnt from the other two."""
    from research.auditing import abuse_data, train_abuse

    texts = abuse_data.load(DATA, "zh")
    extra = [abuse_data.cleaned(text) for text in abuse_data.everyday(DATA, "zh")[0]]
    topics, split, flags = np.array(texts.topics), texts.split(SEED), []
    for topic in sorted(set(texts.topics)):
        inside = topics == topic
        linear = train_abuse.fit(texts, ~inside & (split == "train"), extra, train_abuse.SHAPES["zh"])
        head = train_abuse.calibrate(linear, texts, ~inside & (split == "calibration"), ["abuse"])["abuse"]
        curve = calibration.Calibration.loads(json.dumps(head["calibration"]))
        places = np.flatnonzero(inside)
        logits = train_abuse.logits_of(linear, [texts.texts[place] for place in places])[:, 0]
        scores = np.array([curve.probability(float(logit)) for logit in logits])
        chosen = scores >= head["threshold"]
        at = places[chosen]
        flags.append(
            Flags(
                f"cold_zh {topic}, held out", scores[chosen], texts.labels[at, 0], texts.groups[at],
                float(head["threshold"]),
            )
        )  # fmt: skip
    return flags


def _vectors(raw: list[str], language: str) -> Array | None:
    if not text_meaning.encoders_prepared():
        skip(
            "decisions: classifiers from decisions, as the text encoders for many languages are not prepared"
        )
        return None
    read = [text_meaning.readings(text)[0] for text in raw]
    found = text_meaning.encode(read, text_meaning.ENCODERS[language]).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


# --- What 200 decisions save -----------------------------------------------------------------------------


@dataclass
class Stream:
    """Of what came after the decisions, as shares of the flags (`load`, `best`, `learnt`, `left`), of the confirmed
    ones (`lost`), and of what was decided without people (`wrong`)."""

    accepted: bool
    load: float
    lost: float
    best: float
    learnt: float
    left: float
    wrong: float


def _measured(flags: Flags) -> list[Line]:
    streams = [_stream(flags, seed) for seed in range(STREAMS)]

    def mean(field: str) -> float:
        values = [getattr(one, field) for one in streams]
        return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0

    accepted = sum(one.accepted for one in streams)
    about = f"{len(flags.scores)} flags, {int(flags.truth.sum())} confirmed"
    lines = [
        at_most(f"{flags.name}: review load at equal misses ({about})", mean("load"), GOAL, unit=""),
        Line(f"{flags.name}: streams with a new threshold", f"{accepted}/{STREAMS}"),
        Line(f"{flags.name}: confirmed flags lost", round(mean("lost"), 4)),
        Line(f"{flags.name}: load of the best threshold that loses .02", round(mean("best"), 3)),
        Line(f"{flags.name}: left where certain ones need nobody", round(mean("left"), 3)),
        Line(f"{flags.name}: of those without a person, wrong", round(mean("wrong"), 4)),
    ]
    if flags.vectors is not None:
        title = f"{flags.name}: load by a classifier of the same decisions, best that loses .02"
        lines.insert(4, Line(title, round(mean("learnt"), 3)))
    return lines


def _stream(flags: Flags, seed: int) -> Stream:
    order = np.random.default_rng(seed).permutation(len(flags.scores))
    first = order[:DECISIONS]
    rest = order[DECISIONS:]
    rest = rest[~np.isin(flags.groups[rest], flags.groups[first])]
    found = recalibration.recalibrate(
        flags.scores[first], flags.truth[first], flags.groups[first], threshold=flags.threshold
    )
    scores, truth = flags.scores[rest], flags.truth[rest]
    sure = scores >= (found.certain.least if found.certain else np.inf)
    return Stream(
        found.outcome == recalibration.ACCEPTED,
        float((scores >= found.threshold.after).mean()),
        float((truth & (scores < found.threshold.after)).sum() / max(1, truth.sum())),
        _least_load(scores, truth),
        _learnt(flags, first, rest),
        float((~sure).mean()),
        float((~truth[sure]).mean()) if sure.any() else float("nan"),
    )


def _learnt(flags: Flags, first: Array, rest: Array) -> float:
    """The same of a classifier that learns what texts mean from the decisions, beside the detector's score."""
    if flags.vectors is None:
        return float("nan")
    contents = [str(group) for group in flags.groups]
    truth = flags.truth[first].copy()
    # Of near copies that are labelled both ways the first counts, as in the product the newest does.
    said: dict[int, bool] = {}
    for place, group in enumerate(flags.groups[first].tolist()):
        truth[place] = said.setdefault(group, bool(truth[place]))
    try:
        fitted = classification.fit(flags.vectors[first], truth, [contents[place] for place in first])
    except classification.Unlearnable:
        return 1.0
    probabilities = fitted.head.probabilities(flags.vectors[rest], ["text"] * len(rest))
    return _least_load(_logits(probabilities) + _logits(flags.scores[rest]), flags.truth[rest])


def _logits(probabilities: Array) -> Array:
    inside = np.clip(probabilities, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(inside / (1 - inside)))


def _least_load(scores: Array, truth: Array, lose: float = recalibration.LOSE) -> float:
    """The share of flags that the best threshold leaves, chosen with all answers known."""
    order = np.argsort(-scores, kind="stable")
    needed = int(truth.sum()) - int(lose * truth.sum())
    if not needed:
        return 0.0
    return float((np.searchsorted(np.cumsum(truth[order]), needed) + 1) / len(scores))
