"""What people think of results, and a tenant's own gate learnt from it."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from django.db.models import Max
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from safetensors.numpy import load, save

from ml.alignment import gate_fitting
from ml.alignment.gate_fitting import NOTHING, Examples, Settings
from ml.alignment.gating import INPUTS, PARTS, Network, pack
from tenants.datasets import selectors
from tenants.errors import Conflict, Invalid, NotFound, NotReady, Unavailable
from tenants.events.services import record as log_event
from tenants.jobs import job_log
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.retrieval.index.vectors import sampled
from tenants.retrieval.models import Feedback, SearchGate
from tenants.retrieval.query import fusion_weights
from tenants.retrieval.query.fusion_weights import Traced
from tenants.scope import current_tenant_id, tenant_scope
from tenants.valkey import Unavailable as ValkeyAway

# --- What people think ----------------------------------------------------------------------------------

# Kept as what a gate can learn from, without the query's words or vectors.
#
# A row belongs to its asset and goes when that goes. Clicks follow the order of results, so the rank at which one was
# shown is kept with it, for training to weigh.

KIND = Feedback.Kind
_OPPOSITE: dict[str, str] = {KIND.RELEVANT: KIND.IRRELEVANT, KIND.IRRELEVANT: KIND.RELEVANT}
#: Vectors of a shown asset that may have been the one that was found.
MOST_ROWS_USED = 64


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
        found = fusion_weights.find_trace(tenant_id, search_id)
    except ValkeyAway as error:
        raise Unavailable(_("Searches cannot be looked up at the moment. Try again soon.")) from error
    if found is None:
        raise NotFound(_("No such search was made in the last 24 hours."))
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
    dimension = max(map(len, trace.vectors.values()), default=0)
    queries = np.zeros((len(PARTS), dimension), np.float32)
    for part, vector in trace.vectors.items():
        queries[PARTS.index(part)] = vector
    weights = np.array([trace.weights.get(part, 0.0) for part in PARTS], np.float32)
    scores = np.full((len(PARTS), len(trace.shown)), NOTHING, np.float32)
    place = {asset_id: at for at, asset_id in enumerate(trace.shown)}
    best = np.full(len(trace.shown), -np.inf)
    for one in sampled(trace.shown, model=trace.model, most=MOST_ROWS_USED):
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


# --- A gate learnt from it ------------------------------------------------------------------------------

# Learnt from what a tenant's people chose: trained by a job, and taken only if it does no worse.
#
# A click says more where it was less likely: each counts as much as the inverse of the chance that somebody looked so
# far down (Joachims, Swaminathan and Schnabel 2017, Unbiased learning-to-rank with biased feedback). What people
# judged "relevant" or "irrelevant" they have looked at.

#: Searches of several parts in which something was chosen: with fewer chance decides.
NEEDED = 50
#: The newest so many rows are learnt from.
MOST_ROWS = 20_000
#: The chance that somebody looks at a rank falls with this power of it; no click counts more than MOST_WORTH.
LOOKING, MOST_WORTH = 0.7, 10.0
#: Tenths of the searches that judge the result, and that decide when to stop.
JUDGING, STOPPING = 3, 2
#: Close to the built-in gate, which has seen more than any tenant: `decay` pulls back to it.
SETTINGS = Settings(epochs=80, batch=128, rate=1e-3, decay=1e-2, forget=0.0, wobble=0.0)
OLD_GATES = 5


def start_training(*, actor: str = "") -> Job:
    """Queue the job. Raises NotReady with too little feedback, Conflict where one is under way."""
    with tenant_scope(current_tenant_id()):
        _require_enough(usable())
        if Job.objects.filter(jobs.UNFINISHED, kind="train_gate").exists():
            raise Conflict(_("A gate is being trained; wait for it, or cancel its job."))
        job = jobs.enqueue(kind="train_gate", arguments={"actor": actor}, reserve={})
        log_event(actor=actor, verb="gate.training_started", target=str(job.id))
        return job


def _require_enough(found: int) -> None:
    if found < NEEDED:
        raise NotReady(
            _("%(needed)s searches of several parts with feedback are needed, and there are %(found)s.")
            % {"needed": NEEDED, "found": found},
            needed=NEEDED,
            found=found,
        )


def retire_gate(*, actor: str = "") -> None:
    """The built-in gate serves again; nothing happens where it does."""
    with tenant_scope(current_tenant_id()):
        if SearchGate.objects.filter(live=True).update(live=False):
            log_event(actor=actor, verb="gate.retired")
    fusion_weights.forget_gate(current_tenant_id())


def fusion_as_dict() -> dict[str, Any]:
    """The gate of the active tenant in the shape of the API."""
    row = SearchGate.objects.filter(live=True).first()
    about = {"source": "built-in", "number": None, "trained_at": None}
    if row is not None:
        about = {"source": "own", "number": row.number, "trained_at": row.created_at, "report": row.report}
    return {**about, "feedback": {"usable": usable(), "needed": NEEDED}}


# --- The job ---------------------------------------------------------------------------------------------


@job("train_gate", queue="train", label=gettext_lazy("Train the gate"))
def train_gate(claimed: jobs.Claim) -> None:
    """Train, judge, and take or leave. Safe to repeat. Raises NotReady, LeaseLost, Cancelled."""
    begun = time.thread_time()
    with tenant_scope(claimed.tenant_id):
        examples, split = read_examples()
    _require_enough(len(examples))
    job_log.write(claimed, f"Learning from {len(examples):,} searches in which something was chosen.")
    network, report = trained(examples, split, partial(_told, claimed))
    found = report["mean_reciprocal_rank"]
    job_log.write(claimed, f"Mean reciprocal rank {found['own']}; the built-in gate {found['built_in']}.")
    actor = claimed.arguments.get("actor", "")
    with tenant_scope(claimed.tenant_id):
        # First of all locks, and only for who still holds the job.
        jobs.held(claimed)
        if report["taken"]:
            _take(network, report, actor)
        jobs.succeed(claimed, result=report, cpu_s=time.thread_time() - begun, gpu_s=0, used={})
    fusion_weights.forget_gate(claimed.tenant_id)


def _told(claimed: jobs.Claim, epoch: int) -> None:
    """Raises Cancelled, LeaseLost."""
    jobs.progress(claimed, done=epoch, total=SETTINGS.epochs)


def trained(
    examples: Examples, split: np.ndarray, each: Callable[[int], None] = lambda epoch: None
) -> tuple[Network, dict[str, Any]]:
    """A network fitted to some of the searches, and how it does on the others. ``split`` [n] is 0 to 9."""
    built_in = fusion_weights.built_in().network
    judged = examples.take(split < JUDGING)
    stops = (split >= JUDGING) & (split < JUDGING + STOPPING)
    network = gate_fitting.fit(
        built_in, examples.take(split >= JUDGING + STOPPING), examples.take(stops), SETTINGS, each
    )
    fixed = judged.prior / judged.prior.sum(axis=1, keepdims=True)
    report: dict[str, Any] = {
        "searches": len(examples),
        "judged_on": len(judged),
        "mean_reciprocal_rank": {
            "own": _quality(gate_fitting.weights_of(network, judged), judged),
            "built_in": _quality(gate_fitting.weights_of(built_in, judged), judged),
            "fixed": _quality(fixed, judged),
        },
    }
    found = report["mean_reciprocal_rank"]
    report["taken"] = found["own"] >= max(found["built_in"], found["fixed"])
    return network, report


def _quality(weights: np.ndarray, judged: Examples) -> float:
    """Mean reciprocal rank of the best chosen asset among those that were shown, clicks worth what they are."""
    scores = gate_fitting.combined(weights, judged)
    best = np.where(judged.right, scores, -np.inf).max(axis=1)
    ranks = 1 + (np.where(judged.right, -np.inf, scores) >= best[:, None]).sum(axis=1)
    return round(float(np.average(1 / ranks, weights=judged.importance)), 4)


def _take(network: Network, report: dict[str, Any], actor: str) -> None:
    number = 1 + (SearchGate.objects.aggregate(last=Max("number"))["last"] or 0)
    SearchGate.objects.filter(live=True).update(live=False)
    row = SearchGate.objects.create(
        number=number, live=True, content=pack(network), report=report, created_by=actor
    )
    SearchGate.objects.filter(number__lte=number - OLD_GATES).delete()
    log_event(actor=actor, verb="gate.trained", target=str(row.id), details={"number": number})


# --- Feedback as examples --------------------------------------------------------------------------------


def read_examples() -> tuple[Examples, np.ndarray]:
    """One example a search, and which tenth [n] it belongs to. In the tenant's scope."""
    rows = Feedback.objects.exclude(evidence=b"").order_by("-id")[:MOST_ROWS]
    by_search: dict[uuid.UUID, list[Feedback]] = {}
    for row in rows:
        by_search.setdefault(row.search_id, []).append(row)
    usable = {one: found for one, found in by_search.items() if any(r.kind != KIND.IRRELEVANT for r in found)}
    evidence = [Evidence.unpack(bytes(found[0].evidence)) for found in usable.values()]
    known = [place for place, one in enumerate(evidence) if one.inputs.shape == (len(INPUTS),)]
    chosen = list(usable.items())
    examples = _examples([evidence[place] for place in known], [chosen[place][1] for place in known])
    return examples, np.array([_tenth(chosen[place][0]) for place in known], int)


def _tenth(search_id: uuid.UUID) -> int:
    return hashlib.sha256(search_id.bytes).digest()[0] % 10


def _examples(evidence: Sequence[Evidence], found: Sequence[Sequence[Feedback]]) -> Examples:
    width = max((one.scores.shape[1] for one in evidence), default=1)
    scores = np.full((len(evidence), len(PARTS), width), gate_fitting.NOTHING, np.float32)
    right = np.zeros((len(evidence), width), bool)
    importance = np.zeros(len(evidence), np.float32)
    for place, (one, rows) in enumerate(zip(evidence, found, strict=True)):
        scores[place, :, : one.scores.shape[1]] = one.scores
        for row in rows:
            if row.kind != KIND.IRRELEVANT and row.rank <= one.scores.shape[1]:
                right[place, row.rank - 1] = True
                importance[place] = max(importance[place], _worth(row))
    inputs = np.array([one.inputs for one in evidence], np.float32).reshape(-1, len(INPUTS))
    prior = np.array([one.prior for one in evidence], np.float32).reshape(-1, len(PARTS))
    return Examples(inputs, prior, scores, right, importance)


def _worth(row: Feedback) -> float:
    return min(float(row.rank) ** LOOKING, MOST_WORTH) if row.kind == KIND.CLICK else 1.0
