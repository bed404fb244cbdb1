"""What single frames say of a film: one lucky frame is no evidence, a stretch of them is.

A film's score is the median of the highest fifth of its frames. It counts only where at least three frames in a row
reach the threshold: detectors of pictures err on single frames, for example on cuts, blur and titles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.detectors.base import Pixels, Shot

MAX_FRAMES = 32
TOP_SHARE = 0.2
IN_A_ROW = 3


@dataclass(frozen=True)
class Stretch:
    """Frames in a row that reach a threshold: times of the first and the last, and how many they are."""

    start_s: float
    end_s: float
    frames: int


@dataclass(frozen=True)
class Watched:
    """``frames``: (seconds, score) of every frame, minus infinity where nothing could be told; ``score``: the median of
    the highest fifth."""

    frames: tuple[tuple[float, float], ...]
    score: float

    def stretches(self, threshold: float, in_a_row: int = IN_A_ROW) -> list[Stretch]:
        """Where at least ``in_a_row`` frames in a row reach ``threshold``, the longest first."""
        found: list[Stretch] = []
        run: list[float] = []
        for at_s, score in (*self.frames, (0.0, -np.inf)):
            if score >= threshold:
                run.append(at_s)
                continue
            if len(run) >= in_a_row:
                found.append(Stretch(run[0], run[-1], len(run)))
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


def chosen(shots: Sequence[Shot], limit: int = MAX_FRAMES) -> list[Shot]:
    """At most ``limit`` of the shots, evenly over the film, in the order of their times."""
    ordered = sorted(shots, key=lambda shot: shot.at_s)
    if len(ordered) <= limit:
        return ordered
    return [ordered[at] for at in np.linspace(0, len(ordered) - 1, limit).round().astype(int)]


def watch(
    shots: Sequence[Shot], look: Callable[[Pixels], float | None], limit: int = MAX_FRAMES
) -> Watched | None:
    """Let ``look`` score each frame; None for a frame is "cannot tell", and such a frame also ends a stretch.

    None where fewer than three frames could be scored: then nothing can be said of the film.
    """
    frames = []
    for shot in chosen(shots, limit):
        score = look(shot.pixels)
        frames.append((shot.at_s, -np.inf if score is None else float(score)))
    scored = [score for _, score in frames if np.isfinite(score)]
    if len(scored) < IN_A_ROW:
        return None
    return Watched(tuple(frames), top_median(scored))
