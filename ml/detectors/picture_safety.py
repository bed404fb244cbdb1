"""Nudity and violence in pictures and films: only with a model that somebody chose.

``picture-safety:hf:<folder or hub id>#nsfw=nudity,gore=violence`` runs a Hugging Face picture classifier whose labels
mean categories. ``picture-safety`` alone runs NudeNet where it is installed (``pip install 'crosslight[nudity]'``): its
package is MIT, its weights are AGPL-3.0, so it is neither installed nor asked for by default. With neither it says
that it is missing, and the categories stay ``not_examined``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib.util import find_spec
from typing import Any, ClassVar, Protocol

from ml.auditing.calibration import Calibration
from ml.detectors._checkpoint import Checkpoint
from ml.detectors._learned import (
    TOO_FEW_FRAMES,
    Argument,
    category_columns,
    digest,
    lasting_score,
    nothing_to_see,
    parse_label_map,
    score_frames,
)
from ml.detectors.base import Category, Detector, Finding, Item, Pixels

CATEGORIES = ("nudity", "violence", "sexual", "self_harm")
#: What NudeNet calls exposed parts; covered ones, feet and faces are no nudity.
EXPOSED = frozenset(
    {
        "BUTTOCKS_EXPOSED",
        "FEMALE_BREAST_EXPOSED",
        "FEMALE_GENITALIA_EXPOSED",
        "MALE_GENITALIA_EXPOSED",
        "ANUS_EXPOSED",
    }
)
#: A film's frames from this score on are told as a stretch.
SHOWN = 0.5
HELP = (
    "No model for picture safety is configured: give one (picture-safety:hf:/path/to/folder#nsfw=nudity), or install "
    "NudeNet, whose weights are AGPL-3.0 (pip install 'crosslight[nudity]')."
)


class Model(Protocol):
    """Scores of one picture by category, and what was seen where."""

    def missing(self) -> str: ...
    def version(self) -> str: ...
    def look(self, pixels: Pixels) -> tuple[dict[str, float], list[dict[str, Any]]]: ...


class PictureSafety(Detector):
    tier = "statistical"
    modalities: ClassVar = frozenset({"image", "video"})
    sees = "Nudity or violence, as far as the configured model knows it."
    blind_to = (
        "Whatever its model's card says; drawings and small figures, as a rule. Its scores are calibrated only by a "
        "file that comes with them."
    )
    timeout_s = 120.0

    def __init__(self, argument: str) -> None:
        self.name = f"picture-safety:{argument}" if argument else "picture-safety"
        self._model: Model
        self._calibrate: Callable[[], Calibration | None] = lambda: None
        if not argument:
            self._model, found = NudeNet(), ("nudity",)
        elif argument.startswith("hf:"):
            parsed = Argument.parse(argument.removeprefix("hf:"))
            self._model, self._calibrate = HfSafety(parsed), parsed.calibration
            found = tuple(dict.fromkeys(parse_label_map(parsed.labels, CATEGORIES).values()))  # type: ignore[assignment]
        else:
            raise ValueError("picture-safety takes hf:<folder or hub id>#LABEL=CATEGORY,…")
        self.categories = found  # type: ignore[misc]

    @cached_property
    def version(self) -> str:  # type: ignore[override]
        return self._model.version()

    def missing(self) -> str:
        return self._model.missing()

    def examine(self, item: Item) -> Finding:
        if refused := nothing_to_see(item):
            return refused
        if item.pixels is None:
            return self._film(item)
        scores, seen = self._model.look(item.pixels)
        return Finding(categories={name: self._category(score, seen) for name, score in scores.items()})

    def _film(self, item: Item) -> Finding:
        looks: dict[str, list[float]] = {name: [] for name in self.categories}

        def look(pixels: Pixels) -> float:
            for name, score in self._model.look(pixels)[0].items():
                looks[name].append(score)
            return 0.0

        watched = score_frames(item.shots, look)
        if watched is None:
            return Finding("abstained", TOO_FEW_FRAMES)
        times = [at_s for at_s, _ in watched.frames]
        lasting = {
            name: lasting_score(list(zip(times, scores, strict=True))) for name, scores in looks.items()
        }
        return Finding(
            categories={
                name: self._category(each.score, each.evidence(SHOWN)) for name, each in lasting.items()
            }
        )

    def _category(self, score: float, seen: list[dict[str, Any]]) -> Category:
        calibration = self._calibrate()
        if calibration is None:
            return Category(round(score, 4), evidence=seen)
        return Category(calibration.probability(score), True, calibration.interval(score), seen)


class HfSafety:
    """A Hugging Face classifier whose labels are categories. Of a category, labels add up."""

    def __init__(self, argument: Argument) -> None:
        self._argument = argument
        self._wanted = parse_label_map(argument.labels, CATEGORIES)
        if not argument.model or not self._wanted:
            raise ValueError("picture-safety:hf: needs a model and its labels, as in hf:/path#nsfw=nudity")
        self._checkpoint = Checkpoint(argument.model, "image")

    def missing(self) -> str:
        return self._checkpoint.missing() or self._argument.calibration_problem()

    def version(self) -> str:
        return self._checkpoint.version(*self._argument.identity())

    def look(self, pixels: Pixels) -> tuple[dict[str, float], list[dict[str, Any]]]:
        labels = self._checkpoint.labels
        scores = self._checkpoint.pictures([pixels])[0]
        columns = category_columns(labels, self._wanted)
        seen = [
            {"kind": "label", "label": labels[at], "score": round(float(scores[at]), 4)}
            for at in sorted({at for each in columns.values() for at in each})
        ]
        return {name: min(1.0, float(scores[each].sum())) for name, each in columns.items()}, seen


class NudeNet:
    """The optional package: boxes of body parts."""

    def missing(self) -> str:
        return "" if find_spec("nudenet") else HELP

    def version(self) -> str:
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as installed

        try:
            return digest([], "1", installed("nudenet"))
        except PackageNotFoundError:
            return "absent"

    def look(self, pixels: Pixels) -> tuple[dict[str, float], list[dict[str, Any]]]:
        # It reads arrays as OpenCV does: blue first.
        found = [each for each in self._network.detect(pixels[..., ::-1].copy()) if each["class"] in EXPOSED]
        seen = [
            {
                "kind": "box",
                "label": each["class"],
                "box": [int(v) for v in each["box"]],
                "score": round(float(each["score"]), 4),
            }
            for each in found[:20]
        ]
        return {"nudity": max((float(each["score"]) for each in found), default=0.0)}, seen

    @cached_property
    def _network(self) -> Any:
        from nudenet import NudeDetector

        return NudeDetector()


def load(argument: str) -> Detector:
    """Raises ValueError for an argument of another form."""
    return PictureSafety(argument)
