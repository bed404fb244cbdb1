"""The curves of relevance, corrected by what the tenant's members agree to be right and wrong."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from django.db.models import Max
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ml.alignment import relevance_fitting as fitting
from ml.alignment.relevance import Correction, Relevance
from ml.alignment.relevance_fitting import Labelled
from tenants.errors import Conflict, NotReady
from tenants.events.services import record
from tenants.jobs import job_log
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.learning import result_labels
from tenants.retrieval import model_routing
from tenants.retrieval.index import sampled
from tenants.retrieval.models import RelevanceCorrection
from tenants.retrieval.query import forget_correction
from tenants.scope import current_tenant_id, tenant_scope

JOB = "calibrate_relevance"
#: The newest so many verdicts are learnt from, and so many texts read at a time.
MOST_LABELS, AT_ONCE = 5_000, 256
#: Vectors of an asset that may have been the one that was found.
MOST_ROWS = 64
OLD_CORRECTIONS = 5


def start_calibration(*, actor: str = "") -> Job:
    """Queue the job. Raises NotReady with too few labels, Conflict where one is under way."""
    with tenant_scope(current_tenant_id()):
        count = result_labels.count_verdicts()
        if count < fitting.LABELS:
            raise NotReady(
                _("%(needed)s results have to be agreed to be right or wrong, and there are %(found)s.")
                % {"needed": fitting.LABELS, "found": count},
                needed=fitting.LABELS,
                found=count,
            )
        if Job.objects.filter(jobs.UNFINISHED, kind=JOB).exists():
            raise Conflict(_("Relevance is being calibrated; wait for it, or cancel its job."))
        queued = jobs.enqueue(kind=JOB, arguments={"actor": actor}, reserve={})
        record(actor=actor, verb="relevance.calibration_started", target=str(queued.id))
        return queued


def retire_correction(*, actor: str = "") -> None:
    """The model's own curves serve again; nothing happens where they do."""
    with tenant_scope(current_tenant_id()):
        if RelevanceCorrection.objects.filter(live=True).update(live=False):
            record(actor=actor, verb="relevance.correction_retired")
    forget_correction(current_tenant_id())


def live_correction() -> RelevanceCorrection | None:
    """The one that serves, if the model that answers is the one that it was made for. In the tenant's scope."""
    row = RelevanceCorrection.objects.filter(live=True).first()
    return row if row and row.model == model_routing.live() else None


def newest_job() -> Job | None:
    """The newest calibration. In the tenant's scope."""
    return Job.objects.filter(kind=JOB).order_by("-id").first()


# --- The job ---------------------------------------------------------------------------------------------


@job(JOB, queue="train", label=gettext_lazy("Calibrate relevance"))
def calibrate_relevance(claimed: jobs.Claim) -> None:
    """Fit, judge on queries that were not learnt from, and take or leave. Safe to repeat.

    Raises NotReady, LeaseLost, Cancelled.
    """
    begun = time.thread_time()
    model = model_routing.written(claimed.tenant_id).live
    labels = read_labels(claimed.tenant_id, model)
    if not labels.is_enough:
        raise NotReady(
            _(
                "At least %(labels)s agreed results of %(queries)s queries are needed, %(each)s of them right and "
                "%(each)s wrong, with vectors of the model that answers."
            )
            % {"labels": fitting.LABELS, "queries": fitting.QUERIES, "each": fitting.OF_EACH}
        )
    correction, report = fitting.tried(labels)
    report |= {"steepness": round(correction.steepness, 4), "shift": round(correction.shift, 4)}
    losses = report["log_loss"]
    job_log.write(
        claimed, f"Log loss on other queries {losses['corrected']}; by the curves {losses['curves']}."
    )
    with tenant_scope(claimed.tenant_id):
        # First of all locks, and only for who still holds the job.
        jobs.held(claimed)
        if report["taken"]:
            _take(correction, model, report, claimed.arguments.get("actor", ""))
        jobs.succeed(claimed, result=report, cpu_s=time.thread_time() - begun, gpu_s=0, used={})
    forget_correction(claimed.tenant_id)


def _take(correction: Correction, model: str, report: dict[str, Any], actor: str) -> None:
    number = 1 + (RelevanceCorrection.objects.aggregate(last=Max("number"))["last"] or 0)
    RelevanceCorrection.objects.filter(live=True).update(live=False)
    row = RelevanceCorrection.objects.create(
        number=number,
        live=True,
        model=model,
        steepness=correction.steepness,
        shift=correction.shift,
        report=report,
        created_by=actor,
    )
    RelevanceCorrection.objects.filter(number__lte=number - OLD_CORRECTIONS).delete()
    record(actor=actor, verb="relevance.calibrated", target=str(row.id), details={"number": number})


# --- Labels as examples ----------------------------------------------------------------------------------


def read_labels(tenant_id: uuid.UUID, model: str) -> Labelled:
    """What is agreed, with the log odds that the model's curves give it; what they say nothing of is left out.

    In no scope, as it reads texts. Raises NotReady where the model has no curves.
    """
    space = model_routing.space(model, tenant_id)
    if space.relevance is None or not space.relevance.asked_by("text"):
        raise NotReady(_("The model that answers states no relevance that could be corrected."))
    with tenant_scope(tenant_id):
        verdicts = result_labels.verdicts(MOST_LABELS)
    by_query: dict[str, list[result_labels.Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_query[verdict.key].append(verdict)
    odds, right, query, tenth = [], [], [], []
    keys = sorted(by_query)
    for start in range(0, len(keys), AT_ONCE):
        part = keys[start : start + AT_ONCE]
        texts = [by_query[key][0].text for key in part]
        asked = zip(part, texts, space.query_texts(texts), strict=True)
        for place, (key, text, vector) in enumerate(asked, start):
            relevance = space.relevance_of(vector, text)
            chances = _chances(tenant_id, model, relevance, vector, by_query[key]) if relevance else {}
            for verdict in by_query[key]:
                if (chance := chances.get(verdict.asset_id)) is not None:
                    odds.append(chance)
                    right.append(verdict.right)
                    query.append(place)
                    tenth.append(hashlib.sha256(key.encode()).digest()[0] % 10)
    return Labelled(fitting.odds_of(odds), np.array(right, bool), np.array(query, int), np.array(tenth, int))


def _chances(
    tenant_id: uuid.UUID,
    model: str,
    relevance: Relevance,
    vector: np.ndarray,
    verdicts: Sequence[result_labels.Verdict],
) -> dict[uuid.UUID, float]:
    """By asset: of the vector by which a search would have found it."""
    best: dict[uuid.UUID, tuple[float, float]] = {}
    with tenant_scope(tenant_id):
        stored = sampled([one.asset_id for one in verdicts], model=model, most=MOST_ROWS)
    for one in stored:
        score = float(one.values @ vector)
        chance = relevance.of("text", one.modality, score)
        if chance is not None and score > best.get(one.asset_id, (-np.inf, 0.0))[0]:
            best[one.asset_id] = score, chance
    return {asset_id: chance for asset_id, (_score, chance) in best.items()}
