"""Auditing one item: examine, decide, store. Safe to run twice and to be killed at any line.

Examining happens outside any transaction. What could not look is part of the evidence, and the policy says what then:
nothing that goes wrong here lets an item pass in silence.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_lazy

from ml.auditing import Examination, Subject, counts_of
from ml.detectors.base import Words
from ml.documents import Document
from ml.hashing import words
from ml.media import TRANSIENT, MediaError
from tenants.datasets import documents as stored_documents
from tenants.datasets import storage
from tenants.datasets.models import Asset, Blob, TranscriptSegment
from tenants.datasets.selectors import visible_assets
from tenants.events import webhooks
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.learning.classifiers.scoring import evidence_of
from tenants.moderation import known_content, policies, record, reviews
from tenants.moderation.audits import evidence as documents
from tenants.moderation.audits import standing
from tenants.moderation.models import Audit, AuditPicture, AuditRequest, Evidence
from tenants.moderation.reviews import effects
from tenants.moderation.reviews.cases import ALLOW, BLOCK, REVIEW
from tenants.moderation.reviews.effects import apply_decision
from tenants.moderation.rules.decision import Decision, apply_thresholds, decide
from tenants.moderation.rules.reasoning import reason
from tenants.pipeline.assets.services import meter
from tenants.pipeline.audits.audit_requests import drop_content
from tenants.pipeline.audits.examining import examiner, options_of, specs_of
from tenants.scope import tenant_scope

__all__ = ["apply_decision", "audit_item", "settle_failed"]

log = logging.getLogger(__name__)

# Characters of a document that its sketch is of, as many as a text has at most.
MOST_SKETCHED = 100_000
OFF, SHADOW, ENFORCE = "off", "shadow", "enforce"
EVERYTHING = "everything"


@dataclass(frozen=True)
class Case:
    """What is audited and by which policy, as it was when the work began."""

    request: AuditRequest
    asset: Asset | None
    blob: Blob
    transcript: tuple[tuple[float, str], ...]
    decides: policies.InForce | None
    # Of a document what was read of it, and why it could not be read.
    read: Document | None = None
    unreadable: str = ""

    @property
    def document(self) -> Mapping[str, Any]:
        return self.decides.document if self.decides else {}

    @property
    def mode(self) -> str:
        return self.decides.mode if self.decides else OFF

    @property
    def item(self) -> dict[str, Any]:
        """The evidence document's `item`, but for what decoding tells."""
        return {
            "modality": self.request.modality,
            "media_type": self.blob.media_type,
            "bytes": self.blob.bytes,
            "dataset": str(self.asset.dataset_id) if self.asset else None,
            "subject": self.request.subject,
            "metadata": self.asset.metadata if self.asset else {},
        }


def _on_end(job: Job) -> None:
    """Show on the request what became of its job. One that has failed for good is decided all the same."""
    audit_id = uuid.UUID(job.arguments["audit"])
    error = None
    if job.state != Job.State.QUEUED:
        error = job.error or {"type": "cancelled", "detail": "Cancelled."}
    AuditRequest.objects.filter(pk=audit_id).update(error=error)
    if job.state == Job.State.FAILED:
        # In a transaction of its own, as the record is locked after everything else.
        transaction.on_commit(partial(_give_up, job.tenant_id, audit_id), robust=True)


@job("audit_item", queue="audit", label=gettext_lazy("Audit"), on_end=_on_end, outlives_parent=True)
def audit_item(claimed: jobs.Claim) -> None:
    """Audit the item of this job, and end the job in the transaction that stores the audit. Raises LeaseLost."""
    audit_id = uuid.UUID(claimed.arguments["audit"])
    with tenant_scope(claimed.tenant_id):
        case = _case(audit_id)
    if case is None:
        _finish_obsolete(claimed)
        return
    try:
        case = _with_document(case)
        with _subject_of(case) as subject:
            examination = examiner().examine(subject, specs_of(case.document))
            if case.unreadable:
                # What nobody could read was not looked at: the policy decides what then.
                error = {"type": "corrupt", "detail": case.unreadable}
                examination = replace(examination, about={**examination.about, "error": error})
            # Of a text what other fingerprints are of a picture: reviews compare by it what has no vectors.
            sketch = text_sketch(subject)
            counts = counts_of(subject.modality, subject.words, examination)
    except FileNotFoundError:
        with tenant_scope(claimed.tenant_id):
            if _case(audit_id) is not None:
                raise
        # The file went with its asset while it was read.
        _finish_obsolete(claimed)
        return
    with tenant_scope(claimed.tenant_id):
        if jobs.held(claimed).cancel_requested:
            raise jobs.Cancelled
        if not _hold_asset(case.request):
            _finish_obsolete(claimed, examination.cpu_s)
            return
        _store(claimed, case, examination, sketch, counts)


def _hold_asset(request: AuditRequest) -> bool:
    """Whether what is audited still is there; an asset is held until the commit, so that its erasure waits and takes
    the evidence with it."""
    if request.asset_id is None:
        return True
    rows = Asset.objects.select_for_update(of=("self",)).filter(pk=request.asset_id)
    return bool(rows.values_list("pk", flat=True))


def _finish_obsolete(claimed: jobs.Claim, cpu_s: float = 0.0) -> None:
    result = {"note": "There is nothing left to audit."}
    jobs.succeed(claimed, result=result, cpu_s=cpu_s, gpu_s=0, used={})


def _case(audit_id: uuid.UUID) -> Case | None:
    request = AuditRequest.objects.select_related("blob").filter(pk=audit_id).first()
    if request is None or Audit.objects.filter(pk=audit_id).exists():
        return None
    asset = visible_assets().filter(pk=request.asset_id).first() if request.asset_id else None
    blob = asset.blob if asset else request.blob
    if blob is None:
        return None
    spoken = TranscriptSegment.objects.filter(asset=asset).order_by("start_s") if asset else ()
    return Case(
        request,
        asset,
        blob,
        tuple((segment.start_s, segment.text) for segment in spoken),
        policies.in_force(policy_id=request.policy_id, modality=request.modality, sha256=blob.sha256),
    )


def _with_document(case: Case) -> Case:
    """With what was read of a document: when it was embedded, else now, in no scope. Raises DocumentRefused where
    another try may end otherwise."""
    blob = case.blob
    if not stored_documents.is_document(blob.media_type):
        return case
    found = stored_documents.stored(blob.tenant_id, blob.sha256)
    if found is not None:
        return replace(case, read=found)
    path = storage.path_of(blob.tenant_id, blob.sha256)
    with (
        TemporaryDirectory(dir=settings.SPOOL_DIR, prefix="audit-") as folder,
        storage.local(path, Path(folder)) as local,
    ):
        try:
            return replace(case, read=stored_documents.read(local, blob.media_type))
        except MediaError as error:
            if error.code in TRANSIENT:
                raise
            return replace(case, unreadable=error.message)


@contextlib.contextmanager
def _subject_of(case: Case) -> Iterator[Subject]:
    options, blob = options_of(case.document), case.blob
    path = storage.path_of(blob.tenant_id, blob.sha256)
    if stored_documents.is_document(blob.media_type):
        document = case.read
        texts = stored_documents.examined_texts(document) if document else []
        words = [Words(text, "text") for text in texts]
        yield Subject("text", blob.media_type, words=words, options=options)
        return
    if case.request.modality == Asset.Modality.TEXT:
        with storage.open_blob(path) as stream:
            text = stream.read().decode("utf-8")
        yield Subject("text", blob.media_type, words=[Words(text, "text")], options=options)
        return
    words = [Words(text, "transcript", at) for at, text in case.transcript]
    captions = [*case.asset.captions, case.asset.prompt] if case.asset else [case.request.caption]
    words[:0] = [Words(caption, "caption") for caption in captions if caption]
    with (
        TemporaryDirectory(dir=settings.SPOOL_DIR, prefix="audit-") as folder,
        storage.local(path, Path(folder)) as local,
    ):
        yield Subject(case.request.modality, blob.media_type, Path(local), words, options)


def assess(
    case: Case, examination: Examination, counts: Mapping[str, object] | None = None
) -> tuple[dict[str, object], Decision]:
    """The evidence as its policy judges it, with what its rules over facts conclude, and what that decides. In the
    tenant's scope; changes nothing."""
    request = case.request
    fingerprints = documents.fingerprints_of(examination)
    document = documents.assemble(
        item=case.item,
        examination=examination,
        matches=known_content.match(fingerprints=fingerprints, sha256=case.blob.sha256),
        strikes=effects.count_strikes(subject=request.subject) if request.subject else 0,
        classifiers=evidence_of(case.asset.pk if case.asset else None),
        counts=counts,
        read=stored_documents.told_of(case.read) if case.read else None,
    )
    decision, judged = _decision(case, document), apply_thresholds(case.document, document)
    if case.decides and (why := reason(case.document, judged, decision)):
        judged["reasoning"] = documents.storable(why)
    return judged, decision


def _decision(case: Case, document: Mapping[str, object]) -> Decision:
    """Without a policy nothing is decided, whatever could not look: there is nobody who wanted to know."""
    return decide(case.document, document) if case.decides else Decision(ALLOW)


def text_sketch(subject: Subject) -> str:
    """Of a text the sketch of its words, in base64; empty of everything else."""
    texts = [one.text for one in subject.words] if subject.modality == Asset.Modality.TEXT else []
    return base64.b64encode(words.sketch(texts[0][:MOST_SKETCHED])).decode() if texts else ""


def _store(
    claimed: jobs.Claim,
    case: Case,
    examination: Examination,
    sketch: str,
    counts: Mapping[str, object] | None = None,
) -> None:
    document, decision = assess(case, examination, counts)
    if sketch:
        document["fingerprints"] = {**cast("dict[str, Any]", document["fingerprints"]), "words": sketch}
    audit = write(case, document, decision, pictures_of(examination))
    jobs.succeed(
        claimed,
        result={"audit": str(audit.id), "decision": audit.decision, "mode": audit.mode},
        cpu_s=examination.cpu_s,
        gpu_s=0,
        used={},
    )
    append(case, audit)
    transaction.on_commit(partial(meter, claimed.tenant_id, {"audits": 1}))


def write(
    case: Case, document: dict[str, Any], decision: Decision, pictures: Sequence[tuple[str, bytes]]
) -> Audit:
    """The rows of the audit, and what it does: to the asset only where the policy is enforced.

    In the caller's transaction, as the last of which `append` adds it to the record.
    """
    request, asset = case.request, case.asset
    mode = SHADOW if case.mode == ENFORCE and _is_overruled(case, decision) else case.mode
    audit = Audit.objects.create(
        id=request.id,
        item=request.asset_id,
        sha256=case.blob.sha256,
        modality=document["item"]["modality"],
        source=request.source,
        decision=decision.decision,
        mode=mode,
        policy_version=case.decides.version_id if case.decides else None,
        rules=list(decision.rules),
        verdict=document["authenticity"]["verdict"],
        severity=decision.severity,
        evidence_digest=documents.digest(document),
        versions=documents.versions(document, case.decides.digest if case.decides else ""),
    )
    Evidence.objects.create(audit=audit, asset=asset, document=document)
    AuditPicture.objects.bulk_create(
        AuditPicture(audit=audit, asset=asset, name=name, content=content) for name, content in pictures
    )
    policies.record_shadow_decisions(audit=audit, evidence=document)
    if mode == ENFORCE:
        _apply_decision(case, audit, decision)
    told = {"audit": audit.id, "asset": audit.item, "decision": audit.decision, "mode": audit.mode}
    webhooks.emit("audit.completed", told)
    standing.match_audit(audit, asset, document, case.document)
    if request.blob_id and not (mode == ENFORCE and decision.decision == REVIEW):
        drop_content(request)
    return audit


def _apply_decision(case: Case, audit: Audit, decision: Decision) -> None:
    apply_decision(
        audit_id=audit.id,
        asset_id=case.request.asset_id,
        decision=decision.decision,
        labels=decision.labels,
        actor="policy",
    )
    # Also where nothing is to be reviewed: flags of the item's older audits have lost their meaning.
    reviews.open_reviews(audit=audit, asset=case.asset, decision=decision)
    if decision.decision == BLOCK and case.request.subject:
        effects.add_strike(audit=audit, subject=case.request.subject, rule=next(iter(decision.rules), ""))


def _is_overruled(case: Case, decision: Decision) -> bool:
    """Whether an earlier, stronger decision is not this one's to take back.

    What is blocked, or waits for a person, is not let go because the same item is audited again: such an audit only
    tells what it would have decided.
    """
    if case.asset is None or decision.decision in (REVIEW, BLOCK):
        return False
    blocked = Asset.objects.filter(pk=case.asset.pk, moderation=BLOCK).exists()
    return blocked or reviews.is_waiting(asset_id=case.asset.pk)


def append(case: Case, audit: Audit) -> None:
    # The record's clock is the last lock of all: jobs and quotas were locked before.
    record.append(
        kind="audit",
        audit=audit.id,
        item=audit.item,
        policy_version=audit.policy_version,
        decision=audit.decision,
        actor="policy",
        payload={"evidence": audit.evidence_digest, "mode": audit.mode, "rules": audit.rules},
    )


def pictures_of(examination: Examination) -> list[tuple[str, bytes]]:
    return [
        (f"{part.spec}/{name}"[:100], content)
        for part in examination.parts
        for name, content in sorted(part.finding.pictures.items())
    ]


# --- Jobs that end badly ---------------------------------------------------------------------------------


def _give_up(tenant_id: uuid.UUID, audit_id: uuid.UUID) -> None:
    """Nothing could look: the policy decides what then, and a person sees it."""
    with tenant_scope(tenant_id):
        found = AuditRequest.objects.filter(pk=audit_id).first()
        # The asset before the request, as an erasure locks them.
        is_there = found is not None and _hold_asset(found)
        request = AuditRequest.objects.select_for_update().filter(pk=audit_id).first() if is_there else None
        case = _case(audit_id) if request else None
        if case is None:
            return
        nothing = Examination({"error": case.request.error or {}}, (), 0.0)
        document = documents.assemble(item=case.item, examination=nothing)
        document["could_not_look"] = [EVERYTHING]
        append(case, write(case, apply_thresholds(case.document, document), _decision(case, document), ()))


def settle_failed() -> int:
    """Decide what a process left undecided that died just after its job had failed. Of the active tenant."""
    failed = Job.objects.filter(state=Job.State.FAILED, kind="audit_item").values("id")
    left = AuditRequest.objects.filter(job_id__in=failed).exclude(pk__in=Audit.objects.values("id"))[:100]
    for request in left:
        _give_up(request.tenant_id, request.id)
    return len(left)
