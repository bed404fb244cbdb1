"""Models as pages show them: lines of the list, figures side by side, comparisons, and the state of what goes on."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from console.charts import PRIMARY, Run, line_charts_of, line_rows_of
from console.learning.labels import (
    ORDERED_BY_SIMILARITY,
    RELEVANCE_KEPT,
    RELEVANCE_LACKS,
    RELEVANCE_SAME,
    SPACES,
)
from console.paging import parse_id
from tenants.jobs.models import Job
from tenants.learning import selectors
from tenants.learning.builtin import Builtin, by_space
from tenants.learning.models import LearntModel, Promotion

TEXT_TO_IMAGE = "text>image"

R1 = "r1"

PARENT = "parent"

#: R@k by how many results it looks at.
RECALLS = {"r1": 1, "r5": 5, "r10": 10}

# Beside the figures of each space, and counts.
_DIFFERENCES = "differences"


# Of fewer queries one more hit is over three points: no figure tells models apart.
ENOUGH_QUERIES = 30


@dataclass(frozen=True)
class Gain:
    """What a model's R@1 is above another's on the same queries, in shares of 1; `name` says which other."""

    name: str
    difference: float
    low: float
    high: float
    queries: int

    @property
    def is_told(self) -> bool:
        return self.queries >= ENOUGH_QUERIES

    @property
    def is_sure(self) -> bool:
        """Whether noise alone does not explain it."""
        return self.is_told and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Headline:
    """R@1 from text to picture on the test split, against the parent and the best of the traditional methods."""

    value: float
    interval: tuple[float, float] | None
    parent: Gain | None
    traditional: Gain | None
    queries: int

    @property
    def is_told(self) -> bool:
        return self.queries >= ENOUGH_QUERIES


@dataclass(frozen=True)
class FigureRow:
    name: str
    is_own: bool
    figures: Mapping[str, Any]
    gain: Gain | None


@dataclass(frozen=True)
class FigureTable:
    """One test set in one direction: the model, then what it is compared with."""

    test: str
    way: str
    pool: int
    queries: int
    rows: list[FigureRow]

    @property
    def recalls(self) -> list[str]:
        """Those that say something: among as many as there are, everything is found."""
        return [name for name in RECALLS if says_something(name, self.pool)]


@dataclass(frozen=True)
class ModelLine:
    """A model in the list. `job` is the one that trains or embeds it, for as long as that goes on."""

    id: str
    name: str
    built_in: bool
    state: str
    parent: tuple[str, str] | None
    data: str
    headline: Headline | None
    when: dt.datetime | None
    job: Job | None
    error: Mapping[str, Any] | None = None
    promotion: Promotion | None = None


# --- Figures ---------------------------------------------------------------------------------------------


def tests_of(metrics: Any) -> dict[str, Mapping[str, Any]]:
    """Test sets by name, the tenant's own pairs ("domain") first."""
    if not isinstance(metrics, Mapping):
        return {}
    found = {name: one for name, one in metrics.items() if isinstance(one, Mapping) and "model" in one}
    return dict(sorted(found.items(), key=lambda pair: pair[0] != "domain"))


def headline_of(metrics: Any) -> Headline | None:
    test = next(iter(tests_of(metrics).values()), None)
    figures = test["model"].get(TEXT_TO_IMAGE) if test else None
    if test is None or not figures or not says_something(R1, figures.get("pool")):
        return None
    gains = {name: gain for name in _compared_spaces(test) if (gain := _gain(test, name, TEXT_TO_IMAGE))}
    # The best of the traditional methods is the one that leaves the least to be gained.
    rivals = [gain for name, gain in gains.items() if name != PARENT]
    best = min(rivals, key=lambda gain: gain.difference, default=None)
    return Headline(figures[R1], _interval(figures), gains.get(PARENT), best, figures.get("queries", 0))


def tables_of(metrics: Any) -> list[FigureTable]:
    return [
        FigureTable(name, way, figures.get("pool", 0), figures.get("queries", 0), _rows(test, way))
        for name, test in tests_of(metrics).items()
        for way, figures in sorted(test["model"].items(), reverse=True)
    ]


def says_something(figure: str, pool: float | None) -> bool:
    """Whether a figure can be missed in a pool of so many; of an unknown size (0 or None) it can."""
    return not pool or RECALLS.get(figure, 0) < pool


def _rows(test: Mapping[str, Any], way: str) -> list[FigureRow]:
    names = ["model", *_compared_spaces(test)]
    known = _spaces(test)
    return [
        FigureRow(
            str(SPACES.get(name, name)),
            name == "model",
            known[name][way],
            _gain(test, name, way),
        )
        for name in names
        if way in known[name]
    ]


def _spaces(test: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Figures by space: the model, its parent, and the traditional methods by their names."""
    return {name: one for name, one in test.items() if name != _DIFFERENCES and isinstance(one, Mapping)}


def _compared_spaces(test: Mapping[str, Any]) -> list[str]:
    names = [name for name in _spaces(test) if name != "model"]
    return sorted(names, key=lambda name: name != PARENT)


def _gain(test: Mapping[str, Any], name: str, way: str) -> Gain | None:
    found = test.get(_DIFFERENCES, {}).get(name, {}).get(way, {}).get(R1)
    if not found:
        return None
    low, high = found["interval"]
    queries = test["model"][way].get("queries", 0)
    return Gain(str(SPACES.get(name, name)), found["difference"], low, high, queries)


def _interval(figures: Mapping[str, Any]) -> tuple[float, float] | None:
    found = (figures.get("interval") or {}).get(R1)
    return (found[0], found[1]) if found else None


@dataclass(frozen=True)
class RelevanceNote:
    """What searches by a model say of how likely results are: by what it is known, and what that means for them."""

    fact: str
    notice: str


def relevance_of(model: LearntModel) -> RelevanceNote:
    """Of a model of the workspace's own that was trained to its end."""
    found = model.data.get("relevance") or {}
    state = str(found.get("state", ""))
    if state not in ("carried", "same"):
        reason = RELEVANCE_LACKS.get(str(found.get("reason", "")), RELEVANCE_LACKS[""])
        return RelevanceNote(str(reason), str(ORDERED_BY_SIMILARITY))
    fact = str(RELEVANCE_SAME)
    if state == "carried":
        pictures = int(found.get("pictures") or 0)
        fact = ngettext(
            "Estimated from the parent’s, on %(count)s picture that was not trained on",
            "Estimated from the parent’s, on %(count)s pictures that were not trained on",
            pictures,
        ) % {"count": f"{pictures:,}"}
    asked = found.get("asked") or []
    lacking = next((one for one in ("text", "image") if one not in asked), "")
    return RelevanceNote(fact, str(RELEVANCE_KEPT[lacking]))


def quality_of(quality: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """The reports on the data before training, by phase, in their order."""
    found = quality.items() if isinstance(quality, Mapping) else ()
    return [(phase, one) for phase, one in found if isinstance(one, Mapping) and "splits" in one]


# --- Curves ----------------------------------------------------------------------------------------------

MOST_SMOOTHING = 95


def curves_of(models: Sequence[LearntModel], smooth: str = "") -> dict[str, Any]:
    """Charts and table of trainings, the first one's in front; `smooth` as typed, from 0 to MOST_SMOOTHING."""
    given = (
        min(int(smooth), MOST_SMOOTHING) if smooth.isascii() and smooth.isdigit() and len(smooth) < 4 else 0
    )
    runs = [Run(model.name, model.curves) for model in models if model.curves]
    head, rows = line_rows_of(runs)
    return {
        "runs": runs,
        "charts": line_charts_of(runs, given / 100),
        "head": head,
        "rows": rows,
        "smooth": given,
        "most_smoothing": MOST_SMOOTHING,
        "solved": _solved(models[0]) if len(runs) == 1 else [],
    }


def _solved(model: LearntModel) -> list[tuple[str, str]]:
    """What was found on the pairs kept aside by a model that took no epochs; nothing while there may be more."""
    if len(model.curves) != 1 or model.state == LearntModel.State.DRAFT:
        return []
    found = model.curves[0].get("validation") or {}
    named = ((PRIMARY.label, found.get("primary")), (_("The same before the fine-tune"), found.get("base")))
    return [
        (str(label), PRIMARY.text(100 * value)) for label, one in named if (value := _number(one)) is not None
    ]


# --- Lines of the list -----------------------------------------------------------------------------------


def own_model_lines(rows: Sequence[LearntModel]) -> list[ModelLine]:
    """In the tenant's scope."""
    promotions = selectors.newest_promotions(row.id for row in rows)
    wanted = [row.job_id for row in rows] + [row.job_id for row in promotions.values()]
    jobs = Job.objects.in_bulk([one for one in wanted if one])
    names = names_of_spaces(row.base for row in rows)
    return [_own_model_line(row, promotions.get(row.id), jobs, names) for row in rows]


def _own_model_line(
    row: LearntModel,
    promotion: Promotion | None,
    jobs: Mapping[uuid.UUID, Job],
    names: Mapping[str, tuple[str, str]],
) -> ModelLine:
    job = jobs.get(row.job_id) if row.job_id else None
    return ModelLine(
        id=str(row.id),
        name=row.name,
        built_in=False,
        state=state_of(row, job),
        parent=names.get(row.base),
        data=", ".join(one["name"] for one in row.data.get("datasets", [])),
        headline=headline_of(row.metrics),
        when=row.trained_at or row.created_at,
        job=_running(job) or _running(jobs.get(promotion.job_id) if promotion and promotion.job_id else None),
        error=row.error,
        promotion=promotion,
    )


def _running(job: Job | None) -> Job | None:
    return job if job and not job.finished else None


def builtin_model_lines() -> list[ModelLine]:
    """In the tenant's scope."""
    return [
        ModelLine(
            id=one.id,
            name=one.name,
            built_in=True,
            state=one.state,
            parent=None,
            data="",
            headline=None,
            when=None,
            job=None,
        )
        for one in selectors.list_builtin()
    ]


def state_of(row: LearntModel, job: Job | None) -> str:
    """The row's state; of a draft whose training has ended, how."""
    if row.state != LearntModel.State.DRAFT or (job and not job.finished):
        return row.state
    if job and job.state == Job.State.CANCELLED:
        return "cancelled"
    return "failed" if row.error or job else row.state


def names_of_spaces(spaces: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Address and name of the model behind each space; those that were deleted are absent. In the tenant's scope."""
    wanted = set(spaces)
    own = {space: parse_id(selectors.public_name(space)) for space in wanted if by_space(space) is None}
    rows = LearntModel.objects.only("id", "name").in_bulk([one for one in own.values() if one])
    found = {space: (str(pk), rows[pk].name) for space, pk in own.items() if pk and pk in rows}
    return {**{space: (one.slug, one.slug) for space in wanted if (one := by_space(space))}, **found}


def name_of(model: selectors.Named) -> str:
    return model.slug if isinstance(model, Builtin) else model.name


SHOWN = ("r1", "r5", "r10", "mrr", "median_rank")

# Where less is better.
FALLING = {"median_rank"}


@dataclass(frozen=True)
class ComparisonRow:
    """One figure of one test set in one direction; `best` are the places of the models that are best at it."""

    test: str
    way: str
    figure: str
    values: list[float | None]
    best: set[int]


def comparison_of(
    models: Sequence[selectors.Named], promotions: Mapping[str, Promotion | None]
) -> dict[str, Any]:
    """What the page shows."""
    return {
        "heads": [_head(model, promotions.get(model.space)) for model in models],
        "rows": comparison_rows([getattr(model, "metrics", None) for model in models]),
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


def comparison_rows(metrics: Sequence[Any]) -> list[ComparisonRow]:
    """Every figure that at least one of the models has."""
    known = [tests_of(one) for one in metrics]
    places = dict.fromkeys(
        (test, way)
        for found in known
        for test, one in found.items()
        for way in sorted(one["model"], reverse=True)
    )
    made = (_comparison_row(known, test, way, figure) for test, way in places for figure in SHOWN)
    return [row for row in made if any(value is not None for value in row.values)]


def _comparison_row(known: Sequence[Mapping[str, Any]], test: str, way: str, figure: str) -> ComparisonRow:
    judged = [found.get(test, {}).get("model", {}).get(way, {}) for found in known]
    values = [
        _number(one.get(figure)) if says_something(figure, _number(one.get("pool"))) else None
        for one in judged
    ]
    there = [value for value in values if value is not None]
    top = (min(there) if figure in FALLING else max(there)) if len(there) > 1 else None
    return ComparisonRow(
        test, way, figure, values, {n for n, value in enumerate(values) if value == top and top is not None}
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
