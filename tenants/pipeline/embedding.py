"""Embedding one asset: decode, encode, store. Safe to run twice and to be killed at any line."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from ml.media import DecodedImage
from tenants.datasets import storage
from tenants.datasets.models import Asset, Blob
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.pipeline.passages import passages
from tenants.retrieval import encoding
from tenants.retrieval.vectors import NewVector, replace_vectors
from tenants.scope import tenant_scope


@dataclass
class Embedded:
    """What encoding gave: vectors, the decoded picture if there was one, and cpu seconds."""

    vectors: list[NewVector] = field(default_factory=list)
    picture: DecodedImage | None = None
    cpu_s: float = 0.0


def embed_asset(claimed: jobs.Claim) -> None:
    """Embed the asset of this job and end the job in the transaction that stores the vectors.

    Raises MediaError for content that cannot be decoded, LeaseLost when another worker took over.
    """
    with tenant_scope(claimed.tenant_id):
        asset = _current(claimed)
        text = _text_of(asset) if asset else ""
    if asset is None:
        _finish_obsolete(claimed)
        return
    embedded = _encode(asset, text)
    with tenant_scope(claimed.tenant_id):
        if jobs.held(claimed).cancel_requested:
            raise jobs.Cancelled
        locked = Asset.objects.select_for_update().filter(pk=asset.pk, revision=asset.revision).first()
        if locked is None:
            _finish_obsolete(claimed, embedded.cpu_s)
            return
        _store(claimed, locked, embedded)


def _current(claimed: jobs.Claim) -> Asset | None:
    """The asset as it was when the job was queued, or None if it was deleted or has changed since."""
    wanted = claimed.arguments
    return (
        Asset.objects.select_related("blob").filter(pk=wanted["asset"], revision=wanted["revision"]).first()
    )


def _text_of(asset: Asset) -> str:
    if asset.modality != Asset.Modality.TEXT:
        return asset.caption
    with storage.open_blob(_path(asset)) as stream:
        return stream.read().decode("utf-8")


def _path(asset: Asset) -> str:
    return storage.path_of(asset.tenant_id, asset.blob.sha256)


def _finish_obsolete(claimed: jobs.Claim, cpu_s: float = 0.0) -> None:
    result = {"asset": claimed.arguments["asset"], "note": "The asset was deleted or changed meanwhile."}
    jobs.succeed(claimed, result=result, cpu_s=cpu_s, gpu_s=0, used={})


def _encode(asset: Asset, text: str) -> Embedded:
    embedded = Embedded()
    if asset.modality == Asset.Modality.IMAGE:
        with _local_file(asset) as path:
            embedded.picture = encoding.decoder().image(path)
        embedded.cpu_s += embedded.picture.cpu_s
        _add(embedded, "image", encoding.embed_image(embedded.picture.pixels))
    for start, end in passages(text):
        segment = {"start_char": start, "end_char": end} if end - start < len(text) else None
        _add(embedded, "text", encoding.embed_text(text[start:end]), segment)
    return embedded


def _add(embedded: Embedded, modality: str, encoded: Any, segment: dict | None = None) -> None:
    vector, cpu_s = encoded
    embedded.vectors.append(NewVector(modality, vector, segment))
    embedded.cpu_s += cpu_s


@contextlib.contextmanager
def _local_file(asset: Asset) -> Iterator[Path]:
    """The blob as a local file: itself in a folder storage, a temporary copy otherwise."""
    with tempfile.NamedTemporaryFile(dir=settings.SPOOL_DIR, prefix="decode-") as copy:
        storage.copy_to(_path(asset), Path(copy.name))
        yield Path(copy.name)


def _store(claimed: jobs.Claim, asset: Asset, embedded: Embedded) -> None:
    if embedded.picture is not None:
        _keep_renditions(asset.blob_id, embedded.picture)
    more = replace_vectors(asset=asset, model=encoding.model_id(), vectors=embedded.vectors)
    Asset.objects.filter(pk=asset.pk).update(status=Asset.State.READY, error=None)
    jobs.succeed(
        claimed,
        result={"asset": str(asset.id), "vectors": len(embedded.vectors)},
        cpu_s=embedded.cpu_s,
        gpu_s=0,
        used={"vectors": more},
    )


def _keep_renditions(blob_id: uuid.UUID, picture: DecodedImage) -> None:
    """Store thumbnail and location-free rendition under the blob's lock, so that the collector sees them."""
    blob = Blob.objects.select_for_update().get(pk=blob_id)
    storage.put(storage.path_of(blob.tenant_id, blob.sha256, "thumbnail"), picture.thumbnail)
    if picture.clean is not None:
        storage.put(storage.path_of(blob.tenant_id, blob.sha256, "clean"), picture.clean)
    Blob.objects.filter(pk=blob_id).update(
        width=picture.width,
        height=picture.height,
        has_thumbnail=True,
        clean_type=(picture.clean_type or "") if picture.clean is not None else "",
    )


def follow(job: Job) -> None:
    """Show on the asset what became of its job: failed, cancelled, or waiting again."""
    status = Asset.State.PENDING if job.state == Job.State.QUEUED else Asset.State.FAILED
    error = (
        None if status == Asset.State.PENDING else job.error or {"type": "cancelled", "detail": "Cancelled."}
    )
    arguments = job.arguments
    Asset.objects.filter(pk=arguments["asset"], revision=arguments["revision"]).update(
        status=status, error=error
    )
