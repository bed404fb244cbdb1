"""The charts of the console as SVG: amounts by day as bars, curves of trainings as lines, with their axes and numbers.

Places are per cent of a chart's area, from its left and from its top, so that text keeps its size whatever the width.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.utils import dateformat
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from console.labels import label_of
from console.learning.labels import PHASES
from console.templatetags.console_tags import amount

# --- Axes ------------------------------------------------------------------------------------------------

#: Steps that people read easily, of a power of ten.
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
WHOLE_STEPS = (1.0, 2.0, 5.0, 10.0)

#: Values that differ by less are one.
SAME = 1e-9


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: where, in per cent of its length, and what is written there."""

    at: float
    text: str


def round_values(
    low: float, high: float, *, most: int = 5, unit: float = 1.0, whole: bool = False
) -> list[float]:
    """Round values, equally far apart, the first at or below `low` and the last at or above `high`: two at least, and
    about `most`. Round in multiples of `unit` (such as 1,024 for bytes); `whole`: none between whole ones."""
    low, high = low / unit, high / unit
    span = high - low if high - low > SAME else abs(high) if abs(high) > SAME else 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(one * power for one in (WHOLE_STEPS if whole else STEPS) if one * power * most >= span - SAME)
    step = max(1.0, step) if whole else step
    first, last = math.floor(low / step + SAME), math.ceil(high / step - SAME)
    if first == last:
        first, last = (first - 1 if first else 0), last + 1
    return [place * step * unit for place in range(first, last + 1)]


def _plain(values: Sequence[float], suffix: str = "") -> list[str]:
    """Numbers of an axis with as many decimals as their distance needs."""
    step = values[1] - values[0]
    digits = max(0, -math.floor(math.log10(step) + SAME))
    digits += abs(round(step * 10**digits) - step * 10**digits) > SAME
    return [f"{value:,.{digits}f}{suffix}" for value in values]


def _ticks(values: Sequence[float], texts: Sequence[str], place: Callable[[float], float]) -> list[Tick]:
    return [Tick(place(value), text) for value, text in zip(values, texts, strict=True)]


def _share(value: float, low: float, high: float) -> float:
    return round(100 * (value - low) / (high - low), 2)


# --- Bars ------------------------------------------------------------------------------------------------

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


def bars_of(points: Sequence[tuple[dt.date, float]], width: int, height: int, top: float = 0.0) -> list[Bar]:
    """Bars from the bottom of a box; what is `top` high fills it, or the tallest. `points`: at least one, oldest
    first."""
    peak, step = top or max(amount for _, amount in points), width / len(points)
    return [_bar_at(place, point, peak, step, height) for place, point in enumerate(points)]


def _bar_at(place: int, point: tuple[dt.date, float], peak: float, step: float, box: int) -> Bar:
    day, amount = point
    height = max(LEAST, box * amount / peak) if amount else 0.0
    x, wide = round(place * step + step * GAP / 2, 2), round(step * (1 - GAP), 2)
    return Bar(day, amount, x, round(box - height, 2), wide, round(height, 2))


BARS_WIDTH, BARS_HEIGHT = 1000, 120

#: Days named below the bars.
MAX_DAYS = 4


@dataclass(frozen=True)
class BarChart:
    """`total` and `peak` in the kind's own unit; `amounts` by day, oldest first.

    `readings` is JSON of what can be read off, as a curve has it.
    """

    kind: str
    bars: list[Bar]
    total: float
    peak: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    readings: str

    @property
    def amounts(self) -> list[float]:
        return [bar.amount for bar in self.bars]


def bar_charts_of(rows: Iterable[tuple[dt.date, str, float]], days: Sequence[dt.date]) -> list[BarChart]:
    """A chart for each kind that was used, by name."""
    by_kind: dict[str, dict[dt.date, float]] = {}
    for day, kind, amount_then in rows:
        by_kind.setdefault(kind, {})[day] = amount_then
    return [
        _bar_chart(kind, amounts, days) for kind, amounts in sorted(by_kind.items()) if any(amounts.values())
    ]


def _bar_chart(kind: str, amounts: dict[dt.date, float], days: Sequence[dt.date]) -> BarChart:
    points = [(day, amounts.get(day, 0.0)) for day in days]
    peak = max(amounts.values())
    up = round_values(0, peak, most=3, unit=_unit(kind, peak), whole=_unit(kind, peak) == 1 and peak >= 1)
    bars = bars_of(points, BARS_WIDTH, BARS_HEIGHT, up[-1])
    return BarChart(
        kind,
        bars,
        sum(amounts.values()),
        peak,
        [Tick(_middle(bar), _day(bar.day)) for bar in bars[:: -(-len(bars) // MAX_DAYS)]],
        _ticks(
            up, [amount(value, kind) for value in up], lambda value: round(100 - _share(value, 0, up[-1]), 2)
        ),
        json.dumps(
            [
                [_middle(bar), round(100 * bar.y / BARS_HEIGHT, 2), _day(bar.day), amount(bar.amount, kind)]
                for bar in bars
            ],
            ensure_ascii=False,
        ),
    )


def _middle(bar: Bar) -> float:
    return round(100 * (bar.x + bar.width / 2) / BARS_WIDTH, 2)


def _day(day: dt.date) -> str:
    return dateformat.format(day, gettext("j M"))


def _unit(kind: str, peak: float) -> float:
    """What people count a kind in, at this size."""
    if kind == "bytes":
        return 1024.0 ** max(0, math.floor(math.log(max(peak, 1), 1024)))
    if kind.endswith("_s"):
        return next(unit for unit in (3600.0, 60.0, 1.0) if peak >= unit or unit == 1)
    return 1.0


# --- Curves ----------------------------------------------------------------------------------------------

# More would be a smear; the table has them all.
MAX_DOTS = 40

#: Curves that are told apart in one chart.
MAX_RUNS = 4

#: Beyond, a line would be drawn that nobody could read.
LARGEST = 1e12

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """What is drawn: its place in a point, what it is called, and whether it is a share, shown in per cent."""

    name: str
    place: tuple[str, ...]
    label: object
    is_share: bool = False

    def text(self, value: float) -> str:
        """A value as it is read out."""
        return f"{value:.1f} %" if self.is_share else f"{value:.4g}"


R1 = Figure("r1", ("validation", "r1"), _("Validation R@1"), is_share=True)

# An objective that has no R@1 for both directions together still has what early stopping looks at.
PRIMARY = Figure("primary", ("validation", "primary"), _("Validation, mean recall"), is_share=True)

FIGURES = (Figure("loss", ("loss",), _("Loss")), Figure("temperature", ("temperature",), _("Temperature")))


@dataclass(frozen=True)
class Run:
    """A training by its name, with the points that it told."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Curve:
    """One run in a chart. Paths lie in a box of 100 by 100; `faint` is what was measured where `path` is smoothed.

    `best` is the dot whose weights were kept, `border` where the second stage begins. `readings` is JSON of what can be
    read off: a list of [left, top, which epoch, which value].
    """

    run: str
    number: int
    path: str
    faint: str
    dots: list[tuple[float, float]]
    best: tuple[float, float] | None
    border: float | None
    last: str
    readings: str


@dataclass(frozen=True)
class LineChart:
    name: str
    label: str
    low: str
    high: str
    curves: list[Curve]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


@dataclass(frozen=True)
class _Spot:
    """A value of a run: at which epoch, counted through both stages, and what it is once smoothed."""

    epoch: int
    label: str
    value: float
    smooth: float
    phase: str
    best: bool


def line_charts_of(runs: Sequence[Run], smoothing: float = 0.0) -> list[LineChart]:
    """Those of the curves that have two points at least, all over the same epochs; none of what was not told.

    `smoothing` from 0 to below 1: the weight of what was before in an exponential moving average that begins unbiased.
    """
    shown = runs[:MAX_RUNS]
    wanted = [*FIGURES, _validated(shown)]
    series = [(one, [_spots(run.points, one, smoothing) for run in shown]) for one in wanted]
    drawn = [(one, found) for one, found in series if any(len(spots) > 1 for spots in found)]
    last = max((spots[-1].epoch for _one, found in drawn for spots in found if spots), default=0)
    return [_line_chart(one, found, shown, max(last, 1)) for one, found in drawn]


def line_rows_of(runs: Sequence[Run]) -> tuple[list[str], list[list[Any]]]:
    """The same as a table: its head, and a row for each point: the run, the stage, the epoch in it, and the values as
    they are read."""
    wanted = [*FIGURES, R1, PRIMARY]
    shown = [one for one in wanted if any(_series(run.points, one) for run in runs)]
    rows = [
        [run.name, str(point.get("phase", "")), _epoch(point), *(_text(point, one) for one in shown)]
        for run in runs
        for point in run.points
    ]
    return [str(one.label) for one in shown], rows


def _validated(runs: Sequence[Run]) -> Figure:
    return R1 if any(_series(run.points, R1) for run in runs) else PRIMARY


def _line_chart(figure: Figure, found: list[list[_Spot]], runs: Sequence[Run], last: int) -> LineChart:
    values = [spot.value for spots in found for spot in spots]
    up = round_values(min(values), max(values))
    across = round_values(0, last, most=6, whole=True)
    box = _Box(across[-1], up[0], up[-1])
    return LineChart(
        figure.name,
        str(figure.label),
        figure.text(min(values)),
        figure.text(max(values)),
        [
            _curve(figure, run.name, number, spots, box)
            for number, (run, spots) in enumerate(zip(runs, found, strict=True))
            if spots
        ],
        _ticks(across, _plain(across), box.left),
        _ticks(up, _plain(up, " %" if figure.is_share else ""), box.top),
    )


@dataclass(frozen=True)
class _Box:
    epochs: float
    low: float
    high: float

    def left(self, epoch: float) -> float:
        return _share(epoch, 0, self.epochs)

    def top(self, value: float) -> float:
        return round(100 - _share(value, self.low, self.high), 2)


def _curve(figure: Figure, name: str, number: int, spots: list[_Spot], box: _Box) -> Curve:
    raw = [(box.left(one.epoch), box.top(one.value)) for one in spots]
    smooth = [(box.left(one.epoch), box.top(one.smooth)) for one in spots]
    is_smoothed = raw != smooth
    kept = [place for one, place in zip(spots, raw, strict=True) if one.best]
    second = next((one.epoch for one in spots if one.phase != spots[0].phase), None)
    return Curve(
        name,
        number,
        _path(spots, smooth),
        _path(spots, raw) if is_smoothed else "",
        raw if not is_smoothed and len(raw) <= MAX_DOTS else [],
        kept[-1] if kept else None,
        None if second is None else box.left(second),
        figure.text(spots[-1].value),
        json.dumps(
            [[*place, one.label, _read(figure, one)] for one, place in zip(spots, smooth, strict=True)],
            ensure_ascii=False,
        ),
    )


def _read(figure: Figure, spot: _Spot) -> str:
    raw, smooth = figure.text(spot.value), figure.text(spot.smooth)
    return raw if raw == smooth else f"{smooth} ({raw})"


def _path(spots: Sequence[_Spot], places: Sequence[tuple[float, float]]) -> str:
    """A line for each stage: the second is judged on other pairs than the first."""
    parts = groupby(zip(spots, places, strict=True), key=lambda pair: pair[0].phase)
    return "".join("M" + "L".join(f"{x} {y}" for _spot, (x, y) in part) for _phase, part in parts)


def _spots(points: Sequence[Point], figure: Figure, smoothing: float) -> list[_Spot]:
    """Of what is a number; epochs of the second stage go on where the first ended."""
    first = str(points[0].get("phase", "")) if points else ""
    before = max((_epoch(one) for one in points if str(one.get("phase", "")) == first), default=0)
    best = [at for at, point in enumerate(points) if point.get("best")]
    two = any(str(one.get("phase", "")) != first for one in points)
    average = _Average(smoothing)
    spots = []
    for at, value in _series(points, figure):
        phase, epoch = str(points[at].get("phase", "")), _epoch(points[at])
        spots.append(
            _Spot(
                epoch if phase == first else before + epoch,
                _named(phase if two else "", epoch),
                value,
                average.of(phase, value),
                phase,
                bool(best) and at == best[-1],
            )
        )
    return spots


def _named(phase: str, epoch: int) -> str:
    plain = gettext("Epoch %(epoch)s") % {"epoch": epoch}
    return f"{label_of(PHASES, phase)} · {plain}" if phase else plain


class _Average:
    """An exponential moving average, begun anew with each stage."""

    def __init__(self, weight: float) -> None:
        self.weight, self.phase, self.sum, self.share = weight, "", 0.0, 0.0

    def of(self, phase: str, value: float) -> float:
        if phase != self.phase:
            self.phase, self.sum, self.share = phase, 0.0, 0.0
        self.sum = self.weight * self.sum + (1 - self.weight) * value
        self.share = self.weight * self.share + (1 - self.weight)
        return self.sum / self.share


def _series(points: Sequence[Point], figure: Figure) -> list[tuple[int, float]]:
    found = ((at, _value(point, figure)) for at, point in enumerate(points))
    return [(at, value) for at, value in found if value is not None]


def _value(point: Point, figure: Figure) -> float | None:
    value: Any = point
    for name in figure.place:
        value = value.get(name) if isinstance(value, Mapping) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Anything but a finite number of a size that can be drawn is left out, NaN too.
    if not is_number or not abs(value) <= LARGEST:
        return None
    return float(value) * (100 if figure.is_share else 1)


def _text(point: Point, figure: Figure) -> str:
    value = _value(point, figure)
    return "–" if value is None else figure.text(value)


def _epoch(point: Point) -> int:
    epoch = point.get("epoch", 0)
    return epoch if isinstance(epoch, int) and 0 <= epoch <= LARGEST else 0
