"""What promoted versions say of assets: facets, written when an asset becomes ready, and for all there are by a job.

A version's facets have a key of their own. They are whole before the version goes live, which is one row that changes
(`ComputedField`): a filter sees those of one version, never of two. A job that is killed goes on with the assets that
have none yet.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ml.classification import Head
from tenants.datasets.metadata import COMPUTED
from tenants.datasets.models import Asset, Facet
from tenants.errors import Conflict
from tenants.events.services import record
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.learning import shapes
from tenants.learning.classifiers.features import read_features
from tenants.learning.models import Classifier, ClassifierVersion
from tenants.learning.services import lock
from tenants.retrieval import model_routing
from tenants.retrieval.computed_fields import Stale, set_field
from tenants.retrieval.index import locked_clock, record_changes
from tenants.scope import tenant_scope

JOB, FORGET = "score_assets", "forget_scores"
BATCH, FORGET_BATCH = 256, 5_000
# How long it keeps its place while others wait for one.
TURN_S = 20.0
State = ClassifierVersion.State

# Assets that searches find by a vector of the model and that have no facet of the key yet.
_UNSCORED = """
SELECT DISTINCT v.asset_id FROM vector v
WHERE v.tenant_id = %(tenant)s AND v.model = %(model)s AND v.asset_id > %(above)s
    AND v.asset_modality = ANY(%(modalities)s)
    AND NOT EXISTS (
        SELECT FROM facet f WHERE f.tenant_id = %(tenant)s AND f.asset_id = v.asset_id AND f.key = %(key)s
    )
ORDER BY v.asset_id LIMIT %(count)s
"""
FIRST = uuid.UUID(int=0)


def facet_key(version_id: uuid.UUID) -> str:
    """The key of the facets of a version, which no metadata can have."""
    return f"{COMPUTED}{version_id.hex}"


# --- As assets become ready ------------------------------------------------------------------------------


def score_assets(assets: Sequence[Asset]) -> bool:
    """Write what promoted versions say of assets whose vectors were just stored; whether there are such versions.

    In the caller's transaction, which has locked the assets or made them, and the clock; one statement where a tenant
    has no classifiers.
    """
    written = list(ClassifierVersion.objects.filter(state__in=ClassifierVersion.WRITTEN))
    if not written or not assets:
        return False
    modalities = {asset.id: asset.modality for asset in assets}
    for version in written:
        _write(version, modalities)
    record_changes(list(modalities))
    return True


def _write(version: ClassifierVersion, modalities: dict[uuid.UUID, str]) -> int:
    """The facets of locked assets under one version, anew; how many there are now. A number of the clock is taken by
    the caller."""
    key, head = facet_key(version.pk), Head.from_bytes(bytes(version.head))
    Facet.objects.filter(asset_id__in=list(modalities), key=key).delete()
    features = read_features(modalities, version.model)
    if not features.asset_ids:
        return 0
    found = head.probabilities(features.values, [modalities[one] for one in features.asset_ids])
    rows = [
        Facet(asset_id=asset_id, key=key, number=round(float(value), 6))
        for asset_id, value in zip(features.asset_ids, found, strict=True)
        if np.isfinite(value)
    ]
    Facet.objects.bulk_create(rows)
    return len(rows)


def answers_about(asset_id: uuid.UUID | None) -> list[shapes.ClassifierAnswer]:
    """What live classifiers say of an asset, by name. In two or three statements, in the tenant's scope."""
    live = ClassifierVersion.objects.filter(state=State.LIVE).select_related("classifier").defer("head")
    versions = list(live.order_by("classifier__name"))
    if not versions:
        return []
    model = model_routing.live()
    keys = [facet_key(version.pk) for version in versions]
    scores = dict(Facet.objects.filter(asset_id=asset_id, key__in=keys).values_list("key", "number"))
    return [_answer(one, model, scores.get(facet_key(one.pk))) for one in versions]


def _answer(version: ClassifierVersion, model: str, score: float | None) -> shapes.ClassifierAnswer:
    is_stale = version.model != model
    return shapes.ClassifierAnswer(
        classifier=str(version.classifier_id),
        name=version.classifier.name,
        version=version.number,
        state="stale" if is_stale else "not_examined" if score is None else "examined",
        probability=None if is_stale else score,
        tier=version.report.get("tier"),
    )


def evidence_of(asset_id: uuid.UUID | None) -> dict[str, dict[str, Any]]:
    """What live classifiers say of an asset, by name, for rules: `state` (examined, not_examined, stale), and where it
    was examined `probability` and `version`. Empty where there are none. In the tenant's scope."""
    return {one.name: _evidence(one) for one in answers_about(asset_id)}


def _evidence(answer: shapes.ClassifierAnswer) -> dict[str, Any]:
    if answer.probability is None:
        return {"state": answer.state}
    return {"state": answer.state, "probability": answer.probability, "version": answer.version}


# --- All there are ---------------------------------------------------------------------------------------


def require_current(version: ClassifierVersion) -> None:
    """Raises Stale for a version that reads the vectors of another model than the one that answers."""
    if version.model != model_routing.live():
        raise Stale(
            _("Another model answers now than the one that this version was trained for. Train it again.")
        )


def enqueue_scoring(version: ClassifierVersion) -> Job:
    """Score all assets by a version, and let it answer. In the caller's transaction, which has locked the registry."""
    version.state = State.PROMOTING
    total = max(1, Asset.objects.filter(status=Asset.State.READY).count())
    row = jobs.enqueue(kind=JOB, arguments={"version": str(version.pk)}, total=total, reserve={})
    version.job_id, version.error = row.id, None
    version.save(update_fields=["state", "job_id", "error"])
    return row


def _on_end(row: Job) -> None:
    """A promotion that did not come to its end, or is tried again. In the transaction that says so."""
    versions = ClassifierVersion.objects.filter(pk=row.arguments["version"])
    if row.state == Job.State.QUEUED:
        version = versions.first()
        if version is None:
            raise Conflict(_("The classifier was deleted."))
        # At once, as it would only fail again.
        require_current(version)
        versions.update(state=State.PROMOTING, error=None)
    else:
        error = row.error or {"type": "cancelled", "detail": "The promotion was cancelled."}
        versions.filter(state=State.PROMOTING).update(state=State.CANDIDATE, error=error)


@job(JOB, queue="import", label=gettext_lazy("Apply a classifier"), on_end=_on_end)
def score_all(claimed: jobs.Claim) -> None:
    """Score what has no score yet, a batch a transaction, and switch. Raises Stale, Conflict, LeaseLost, Cancelled."""
    begun, above, written = time.monotonic(), FIRST, 0
    while True:
        version, scored, last = _score_some(claimed, above)
        if last is None:
            # From the start again: what came in meanwhile, or nothing; then the switch, which asks under the lock.
            if above == FIRST and _switch(claimed, version):
                return
            if above != FIRST and not written:
                raise Conflict(_("Some assets cannot be scored by this version; train it again."))
            above, written = FIRST, 0
            continue
        above, written = last, written + scored
        _report(claimed, scored)
        if time.monotonic() - begun > TURN_S:
            jobs.give_turn(claimed)
            return


def _report(claimed: jobs.Claim, scored: int) -> None:
    with tenant_scope(claimed.tenant_id):
        row = jobs.held(claimed)
        done, total = row.progress_done + scored, row.progress_total
    jobs.progress(claimed, done=done, total=max(done, total), renew=True)


def _score_some(claimed: jobs.Claim, above: uuid.UUID) -> tuple[ClassifierVersion, int, uuid.UUID | None]:
    """The next assets without a score: how many got one, and the last that was looked at; None once there are none."""
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        version = _version(claimed)
        ids = _unscored(version, above, BATCH)
        # As whoever embeds it does: an asset whose vectors are being replaced is waited for.
        locked = Asset.objects.select_for_update(of=("self",)).filter(pk__in=ids).order_by("pk")
        modalities = dict(locked.values_list("pk", "modality"))
        count = _write(version, modalities)
        record_changes(list(modalities))
    return version, count, ids[-1] if ids else None


def _version(claimed: jobs.Claim) -> ClassifierVersion:
    version = ClassifierVersion.objects.filter(pk=claimed.arguments["version"]).first()
    if version is None:
        raise Conflict(_("The classifier was deleted."))
    if version.state != State.PROMOTING:
        raise Conflict(_("Another version of this classifier was promoted in the meantime."))
    require_current(version)
    return version


def _unscored(version: ClassifierVersion, above: uuid.UUID, count: int) -> list[uuid.UUID]:
    scales = Head.from_bytes(bytes(version.head)).scales
    known = [one for one in Asset.Modality.values if one in scales or "*" in scales]
    given: dict[str, Any] = {
        "tenant": version.tenant_id,
        "model": version.model,
        "key": facet_key(version.pk),
        "above": above,
        "modalities": known,
        "count": count,
    }
    with connection.cursor() as cursor:
        cursor.execute(_UNSCORED, given)
        return [row[0] for row in cursor.fetchall()]


def _switch(claimed: jobs.Claim, version: ClassifierVersion) -> bool:
    """Let the version answer, unless something came in that it has not scored: False. Ends the job."""
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        lock()
        # Whoever stores vectors holds it, and scores them by the versions that are written at that moment.
        locked_clock()
        version = _version(claimed)
        if _unscored(version, FIRST, 1):
            return False
        classifier = Classifier.objects.select_for_update().get(pk=version.classifier_id)
        before = classifier.versions.filter(state=State.LIVE)
        before.update(state=State.RETIRED)
        version.state, version.promoted_at, version.error = State.LIVE, timezone.now(), None
        version.save(update_fields=["state", "promoted_at", "error"])
        classifier.live = version.number
        classifier.save(update_fields=["live"])
        set_field(key=classifier.field, facet_key=facet_key(version.pk), model=version.model)
        forget_scores(classifier.versions.exclude(pk=version.pk).values_list("pk", flat=True))
        details = {"classifier": classifier.name, "version": version.number}
        record(
            actor=version.created_by, verb="classifier.promoted", target=str(classifier.pk), details=details
        )
        count = Facet.objects.filter(key=facet_key(version.pk)).count()
        result = {"classifier": str(classifier.pk), "version": version.number, "scored": count}
        jobs.succeed(claimed, result=result, cpu_s=0, gpu_s=0, used={})
    return True


# --- What nobody asks for any more -----------------------------------------------------------------------


def forget_scores(version_ids: Collection[uuid.UUID]) -> None:
    """Have a job delete the facets of versions that answer no more. In the caller's transaction."""
    keys = [facet_key(one) for one in version_ids]
    left = sorted(key for key in keys if Facet.objects.filter(key=key).exists())
    if left:
        arguments = {"versions": [key.removeprefix(COMPUTED) for key in left]}
        jobs.enqueue(kind=FORGET, arguments=arguments, reserve={})


@job(FORGET, queue="default", label=gettext_lazy("Delete old scores"))
def forget(claimed: jobs.Claim) -> None:
    """A batch a transaction, none of a version that was promoted again meanwhile. Raises LeaseLost, Cancelled."""
    done = 0
    while removed := _forget_some(claimed):
        done += removed
        jobs.progress(claimed, done=done, total=done + 1, renew=True)
    jobs.succeed(claimed, result={"facets": done}, cpu_s=0, gpu_s=0, used={})


def _forget_some(claimed: jobs.Claim) -> int:
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        lock()
        ids = {uuid.UUID(one) for one in claimed.arguments["versions"]}
        wanted = ClassifierVersion.objects.filter(pk__in=ids, state__in=ClassifierVersion.WRITTEN)
        keys = [facet_key(one) for one in ids - set(wanted.values_list("pk", flat=True))]
        chosen = list(Facet.objects.filter(key__in=keys).values_list("pk", flat=True)[:FORGET_BATCH])
        return Facet.objects.filter(pk__in=chosen).delete()[0]
