"""The table of models side by side: a row for each figure, a column for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from console.model_sheet import name_of, tests_of
from tenants.learning import selectors
from tenants.learning.builtin import Builtin
from tenants.learning.models import Promotion

SHOWN = ("r1", "r5", "r10", "mrr", "median_rank")
# Where less is better.
FALLING = {"median_rank"}


@dataclass(frozen=True)
class Row:
    """One figure of one test set in one direction; `best` are the places of the models that are best at it."""

    test: str
    way: str
    figure: str
    values: list[float | None]
    best: set[int]


def sheet_of(models: Sequence[selectors.Named], promotions: Mapping[str, Promotion | None]) -> dict[str, Any]:
    """What the page shows."""
    return {
        "heads": [_head(model, promotions.get(model.space)) for model in models],
        "rows": rows_of([getattr(model, "metrics", None) for model in models]),
    }


def _head(model: selectors.Named, promotion: Promotion | None) -> dict[str, Any]:
    built_in = isinstance(model, Builtin)
    report = (promotion.report or {}) if promotion else {}
    return {
        "name": name_of(model),
        "key": selectors.public_name(model.space),
        "built_in": built_in,
        "state": "" if built_in else getattr(model, "state", ""),
        "stage": getattr(model, "stage", ""),
        "method": getattr(model, "method", ""),
        "data": ", ".join(one["name"] for one in getattr(model, "data", {}).get("datasets", [])),
        "estimate": (getattr(model, "estimate", None) or {}).get("cpu_s"),
        "cost": (getattr(model, "cost", None) or {}).get("cpu_s"),
        "overlap": (report.get("overlap") or {}).get("at_10"),
        "trained_at": getattr(model, "trained_at", None),
    }


def rows_of(metrics: Sequence[Any]) -> list[Row]:
    """Every figure that at least one of the models has."""
    known = [tests_of(one) for one in metrics]
    places = dict.fromkeys(
        (test, way)
        for found in known
        for test, one in found.items()
        for way in sorted(one["model"], reverse=True)
    )
    made = (_row(known, test, way, figure) for test, way in places for figure in SHOWN)
    return [row for row in made if any(value is not None for value in row.values)]


def _row(known: Sequence[Mapping[str, Any]], test: str, way: str, figure: str) -> Row:
    values = [_number(found.get(test, {}).get("model", {}).get(way, {}).get(figure)) for found in known]
    there = [value for value in values if value is not None]
    top = (min(there) if figure in FALLING else max(there)) if len(there) > 1 else None
    return Row(
        test, way, figure, values, {n for n, value in enumerate(values) if value == top and top is not None}
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
