"""The job that trains a version of a classifier: read its examples' vectors, fit a head, keep it.

It takes seconds, so one that is killed begins again. Vectors are read in batches, each in a short scope.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ml import classification
from ml.classification import Fitted, Unlearnable
from tenants.datasets.models import Asset
from tenants.datasets.selectors import visible_assets
from tenants.errors import Conflict
from tenants.events.services import record
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.learning.classifiers import scoring
from tenants.learning.classifiers.examples import Example, read_examples, refuse
from tenants.learning.classifiers.features import feature_of, read_features
from tenants.learning.classifiers.providers import PROVIDERS
from tenants.learning.models import Classifier, ClassifierVersion
from tenants.learning.services import lock
from tenants.retrieval import model_routing
from tenants.retrieval.computed_fields import Stale
from tenants.scope import tenant_scope

JOB = "train_classifier"
BATCH = 500
# Of each modality: the newest assets, over which words are judged.
SAMPLE = 1_000
# Assets without stored vectors that are embedded to learn from reviewers' decisions, the newest, and kinds that take no
# minutes: what was blocked lies in no index.
MOST_EMBEDDED = 500
EMBEDDED = (Asset.Modality.TEXT, Asset.Modality.IMAGE)
State, Source = ClassifierVersion.State, ClassifierVersion.Source


def enqueue_training(version: ClassifierVersion, *, promote: bool = False) -> Job:
    """Queue the training of a draft that is not stored yet, and store it. In the caller's transaction."""
    arguments = {"version": str(version.pk), "promote": promote}
    row = jobs.enqueue(kind=JOB, arguments=arguments, reserve={})
    version.job_id = row.id
    version.save(force_insert=True)
    return row


def _on_end(row: Job) -> None:
    """Show on the version what became of its job. In the transaction that says so."""
    versions = ClassifierVersion.objects.filter(pk=row.arguments["version"], state=State.DRAFT)
    if row.state == Job.State.QUEUED:
        if not versions.exists():
            raise Conflict(_("The classifier was deleted; make another one."))
        versions.update(error=None)
    else:
        versions.update(error=row.error or {"type": "cancelled", "detail": "The training was cancelled."})


@job(JOB, queue="default", label=gettext_lazy("Train a classifier"), on_end=_on_end, kept=True)
def train_classifier(claimed: jobs.Claim) -> None:
    """Train the version that the job names. Raises Untrainable, ModelUnavailable, Conflict, LeaseLost."""
    begun = time.thread_time()
    with tenant_scope(claimed.tenant_id):
        version = (
            ClassifierVersion.objects.select_related("classifier")
            .filter(pk=claimed.arguments["version"])
            .first()
        )
        model = model_routing.live()
    if version is None:
        raise Conflict(_("The classifier was deleted."))
    if version.source == Source.WORDS:
        fitted, more = _from_words(claimed, version.classifier, model)
    else:
        fitted, more = _from_examples(claimed, version, model)
    _store(claimed, version, model, fitted, more, time.thread_time() - begun)


# --- From words ------------------------------------------------------------------------------------------


def _from_words(claimed: jobs.Claim, classifier: Classifier, model: str) -> tuple[Fitted, dict[str, Any]]:
    space = model_routing.space(model, claimed.tenant_id)
    said = space.embed_texts([classifier.words, *classification.neutral_phrases()])
    modalities: dict[uuid.UUID, str] = {}
    with tenant_scope(claimed.tenant_id):
        for modality in Asset.Modality.values:
            newest = visible_assets().filter(status=Asset.State.READY, modality=modality).order_by("-pk")
            modalities |= dict(newest.values_list("pk", "modality")[:SAMPLE])
    ids, values = _read(claimed, modalities, model)
    try:
        kinds = [modalities[one] for one in ids]
        return classification.from_words(said[0], said[1:], values, kinds), {}
    except Unlearnable as error:
        raise refuse(error, source=Source.WORDS) from error


# --- From examples ---------------------------------------------------------------------------------------


def _from_examples(
    claimed: jobs.Claim, version: ClassifierVersion, model: str
) -> tuple[Fitted, dict[str, Any]]:
    more: dict[str, Any] = {}
    with tenant_scope(claimed.tenant_id):
        examples, both = read_examples(version.classifier, version.source)
    named = {one.asset_id: one for one in examples}
    ids, values = _read(claimed, {one.asset_id: one.modality for one in examples}, model)
    if version.source == Source.DECISIONS:
        have = set(ids)
        ids, values, cpu_s = _embed(
            claimed, [one for one in examples if one.asset_id not in have], model, ids, values
        )
        more = {
            "decided_both_ways": both,
            "embedded": len(ids) - len(have),
            "embedding_cpu_s": round(cpu_s, 2),
        }
    chosen: list[Example] = [named[one] for one in ids]
    labels = np.array([one.label for one in chosen], bool)
    without = len(examples) - len(chosen)
    try:
        fitted = classification.fit(values, labels, [one.content for one in chosen])
    except Unlearnable as error:
        places = [chosen[place].asset_id for place in error.places]
        raise refuse(error, places, without=without, source=version.source) from error
    if both:
        more["warnings"] = [*fitted.report["warnings"], "decided_both_ways"]
    return fitted, {"without_vectors": without, **more}


def _embed(
    claimed: jobs.Claim, lacking: Sequence[Example], model: str, ids: list[uuid.UUID], values: np.ndarray
) -> tuple[list[uuid.UUID], np.ndarray, float]:
    """The same with those of assets whose vectors are not stored, and the cpu seconds that these took."""
    found, parts, spent = list(ids), [values] if ids else [], 0.0
    wanted = sorted((one for one in lacking if one.modality in EMBEDDED), key=lambda one: one.asset_id)
    for one in wanted[-MOST_EMBEDDED:]:
        vectors, cpu_s = PROVIDERS.embed_asset(one.asset_id, model=model, tenant_id=claimed.tenant_id)
        spent += cpu_s
        feature = feature_of(one.modality, [(vector.modality, vector.values) for vector in vectors])
        if feature is not None:
            found.append(one.asset_id)
            parts.append(feature[None])
        jobs.require_wanted(claimed)
    return found, np.concatenate(parts) if parts else values, spent


def _read(
    claimed: jobs.Claim, modalities: Mapping[uuid.UUID, str], model: str
) -> tuple[list[uuid.UUID], np.ndarray]:
    """Which of the assets have vectors, and their features."""
    asset_ids, found, parts = list(modalities), [], []
    for start in range(0, len(asset_ids), BATCH):
        with tenant_scope(claimed.tenant_id):
            batch = {one: modalities[one] for one in asset_ids[start : start + BATCH]}
            features = read_features(batch, model)
        if features.asset_ids:
            found += features.asset_ids
            parts.append(features.values)
        jobs.require_wanted(claimed)
    return found, np.concatenate(parts) if parts else np.empty((0, 1), np.float32)


# --- What it ends with -----------------------------------------------------------------------------------


def _store(
    claimed: jobs.Claim,
    version: ClassifierVersion,
    model: str,
    fitted: Fitted,
    more: dict[str, Any],
    cpu_s: float,
) -> None:
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        lock()
        row = ClassifierVersion.objects.select_related("classifier").filter(pk=version.pk).first()
        if row is None:
            raise Conflict(_("The classifier was deleted."))
        row.model, row.head = model, fitted.head.to_bytes()
        row.report = {**fitted.report, **more, "cpu_s": round(cpu_s, 2)}
        row.state, row.error, row.trained_at = State.CANDIDATE, None, timezone.now()
        row.save()
        details = {"classifier": row.classifier.name, "version": row.number}
        record(
            actor=row.created_by, verb="classifier.trained", target=str(row.classifier_id), details=details
        )
        result = {"classifier": str(row.classifier_id), "version": row.number}
        jobs.succeed(claimed, result=result, cpu_s=cpu_s, gpu_s=0, used={})
        if claimed.arguments.get("promote"):
            _promote(row)


def _promote(version: ClassifierVersion) -> None:
    """Let it answer, unless another model was promoted while it was trained: then its error says so."""
    try:
        scoring.require_current(version)
    except Stale as error:
        version.error = {"type": error.slug, "detail": error.detail}
        version.save(update_fields=["error"])
    else:
        scoring.enqueue_scoring(version)
