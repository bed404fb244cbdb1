"""Asking for pictures, clips and music, and everything that is done to such a request.

How they are made is in `tenants.pipeline.generation.generating`, the job of a request.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from django.conf import settings
from django.db import IntegrityError
from django.utils.translation import gettext as _

from tenants.datasets import metadata
from tenants.datasets.models import Asset, Dataset
from tenants.datasets.selectors import get_asset, get_dataset
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, NothingKnown, NotReady
from tenants.events.services import record
from tenants.generation import previews, validation
from tenants.generation.models import Generation
from tenants.generation.selectors import get_generation
from tenants.generation.validation import KINDS, SETTINGS, GenerationSpec
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.scope import current_tenant_id, tenant_scope

JOB = "generate"
DATASET = "Generated"
# Held until the job says what it really took: on one core of 2026, and of files.
CPU_ESTIMATE_S = {"image": 10.0, "audio": 10.0, "video": 60.0}
BYTES_ESTIMATE = {"image": 2_000_000, "audio": 6_000_000, "video": 6_000_000}


def request_generation(
    *,
    wanted: GenerationSpec,
    dataset_id: uuid.UUID | None = None,
    variation_of: uuid.UUID | None = None,
    remix_of: uuid.UUID | None = None,
    anyway: bool = False,
    actor: str = "",
) -> tuple[Generation, Job]:
    """Queue what is wanted. Where nothing is said it is stored in the dataset "Generated".

    Of a remix the asset is what a clip begins with if it is a picture, and its caption the prompt where none is given.
    `anyway`: also words of which the generator of pictures knows none.
    Raises Invalid, NotFound, NothingKnown, NotReady for a kind that is turned off, QuotaExceeded.
    """
    with tenant_scope(current_tenant_id()):
        dataset = _dataset(dataset_id)
        original = get_generation(variation_of) if variation_of else None
        source = get_asset(remix_of) if remix_of else None
        wanted = validation.checked(_from_source(wanted, source))
        _require_generators(wanted.outputs)
        if not (anyway or _begins_with_picture(wanted.outputs, source)):
            _require_known(wanted)
        row = Generation(**asdict(wanted), candidates=settings.GENERATION_CANDIDATES, created_by=actor)
        row.seed = secrets.randbelow(validation.MAX_SEED) if wanted.seed is None else wanted.seed
        row.outputs = list(wanted.outputs)
        row.variation_of, row.remix_of_id = original, remix_of
        row.dataset = dataset
        row.mark = row.id.int & 0xFFFF_FFFF
        job = _enqueue(row)
        row.job_id = job.id
        row.save(force_insert=True)
        record(actor=actor, verb="generation.requested", target=str(row.id), details={"outputs": row.outputs})
        return row, job


def _from_source(wanted: GenerationSpec, source: Asset | None) -> GenerationSpec:
    if source is None or wanted.prompt.strip():
        return wanted
    return replace(
        wanted, prompt=(source.caption or source.prompt or source.excerpt)[: validation.MAX_PROMPT]
    )


def _require_generators(outputs: Sequence[str]) -> None:
    """A clip shows a picture: it needs the generator of both."""
    needed = {*outputs, "image"} if "video" in outputs else {*outputs}
    if off := [SETTINGS[kind] for kind in KINDS if kind in needed and not settings.GENERATORS[kind]]:
        raise NotReady(
            _("This is turned off in this installation. Its operator has to set %(names)s.")
            % {"names": ", ".join(off)}
        )


def _begins_with_picture(outputs: Sequence[str], source: Asset | None) -> bool:
    """Whether nothing is drawn: a clip of a picture that is there."""
    return "image" not in outputs and source is not None and source.modality == "image"


def _require_known(wanted: GenerationSpec) -> None:
    """Raises NothingKnown where a picture is wanted of words that say nothing to its generator."""
    from ml.generators import understands

    if not {"image", "video"} & {*wanted.outputs} or understands(settings.GENERATORS["image"], wanted.prompt):
        return
    raise NothingKnown(
        _(
            "The generator of pictures knows nothing that these words name. Name things that can be seen, in English "
            "or Chinese, such as “a red apple on a table”; the documentation lists them all."
        ),
        pointer="/prompt",
    )


def _dataset(dataset_id: uuid.UUID | None) -> Dataset:
    """Raises NotFound, and Invalid for one that takes no assets that only say that they were generated."""
    dataset = get_dataset(dataset_id) if dataset_id is not None else _default_dataset()
    metadata.check_metadata({metadata.GENERATED: True}, dataset.metadata_schema, "/dataset")
    return dataset


def _default_dataset() -> Dataset:
    found = Dataset.objects.filter(name=DATASET, deleted_at=None).first()
    if found is not None:
        return found
    try:
        return create_dataset(name=DATASET, description="What was made here from words.")
    except (Conflict, IntegrityError):
        # Another request made it just now.
        return Dataset.objects.get(name=DATASET, deleted_at=None)


def _enqueue(row: Generation) -> Job:
    reserve = {
        "generations": 1,
        "assets": len(row.outputs),
        "bytes": sum(BYTES_ESTIMATE[kind] for kind in row.outputs),
        "cpu_s": sum(CPU_ESTIMATE_S[kind] for kind in row.outputs),
    }
    return jobs.enqueue(kind=JOB, arguments={"generation": str(row.id)}, total=100, reserve=reserve)


def vary_generation(
    *, generation_id: uuid.UUID | None, changes: Mapping[str, Any] | None = None, actor: str = ""
) -> tuple[Generation, Job]:
    """Ask for the same once more, with another seed and whatever `changes` says (fields of Wanted, `dataset_id`,
    `anyway`).

    Raises what `request_generation` does.
    """
    with tenant_scope(current_tenant_id()):
        row, given = get_generation(generation_id), dict(changes or {})
        dataset_id = given.pop("dataset_id", None) or row.dataset_id
        # Words that were drawn once may be drawn again.
        anyway = given.pop("anyway", False) or "prompt" not in given
        kept = {name: getattr(row, name) for name in validation.NAMES} | {"seed": None}
        # What it began with may have been deleted meanwhile.
        remix = row.remix_of_id if Asset.objects.filter(pk=row.remix_of_id).exists() else None
        return request_generation(
            wanted=GenerationSpec(**{**kept, **given}),
            dataset_id=dataset_id,
            variation_of=row.id,
            remix_of=remix,
            anyway=anyway,
            actor=actor,
        )


def cancel(*, generation_id: uuid.UUID | None, actor: str = "") -> tuple[Generation, Job]:
    """Stop it: nothing is kept, and the quota comes back. Raises NotFound, Conflict once it has ended."""
    with tenant_scope(current_tenant_id()):
        row = get_generation(generation_id)
        job = jobs.cancel(job_id=_job_of(row))
        record(actor=actor, verb="generation.cancelled", target=str(row.id))
        return get_generation(row.id), job


def retry(*, generation_id: uuid.UUID | None, actor: str = "") -> tuple[Generation, Job]:
    """Try once more what failed, was cancelled or blocked: the same seed makes the same.

    Raises NotFound, Conflict, QuotaExceeded.
    """
    with tenant_scope(current_tenant_id()):
        row = get_generation(generation_id)
        _require_generators(row.outputs)
        job = jobs.retry(job_id=_job_of(row))
        record(actor=actor, verb="generation.retried", target=str(row.id))
        return get_generation(row.id), job


def _job_of(row: Generation) -> uuid.UUID:
    if row.job_id is None or not Job.objects.filter(pk=row.job_id).exists():
        raise Conflict(_("Its job no longer exists; request it again."))
    return row.job_id


def delete_generation(*, generation_id: uuid.UUID | None, actor: str = "") -> None:
    """Delete the request with its prompt; one under way stops. What was made stays, as assets. Raises NotFound.

    With what was made: `pipeline.care.erasure.erase_generation`.
    """
    with tenant_scope(current_tenant_id()):
        row = get_generation(generation_id)
        stop(row)
        forget(row, actor=actor)


def stop(row: Generation) -> None:
    """See to it that its job adds nothing any more. In the caller's transaction."""
    if Job.objects.filter(jobs.UNFINISHED, pk=row.job_id).exists():
        # It may have ended just now, all at once.
        with suppress(Conflict):
            jobs.cancel(job_id=_job_of(row))


def forget(row: Generation, *, actor: str) -> None:
    """Delete a request that was stopped. In the caller's transaction."""
    Generation.objects.filter(pk=row.pk).delete()
    previews.drop(current_tenant_id(), row.pk)
    record(actor=actor, verb="generation.deleted", target=str(row.pk))
