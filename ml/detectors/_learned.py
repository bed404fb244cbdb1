"""What detectors that bring a learned model by configuration share: their argument, and what a score of theirs means.

``MODEL#LABELS?OPTION=VALUE&…``: MODEL is a folder, a file or a hub id whose files are on this machine. LABELS says
which of the model's labels mean what: ``#artificial`` or ``#fake+deepfake`` for "synthetic", or for categories
``#nsfw=nudity,gore=violence``. The option ``calibration=/path.json`` names a file of ``ml.auditing.calibration``.
Without one a score is only shown: it moves no verdict, since nobody knows what .9 of a stranger's model is worth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from ml.auditing.calibration import BadCalibration, Calibration
from ml.auditing.films import Watched, watch
from ml.detectors.base import Finding, Item, Pixels

Scores = NDArray[np.float32]

#: Labels that are taken for "synthetic" where none is given; checkpoints use these words.
SYNTHETIC = frozenset(
    {"ai", "aigenerated", "artificial", "deepfake", "fake", "generated", "machine", "spoof", "synthetic"}
)
#: A recording is asked as a film would be: that it has no picture is known only when it is decoded.
NO_PICTURE = "There is no picture in it."
NOT_CALIBRATED = "Without a calibration the score is only shown: it moves no verdict."


@dataclass(frozen=True)
class Argument:
    """A spec's argument in its parts."""

    model: str
    labels: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, allowed: Sequence[str] = ("calibration",)) -> Argument:
        """Raises ValueError for an option that does not exist."""
        rest, _, query = text.partition("?")
        model, _, labels = rest.partition("#")
        options = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=20))
        if unknown := set(options) - set(allowed):
            raise ValueError(f"no option {', '.join(sorted(unknown))}; there are {', '.join(allowed)}")
        return cls(model, labels, options)

    def calibration(self) -> Calibration | None:
        """Raises BadCalibration."""
        path = self.options.get("calibration")
        return Calibration.load(Path(path)) if path else None

    def identity(self) -> list[str]:
        """What a finding depends on besides the weights: labels, options, and the calibration itself, not its path."""
        others = [f"{key}={value}" for key, value in sorted(self.options.items()) if key != "calibration"]
        calibration = None if self.calibration_problem() else self.calibration()
        return ["1", self.labels, *others, calibration.version if calibration else ""]

    def calibration_problem(self) -> str:
        try:
            self.calibration()
        except BadCalibration as error:
            return str(error)
        return ""


def synthetic_columns(labels: Sequence[str], wanted: str) -> list[int]:
    """Which of the model's outputs mean "synthetic": those named, or numbered, in ``wanted``, joined by ``+``.

    Raises ValueError where they do not exist, or where none is named and the labels do not tell.
    """
    names = [_plain(label) for label in labels]
    asked = [part for part in wanted.split("+") if part]
    found = [_column(labels, part) for part in asked]
    if not asked:
        found = [at for at, name in enumerate(names) if name in SYNTHETIC]
    if not found or len(set(found)) == len(labels) > 1:
        raise ValueError(
            f"which label means synthetic? Name it behind '#': the model has {', '.join(map(str, labels))}"
        )
    return sorted(set(found))


def category_columns(labels: Sequence[str], wanted: Mapping[str, str]) -> dict[str, list[int]]:
    """Category to outputs. Raises ValueError for a label that the model does not have."""
    found: dict[str, list[int]] = {}
    for label, category in wanted.items():
        found.setdefault(category, []).append(_column(labels, label))
    return found


def label_map(text: str, categories: Sequence[str]) -> dict[str, str]:
    """``nsfw=nudity,gore=violence`` as a mapping. Raises ValueError."""
    found = {}
    for part in filter(None, text.split(",")):
        label, _, category = (each.strip() for each in part.rpartition("="))
        if not label or category not in categories:
            raise ValueError(
                f"{part!r} is not of the form LABEL=CATEGORY with one of {', '.join(categories)}"
            )
        found[label] = category
    return found


def conclude(
    score: float,
    calibration: Calibration | None,
    evidence: Sequence[Mapping[str, Any]] = (),
    *,
    counts: bool = True,
    pictures: Mapping[str, bytes] | None = None,
) -> Finding:
    """The finding for a raw score; at most "band" with ``counts`` false: a film without enough frames in a row."""
    seen = [{"kind": "score", "score": round(score, 4), "calibrated": calibration is not None}, *evidence]
    if calibration is None:
        return Finding("examined", NOT_CALIBRATED, seen, pictures=pictures or {})
    seen[0] = {**seen[0], "calibration": calibration.version}
    place = calibration.place(score)
    return Finding(
        evidence=seen,
        synthetic=calibration.probability(score),
        interval=calibration.interval(score),
        above="band" if place == "likely" and not counts else place,
        pictures=pictures or {},
    )


def judge_pictures(
    item: Item, look: Callable[[Pixels], float | None], calibration: Calibration | None
) -> Finding:
    """Let ``look`` score the picture, or the frames of a film."""
    if item.modality not in ("image", "video"):
        return Finding("not_applicable", NO_PICTURE)
    if item.modality == "image":
        if item.pixels is None:
            return Finding("failed", "The picture could not be decoded.")
        score = look(item.pixels)
        if score is None:
            return Finding("not_applicable", "Nothing of what it looks at is in the picture.")
        return conclude(score, calibration)
    watched = watch(item.shots, look)
    if watched is None:
        return Finding("abstained", "Fewer than three frames could be examined.")
    return conclude_film(watched, calibration)


def conclude_film(watched: Watched, calibration: Calibration | None) -> Finding:
    """A film counts only where several frames in a row stand over the threshold."""
    threshold = calibration.likely_from if calibration else None
    counts = threshold is not None and bool(watched.stretches(threshold))
    return conclude(watched.score, calibration, watched.evidence(threshold), counts=counts)


def softmax(logits: Any) -> Scores:
    """Rows of [n, classes] to probabilities; a single output is a logit of its own."""
    values = np.asarray(logits, np.float64)
    if values.shape[1] == 1:
        return sigmoid(values)
    powers = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)


def sigmoid(logits: Any) -> Scores:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64))), np.float32)


def digest(files: Sequence[Path], *more: str) -> str:
    """Twelve digits over the bytes of ``files`` and what else a finding depends on."""
    whole = hashlib.sha256("\n".join(more).encode("utf-8", "surrogatepass"))
    for path in sorted(files):
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:12]


def _column(labels: Sequence[str], wanted: str) -> int:
    names = [_plain(label) for label in labels]
    if _plain(wanted) in names:
        return names.index(_plain(wanted))
    if wanted.isdecimal() and int(wanted) < len(labels):
        return int(wanted)
    raise ValueError(f"the model has no label {wanted!r}; it has {', '.join(map(str, labels))}")


def _plain(label: str) -> str:
    return "".join(filter(str.isalnum, str(label).lower()))
