"""Making what was asked for in words. Safe to run twice and to be killed at any line.

The prompt passes the tenant's policy first, and each file as it was released before it becomes an asset
(`output_moderation`). The files are embedded here, too, and everything that comes of it is stored in one
transaction in the end, under the job's fence: there is all of it or nothing, and a job that has succeeded has
results that can be fetched and found.
"""

from __future__ import annotations

import logging
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.accounts.models import Tenant
from tenants.datasets.models import Asset
from tenants.errors import NotFound, ServiceError, Unavailable
from tenants.events import webhooks
from tenants.generation import disclosure, previews, signing_keys
from tenants.generation.models import Generation
from tenants.generation.progress import GenerationProgress, pixels_of
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.moderation.models import Audit
from tenants.pipeline.assets.embedding import SWITCHES
from tenants.pipeline.assets.prepared import Prepared, Source
from tenants.pipeline.assets.preparing import prepare
from tenants.pipeline.audits.examining import watermark_key
from tenants.pipeline.generation import output_moderation
from tenants.pipeline.generation.output_moderation import ExaminedFile
from tenants.pipeline.generation.persist_output import persist_output
from tenants.retrieval import model_routing, model_store
from tenants.retrieval.index import ModelSwitched
from tenants.scope import tenant_scope

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace
    from ml.generators.base import Kind, Marker
    from ml.generators.studio import Creation

log = logging.getLogger(__name__)

State = Generation.State


class GenerationFailed(ServiceError):
    """The generator said why there is nothing; the same would come of another try."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = code


def _on_end(job: Job) -> None:
    """Show on the generation what became of its job: it ended badly, or is queued again."""
    row = Generation.objects.filter(job_id=job.id).first()
    if row is None:
        return
    row.state, row.error = _state_of(job)
    row.finished_at = timezone.now() if job.finished else None
    if not job.finished:
        # The prompt is looked at anew: the policy may have changed.
        row.prompt_audit_id = None
    row.save(update_fields=["state", "error", "finished_at", "prompt_audit_id"])
    if job.state == Job.State.FAILED:
        told = {"generation": row.id, "state": str(row.state), "error": (row.error or {}).get("type")}
        webhooks.emit("generation.failed", told)


@job("generate", queue="generate", label=gettext_lazy("Generate from words"), on_end=_on_end, kept=True)
def generate(claimed: jobs.Claim) -> None:
    """Make what the generation of this job wants, and end the job.

    Raises NotFound where it was deleted, GenerationFailed, PromptBlocked, QuotaExceeded, Cancelled, LeaseLost,
    MediaError for what was made and cannot be read, and Unavailable where models are exchanged all the time.
    """
    begun = time.process_time()
    row = _begin(claimed)
    try:
        prompt = output_moderation.moderate_prompt(claimed, row)
        drawing = time.monotonic()
        creation = _create(claimed, row, GenerationProgress(claimed, row.id))
        gpu_s = time.monotonic() - drawing if _on_gpu() else 0.0
        files = []
        for piece in creation.pieces:
            files.append(output_moderation.examine(row, piece))
            jobs.require_wanted(claimed)
        cpu_s = time.process_time() - begun + sum(file.cpu_s for file in files)
        _persist(claimed, row, creation, files, prompt, {"cpu_s": cpu_s, "gpu_s": gpu_s})
    finally:
        previews.drop(claimed.tenant_id, row.id)


def _persist(
    claimed: jobs.Claim,
    row: Generation,
    creation: Creation,
    files: Sequence[ExaminedFile],
    prompt: Audit | None,
    cost: Mapping[str, float],
) -> None:
    """Embed the files and store everything, again where another model begins to answer searches in between."""
    spent = cost["cpu_s"]
    for _try in range(SWITCHES):
        with TemporaryDirectory(dir=settings.SPOOL_DIR, prefix="born-") as folder:
            prepared = [_prepared(claimed, file, Path(folder)) for file in files]
            spent += sum(one.cpu_s for one in prepared)
            try:
                with tenant_scope(claimed.tenant_id):
                    pairs = list(zip(files, prepared, strict=True))
                    persist_output(claimed, row.id, creation, pairs, prompt, {**cost, "cpu_s": spent})
                return
            except ModelSwitched:
                log.info("another model answers now; what was made is embedded again")
    raise Unavailable(_("The models of this workspace are changing."))


def _prepared(claimed: jobs.Claim, file: ExaminedFile, folder: Path) -> Prepared:
    """A file as it was released, decoded and encoded. Outside any transaction; changes nothing."""
    jobs.require_wanted(claimed)
    upload = file.upload
    # An earlier try may have read it to its end.
    upload.content.seek(0)
    path = folder / upload.sha256
    path.write_bytes(file.piece.made.content)
    source = Source(upload.modality, captions=upload.captions, path=path, folder=folder)
    prepared = Prepared(model_routing.opened_spaces(claimed.tenant_id))
    return prepare(source, prepared, lambda _done_s, _total_s: jobs.require_wanted(claimed))


def _begin(claimed: jobs.Claim) -> Generation:
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        rows = Generation.objects.filter(pk=uuid.UUID(claimed.arguments["generation"]))
        rows.update(state=State.RUNNING)
        if (row := rows.first()) is None:
            raise NotFound(_("This generation was deleted."))
        return row


def _create(claimed: jobs.Claim, row: Generation, look: GenerationProgress) -> Creation:
    """Everything that is wanted, marked, signed and read back. torch is imported here, so in workers only."""
    from ml.generators.base import Cancelled, GenerationError
    from ml.generators.studio import Request, Studio

    request = Request(
        prompt=row.prompt,
        negative=row.negative,
        outputs=tuple(row.outputs),
        seed=row.seed,
        steps=row.steps,
        guidance=row.guidance,
        width=row.width,
        height=row.height,
        seconds=row.seconds,
        candidates=row.candidates,
        picture=_start_picture(claimed, row),
    )
    try:
        specs = cast("Mapping[Kind, str]", settings.GENERATORS)
        return Studio(specs, _marker(claimed, row), scorer=_scorer()).create(request, look)
    except Cancelled:
        raise look.stopped or jobs.Cancelled() from None
    except GenerationError as error:
        raise GenerationFailed(error.code, error.message) from error


def _on_gpu() -> bool:
    """Whether a generator has used one: torch is there once a generator has loaded it."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def _marker(claimed: jobs.Claim, row: Generation) -> Marker:
    from ml.generators.base import Marker

    tenant = Tenant.objects.get(pk=claimed.tenant_id)
    keys, wanted = signing_keys.keys_of(tenant), disclosure.disclosure_of(tenant)
    try:
        icon = disclosure.icon() if wanted.icon.in_force else None
        notice = disclosure.notice() if wanted.notice.in_force else None
    except ValueError as error:
        raise GenerationFailed("not-installed", str(error)) from error
    return Marker(
        bytes.fromhex(watermark_key()),
        keys,
        row.mark,
        tenant.slug,
        icon,
        notice,
        signing_keys.time_stamper(),
        signing_keys.time_stamp_anchors(),
    )


def _start_picture(claimed: jobs.Claim, row: Generation) -> Any:
    """The picture that a remix begins with, uint8 [h, w, 3]; None where there is none, or any more."""
    if row.remix_of_id is None or "video" not in row.outputs:
        return None
    with tenant_scope(claimed.tenant_id):
        found = Asset.objects.select_related("blob").filter(pk=row.remix_of_id, modality="image")
        asset = found.exclude(moderation__in=Asset.HIDDEN).first()
    try:
        return pixels_of(asset.blob, row.width, row.height) if asset else None
    except FileNotFoundError:
        with tenant_scope(claimed.tenant_id):
            if found.exists():
                raise
        # The file went with its asset while it was read.
        return None


def _scorer() -> JointSpace:
    """What compares pictures with the prompt: the space that new workspaces start with, whatever this one's searches
    are answered by, so that scores of one installation can be compared."""
    return model_store.space(model_store.default_model())


# --- Jobs that end badly ---------------------------------------------------------------------------------


def _state_of(job: Job) -> tuple[str, dict[str, object] | None]:
    if job.state == Job.State.CANCELLED:
        return State.CANCELLED, None
    if job.state == Job.State.FAILED:
        refused = (job.error or {}).get("type") in Generation.REFUSALS
        return (State.BLOCKED if refused else State.FAILED), job.error
    return State.QUEUED, None
