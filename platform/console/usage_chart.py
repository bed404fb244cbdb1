"""Usage by day as bars: one chart for each kind, as amounts of different kinds have no common scale."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from console.bars import Bar, bars_of

WIDTH, HEIGHT = 1000, 120


@dataclass(frozen=True)
class Chart:
    """`total` and `peak` in the kind's own unit; `amounts` by day, oldest first."""

    kind: str
    bars: list[Bar]
    total: float
    peak: float

    @property
    def amounts(self) -> list[float]:
        return [bar.amount for bar in self.bars]


def charts_of(rows: Iterable[tuple[dt.date, str, float]], days: Sequence[dt.date]) -> list[Chart]:
    """A chart for each kind that was used, by name."""
    by_kind: dict[str, dict[dt.date, float]] = {}
    for day, kind, amount in rows:
        by_kind.setdefault(kind, {})[day] = amount
    return [_chart(kind, amounts, days) for kind, amounts in sorted(by_kind.items()) if any(amounts.values())]


def _chart(kind: str, amounts: dict[dt.date, float], days: Sequence[dt.date]) -> Chart:
    points = [(day, amounts.get(day, 0.0)) for day in days]
    return Chart(kind, bars_of(points, WIDTH, HEIGHT), sum(amounts.values()), max(amounts.values()))
