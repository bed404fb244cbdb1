"""The weights of a query's parts: those of its task, corrected by the gate that serves its tenant.

Weights in the request win always. Which gate serves is remembered in the process for some seconds and read only for
queries of several parts, so that all others cost nothing more.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from django.utils.translation import gettext as _

from ml.alignment.gating import PARTS, Gate, GateError, Part, unpack
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
