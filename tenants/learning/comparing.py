"""Whether searches would get worse: by what a space cannot read, on the test split of the training, and over the real
corpus of the tenant.

On many queries worse means that the whole 95 % interval of the paired difference lies below zero: noise alone stops
nobody. Golden queries are few and chosen, so any clear fall of their mean reciprocal rank counts.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.utils.translation import gettext as _

from ml.alignment.space import reads_chinese
from ml.training import metrics
from tenants.learning import evaluation, selectors
from tenants.learning.evaluation import Question, Ranking
from tenants.learning.models import LearntModel, Promotion
from tenants.retrieval import model_routing
from tenants.scope import current_tenant_id, tenant_scope

#: A fall of the mean reciprocal rank over golden queries up to this is not told from none.
TOLERANCE = 0.005
_SHOWN = ("r1", "r5", "r10", "map", "mrr")


def lost_abilities(live: str, space: str) -> list[str]:
    """What the live space can do and this one cannot, whatever either is measured on. In the tenant's scope.

    Their files have been opened before: what has to be fetched takes long.
    """
    before, after = (model_routing.space(one, current_tenant_id()).manifest for one in (live, space))
    if reads_chinese(before) and not reads_chinese(after):
        return [_("Searches in Chinese would no longer be understood: this model reads English only.")]
    return []


def worse_than_parent(model: selectors.Named) -> list[str]:
    """Why a model is worse than what it was trained from, by its own test split; empty if it is not shown to be."""
    if not isinstance(model, LearntModel) or not model.metrics:
        return []
    differences = model.metrics.get("domain", {}).get("differences", {}).get("parent", {})
    return [
        f"On the test split its mean reciprocal rank {way} is {_signed(found['mrr'])} against its parent's."
        for way, found in sorted(differences.items())
        if found["mrr"]["interval"][1] < 0
    ]


def _signed(figure: dict[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{figure['difference']:+.3f} ({low:+.3f} to {high:+.3f})"


def report(tenant_id: uuid.UUID, row: Promotion) -> dict[str, Any]:
    """Both spaces on the same questions over everything stored: `overlap`, `golden`, `held_out`, and `worse`, why."""
    with tenant_scope(tenant_id):
        golden = evaluation.golden_questions()
        held_out = evaluation.held_out_questions(_held_out(row))
    asked = [*golden, *held_out]
    before = evaluation.rankings(tenant_id, row.replaces, asked)
    after = evaluation.rankings(tenant_id, row.space, asked)
    count = len(golden)
    on_golden = _compared(golden, before[:count], after[:count])
    on_captions = _compared(held_out, before[count:], after[count:])
    return {
        "overlap": {"at_10": evaluation.overlap(before, after), "queries": len(asked)},
        "golden": on_golden,
        "held_out": on_captions,
        "worse": _worse(on_golden, on_captions),
    }


def _held_out(row: Promotion) -> list[str]:
    """Pictures whose captions no training saw: any, where both spaces came with the product."""
    model = row.model or selectors.find_space(row.replaces)
    if isinstance(model, LearntModel):
        return list(model.data.get("held_out", []))
    return evaluation.some_captioned()


def _compared(
    questions: list[Question], before: list[Ranking], after: list[Ranking]
) -> dict[str, object] | None:
    if not questions:
        return None
    old, new = evaluation.ranking_of(questions, before), evaluation.ranking_of(questions, after)
    changes = metrics.difference(new, old)
    return {
        "queries": len(questions),
        "before": _figures(old),
        "after": _figures(new),
        "change": {name: changes[name] for name in _SHOWN},
    }


def _figures(found: metrics.Ranking) -> dict[str, float]:
    every = metrics.figures(found)
    return {name: every[name] for name in _SHOWN}


def _worse(golden: dict[str, Any] | None, held_out: dict[str, Any] | None) -> list[str]:
    reasons = []
    if golden and golden["change"]["mrr"]["difference"] < -TOLERANCE:
        figure = _signed(golden["change"]["mrr"])
        reasons.append(f"On golden queries the mean reciprocal rank would change by {figure}.")
    if held_out and held_out["change"]["mrr"]["interval"][1] < 0:
        figure = _signed(held_out["change"]["mrr"])
        reasons.append(
            f"On captions that were not trained on the mean reciprocal rank would change by {figure}."
        )
    return reasons
