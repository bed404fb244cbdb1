"""The charts of the console as SVG: amounts by day as bars, curves of a training as lines with their numbers beside."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

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
    return [_bar_at(place, point, peak, step, height) for place, point in enumerate(points)]


def _bar_at(place: int, point: tuple[dt.date, float], peak: float, step: float, box: int) -> Bar:
    day, amount = point
    height = max(LEAST, box * amount / peak) if amount else 0.0
    x, wide = round(place * step + step * GAP / 2, 2), round(step * (1 - GAP), 2)
    return Bar(day, amount, x, round(box - height, 2), wide, round(height, 2))


BARS_WIDTH, BARS_HEIGHT = 1000, 120


@dataclass(frozen=True)
class BarChart:
    """`total` and `peak` in the kind's own unit; `amounts` by day, oldest first."""

    kind: str
    bars: list[Bar]
    total: float
    peak: float

    @property
    def amounts(self) -> list[float]:
        return [bar.amount for bar in self.bars]


def bar_charts_of(rows: Iterable[tuple[dt.date, str, float]], days: Sequence[dt.date]) -> list[BarChart]:
    """A chart for each kind that was used, by name."""
    by_kind: dict[str, dict[dt.date, float]] = {}
    for day, kind, amount in rows:
        by_kind.setdefault(kind, {})[day] = amount
    return [
        _bar_chart(kind, amounts, days) for kind, amounts in sorted(by_kind.items()) if any(amounts.values())
    ]


def _bar_chart(kind: str, amounts: dict[dt.date, float], days: Sequence[dt.date]) -> BarChart:
    points = [(day, amounts.get(day, 0.0)) for day in days]
    return BarChart(
        kind, bars_of(points, BARS_WIDTH, BARS_HEIGHT), sum(amounts.values()), max(amounts.values())
    )


WIDTH, HEIGHT = 320, 120

# Room for the stroke and the dots at the edges.
PAD = 6

# More would be a smear; the table has them all.
MAX_DOTS = 40


#: What is drawn, by its place in a point, and what it is called.
DRAWN: tuple[tuple[str, tuple[str, ...], object], ...] = (
    ("loss", ("loss",), _("Loss")),
    ("temperature", ("temperature",), _("Temperature")),
    ("r1", ("validation", "r1"), _("Validation R@1")),
)

# An objective that has no R@1 for both directions together still has what early stopping looks at.
PRIMARY: tuple[str, tuple[str, ...], object] = (
    "primary",
    ("validation", "primary"),
    _("Validation, mean recall"),
)


Point = Mapping[str, Any]


@dataclass(frozen=True)
class LineChart:
    """One curve. `path` and `dots` lie in a box of WIDTH by HEIGHT; `best` is the dot whose weights were kept."""

    name: str
    label: str
    path: str
    dots: list[tuple[float, float]]
    best: tuple[float, float] | None
    low: float
    high: float
    last: float
    border: float | None = None

    width, height = WIDTH, HEIGHT


def line_charts_of(points: Sequence[Point]) -> list[LineChart]:
    """Those of the curves that have points; none of what was not told."""
    wanted = [*DRAWN] if _series(points, DRAWN[-1][1]) else [*DRAWN[:-1], PRIMARY]
    found = (_line_chart(points, name, place, label) for name, place, label in wanted)
    return [chart for chart in found if chart]


def line_rows_of(points: Sequence[Point]) -> tuple[list[str], list[list[Any]]]:
    """The same as a table: its head, and a row for each point."""
    wanted = [*DRAWN, PRIMARY]
    shown = [one for one in wanted if _series(points, one[1])]
    rows = [
        [str(point.get("phase", "")), int(point.get("epoch", 0)), *(_value(point, one[1]) for one in shown)]
        for point in points
    ]
    return [str(one[2]) for one in shown], rows


def _line_chart(
    points: Sequence[Point], name: str, place: tuple[str, ...], label: object
) -> LineChart | None:
    series = _series(points, place)
    if not series:
        return None
    values = [value for _at, value in series]
    low, high = min(values), max(values)
    spots = [(_across(at, len(points)), _up(value, low, high)) for at, value in series]
    path = "M" + "L".join(f"{x} {y}" for x, y in spots)
    best = [at for at, point in enumerate(points) if point.get("best")]
    kept = next(
        (spot for (at, _value_there), spot in zip(series, spots, strict=True) if best and at == best[-1]),
        None,
    )
    dots = spots if len(spots) <= MAX_DOTS else []
    return LineChart(name, str(label), path, dots, kept, low, high, values[-1], _border(points))


def _series(points: Sequence[Point], place: tuple[str, ...]) -> list[tuple[int, float]]:
    found = ((at, _value(point, place)) for at, point in enumerate(points))
    return [(at, value) for at, value in found if value is not None]


def _value(point: Point, place: tuple[str, ...]) -> float | None:
    value: Any = point
    for name in place:
        value = value.get(name) if isinstance(value, Mapping) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _border(points: Sequence[Point]) -> float | None:
    """Where the second stage begins, between its first point and the one before."""
    phases = [point.get("phase") for point in points]
    at = next((at for at in range(1, len(phases)) if phases[at] != phases[at - 1]), None)
    return None if at is None else (_across(at, len(points)) + _across(at - 1, len(points))) / 2


def _across(at: int, count: int) -> float:
    return round(PAD + (WIDTH - 2 * PAD) * (at / (count - 1) if count > 1 else 0.5), 1)


def _up(value: float, low: float, high: float) -> float:
    share = (value - low) / (high - low) if high > low else 0.5
    return round(HEIGHT - PAD - (HEIGHT - 2 * PAD) * share, 1)
