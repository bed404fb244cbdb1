"""Copy-move: a part of a picture that lies in it twice, shifted, turned or scaled, to hide or multiply something.

SIFT keypoints that resemble each other far apart (Amerini et al., "A SIFT-based forensic method for copy-move attack
detection and transformation recovery", IEEE TIFS 2011), a similarity that many of them share (RANSAC), and then the
pixels: the picture is laid over itself by that similarity, and the copy is where both agree to the grain. Repeated
things, such as packages on a shelf, pass the first two steps and fail the third.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.auditing import calibration as calibrating
from ml.auditing.calibration import Calibration
from ml.detectors._learned import finding_of_score
from ml.detectors.base import Detector, Finding, Item, Pixels

# --- Search for copies -----------------------------------------------------------------------------------
# Parts of a picture that lie in it twice: keypoints, a similarity that many of them share, and then the pixels.


Grey = NDArray[np.float32]

#: Keypoints without which nothing can be said: a clear sky, a plain background.
LEAST_KEYPOINTS = 60
#: Pictures are brought to this longest side: SIFT finds little in small ones.
WORKING_SIDE = 640
MAX_KEYPOINTS = 1_600
#: Cells along the longest side that share them.
GRID = 8
#: Nearest neighbours that are looked at, and Lowe's ratio between one and the next.
NEIGHBOURS, RATIO = 4, 0.75
#: Keypoints nearer than this (share of the longest side) are one thing seen twice.
APART = 0.04
LEAST_INLIERS = 6
RANSAC_ROUNDS = 8
#: Window of the local correlation, in working pixels, and what it must reach.
WINDOW, AGREES = 17, 0.88
#: Of strength: a constant, level, share, keypoints. Fitted once to photos of the tuning part, by no script here.
WEIGHTS = (-15.1, 8.1, 10.5, 0.7)
#: The score of a picture in which nothing lies twice.
NOTHING = -6.0
#: Standard deviation of grey levels below which a window is too flat to compare.
FLAT = 4.0


@dataclass(frozen=True)
class Copy:
    """One region and its double: masks bool [h, w] at working size.

    ``level``: mean correlation of the two; ``share``: how much of what the keypoints span agrees so.
    """

    first: NDArray[np.bool_]
    second: NDArray[np.bool_]
    inliers: int
    level: float
    share: float
    scale: float
    turn: float


def to_working_size(pixels: Pixels) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] to grey, its longest side at ``WORKING_SIDE``."""
    import cv2

    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    scale = WORKING_SIDE / max(grey.shape)
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=how))


def find_copies(grey: NDArray[np.uint8]) -> tuple[list[Copy], int]:
    """The copies in a grey picture at working size, the surest first, and how many keypoints it has."""
    import cv2

    points, descriptors = _keypoints(grey)
    if len(points) < LEAST_KEYPOINTS:
        return [], len(points)
    start, end = _pairs(points, descriptors, max(grey.shape) * APART)
    found = []
    for _ in range(RANSAC_ROUNDS):
        if len(start) < LEAST_INLIERS:
            break
        matrix, chosen = cv2.estimateAffinePartial2D(
            start, end, method=cv2.RANSAC, ransacReprojThreshold=3.0, maxIters=5_000, confidence=0.999
        )
        if matrix is None or not np.isfinite(matrix).all():
            break
        inside = chosen[:, 0].astype(bool)
        copy = _verified(grey, matrix, start[inside], end[inside]) if inside.sum() >= LEAST_INLIERS else None
        if copy is not None:
            found.append(copy)
        start, end = start[~inside], end[~inside]
    return sorted(found, key=lambda copy: -match_strength(copy)), len(points)


def match_strength(copy: Copy) -> float:
    """How much of the region agrees, how well, and how many keypoints say so; weighed by a logistic regression."""
    keypoints = float(np.log2(copy.inliers / LEAST_INLIERS))
    return WEIGHTS[0] + WEIGHTS[1] * copy.level + WEIGHTS[2] * copy.share + WEIGHTS[3] * keypoints


def score_of(copies: list[Copy]) -> float:
    """Of a picture: its surest copy, or ``NOTHING``."""
    return max(map(match_strength, copies), default=NOTHING)


def _keypoints(grey: NDArray[np.uint8]) -> tuple[Grey, Grey]:
    """Places float32 [n, 2] and RootSIFT descriptors [n, 128] (Arandjelović and Zisserman 2012)."""
    import cv2

    sift: Any = cv2.SIFT_create(contrastThreshold=0.015, edgeThreshold=12)  # type: ignore[attr-defined]
    points, descriptors = sift.compute(grey, _spread(sift.detect(grey, None), grey.shape))
    if not points:
        return np.empty((0, 2), np.float32), np.empty((0, 128), np.float32)
    descriptors = np.sqrt(descriptors / (descriptors.sum(1, keepdims=True) + 1e-7))
    return np.asarray([point.pt for point in points], np.float32), descriptors.astype(np.float32)


def _spread(points: Sequence[Any], shape: tuple[int, ...]) -> list[Any]:
    """At most ``MAX_KEYPOINTS``, the clearest of every part of the picture: not all of them in its busiest corner."""
    if len(points) <= MAX_KEYPOINTS:
        return list(points)
    where = np.asarray([point.pt for point in points])
    cell = (where // (max(shape) / GRID)).astype(int) @ (GRID + 1, 1)
    order = np.argsort([-point.response for point in points], kind="stable")
    rank = np.empty(len(points), int)
    seen: Counter[int] = Counter()
    for at in order:
        rank[at] = seen[cell[at]]
        seen[cell[at]] += 1
    # First the best of each cell, then the second best of each, and so on.
    chosen = np.lexsort((np.argsort(order), rank))[:MAX_KEYPOINTS]
    return [points[at] for at in chosen]


def _pairs(points: Grey, descriptors: Grey, apart: float) -> tuple[Grey, Grey]:
    """Keypoints and those that resemble them much more than the next one does, both ways: float32 [n, 2] each."""
    similar = descriptors @ descriptors.T
    x, y = points.T
    similar[(x[:, None] - x) ** 2 + (y[:, None] - y) ** 2 <= apart**2] = -np.inf
    nearest = np.argpartition(similar, -NEIGHBOURS - 1, axis=1)[:, -NEIGHBOURS - 1 :]
    found = np.take_along_axis(similar, nearest, axis=1)
    order = np.argsort(-found, axis=1)
    nearest, found = np.take_along_axis(nearest, order, 1), np.take_along_axis(found, order, 1)
    found = np.sqrt(np.maximum(0, 2 - 2 * found))
    first: list[int] = []
    second: list[int] = []
    for at in range(NEIGHBOURS):
        # The first so many resemble it alike, and the one after them much less: so many copies.
        kept = (found[:, at] < RATIO * found[:, at + 1]) & np.isfinite(found[:, at])
        for rank in range(at + 1):
            first += np.flatnonzero(kept).tolist()
            second += nearest[kept, rank].tolist()
    return points[first], points[second]


def _verified(grey: NDArray[np.uint8], matrix: Any, start: Grey, end: Grey) -> Copy | None:
    """Lay the picture over itself and see where it agrees to the grain."""
    import cv2

    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if not 0.4 < scale < 2.5 or len(np.unique(start.round(), axis=0)) < LEAST_INLIERS:
        return None
    if min(np.ptp(start, axis=0).max(), np.ptp(end, axis=0).max()) < WINDOW:
        return None
    height, width = grey.shape
    moved = cv2.warpAffine(grey, matrix, (width, height), flags=cv2.INTER_CUBIC, borderValue=0)
    inside = cv2.warpAffine(np.ones_like(grey), matrix, (width, height), flags=cv2.INTER_NEAREST)
    agreement = _correlation(grey.astype(np.float32), moved.astype(np.float32))
    agreement[cv2.erode(inside, np.ones((WINDOW, WINDOW), np.uint8)) == 0] = 0
    hull: Any = np.zeros_like(grey)
    cv2.fillConvexPoly(hull, cv2.convexHull(end.round().astype(np.int32)), 1)
    hull = cv2.dilate(hull, np.ones((WINDOW, WINDOW), np.uint8))
    agrees = _joined((agreement > AGREES).astype(np.uint8), end)
    area = int(agrees.sum())
    if area < 4 * WINDOW**2:
        return None
    back = cv2.invertAffineTransform(matrix)
    other = cv2.warpAffine(agrees.astype(np.uint8), back, (width, height), flags=cv2.INTER_NEAREST) > 0
    if (agrees & other).sum() > 0.3 * area:
        return None
    turn = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    return Copy(
        first=other,
        second=agrees,
        inliers=len(start),
        level=float(np.mean(agreement[agrees])),
        share=float((agreement[hull > 0] > AGREES).mean()),
        scale=scale,
        turn=turn,
    )


def _correlation(a: Grey, b: Grey) -> Grey:
    """Of the two pictures in a window around each pixel, -1 to 1; 0 where either is flat."""
    import cv2

    def mean(values: Any) -> Any:
        return cv2.boxFilter(values, -1, (WINDOW, WINDOW))

    mean_a, mean_b = mean(a), mean(b)
    spread_a, spread_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    found = (mean(a * b) - mean_a * mean_b) / np.sqrt(np.maximum(spread_a * spread_b, 1e-3))
    found[(spread_a < FLAT**2) | (spread_b < FLAT**2)] = 0
    return np.asarray(found)


def _joined(agrees: NDArray[np.uint8], points: Grey) -> NDArray[np.bool_]:
    """The connected parts with at least two of the keypoints in them."""
    import cv2

    closed = cv2.morphologyEx(agrees, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, parts = cv2.connectedComponents(closed)
    height, width = agrees.shape
    x = np.clip(points[:, 0].round().astype(int), 0, width - 1)
    y = np.clip(points[:, 1].round().astype(int), 0, height - 1)
    counts = np.bincount(parts[y, x], minlength=parts.max() + 1)
    counts[0] = 0
    return np.isin(parts, np.flatnonzero(counts >= 2))


# --- Detector --------------------------------------------------------------------------------------------


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
        grey = to_working_size(item.pixels)
        copies, keypoints = find_copies(grey)
        if keypoints < LEAST_KEYPOINTS:
            return Finding("abstained", "It has too little texture to compare parts of it.")
        sure = [copy for copy in copies if self._calibration.place(match_strength(copy)) != "none"]
        if len(sure) >= MANY:
            return Finding("abstained", "It repeats itself all over, as patterns, print and screens do.")
        width = item.width or item.pixels.shape[1]
        evidence = [_evidence(copy, width / grey.shape[1]) for copy in sure[:MOST_SHOWN]]
        pictures = {"copy-move": _mask(item.pixels, sure[:MOST_SHOWN])} if sure else {}
        return finding_of_score(score_of(copies), self._calibration, evidence, pictures=pictures)

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
