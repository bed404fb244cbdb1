"""The weights of a query's parts: those of its task, corrected by the gate that serves its tenant.

Weights in the request win always. Which gate serves is remembered in the process for some seconds and read only for
queries of several parts, so that all others cost nothing more.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from django.utils.translation import gettext as _

from ml.alignment.gating import PAIRS, PARTS, Gate, GateError, Part, Remark, unpack
from tenants.errors import Invalid
from tenants.prepared import Prepared
from tenants.retrieval.query.weight_profiles import Task, Weights
from tenants.retrieval.types import Query

log = logging.getLogger(__name__)

#: How long another process may go on with the gate before the one that was just trained or given up.
KEEP_S = 10.0
MOST = 1_000

_LIVE = Prepared("live_gate", ("uuid",), "SELECT id, content FROM search_gate WHERE tenant_id = $1 AND live")


@dataclass(frozen=True)
class Weighed:
    """Weights that sum to 1, and how they came about.

    `word` is that of the task's rule which applied, if one did. `factors` by which the gate multiplied each weight of
    the prior; empty where it stayed out.
    """

    weights: Weights
    task: Task
    prior: Weights
    word: str | None = None
    gate: str = ""
    factors: Weights = field(default_factory=dict)


def weigh(tenant_id: uuid.UUID, parts: Mapping[str, Part], query: Query, task: Task, words: str) -> Weighed:
    """Weights of the parts of a query with these words. Raises Invalid where none is above 0."""
    prior, word = task.prior(list(parts), words)
    given = {part: query.weights.get(part, weight) for part, weight in prior.items()}
    if sum(given.values()) <= 0:
        raise Invalid(_("At least one part of the query needs a weight above 0."), pointer="/weights")
    fixed = Weighed(_scaled(given), task, _scaled(given), word)
    if not _is_open(parts, query, task):
        return fixed
    gate = serving(tenant_id)
    found = gate.weigh(parts, fixed.prior)
    return Weighed(found.weights, task, fixed.prior, word, gate.id, found.factors)


def _is_open(parts: Mapping[str, Part], query: Query, task: Task) -> bool:
    """Whether the gate has a say."""
    asked = any(query.weights.get(part) is not None for part in parts)
    return task.dynamic and not asked and sum(part in PARTS for part in parts) > 1


def _scaled(weights: Weights) -> Weights:
    total = sum(weights.values())
    return {part: weight / total for part, weight in weights.items()}


# --- Which gate serves -----------------------------------------------------------------------------------


@cache
def built_in() -> Gate:
    """The gate that ships."""
    return Gate.load()


_memo: dict[uuid.UUID, tuple[float, Gate]] = {}


def serving(tenant_id: uuid.UUID) -> Gate:
    """The tenant's own gate, or the built-in one. In no scope, or the tenant's."""
    until, gate = _memo.get(tenant_id, (0.0, built_in()))
    if time.monotonic() < until:
        return gate
    gate = _read(tenant_id, gate)
    if len(_memo) >= MOST:
        _memo.clear()
    _memo[tenant_id] = (time.monotonic() + KEEP_S, gate)
    return gate


def forget(tenant_id: uuid.UUID) -> None:
    """Read anew which gate serves: for the process that has just changed it."""
    _memo.pop(tenant_id, None)


def _read(tenant_id: uuid.UUID, known: Gate) -> Gate:
    rows = _LIVE.rows_of(tenant_id, tenant_id)
    if not rows:
        return built_in()
    gate_id, content = str(rows[0][0]), bytes(rows[0][1])
    if known.id == gate_id:
        return known
    try:
        return Gate(unpack(content), gate_id, "1")
    except GateError:
        log.exception("the gate of a tenant is damaged; the built-in one serves")
        return built_in()


# --- Why the parts of a query weigh what they do, as `explain` shows it ----------------------------------


#: What an unusually small and an unusually large value of a sign says; signs that tell people nothing are left out.
_SAYS: dict[str, tuple[str, str]] = {
    "sharpness": ("it is blurred", ""),
    "coarse_sharpness": ("it is out of focus or empty", ""),
    "noise": ("", "it is noisy"),
    "brightness": ("it is dark", "it is bright"),
    "contrast": ("it has little contrast", ""),
    "dark": ("", "most of it is black"),
    "bright": ("", "most of it is white"),
    "flat": ("", "large parts of it are empty"),
    "smear": ("", "it is smeared in one direction"),
    "entropy": ("", "it is unclear what it shows"),
    "unknown": ("", "many of its words are unknown"),
    "hearing": ("the speech was hard to understand", ""),
}
#: A factor nearer to 1 than this is no news.
NEWS = 1.15


def explained(weighed: Weighed, parts: dict[str, Part]) -> dict[str, Any]:
    """In the shape of the API."""
    return {
        "task": weighed.task.slug,
        "prior": _rounded(weighed.prior),
        "confidence": {name: _rounded(part.signs) for name, part in parts.items() if part.signs},
        "agreement": _agreement(parts),
        "gate": weighed.gate or None,
        "factors": _rounded(weighed.factors),
        "why": list(_sentences(weighed, parts)),
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _agreement(parts: dict[str, Part]) -> dict[str, float]:
    pairs = [(one, other) for one, other in PAIRS if one in parts and other in parts]
    return {
        f"{one} {other}": round(float(parts[one].vector @ parts[other].vector), 4) for one, other in pairs
    }


def _sentences(weighed: Weighed, parts: dict[str, Part]) -> Iterator[str]:
    yield f"Task {weighed.task.slug}: {_shares(weighed.prior)}."
    if weighed.word is not None:
        yield f"The words contain “{weighed.word}”, for which this task has weights of its own."
    if not weighed.gate:
        yield _why_fixed(weighed, parts)
        return
    remarks = built_in().remarks(parts)
    for part in PARTS:
        if part in weighed.factors:
            yield _told(part, weighed.factors[part], [one for one in remarks if one.part == part])
    yield f"So: {_shares(weighed.weights)}."


def _why_fixed(weighed: Weighed, parts: dict[str, Part]) -> str:
    if len(parts) < 2:
        return "There is one part, so there is nothing to weigh."
    if not weighed.task.dynamic:
        return "This task keeps its weights for every query."
    return "The weights are those of the request, or no two parts can be compared."


def _shares(weights: dict[str, float]) -> str:
    return ", ".join(f"{part} {weight:.2f}" for part, weight in weights.items())


def _told(part: str, factor: float, remarks: list[Remark]) -> str:
    reasons = [said for one in remarks if (said := _SAYS.get(one.sign, ("", ""))[one.high])]
    because = f": {', '.join(dict.fromkeys(reasons))}" if reasons else ""
    if 1 / NEWS < factor < NEWS:
        return f"The {part} counts as usual{because}."
    return f"The {part} counts {'more' if factor > 1 else 'less'}, by a factor of {factor:.2f}{because}."
