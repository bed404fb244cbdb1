"""A Hugging Face classifier of face crops, for swapped and generated faces: ``hf-face:<folder or hub id>#fake``.

Each face goes to the model by itself; the most suspect one speaks. The argument is that of ``hf-image``.
"""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from typing import Any, ClassVar

from ml.auditing.calibration import Calibration
from ml.auditing.films import watch
from ml.detectors._checkpoint import Checkpoint
from ml.detectors._faces import crop, faces
from ml.detectors._learned import NO_PICTURE, Argument, conclude, conclude_film, synthetic_columns
from ml.detectors.base import Detector, Finding, Item, Pixels

NO_FACE = "No frontal face of at least 48 pixels was found."


class HfFace(Detector):
    tier = "statistical"
    modalities: ClassVar = frozenset({"image", "video"})
    sees = "Swapped or generated faces of the kinds that its model was trained on, one by one."
    blind_to = "Faces in profile, small or covered; whatever is not a face. Without a calibration it moves no verdict."
    timeout_s = 120.0
    estimates = "generation"
    looks_for = ("synthetic_faces",)

    def __init__(self, argument: str) -> None:
        self.name = f"hf-face:{argument}"
        self._argument = Argument.parse(argument)
        if not self._argument.model:
            raise ValueError("hf-face needs a model: hf-face:/path/to/folder#label-that-means-synthetic")
        self._checkpoint = Checkpoint(self._argument.model, "image")

    @cached_property
    def version(self) -> str:  # type: ignore[override]
        return self._checkpoint.version(*self._argument.identity())

    def missing(self) -> str:
        if find_spec("cv2") is None:
            return "opencv-python-headless is not installed: pip install 'opencv-python-headless<5'"
        return self._checkpoint.missing() or self._argument.calibration_problem()

    def examine(self, item: Item) -> Finding:
        if item.modality not in self.modalities:
            return Finding("not_applicable", NO_PICTURE)
        columns = synthetic_columns(self._checkpoint.labels, self._argument.labels)

        def look(pixels: Pixels) -> list[dict[str, Any]]:
            boxes = faces(pixels)
            if not boxes:
                return []
            scores = self._checkpoint.pictures([crop(pixels, box) for box in boxes])[:, columns].sum(1)
            return [
                {"kind": "face", "box": list(box), "score": round(float(score), 4)}
                for box, score in zip(boxes, scores, strict=True)
            ]

        if item.modality == "video":
            watched = watch(item.shots, lambda pixels: _highest(look(pixels)))
            return (
                Finding("not_applicable", NO_FACE)
                if watched is None
                else conclude_film(watched, self._calibration)
            )
        if item.pixels is None:
            return Finding("failed", "The picture could not be decoded.")
        seen = look(item.pixels)
        score = _highest(seen)
        return (
            Finding("not_applicable", NO_FACE) if score is None else conclude(score, self._calibration, seen)
        )

    @cached_property
    def _calibration(self) -> Calibration | None:
        return self._argument.calibration()


def _highest(seen: list[dict[str, Any]]) -> float | None:
    return max((face["score"] for face in seen), default=None)


def load(argument: str) -> Detector:
    """Raises ValueError without a model, and for unknown options."""
    return HfFace(argument)
