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
from ml.detectors.base import Finding, Item, Pixels, VideoFrame

# --- Films -----------------------------------------------------------------------------------------------
# What single frames say of a film: one lucky frame is no evidence, a stretch of them is.
#
# A film's score is the median of the highest fifth of its frames. It counts only where at least three frames in a
# row reach the threshold: detectors of pictures err on single frames, for example on cuts, blur and titles.


MAX_FRAMES = 32
TOP_SHARE = 0.2
IN_A_ROW = 3


@dataclass(frozen=True)
class FrameRun:
    """Frames in a row that reach a threshold: times of the first and the last, and how many they are."""

    start_s: float
    end_s: float
    frames: int


@dataclass(frozen=True)
class FilmScores:
    """``frames``: (seconds, score) of every frame, minus infinity where nothing could be told; ``score``: the median of
    the highest fifth."""

    frames: tuple[tuple[float, float], ...]
    score: float

    def stretches(self, threshold: float, in_a_row: int = IN_A_ROW) -> list[FrameRun]:
        """Where at least ``in_a_row`` frames in a row reach ``threshold``, the longest first."""
        found: list[FrameRun] = []
        run: list[float] = []
        for at_s, score in (*self.frames, (0.0, -np.inf)):
            if score >= threshold:
                run.append(at_s)
                continue
            if len(run) >= in_a_row:
                found.append(FrameRun(run[0], run[-1], len(run)))
            run = []
        return sorted(found, key=lambda stretch: -stretch.frames)

    def evidence(self, threshold: float | None) -> list[dict[str, Any]]:
        """Stretches over the threshold, and the highest frames, as JSON."""
        stretches = self.stretches(threshold)[:10] if threshold is not None else []
        highest = sorted(
            (frame for frame in self.frames if np.isfinite(frame[1])), key=lambda frame: -frame[1]
        )[:5]
        return [
            {
                "kind": "stretch",
                "start_s": round(each.start_s, 3),
                "end_s": round(each.end_s, 3),
                "frames": each.frames,
            }
            for each in stretches
        ] + [
            {"kind": "frame", "at_s": round(at_s, 3), "score": round(score, 4)}
            for at_s, score in sorted(highest)
        ]


def top_median(scores: Sequence[float]) -> float:
    """The median of the highest fifth, of one score at least. Raises ValueError for none."""
    if not len(scores):
        raise ValueError("there is no score")
    highest = np.sort(np.asarray(scores, np.float64))[::-1]
    return float(np.median(highest[: max(1, round(TOP_SHARE * len(highest)))]))


def sample_frames(shots: Sequence[VideoFrame], limit: int = MAX_FRAMES) -> list[VideoFrame]:
    """At most ``limit`` of the shots, evenly over the film, in the order of their times."""
    ordered = sorted(shots, key=lambda shot: shot.at_s)
    if len(ordered) <= limit:
        return ordered
    return [ordered[at] for at in np.linspace(0, len(ordered) - 1, limit).round().astype(int)]


def score_frames(
    shots: Sequence[VideoFrame], look: Callable[[Pixels], float | None], limit: int = MAX_FRAMES
) -> FilmScores | None:
    """Let ``look`` score each frame; None for a frame is "cannot tell", and such a frame also ends a stretch.

    None where fewer than three frames could be scored: then nothing can be said of the film.
    """
    frames = []
    for shot in sample_frames(shots, limit):
        score = look(shot.pixels)
        frames.append((shot.at_s, -np.inf if score is None else float(score)))
    scored = [score for _, score in frames if np.isfinite(score)]
    if len(scored) < IN_A_ROW:
        return None
    return FilmScores(tuple(frames), top_median(scored))


def lasting_score(frames: Sequence[tuple[float, float]]) -> FilmScores:
    """Of a film's (seconds, score): the score is that of its worst ``IN_A_ROW`` frames in a row, so that a short scene
    counts and a single frame does not. Raises ValueError for fewer frames."""
    scores = [score for _, score in frames]
    runs = [min(scores[at : at + IN_A_ROW]) for at in range(len(scores) - IN_A_ROW + 1)]
    return FilmScores(tuple(frames), max(runs))


# --- Models by configuration -----------------------------------------------------------------------------


Scores = NDArray[np.float32]

#: Labels that are taken for "synthetic" where none is given; checkpoints use these words.
SYNTHETIC = frozenset(
    {"ai", "aigenerated", "artificial", "deepfake", "fake", "generated", "machine", "spoof", "synthetic"}
)
#: A recording is asked as a film would be: that it has no picture is known only when it is decoded.
NO_PICTURE = "There is no picture in it."
TOO_FEW_FRAMES = "Fewer than three frames could be examined."
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


def parse_label_map(text: str, categories: Sequence[str]) -> dict[str, str]:
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


def finding_of_score(
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


def examine_pictures(
    item: Item, look: Callable[[Pixels], float | None], calibration: Calibration | None
) -> Finding:
    """Let ``look`` score the picture, or the frames of a film."""
    if refused := nothing_to_see(item):
        return refused
    if item.pixels is not None:
        score = look(item.pixels)
        if score is None:
            return Finding("not_applicable", "Nothing of what it looks at is in the picture.")
        return finding_of_score(score, calibration)
    watched = score_frames(item.shots, look)
    if watched is None:
        return Finding("abstained", TOO_FEW_FRAMES)
    return finding_of_film(watched, calibration)


def nothing_to_see(item: Item) -> Finding | None:
    """What is found of an item that is no film and holds no picture either; None of others."""
    if item.modality not in ("image", "video"):
        return Finding("not_applicable", NO_PICTURE)
    if item.modality == "image" and item.pixels is None:
        return Finding("failed", "The picture could not be decoded.")
    return None


def finding_of_film(watched: FilmScores, calibration: Calibration | None) -> Finding:
    """A film counts only where several frames in a row stand over the threshold."""
    threshold = calibration.likely_from if calibration else None
    counts = threshold is not None and bool(watched.stretches(threshold))
    return finding_of_score(watched.score, calibration, watched.evidence(threshold), counts=counts)


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
