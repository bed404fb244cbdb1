"""Amounts by day as the bars of an SVG."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

# Of a day's width.
GAP = 0.2
# What is there is seen, however small it is beside the peak.
LEAST = 2.0


@dataclass(frozen=True)
class Bar:
    """One day: its amount, and its place in the box."""

    day: dt.date
    amount: float
    x: float
    y: float
    width: float
    height: float


def bars_of(points: Sequence[tuple[dt.date, float]], width: int, height: int) -> list[Bar]:
    """Bars from the bottom of a box; the tallest fills it. `points`: at least one, oldest first."""
    peak, step = max(amount for _, amount in points), width / len(points)
    return [_bar(place, point, peak, step, height) for place, point in enumerate(points)]


def _bar(place: int, point: tuple[dt.date, float], peak: float, step: float, box: int) -> Bar:
    day, amount = point
    height = max(LEAST, box * amount / peak) if amount else 0.0
    x, wide = round(place * step + step * GAP / 2, 2), round(step * (1 - GAP), 2)
    return Bar(day, amount, x, round(box - height, 2), wide, round(height, 2))
