"""Storing what was generated: assets that can be served and found, their audits and the end of the job, in one
transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import quotas
from tenants.datasets.metadata import GENERATED
from tenants.datasets.models import Asset, Dataset
from tenants.datasets.services import keep_blob, lock_dataset, write_blob
from tenants.errors import NotFound
from tenants.events import webhooks
from tenants.events.services import record
from tenants.generation.models import Generation, GenerationOutput
from tenants.jobs import services as jobs
from tenants.moderation.models import Audit
from tenants.moderation.reviews.cases import BLOCK, REVIEW
from tenants.moderation.reviews.effects import HIDDEN, QUARANTINED
from tenants.pipeline.assets.embedding import keep_findings, make_ready
from tenants.pipeline.assets.prepared import Prepared
from tenants.pipeline.assets.services import insert_asset, meter
from tenants.pipeline.audits import auditing
from tenants.pipeline.audits.auditing import Case
from tenants.pipeline.generation import output_moderation
from tenants.pipeline.generation.output_moderation import ExaminedFile, ModeratedFile

if TYPE_CHECKING:
    from ml.generators.studio import Creation

State = Generation.State


def persist_output(
    claimed: jobs.Claim,
    generation_id: uuid.UUID,
    creation: Creation,
    files: Sequence[tuple[ExaminedFile, Prepared]],
    prompt: Audit | None,
    cost: Mapping[str, float],
) -> None:
    """Keep what the policy lets through, and end the job. In the caller's transaction and scope.

    Raises NotFound where generation or dataset were deleted meanwhile, QuotaExceeded, Cancelled, LeaseLost, and
    ModelSwitched where another model answers searches than the files were prepared for.
    """
    if jobs.held(claimed).cancel_requested:
        raise jobs.Cancelled
    row = Generation.objects.select_for_update(of=("self",)).filter(pk=generation_id).first()
    if row is None:
        raise NotFound(_("This generation was deleted."))
    dataset = lock_dataset(row.dataset_id)
    # What an earlier try was not allowed to keep.
    GenerationOutput.objects.filter(generation=row).delete()
    born = [_PersistedFile(claimed, row, dataset, *file).store(prompt) for file in files]
    # Before the counters, as the clock is locked before them everywhere.
    vectors = sum(one.make_ready() for one in born)
    _finish(row, creation)
    _end(claimed, row, born, cost)
    # After the job has ended, as quotas are locked in one order everywhere.
    quotas.charge(amounts={"vectors": vectors})
    transaction.on_commit(partial(meter, row.tenant_id, {"vectors": vectors}))
    for one in born:
        if one.audited is not None:
            auditing.append(*one.audited)


class _PersistedFile:
    """One file on its way to an asset, or to nothing where it is blocked."""

    def __init__(
        self, claimed: jobs.Claim, row: Generation, dataset: Dataset, file: ExaminedFile, prepared: Prepared
    ) -> None:
        self.claimed, self.row, self.dataset = claimed, row, dataset
        self.file, self.prepared = file, prepared
        self.asset: Asset | None = None
        self.audited: tuple[Case, Audit] | None = None

    def store(self, prompt: Audit | None) -> _PersistedFile:
        judged = output_moderation.moderate(self.row, self.file, prompt)
        if judged.enforced_decision != BLOCK:
            self.asset = self._insert_asset(judged)
        self.audited = output_moderation.write(self.claimed, judged, self.file, self.asset)
        self._output(judged).save(force_insert=True)
        return self

    @property
    def is_held(self) -> bool:
        return self.asset is not None and self.asset.moderation in HIDDEN

    def make_ready(self) -> int:
        """Let it be served and found; returns how many vectors it has. What is held back is embedded once it is let
        go."""
        if self.asset is None:
            return 0
        self.asset.refresh_from_db()
        if self.is_held:
            keep_findings(self.asset, self.prepared)
            return 0
        return make_ready(self.asset, "", self.prepared)

    def _insert_asset(self, judged: ModeratedFile) -> Asset:
        upload = self.file.upload
        blob = keep_blob(
            sha256=upload.sha256, length=upload.bytes, media_type=upload.media_type, scan=upload.scan
        )
        held = judged.enforced_decision == REVIEW and judged.quarantines
        asset = insert_asset(
            self.dataset,
            blob,
            upload,
            {GENERATED: True},
            # Not the tenant's words: not charged.
            metadata_bytes=0,
            generation_id=self.row.id,
            prompt=self.row.prompt,
            labels=[Asset.GENERATED],
            moderation=QUARANTINED if held else "",
        )
        record(actor=self.row.created_by, verb="asset.added", target=str(asset.id))
        write_blob(blob, upload.content)
        return asset

    def _output(self, judged: ModeratedFile) -> GenerationOutput:
        piece, made = self.file.piece, self.file.piece.made
        return GenerationOutput(
            generation=self.row,
            kind=made.kind,
            asset=self.asset,
            score=piece.score,
            scores=list(piece.scores),
            how=made.how,
            model=made.model[:200],
            audit_id=self.audited[1].id if self.audited else None,
            decision=judged.enforced_decision,
            provenance=dict(made.marks),
        )


def _finish(row: Generation, creation: Creation) -> None:
    row.state, row.error, row.finished_at = State.SUCCEEDED, None, timezone.now()
    row.score = creation.score
    row.made_by = {piece.made.kind: piece.made.model for piece in creation.pieces}
    row.save(update_fields=["state", "error", "finished_at", "score", "made_by"])


def _end(
    claimed: jobs.Claim, row: Generation, born: Sequence[_PersistedFile], cost: Mapping[str, float]
) -> None:
    kept = {str(one.asset.id): one.file.upload.bytes for one in born if one.asset is not None}
    if not kept:
        # `follow` shows it on the generation; the quota comes back.
        jobs.fail(claimed, error=_refusal(born), final=True, cpu_s=cost["cpu_s"], gpu_s=cost["gpu_s"])
        return
    result: dict[str, object] = {"generation": str(row.id), "assets": [*kept], "score": row.score}
    if blocked := len(born) - len(kept):
        result["blocked"] = blocked
    if held := sum(one.is_held for one in born):
        result["held"] = held
    used = {"generations": 1, "assets": len(kept), "bytes": sum(kept.values())}
    jobs.succeed(claimed, result=result, used=used, **cost)
    webhooks.emit("generation.finished", {"generation": row.id, "state": str(row.state), "assets": [*kept]})


def _refusal(born: Sequence[_PersistedFile]) -> dict[str, object]:
    rules = sorted({rule for one in born if one.audited for rule in one.audited[1].rules})
    detail = _("The content policy keeps out what was made (%(rules)s).") % {"rules": ", ".join(rules)}
    return {"type": Generation.OUTPUT_BLOCKED, "detail": detail}
