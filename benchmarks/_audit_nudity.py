"""Nudity: how many harmless pictures are flagged, by set. What is missed is not measured: there are no naked ones.

Nothing was tuned on these: the threshold is the network's authors'. Pictures come as detectors get them.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from _data import DATA, rows_of
from _report import Line, sized

from ml.auditing.calibration import share_interval
from ml.detectors.base import Item, load_detector
from ml.detectors.nudity import THRESHOLD
from ml.media import Decoder

#: Of pictures that were put together for other purposes; one painting among them is a nude.
SETS = (
    "flickr8k_1k",
    "fashion_products",
    "grocery_store",
    "vqa_rad",
    "ai_or_not_mixed",
    "faces_ffhq_stylegan2",
    "modern_generators",
    "playground_50_50",
)
SHOWN = (0.5, THRESHOLD, 0.9)
MOST = sized(10_000, 2)


def run(out: Path) -> list[Line]:
    detector, lines, costs = load_detector("nudity"), [], []
    if why := detector.missing():
        return [Line("nudity", f"skipped: {why}")]
    with Decoder() as decoder:
        for name in SETS:
            scores, abstained = [], 0
            for path in _pictures(name):
                found = decoder.image(path, thumbnail=False)
                height, width = found.pixels.shape[:2]
                start = time.process_time()
                told = detector.examine(
                    Item("image", "image/jpeg", pixels=found.pixels, width=width, height=height)
                )
                costs.append(time.process_time() - start)
                scores += [one.score for one in told.categories.values()]
                abstained += not told.categories
            lines.append(_line(name, np.array(scores), abstained))
    return [*lines, Line("nudity: cpu a picture", round(1_000 * float(np.median(costs or [0])), 1), "ms")]


def _pictures(name: str) -> list[Path]:
    paths = [DATA / name / row["path"] for row in rows_of(name) or () if row.get("path")]
    return [path for path in paths if path.is_file()][:MOST]


def _line(name: str, scores: np.ndarray, abstained: int) -> Line:
    if not len(scores):
        return Line(f"nudity: {name}", "skipped: the set is absent")
    counts = {threshold: int((scores >= threshold).sum()) for threshold in SHOWN}
    low, high = share_interval(counts[THRESHOLD], len(scores))
    told = ", ".join(f"{count} from {threshold:g}" for threshold, count in counts.items())
    return Line(
        f"nudity: {name}, flagged of {len(scores)}",
        f"{told} ({100 * low:.1f} to {100 * high:.1f} % from {THRESHOLD:g}); {abstained} abstained",
    )
