"""The tenant's policy on what is generated: on the prompt before anything is made, on each file before it is an asset.

Where no policy is in force nothing is examined, as with uploads. One in force is asked also if it leaves uploads alone:
what this installation makes itself, it answers for.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from ml.auditing import Examination, Subject
from ml.detectors.base import Words
from tenants.datasets.models import Asset, Blob
from tenants.datasets.services import keep_blob, write_blob
from tenants.errors import ServiceError
from tenants.generation.models import Generation
from tenants.jobs import services as jobs
from tenants.moderation import policies
from tenants.moderation.models import Audit, AuditRequest
from tenants.moderation.reviews.cases import BLOCK, REVIEW
from tenants.moderation.rules.decision import STRENGTH, Decision, FiredRule
from tenants.pipeline.assets.services import meter
from tenants.pipeline.assets.uploads import Upload, check_upload
from tenants.pipeline.audits import auditing
from tenants.pipeline.audits.auditing import ENFORCE, Case
from tenants.pipeline.audits.examining import examiner, options_of, specs_of
from tenants.scope import tenant_scope

if TYPE_CHECKING:
    from ml.generators.studio import Piece

PROMPT, OUTPUT = AuditRequest.Source.PROMPT, AuditRequest.Source.OUTPUT


class PromptBlocked(ServiceError):
    slug = Generation.PROMPT_BLOCKED


@dataclass(frozen=True)
class ExaminedFile:
    """A released file, and what its examination found; None where no policy is in force."""

    piece: Piece
    upload: Upload
    decides: policies.InForce | None
    examination: Examination | None

    @property
    def cpu_s(self) -> float:
        return self.examination.cpu_s if self.examination else 0.0


# --- The prompt ------------------------------------------------------------------------------------------


def moderate_prompt(claimed: jobs.Claim, row: Generation) -> Audit | None:
    """The audit of the words, made once; None where no policy is in force. Raises PromptBlocked, LeaseLost."""
    with tenant_scope(claimed.tenant_id):
        audit = Audit.objects.filter(pk=row.prompt_audit_id).first() if row.prompt_audit_id else None
    audit = audit or _audit_prompt(claimed, row)
    if audit is not None and audit.mode == ENFORCE and audit.decision == BLOCK:
        raise PromptBlocked(
            _("The content policy does not allow this prompt (%(rules)s). Nothing was made.")
            % {"rules": ", ".join(audit.rules)}
        )
    return audit


def _audit_prompt(claimed: jobs.Claim, row: Generation) -> Audit | None:
    upload = check_upload(None, f"{row.prompt}\n\n{row.negative}".strip())
    with tenant_scope(claimed.tenant_id):
        decides = policies.in_force(modality=upload.modality, sha256=upload.sha256)
    if decides is None:
        return None
    words = [Words(text, "text") for text in (row.prompt, row.negative) if text]
    options = options_of(decides.document)
    subject = Subject(upload.modality, upload.media_type, words=words, options=options)
    found = examiner().examine(subject, specs_of(decides.document))
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        # Kept only where a person has to look at it.
        blob = keep_blob(sha256=upload.sha256, length=upload.bytes, media_type=upload.media_type)
        write_blob(blob, upload.content)
        request = AuditRequest(source=PROMPT, blob=blob, modality=upload.modality)
        audit = _stored(claimed, row, Case(request, None, blob, (), decides), found)
        Generation.objects.filter(pk=row.pk).update(prompt_audit_id=audit.id)
        auditing.append(Case(request, None, blob, (), decides), audit)
        jobs.spend(claimed, cpu_s=found.cpu_s)
    return audit


# --- A file ----------------------------------------------------------------------------------------------


def examine(row: Generation, piece: Piece) -> ExaminedFile:
    """Look at a file as it was released. Outside any transaction; changes nothing."""
    upload = check_upload(io.BytesIO(piece.made.content), "")
    with tenant_scope(row.tenant_id):
        decides = policies.in_force(modality=upload.modality, sha256=upload.sha256)
    if decides is None:
        return ExaminedFile(piece, upload, None, None)
    with NamedTemporaryFile(dir=settings.SPOOL_DIR, prefix="born-") as file:
        file.write(piece.made.content)
        file.flush()
        words = [Words(row.prompt, "caption")]
        options = options_of(decides.document)
        subject = Subject(upload.modality, upload.media_type, Path(file.name), words, options)
        return ExaminedFile(piece, upload, decides, examiner().examine(subject, specs_of(decides.document)))


@dataclass
class ModeratedFile:
    """What the policy says of a file, before there is an asset; `case` is None where no policy is in force."""

    case: Case | None = None
    document: dict[str, Any] | None = None
    decision: Decision | None = None

    @property
    def enforced_decision(self) -> str:
        """The decision where it is enforced; else empty."""
        enforced = self.case is not None and self.case.mode == ENFORCE
        return self.decision.decision if enforced and self.decision else ""

    @property
    def quarantines(self) -> bool:
        return self.case is not None and bool(self.case.document.get("quarantine"))


def moderate(row: Generation, file: ExaminedFile, prompt: Audit | None) -> ModeratedFile:
    """In the tenant's scope. A prompt that a person has to look at sends what came of it to people, too."""
    if file.decides is None or file.examination is None:
        return ModeratedFile()
    upload = file.upload
    request = AuditRequest(source=OUTPUT, modality=upload.modality, caption=upload.caption)
    blob = Blob(sha256=upload.sha256, bytes=upload.bytes, media_type=upload.media_type)
    case = Case(request, None, blob, (), file.decides)
    document, decision = auditing.assess(case, file.examination)
    return ModeratedFile(case, document, _with_prompt(decision, prompt))


def _with_prompt(decision: Decision, prompt: Audit | None) -> Decision:
    """The same rules that asked for people to look at the prompt ask for them to look at the file."""
    asks = prompt is not None and prompt.mode == ENFORCE and prompt.decision == REVIEW
    if prompt is None or not asks or STRENGTH[decision.decision] >= STRENGTH[REVIEW]:
        return decision
    reason = _("A person has to look at the prompt that this was made from.")
    asked = tuple(FiredRule(rule, REVIEW, reason, prompt.severity) for rule in prompt.rules)
    return replace(decision, decision=REVIEW, fired=(*decision.fired, *asked))


def write(
    claimed: jobs.Claim, judged: ModeratedFile, file: ExaminedFile, asset: Asset | None
) -> tuple[Case, Audit] | None:
    """Store the audit of a file, of its asset if it became one; None where no policy is in force.

    In the caller's transaction, which adds it to the record in the end (`auditing.append`).
    """
    if judged.case is None or judged.document is None or judged.decision is None:
        return None
    request = judged.case.request
    request.asset = asset
    case = replace(judged.case, asset=asset)
    return case, _write(claimed, case, judged.document, judged.decision, file.examination)


def _stored(claimed: jobs.Claim, row: Generation, case: Case, found: Examination) -> Audit:
    return _write(claimed, case, *auditing.assess(case, found), found)


def _write(
    claimed: jobs.Claim,
    case: Case,
    document: dict[str, object],
    decision: Decision,
    found: Examination | None,
) -> Audit:
    case.request.job_id = claimed.job_id
    case.request.save(force_insert=True)
    pictures = auditing.pictures_of(found) if found else []
    transaction.on_commit(partial(meter, claimed.tenant_id, {"audits": 1}))
    return auditing.write(case, document, decision, pictures)
