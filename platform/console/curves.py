"""The curves of a training as charts: points in a box, with the numbers beside for who does not see them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

WIDTH, HEIGHT = 320, 120
# Room for the stroke and the dots at the edges.
PAD = 6
# More would be a smear; the table has them all.
MAX_DOTS = 40

#: What is drawn, by its place in a point, and what it is called.
DRAWN: tuple[tuple[str, tuple[str, ...], Any], ...] = (
    ("loss", ("loss",), _("Loss")),
    ("temperature", ("temperature",), _("Temperature")),
    ("r1", ("validation", "r1"), _("Validation R@1")),
)
# An objective that has no R@1 for both directions together still has what early stopping looks at.
PRIMARY: tuple[str, tuple[str, ...], Any] = (
    "primary",
    ("validation", "primary"),
    _("Validation, mean recall"),
)

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Chart:
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


def charts_of(points: Sequence[Point]) -> list[Chart]:
    """Those of the curves that have points; none of what was not told."""
    wanted = [*DRAWN] if _series(points, DRAWN[-1][1]) else [*DRAWN[:-1], PRIMARY]
    found = (_chart(points, name, place, label) for name, place, label in wanted)
    return [chart for chart in found if chart]


def rows_of(points: Sequence[Point]) -> tuple[list[str], list[list[Any]]]:
    """The same as a table: its head, and a row for each point."""
    wanted = [*DRAWN, PRIMARY]
    shown = [one for one in wanted if _series(points, one[1])]
    rows = [
        [str(point.get("phase", "")), int(point.get("epoch", 0)), *(_value(point, one[1]) for one in shown)]
        for point in points
    ]
    return [str(one[2]) for one in shown], rows


def _chart(points: Sequence[Point], name: str, place: tuple[str, ...], label: Any) -> Chart | None:
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
    return Chart(name, str(label), path, dots, kept, low, high, values[-1], _border(points))


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
