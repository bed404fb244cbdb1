"""A scale of numbers or times, cut into a few buckets at places that people like to read. Pure functions."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from itertools import pairwise, takewhile
from typing import Any

BUCKETS = 8

_DAY = 86_400.0
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST, _LAST = dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)
# Steps of times up to a week, in seconds; above they are months.
_SECONDS = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, _DAY, 2 * _DAY, 7 * _DAY)
_MONTHS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 2400, 6000, 12_000, 24_000)
_MONTH_S = 30 * _DAY


def edges_of(kind: str, least: float, greatest: float) -> list[float]:
    """Where buckets begin, ascending, and at last `greatest`, which the last of them includes.

    `kind` is "number" or "time" (seconds since 1970). At most BUCKETS + 1 buckets, of equal width but for months of
    different lengths. The first begins at or below `least`.
    """
    # Halves first: the difference of two numbers may be more than a number holds.
    step = greatest / BUCKETS - least / BUCKETS
    if not step > 0:
        return [least, greatest]
    begins = _times(least, step) if kind == "time" else _numbers(least, step)
    found = list(takewhile(lambda edge: edge < greatest, begins))
    # None where the calendar begins too late or a number is too coarse.
    first = min(found[0], least) if found else least
    return [first, *(edge for edge in found if edge > least), greatest]


def described(kind: str, edges: list[float]) -> list[dict[str, Any]]:
    """Each bucket as the conditions of a filter that finds what is in it.

    Of an asset with several numbers each condition may be met by another one, so a filter may find more of those.
    """
    told = [on_scale(kind, edge) for edge in edges]
    last = len(told) - 2
    return [
        {"gte": low, ("lte" if place == last else "lt"): high}
        for place, (low, high) in enumerate(pairwise(told))
    ]


def on_scale(kind: str, number: float) -> float | str:
    """A number as metadata spells it: a time in ISO 8601, as near as its calendar goes."""
    return _moment(number).isoformat().replace("+00:00", "Z") if kind == "time" else number


def _numbers(least: float, step: float) -> Iterator[float]:
    """Multiples of 1, 2 or 5 of a power of ten from at or below `least`."""
    power = math.floor(math.log10(step))
    digit = next((d for d in (1, 2, 5) if _decimal(d, power) >= step), 10)
    place = math.floor(least / _decimal(digit, power))
    while _decimal(digit * place, power) > least:
        place -= 1
    while True:
        yield _decimal(digit * place, power)
        place += 1


def _decimal(digits: int, power: int) -> float:
    """The number that is nearest to digits × 10^power: 3 × 0.1 is another one than 0.3."""
    try:
        return digits / 10**-power if power < 0 else float(digits * 10**power)
    except OverflowError:
        return math.copysign(math.inf, digits)


def _times(least: float, step: float) -> Iterator[float]:
    seconds = next((s for s in _SECONDS if s >= step), None)
    if seconds is not None:
        start = math.floor(least / seconds)
        while True:
            yield start * seconds
            start += 1
    months = next((m for m in _MONTHS if m * _MONTH_S >= step), _MONTHS[-1])
    moment = _moment(least)
    month = (moment.year * 12 + moment.month - 1) // months * months
    while month < (dt.MAXYEAR + 1) * 12:
        year, rest = divmod(max(month, dt.MINYEAR * 12), 12)
        yield dt.datetime(year, rest + 1, 1, tzinfo=dt.UTC).timestamp()
        month += months


def _moment(seconds: float) -> dt.datetime:
    try:
        return _EPOCH + dt.timedelta(seconds=seconds)
    except OverflowError:
        return _FIRST if seconds < 0 else _LAST
