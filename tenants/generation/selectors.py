"""Reading the generations of the active tenant."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from tenants.errors import NotFound
from tenants.generation import shapes
from tenants.generation.models import Generation, GenerationOutput


def list_generations(
    *, state: str = "", variation_of: uuid.UUID | None = None, remix_of: uuid.UUID | None = None
) -> QuerySet[Generation]:
    """The newest first."""
    rows = Generation.objects.select_related("dataset").order_by("-id")
    rows = rows.filter(state=state) if state else rows
    rows = rows.filter(variation_of=variation_of) if variation_of else rows
    return rows.filter(remix_of_id=remix_of) if remix_of else rows


def get_generation(generation_id: uuid.UUID | None) -> Generation:
    """Raises NotFound."""
    rows = Generation.objects.select_related("dataset")
    row = rows.filter(pk=generation_id).first()  # None matches no row
    if row is None:
        raise NotFound(_("This generation does not exist."))
    return row


def outputs_of(generations: Iterable[Generation]) -> dict[uuid.UUID, list[GenerationOutput]]:
    """What each made, with asset and blob: one statement for a page of them."""
    found: dict[uuid.UUID, list[GenerationOutput]] = defaultdict(list)
    rows = GenerationOutput.objects.filter(generation__in=[row.pk for row in generations])
    for row in rows.select_related("asset__blob").order_by("id"):
        found[row.generation_id].append(row)
    return found


def marked(mark: int, *, bits: int = 32) -> QuerySet[Generation]:
    """Those whose outputs carry this mark, of which `bits` were read; sound has room for 16."""
    if bits >= 32:
        return Generation.objects.filter(mark=mark)
    return Generation.objects.extra(where=["mark %% %s = %s"], params=[1 << bits, mark])


def made_by_mark(watermark: Mapping[str, object]) -> uuid.UUID | None:
    """The generation that an audit's watermark names, if it is the active tenant's and its only one.

    Sixteen bits, as sound has them, are shared by one in 65,536: two that fit are none.
    """
    payload = str(watermark.get("payload", "")) if watermark.get("state") == "present" else ""
    if not payload:
        return None
    found = list(marked(int(payload, 16), bits=4 * len(payload)).values_list("pk", flat=True)[:2])
    return found[0] if len(found) == 1 else None


def generation_shape(row: Generation, outputs: Iterable[GenerationOutput]) -> shapes.GenerationShape:
    """A generation in the shape of the API."""
    return shapes.GenerationShape(
        id=str(row.id),
        state=row.state,
        prompt=row.prompt,
        negative=row.negative,
        outputs=row.outputs,
        seed=row.seed,
        steps=row.steps,
        guidance=row.guidance,
        width=row.width,
        height=row.height,
        seconds=row.seconds,
        candidates=row.candidates,
        dataset=str(row.dataset_id),
        score=row.score,
        models=row.made_by,
        results=[output_shape(output) for output in outputs],
        variation_of=_text(row.variation_of_id),
        remix_of=_text(row.remix_of_id),
        prompt_audit=_text(row.prompt_audit_id),
        job=_text(row.job_id),
        error=row.error,
        created_by=row.created_by,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def output_shape(output: GenerationOutput) -> shapes.GenerationResult:
    return shapes.GenerationResult(
        kind=output.kind,
        asset=_text(output.asset_id),
        score=output.score,
        scores=output.scores,
        how=output.how,
        model=output.model,
        provenance=output.provenance,
        audit=_text(output.audit_id),
        decision=output.decision or None,
        moderation=(output.asset.moderation or None) if output.asset else None,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
