"""Copy-move: a part of a picture that lies in it twice, shifted, turned or scaled, to hide or multiply something.

SIFT keypoints that resemble each other far apart (Amerini et al., "A SIFT-based forensic method for copy-move attack
detection and transformation recovery", IEEE TIFS 2011), a similarity that many of them share (RANSAC), and then the
pixels: the picture is laid over itself by that similarity, and the copy is where both agree to the grain. Repeated
things, such as packages on a shelf, pass the first two steps and fail the third.
"""

from __future__ import annotations

import io
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.auditing import calibration as calibrating
from ml.auditing.calibration import Calibration
from ml.detectors._copies import LEAST_KEYPOINTS, Copy, find_copies, score_of, strength, working
from ml.detectors._learned import conclude
from ml.detectors.base import Detector, Finding, Item, Pixels

CALIBRATION = Path(calibrating.__file__).parent / "weights" / "copy-move-1" / "calibration.json"
LARGEST_PICTURE, MOST_SHOWN = 512, 3
#: One copied region is found up to twice, there and back; a pattern is found wherever it is laid over itself.
MANY = 5
#: Smaller pictures have too few keypoints.
SMALLEST_SIDE = 160


class CopyMove(Detector):
    name = "copy-move"
    tier = "statistical"
    modalities: ClassVar = frozenset({"image"})
    sees = "A textured part of the picture that lies in it twice, also turned, scaled or with a soft edge."
    blind_to = (
        "Copies of flat areas, copies smaller than about a tenth of the picture's side, parts that come from another "
        "picture, whatever generators paint. Patterns that are truly the same, such as print, can look like copies."
    )
    timeout_s = 30.0
    estimates = "manipulation"
    looks_for = ("copied_regions",)

    @cached_property
    def version(self) -> str:  # type: ignore[override]
        return f"1-{self._calibration.version}"

    def missing(self) -> str:
        if find_spec("cv2") is None:
            return "opencv-python-headless is not installed: pip install 'opencv-python-headless<5'"
        return ""

    def examine(self, item: Item) -> Finding:
        if item.pixels is None:
            return Finding("failed", "The picture could not be decoded.")
        if min(item.pixels.shape[:2]) < SMALLEST_SIDE:
            return Finding("abstained", f"Its shorter side is below {SMALLEST_SIDE} pixels.")
        grey = working(item.pixels)
        copies, keypoints = find_copies(grey)
        if keypoints < LEAST_KEYPOINTS:
            return Finding("abstained", "It has too little texture to compare parts of it.")
        sure = [copy for copy in copies if self._calibration.place(strength(copy)) != "none"]
        if len(sure) >= MANY:
            return Finding("abstained", "It repeats itself all over, as patterns, print and screens do.")
        width = item.width or item.pixels.shape[1]
        evidence = [_evidence(copy, width / grey.shape[1]) for copy in sure[:MOST_SHOWN]]
        pictures = {"copy-move": _mask(item.pixels, sure[:MOST_SHOWN])} if sure else {}
        return conclude(score_of(copies), self._calibration, evidence, pictures=pictures)

    @cached_property
    def _calibration(self) -> Calibration:
        return Calibration.load(CALIBRATION)


def load(argument: str) -> Detector:
    """Takes no argument. Raises ValueError for one."""
    if argument:
        raise ValueError("copy-move takes no argument")
    return CopyMove()


def _evidence(copy: Copy, scale: float) -> dict[str, Any]:
    """Boxes in pixels of the original picture."""
    return {
        "kind": "copied-region",
        "boxes": [_box(copy.first, scale), _box(copy.second, scale)],
        "keypoints": copy.inliers,
        "agreement": round(copy.level, 3),
        "scaled": round(copy.scale, 2),
        "turned_degrees": round(copy.turn),
    }


def _box(mask: NDArray[np.bool_], scale: float) -> list[int]:
    """Left, top, width, height."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return [0, 0, 0, 0]
    edges = columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]
    return [round(float(edge) * scale) for edge in edges]


def _mask(pixels: Pixels, copies: list[Copy]) -> bytes:
    """The picture in grey with both regions in colour, as PNG of at most 512 pixels."""
    shown = Image.fromarray(pixels).convert("L")
    shown.thumbnail((LARGEST_PICTURE, LARGEST_PICTURE))
    canvas = np.repeat(np.asarray(shown, np.float32)[..., None] * 0.6, 3, axis=2)
    for copy in copies:
        for mask, colour in ((copy.first, (0, 160, 255)), (copy.second, (255, 120, 0))):
            small = np.asarray(Image.fromarray(mask).resize(shown.size, Image.Resampling.NEAREST))
            canvas[small] = 0.5 * canvas[small] + 0.5 * np.asarray(colour, np.float32)
    file = io.BytesIO()
    Image.fromarray(canvas.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
