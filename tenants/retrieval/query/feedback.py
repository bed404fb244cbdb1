"""What people think of results: kept as what a gate can learn from, without the query's words or vectors.

A row belongs to its asset and goes when that goes. Clicks follow the order of results, so the rank at which one was
shown is kept with it, for training to weigh (`tenants.retrieval.query.fusion_training`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.utils.translation import gettext as _
from safetensors.numpy import load, save

from ml.alignment.gate_fitting import NOTHING
from ml.alignment.gating import INPUTS, PARTS
from tenants.datasets import selectors
from tenants.errors import Invalid, NotFound, Unavailable
from tenants.retrieval.index.vectors import sampled
from tenants.retrieval.models import Feedback
from tenants.retrieval.query import traces
from tenants.retrieval.query.traces import Traced
from tenants.scope import current_tenant_id, tenant_scope
from tenants.valkey import Unavailable as ValkeyAway

KIND = Feedback.Kind
_OPPOSITE: dict[str, str] = {KIND.RELEVANT: KIND.IRRELEVANT, KIND.IRRELEVANT: KIND.RELEVANT}
#: Vectors of a shown asset that may have been the one that was found.
MOST = 64


@dataclass(frozen=True)
class Evidence:
    """A search as numbers: `inputs` [i] of the gate, `prior` [p] weights, `scores` [p, c] of each part with each asset
    that was shown, NOTHING where that has no vectors, in their order."""

    inputs: np.ndarray
    prior: np.ndarray
    scores: np.ndarray

    def pack(self) -> bytes:
        return save({"inputs": self.inputs, "prior": self.prior, "scores": self.scores})

    @classmethod
    def unpack(cls, content: bytes) -> Evidence:
        """Of bytes that `pack` made."""
        return cls(**load(content))


def trace_of(tenant_id: uuid.UUID, search_id: uuid.UUID) -> Traced:
    """What a search left behind. In no scope, as it asks Valkey.

    Raises NotFound for a search that is unknown or older than a day, and Unavailable.
    """
    try:
        found = traces.find(tenant_id, search_id)
    except ValkeyAway as error:
        raise Unavailable(_("Searches cannot be looked up at the moment. Try again soon.")) from error
    if found is None:
        raise NotFound(_("There is no such search of the last 24 hours."))
    return found


def record_feedback(
    *, search_id: uuid.UUID, trace: Traced, asset_id: uuid.UUID, kind: str, actor: str = ""
) -> tuple[Feedback, bool]:
    """The row, and whether it is new: the same again changes nothing, the opposite judgement takes its place.

    `trace` as `trace_of` gave it. Raises NotFound for an asset that is gone, Invalid for one that was not shown.
    """
    with tenant_scope(current_tenant_id()):
        selectors.require_assets([asset_id])
        rank = _rank(trace.shown, asset_id)
        about = Feedback.objects.filter(search_id=search_id, asset_id=asset_id)
        about.filter(kind=_OPPOSITE.get(kind, "")).delete()
        return about.get_or_create(
            search_id=search_id,
            asset_id=asset_id,
            kind=kind,
            defaults={
                "rank": rank,
                "task": trace.task,
                "model": trace.model,
                "evidence": evidence_of(trace),
                "created_by": actor,
            },
        )


# --- Evidence --------------------------------------------------------------------------------------------


def evidence_of(trace: Traced) -> bytes:
    """What was weighed and how each part fits what was shown; empty if nothing was. In the tenant's scope."""
    if trace.inputs is None or len(trace.inputs) != len(INPUTS):
        return b""
    prior = np.array([trace.prior.get(part, 0.0) for part in PARTS], np.float32)
    return Evidence(np.array(trace.inputs, np.float32), prior, _scores(trace)).pack()


def _scores(trace: Traced) -> np.ndarray:
    """By the vector of each asset that the search found it by: the best under the weights that it used."""
    queries = np.zeros((len(PARTS), 256), np.float32)
    for part, vector in trace.vectors.items():
        queries[PARTS.index(part)] = vector
    weights = np.array([trace.weights.get(part, 0.0) for part in PARTS], np.float32)
    scores = np.full((len(PARTS), len(trace.shown)), NOTHING, np.float32)
    place = {asset_id: at for at, asset_id in enumerate(trace.shown)}
    best = np.full(len(trace.shown), -np.inf)
    for one in sampled(trace.shown, model=trace.model, most=MOST):
        found, at = queries @ one.values, place[one.asset_id]
        if (total := float(weights @ found)) > best[at]:
            best[at], scores[:, at] = total, found
    return scores


def _rank(shown: Sequence[uuid.UUID], asset_id: uuid.UUID) -> int:
    if asset_id not in shown:
        raise Invalid(_("This search did not show this asset."), pointer="/asset")
    return list(shown).index(asset_id) + 1


def usable() -> int:
    """How many searches of the active tenant have feedback from which a gate can learn."""
    rows = Feedback.objects.exclude(evidence=b"").exclude(kind=KIND.IRRELEVANT)
    return rows.values("search_id").distinct().count()
