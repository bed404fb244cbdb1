"""Usage by day as bars: one chart for each kind, as amounts of different kinds have no common scale."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 1000, 120
GAP = 0.2


@dataclass(frozen=True)
class Bar:
    day: dt.date
    amount: float
    x: float
    y: float
    width: float
    height: float


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
    peak, step = max(amounts.values()), WIDTH / len(days)
    bars = []
    for place, day in enumerate(days):
        amount = amounts.get(day, 0.0)
        # What is there is seen, however small it is beside the peak.
        height = max(2.0, HEIGHT * amount / peak) if amount else 0.0
        bars.append(
            Bar(
                day,
                amount,
                round(place * step + step * GAP / 2, 2),
                round(HEIGHT - height, 2),
                round(step * (1 - GAP), 2),
                round(height, 2),
            )
        )
    return Chart(kind, bars, sum(amounts.values()), peak)
