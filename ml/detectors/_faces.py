"""Faces in a picture by OpenCV's Haar cascade (Viola and Jones 2001): frontal ones, and some that are none."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ml.detectors.base import Pixels

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
