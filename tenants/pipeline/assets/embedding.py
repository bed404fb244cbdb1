"""Embedding one asset: prepare, store. Safe to run twice and to be killed at any line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from django.conf import settings
from django.utils.translation import gettext, gettext_lazy

from ml.media import MediaError
from tenants.datasets import documents, event_payloads, storage
from tenants.datasets.models import Asset, Blob, Dataset, TranscriptSegment
from tenants.errors import Unavailable
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.learning.classifiers.scoring import score_assets
from tenants.pipeline.assets.prepared import Prepared, Source
from tenants.pipeline.assets.preparing import prepare
from tenants.pipeline.assets.uploads import EXCERPT, MODALITIES
from tenants.pipeline.audits import audit_requests
from tenants.retrieval import model_routing, query, standing
from tenants.retrieval.index import ModelSwitched, replace_vectors
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

MEDIA = (Asset.Modality.AUDIO, Asset.Modality.VIDEO)
# How often an asset is embedded again in one attempt because its tenant switched to another model meanwhile.
SWITCHES = 4


def _on_end(job: Job) -> None:
    """Show on the asset what became of its job: failed, cancelled, or waiting again."""
    status = Asset.State.PENDING if job.state == Job.State.QUEUED else Asset.State.FAILED
    error = (
        None if status == Asset.State.PENDING else job.error or {"type": "cancelled", "detail": "Cancelled."}
    )
    arguments = job.arguments
    found = Asset.objects.filter(pk=arguments["asset"], revision=arguments["revision"])
    found.update(status=status, error=error)
    if status == Asset.State.FAILED and (asset := found.first()):
        event_payloads.failed(asset, error)


@job("embed_asset", queue="embed", label=gettext_lazy("Embed an asset"), on_end=_on_end, names_asset=True)
# Sound, film and long documents take minutes: a queue of their own keeps them from holding up pictures and texts.
@job(
    "embed_media", queue="media", label=gettext_lazy("Embed sound or film"), on_end=_on_end, names_asset=True
)
@job("embed_document", queue="media", label=gettext_lazy("Read a document"), on_end=_on_end, names_asset=True)
def embed_asset(claimed: jobs.Claim) -> None:
    """Embed the asset of this job and end the job in the transaction that stores the vectors.

    Raises MediaError for content that cannot be decoded, LeaseLost when another worker took over.
    """
    try:
        with tenant_scope(claimed.tenant_id):
            asset = _current(claimed)
            text = text_of(asset) if asset else ""
        if asset is None:
            _finish_obsolete(claimed)
        else:
            _embed(claimed, asset, text)
    except (MediaError, FileNotFoundError):
        with tenant_scope(claimed.tenant_id):
            if _current(claimed) is not None:
                raise
            # The file went with its asset while it was read: the content is not at fault.
            _finish_obsolete(claimed)


def _embed(claimed: jobs.Claim, asset: Asset, text: str) -> None:
    for _ in range(SWITCHES):
        try:
            _embed_once(claimed, asset, text)
            return
        except ModelSwitched:
            log.info("another model answers now; the asset is embedded again", extra={"asset": str(asset.id)})
    raise Unavailable(gettext("The models of this workspace are changing."))


def _embed_once(claimed: jobs.Claim, asset: Asset, text: str) -> None:
    with source_of(asset, text) as source:
        prepared = Prepared(model_routing.opened_spaces(claimed.tenant_id))
        try:
            prepare(source, prepared, partial(_report, claimed))
        except (MediaError, jobs.Cancelled):
            # Work for a file that is no good, or not wanted any more, was work.
            jobs.spend(claimed, cpu_s=prepared.cpu_s)
            raise
        try:
            _store_if_current(claimed, asset, source, prepared)
        except ModelSwitched:
            jobs.spend(claimed, cpu_s=prepared.cpu_s)
            raise


def _store_if_current(claimed: jobs.Claim, asset: Asset, source: Source, prepared: Prepared) -> None:
    with tenant_scope(claimed.tenant_id):
        if jobs.held(claimed).cancel_requested:
            raise jobs.Cancelled
        locked = Asset.objects.select_for_update().filter(pk=asset.pk, revision=asset.revision).first()
        if locked is None:
            _finish_obsolete(claimed, prepared.cpu_s)
        else:
            _store(claimed, locked, source, prepared)


def _current(claimed: jobs.Claim) -> Asset | None:
    """The asset as it was when the job was queued, or None if it was deleted or has changed since."""
    wanted = claimed.arguments
    return (
        Asset.objects.select_related("blob").filter(pk=wanted["asset"], revision=wanted["revision"]).first()
    )


def text_of(asset: Asset) -> str:
    """Of a text what it says; empty of a document, which has yet to be read, and of anything else."""
    if not is_plain_text(asset):
        return ""
    with storage.open_blob(_path(asset)) as stream:
        return stream.read().decode("utf-8")


def is_plain_text(asset: Asset) -> bool:
    return asset.modality == Asset.Modality.TEXT and not documents.is_document(asset.blob.media_type)


def _path(asset: Asset) -> str:
    return storage.path_of(asset.tenant_id, asset.blob.sha256)


def _report(claimed: jobs.Claim, done_s: float, total_s: float) -> None:
    """Progress in seconds of the recording; raises Cancelled when someone asked to stop."""
    jobs.progress(claimed, done=int(done_s), total=max(1, int(total_s)))


def _finish_obsolete(claimed: jobs.Claim, cpu_s: float = 0.0) -> None:
    result = {"asset": claimed.arguments["asset"], "note": "The asset was deleted or changed meanwhile."}
    jobs.succeed(claimed, result=result, cpu_s=cpu_s, gpu_s=0, used={})


@contextlib.contextmanager
def source_of(asset: Asset, text: str) -> Iterator[Source]:
    """What `prepare` needs: texts have been read, everything else is a local file beside a folder to write in."""
    if is_plain_text(asset):
        yield Source(asset.modality, text=text)
        return
    read = asset.blob.document is not None
    document = documents.stored(asset.tenant_id, asset.blob.sha256) if read else None
    with TemporaryDirectory(dir=settings.SPOOL_DIR, prefix="embed-") as folder:
        place = Path(folder)
        with storage.local(_path(asset), place) as path:
            yield Source(
                asset.modality,
                captions=tuple(asset.captions),
                path=path,
                folder=place,
                media_type=asset.blob.media_type,
                document=document,
            )


def _store(claimed: jobs.Claim, asset: Asset, source: Source, prepared: Prepared) -> None:
    more = make_ready(asset, source.text, prepared)
    # Erased with the asset, as the id is (`erasure_receipts.scrub_jobs`).
    named = {"filename": asset.filename} if asset.filename else {}
    jobs.succeed(
        claimed,
        result={"asset": str(asset.id), "vectors": prepared.parts, **named},
        cpu_s=prepared.cpu_s,
        gpu_s=0,
        used={"vectors": more},
    )


def make_ready(asset: Asset, text: str, prepared: Prepared) -> int:
    """Store what was prepared of an asset, which can then be served and found; returns by how many vectors of the live
    model it grew, for the quota. In the caller's transaction, which has locked the asset or made it.

    `text` is the content of a text. Raises ModelSwitched.
    """
    keep_findings(asset, prepared)
    asset.modality = modality_of(asset.modality, prepared)
    is_read = asset.modality in MEDIA or prepared.document is not None
    changes = {"excerpt": prepared.words[:EXCERPT]} if is_read else {}
    TranscriptSegment.objects.filter(asset=asset).delete()
    TranscriptSegment.objects.bulk_create(transcript_rows(asset, prepared), batch_size=500)
    schema = Dataset.objects.values_list("metadata_schema", flat=True).get(pk=asset.dataset_id)
    query.index_texts([lexical_entry(asset, schema, text, prepared)])
    more = replace_vectors(asset=asset, vectors=prepared.vectors, made_for=list(prepared.spaces))
    Asset.objects.filter(pk=asset.pk).update(
        status=Asset.State.READY, error=None, modality=asset.modality, **changes
    )
    if score_assets([asset]):
        audit_requests.audit_scored(asset)
    event_payloads.ready(asset)
    standing.note_arrivals([asset.id])
    return more


def keep_findings(asset: Asset, prepared: Prepared) -> None:
    """Store renditions and findings of the asset's file, so that it can be served."""
    if asset.modality == Asset.Modality.TEXT and prepared.document is None:
        return
    blob = Blob.objects.select_for_update().get(pk=asset.blob_id)
    keep_renditions(blob, prepared)
    Blob.objects.filter(pk=blob.pk).update(**findings(prepared))


def keep_renditions(blob: Blob, prepared: Prepared) -> None:
    """Store thumbnail and location-free rendition. The caller holds the blob's lock, so the collector sees them."""
    if prepared.thumbnail is not None:
        storage.put(storage.path_of(blob.tenant_id, blob.sha256, "thumbnail"), prepared.thumbnail)
    if prepared.clean is not None:
        storage.put(storage.path_of(blob.tenant_id, blob.sha256, "clean"), prepared.clean)
    if prepared.document is not None:
        for kind, content in documents.as_stored(prepared.document).items():
            storage.put(storage.path_of(blob.tenant_id, blob.sha256, kind), content)


def modality_of(assumed: str, prepared: Prepared) -> str:
    """What the asset is, now that it was decoded: a film without picture is a recording."""
    return MODALITIES.get(prepared.media_type, assumed)


def findings(prepared: Prepared) -> dict[str, object]:
    """The blob's columns that preparing fills."""
    refined = {"media_type": prepared.media_type} if prepared.media_type else {}
    return refined | {
        "width": prepared.width,
        "height": prepared.height,
        "has_thumbnail": prepared.thumbnail is not None,
        "clean_type": prepared.clean_type if prepared.clean is not None else "",
        "details": prepared.details,
        "document": documents.summary(prepared.document, prepared.passages_cut)
        if prepared.document
        else None,
    }


def transcript_rows(asset: Asset, prepared: Prepared) -> list[TranscriptSegment]:
    return [
        TranscriptSegment(
            asset=asset,
            start_s=utterance.start_s,
            end_s=utterance.end_s,
            text=utterance.text,
            confidence=utterance.confidence,
        )
        for utterance in prepared.transcript
    ]


def lexical_entry(asset: Asset, schema: dict[str, object], text: str, prepared: Prepared) -> query.Entry:
    """What the asset is found by in words: its text, or its captions and what is said in it; and its name."""
    return query.entry_of(asset, schema, [text] if text else [*asset.captions, prepared.words])
