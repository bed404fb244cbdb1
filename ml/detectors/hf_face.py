"""A Hugging Face classifier of face crops, for swapped and generated faces: ``hf-face:<folder or hub id>#fake``.

Each face goes to the model by itself; the most suspect one speaks. The argument is that of ``hf-image``.
"""

from __future__ import annotations

from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from ml.auditing.calibration import Calibration
from ml.detectors._checkpoint import Checkpoint
from ml.detectors._learned import (
    NO_PICTURE,
    Argument,
    finding_of_film,
    finding_of_score,
    score_frames,
    synthetic_columns,
)
from ml.detectors.base import Detector, Finding, Item, Pixels

# --- Faces -----------------------------------------------------------------------------------------------
# Faces in a picture by OpenCV's Haar cascade (Viola and Jones 2001): frontal ones, and some that are none.


#: Shorter side of the smallest face, in pixels: below there is nothing to examine.
SMALLEST = 48
#: How much of its surroundings a crop keeps, as a share of the face.
MARGIN = 0.3
MOST = 8
Box = tuple[int, int, int, int]


def faces(pixels: Pixels) -> list[Box]:
    """(left, top, width, height) of at most eight faces, the largest first."""
    import cv2

    grey = cv2.equalizeHist(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    found = _cascade().detectMultiScale(grey, 1.1, 6, minSize=(SMALLEST, SMALLEST))
    boxes = [tuple(int(value) for value in box) for box in found]
    return sorted(boxes, key=lambda box: -box[2] * box[3])[:MOST]  # type: ignore[return-value]


def crop(pixels: Pixels, box: Box) -> Pixels:
    """The face with a margin around it."""
    left, top, width, height = box
    by = round(MARGIN * max(width, height))
    return pixels[max(0, top - by) : top + height + by, max(0, left - by) : left + width + by]


@cache
def _cascade() -> Any:
    import cv2

    folder = Path(cv2.__file__).parent / "data"
    found = cv2.CascadeClassifier(str(folder / "haarcascade_frontalface_default.xml"))
    if found.empty():
        raise RuntimeError("OpenCV has no face cascade: install opencv-python-headless<5")
    return found


# --- Detector --------------------------------------------------------------------------------------------


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
            watched = score_frames(item.shots, lambda pixels: _highest(look(pixels)))
            return (
                Finding("not_applicable", NO_FACE)
                if watched is None
                else finding_of_film(watched, self._calibration)
            )
        if item.pixels is None:
            return Finding("failed", "The picture could not be decoded.")
        seen = look(item.pixels)
        score = _highest(seen)
        return (
            Finding("not_applicable", NO_FACE)
            if score is None
            else finding_of_score(score, self._calibration, seen)
        )

    @cached_property
    def _calibration(self) -> Calibration | None:
        return self._argument.calibration()


def _highest(seen: list[dict[str, Any]]) -> float | None:
    return max((face["score"] for face in seen), default=None)


def load(argument: str) -> Detector:
    """Raises ValueError without a model, and for unknown options."""
    return HfFace(argument)
