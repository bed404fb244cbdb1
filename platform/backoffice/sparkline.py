"""A line of values as points of an SVG, drawn by the server: no library, and nothing that a policy has to allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 300, 36
# More points than that do not show on so short a line.
MOST = 150


@dataclass(frozen=True)
class Sparkline:
    points: str
    top: float


def sparkline(values: Sequence[float]) -> Sparkline:
    """The values from the left to the right; of many, the greatest of each group, so that no peak is lost."""
    if not values:
        return Sparkline("", 0)
    size = -(-len(values) // MOST)
    peaks = [max(values[at : at + size]) for at in range(0, len(values), size)]
    top, step = max(peaks), WIDTH / max(1, len(peaks) - 1)
    drawn = (f"{n * step:.1f},{HEIGHT - HEIGHT * value / (top or 1):.1f}" for n, value in enumerate(peaks))
    return Sparkline(" ".join(drawn), top)
