"""How a model comes to serve searches: embedded beside, compared over the real corpus, switched to; and back again.

Searches are answered by the old model until the switch, which is one transaction; what comes in meanwhile is written
for both. The old one stays beside for as long as a way back is to be instant.
"""

from __future__ import annotations

from contextlib import suppress

from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.errors import Conflict, NotReady
from tenants.events import webhooks
from tenants.events.services import record
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning import comparing, selectors
from tenants.learning.classifiers import services as classifiers
from tenants.learning.models import LearntModel, Promotion
from tenants.learning.selectors import Named
from tenants.learning.services import lock, require_weights
from tenants.retrieval import model_routing
from tenants.scope import current_tenant_id, tenant_scope

JOB = "embed_beside"
State = Promotion.State


class WorseModel(Conflict):
    """Searches would get worse; `report` says by which figures."""

    slug, title = "worse-model", "This model is worse"


def promote(*, model: Named, override_reason: str = "", actor: str = "") -> Promotion:
    """Embed everything beside for this model, and switch to it unless that would make searches worse.

    A model that is worse is promoted only with a reason; where the promotion waits for one, the switch is made at once.
    Raises WorseModel, NotReady for a model without weights, Conflict.
    """
    with tenant_scope(current_tenant_id()):
        lock()
        live = model_routing.live()
        _check_state(model, live)
        under_way = Promotion.objects.filter(state__in=Promotion.UNDER_WAY).first()
        if under_way is not None and under_way.space == model.space:
            return _decide(under_way, override_reason, actor)
        reasons = [*comparing.lost_abilities(live, model.space), *comparing.worse_than_parent(model)]
        if reasons and not override_reason:
            raise WorseModel(f"{' '.join(reasons)} {_OVERRIDE}", reasons=reasons)
        if under_way is not None:
            _make_way(under_way, actor)
        return _begin(model, live, override_reason, actor)


_OVERRIDE = "To promote it all the same, send `override` with a `reason`."


def _check_state(model: Named, live: str) -> None:
    if model.space == live:
        raise Conflict(_("This model answers searches already."))
    if isinstance(model, LearntModel) and model.state == LearntModel.State.DRAFT:
        raise NotReady(_("This model has not been trained to its end."))
    require_weights(model)


def _decide(row: Promotion, override_reason: str, actor: str) -> Promotion:
    if row.state == State.EMBEDDING:
        raise Conflict(_("This model is being promoted already; its job tells how far it is."))
    if not override_reason:
        reasons = (row.report or {}).get("worse", [])
        raise WorseModel(f"{' '.join(reasons)} {_OVERRIDE}", reasons=reasons)
    row.override_reason = override_reason
    _switch(row, actor)
    return row


def _make_way(row: Promotion, actor: str) -> None:
    """A promotion that only waits for a decision ends for another one."""
    if row.state == State.EMBEDDING:
        raise Conflict(_("Another model is being promoted; wait for it, or cancel its job."))
    _abandon(row, actor)


def _begin(model: Named, live: str, override_reason: str, actor: str) -> Promotion:
    row = Promotion(space=model.space, replaces=live, override_reason=override_reason, created_by=actor)
    row.model = model if isinstance(model, LearntModel) else None
    model_routing.begin_dual_write(model.space)
    row.job_id = _enqueue(row).id
    row.save(force_insert=True)
    details = {"space": row.space, "replaces": live, "override": override_reason}
    record(actor=actor, verb="model.promotion_started", target=_target(row), details=details)
    return row


def _enqueue(row: Promotion) -> Job:
    arguments = {"model": row.space, "promotion": str(row.id)}
    return jobs.enqueue(
        kind=JOB, arguments=arguments, total=max(1, model_routing.missing(row.space)), reserve={}
    )


def _target(row: Promotion) -> str:
    return selectors.public_name(row.space)


# --- Once embedded ---------------------------------------------------------------------------------------


def embedded(claimed: jobs.Claim) -> dict[str, object]:
    """Compare and, unless it would make searches worse, switch: the end of the job that embedded beside.

    Returns what goes into the job's result. Safe to repeat. Raises LeaseLost, and Conflict where the promotion has
    ended meanwhile.
    """
    with tenant_scope(claimed.tenant_id):
        row = Promotion.objects.filter(pk=claimed.arguments["promotion"]).first()
    if row is None:
        raise Conflict(_("This promotion was given up."))
    report = row.report if row.embedded_at else comparing.report(claimed.tenant_id, row)
    with tenant_scope(claimed.tenant_id):
        lock()
        jobs.held(claimed)
        row = Promotion.objects.select_for_update().filter(pk=row.pk).first()
        if row is None:
            raise Conflict(_("This promotion was given up."))
        if row.state == State.EMBEDDING:
            row.report, row.embedded_at, row.state = report, timezone.now(), State.READY
            row.save()
            if not report["worse"] or row.override_reason:
                _switch(row, row.created_by)
        elif row.state not in (State.READY, State.SWITCHED):
            raise Conflict(_("This promotion was given up."))
    return {"promotion": str(row.id), "state": row.state, "worse": report["worse"]}


def _switch(row: Promotion, actor: str) -> None:
    """Serve searches from it. In the transaction that holds the lock of the registry."""
    model_routing.switch(row.space)
    _mark_live(row.space)
    classifiers.follow_model(row.space, actor=actor)
    row.state, row.finished_at = State.SWITCHED, timezone.now()
    row.save()
    details = {"space": row.space, "replaces": row.replaces, "override": row.override_reason}
    record(actor=actor, verb="model.promoted", target=_target(row), details=details)
    replaced = selectors.public_name(row.replaces)
    webhooks.emit("model.promoted", {"model": _target(row), "replaces": replaced, "promotion": row.id})


def _mark_live(space: str) -> None:
    """The rows say what the clock says: the one that serves, and since when the one before does not."""
    now = timezone.now()
    served = LearntModel.objects.filter(state=LearntModel.State.LIVE)
    served.update(state=LearntModel.State.RETIRED, retired_at=now)
    named = selectors.find_space(space)
    if isinstance(named, LearntModel):
        rows = LearntModel.objects.filter(pk=named.pk)
        rows.update(state=LearntModel.State.LIVE, promoted_at=now, retired_at=None)


# --- Back ------------------------------------------------------------------------------------------------


def roll_back(*, model: Named, actor: str = "") -> Named | None:
    """Serve searches from what served before this model, at once; or give up its promotion while that embeds or waits.

    Returns what serves now. Raises Conflict where neither can be.
    """
    with tenant_scope(current_tenant_id()):
        lock()
        under_way = Promotion.objects.filter(space=model.space, state__in=Promotion.UNDER_WAY).first()
        if under_way is not None:
            _give_up(under_way, actor)
        elif model.space != model_routing.live():
            raise Conflict(_("This model does not answer searches; there is nothing to take back."))
        else:
            _return(model, actor)
        return selectors.find_space(model_routing.live())


def _give_up(row: Promotion, actor: str) -> None:
    """At once, whatever its job does: one that runs finds that its model is not written any more."""
    if row.job_id and Job.objects.filter(jobs.UNFINISHED, pk=row.job_id).exists():
        # It may have ended just now.
        with suppress(Conflict):
            jobs.cancel(job_id=row.job_id)
    row.refresh_from_db()
    _abandon(row, actor)


def _return(model: Named, actor: str) -> None:
    model_routing.roll_back()
    live = model_routing.live()
    _mark_live(live)
    classifiers.follow_model(live, actor=actor)
    details = {"space": live, "replaces": model.space}
    record(actor=actor, verb="model.rolled_back", target=selectors.public_name(model.space), details=details)
    told = {"model": selectors.public_name(model.space), "live": selectors.public_name(live)}
    webhooks.emit("model.rolled_back", told)


def _abandon(row: Promotion, actor: str) -> None:
    row.state, row.finished_at = State.ABANDONED, timezone.now()
    row.save()
    _stop_writing(row.space)
    record(actor=actor, verb="model.promotion_abandoned", target=_target(row), details={"space": row.space})


def _stop_writing(space: str) -> None:
    """Unless it is the one to go back to, which stays whatever becomes of its promotion."""
    if model_routing.written(current_tenant_id()).previous != space:
        model_routing.end_dual_write(space)


# --- What its job ends with ------------------------------------------------------------------------------


def on_job_end(job: Job) -> None:
    """Show what became of the job: failed, cancelled, or queued again. In the transaction that says so."""
    row = Promotion.objects.filter(pk=job.arguments["promotion"]).first()
    if row is None or row.state in (State.READY, State.SWITCHED):
        return
    if job.state == Job.State.QUEUED:
        _resume(row)
    elif row.state == State.EMBEDDING:
        row.state = State.ABANDONED if job.state == Job.State.CANCELLED else State.FAILED
        row.error, row.finished_at = job.error, timezone.now()
        row.save()
        _stop_writing(row.space)


def _resume(row: Promotion) -> None:
    others = Promotion.objects.filter(state__in=Promotion.UNDER_WAY).exclude(pk=row.pk)
    if others.exists() or row.space == model_routing.live():
        raise Conflict(_("Another promotion has started since; promote the model again."))
    row.state, row.error, row.finished_at = State.EMBEDDING, None, None
    row.save()
    model_routing.begin_dual_write(row.space)
