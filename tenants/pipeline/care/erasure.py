"""Erasing assets with a receipt: one, a batch, all that a generation made, a whole dataset. In small transactions, safe
to repeat.

A person's data is in `subjects`, a tenant in `tenant_erasure`; docs/care-of-data.md tells what is promised.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from django.apps import apps
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.datasets import holds
from tenants.datasets.models import Asset, Blob, Dataset, ImportRow
from tenants.datasets.services import collect_blobs
from tenants.errors import Held, NotFound
from tenants.events.models import Erasure
from tenants.events.services import record
from tenants.generation import selectors as generations
from tenants.generation import services as generating
from tenants.generation.models import Generation
from tenants.jobs import job_log
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.pipeline.assets.services import erase_rows, erase_some
from tenants.pipeline.care import erasure_receipts as receipts
from tenants.retrieval.models import Tombstone
from tenants.scope import TenantModel, current_tenant_id, tenant_scope
from tenants.valkey import Unavailable, client, tenant_key

BATCH = 100
# How long a job that meets a legal hold waits before it looks again.
HELD_S = 300.0


# --- One asset -------------------------------------------------------------------------------------------


def erase_asset(*, asset_id: uuid.UUID, actor: str = "") -> Erasure:
    """Delete an asset with all that hangs on it; returns its receipt, which upkeep signs. Raises NotFound, Held.

    Once this returns no search shows the asset again: the row that hydration needs is gone.
    """
    with tenant_scope(current_tenant_id()):
        assets = locked(Asset.objects.filter(pk=asset_id, dataset__deleted_at=None))
        if not assets:
            raise NotFound(_("This asset does not exist."))
        return _erase_one(assets[0], actor)


def _erase_one(asset: Asset, actor: str) -> Erasure:
    """A locked asset, in the caller's transaction."""
    removed, shared = erase_batch([asset])
    record(actor=actor, verb="asset.deleted", target=str(asset.id))
    return Erasure.objects.create(
        kind=Erasure.Kind.ASSET,
        target=asset.id,
        requested_by=actor,
        matched=1,
        removed=removed,
        remains=receipts.remains(shared),
    )


def locked(assets: QuerySet[Asset]) -> list[Asset]:
    """The assets with their blobs, locked in the order of their ids."""
    return list(assets.select_related("blob").select_for_update(of=("self",)).order_by("id"))


def erase_batch(assets: Sequence[Asset], more: QuerySet[Asset] | None = None) -> tuple[dict[str, Any], int]:
    """Erase locked assets in the caller's transaction: what was removed, and how many of their files stay.

    `more` is what will be erased next: files that only those share do not count as staying.
    """
    ids, blob_ids = [asset.id for asset in assets], {asset.blob_id for asset in assets}
    rows = {m._meta.db_table: n for m in holders() if (n := m.objects.filter(asset_id__in=ids).count())}
    erase_rows(list(assets))
    for model in holders():
        model.objects.filter(asset_id__in=ids).delete()
    if begun := _forget_generations(remix_of_id__in=ids):
        # What was asked to be made from it quotes it; what was made stays.
        rows["generation"] = begun
    if lines := ImportRow.objects.filter(asset_id__in=ids).update(
        asset_id=None, name="", reason="Erased.", record=None
    ):
        rows["import_row"] = lines
    kept = set(Blob.objects.filter(pk__in=blob_ids, references__gt=0).values_list("pk", flat=True))
    gone = {a.blob_id: a.blob for a in assets if a.blob_id not in kept}
    if more is not None and kept:
        kept -= set(more.filter(blob_id__in=kept).values_list("blob_id", flat=True))
    return {"assets": len(ids), "rows": {"asset": len(ids), **rows}, **_files(list(gone.values()))}, len(kept)


def _forget_generations(**which: object) -> int:
    return Generation.objects.filter(**which).delete()[1].get(Generation._meta.label, 0)


@cache
def holders() -> tuple[type[TenantModel], ...]:
    """Every table whose rows belong to an asset, also those that are added later.

    Not the tombstones, which hold an id so that searches forget it, and not the lines of import receipts, which stay
    without what they named.
    """
    models = [m for m in apps.get_models() if issubclass(m, TenantModel) and m not in (Tombstone, ImportRow)]
    return tuple(m for m in models if any(f.attname == "asset_id" for f in m._meta.local_fields))


def _files(blobs: Sequence[Blob]) -> dict[str, object]:
    files = {
        "original": len(blobs),
        "clean": sum(bool(blob.clean_type) for blob in blobs),
        "thumbnail": sum(blob.has_thumbnail for blob in blobs),
    }
    # What was read of documents, where there were some.
    if parsed := sum(blob.document is not None for blob in blobs):
        files["parsed"] = parsed
    return {"files": files, "bytes": sum(blob.bytes for blob in blobs)}


# --- A generation with what it made ----------------------------------------------------------------------


def erase_generation(*, generation_id: uuid.UUID | None, actor: str = "") -> list[Erasure]:
    """Delete a request and every asset that it made, all or nothing; a receipt for each asset. Raises NotFound, Held.

    Each asset goes as by `erase_asset`, whatever the policy decided about it.
    """
    with tenant_scope(current_tenant_id()):
        row = generations.get_generation(generation_id)
        holds.refuse_held([row.dataset_id])
        # First, so that none is born behind our back. While its job goes on there is none.
        generating.stop(row)
        made = locked(Asset.objects.filter(generation_id=row.pk, dataset__deleted_at=None))
        # Every file before the clock and the quota that the first asset takes, in the order of everybody else.
        files = Blob.objects.select_for_update().filter(pk__in={asset.blob_id for asset in made})
        list(files.order_by("pk").values_list("pk"))
        erased = [_erase_one(asset, actor) for asset in made]
        generating.forget(row, actor=actor)
        return erased


# --- The end of a job that erases ------------------------------------------------------------------------


def locked_receipt(claimed: jobs.Claim, erasure_id: uuid.UUID) -> Erasure:
    """The receipt that this job writes, locked after the job itself. Raises LeaseLost."""
    jobs.held(claimed)
    return Erasure.objects.select_for_update().get(pk=erasure_id)


def add_to_receipt(erasure: Erasure, removed: Mapping[str, Any], shared: int) -> None:
    """Add a batch to a receipt, in the transaction that erased it: counted once, however often it is killed."""
    erasure.removed = receipts.added(erasure.removed, removed)
    erasure.remains = receipts.remains(erasure.remains.get("shared_blobs", 0) + shared)
    erasure.save(update_fields=["removed", "remains"])


def clear_derived(tenant_id: uuid.UUID) -> dict[str, int]:
    """Clear the places that are not rows of an asset; returns how much was removed from each."""
    with tenant_scope(tenant_id):
        collect_blobs()
    scrubbed, found = 0, -1
    while found:
        with tenant_scope(tenant_id):
            found = receipts.scrub_jobs().total()
        scrubbed += found
    with tenant_scope(tenant_id):
        answers = receipts.forget_answers().total()
    return {"jobs": scrubbed, "answers": answers, "search_pages": forget_pages(tenant_id)}


def forget_pages(tenant_id: uuid.UUID) -> int:
    """Drop the rankings behind the cursors of a tenant's searches; with Valkey away they expire by themselves."""
    try:
        return sum(
            client().delete(key) for key in client().scan_iter(tenant_key(tenant_id, "search", "*"), 1000)
        )
    except Unavailable:
        return 0


def finish(claimed: jobs.Claim, erasure: Erasure, late: Mapping[str, int], *, cpu_s: float) -> None:
    """Sign a held receipt and end its job, in the caller's transaction."""
    if not erasure.removed:
        erasure.removed, erasure.remains = {"assets": 0}, receipts.remains()
    receipts.sign(erasure, late, verified=receipts.nothing_left())
    done = {"assets": erasure.removed["assets"], "verified": erasure.verified}
    record(actor=erasure.requested_by, verb="erasure.finished", target=str(erasure.id), details=done)
    result = {"erasure": str(erasure.id), **done}
    if erasure.target:
        result[erasure.kind] = str(erasure.target)
    jobs.succeed(claimed, result=result, cpu_s=cpu_s, gpu_s=0, used={})


# --- A dataset -------------------------------------------------------------------------------------------


@job(
    "delete_dataset",
    queue="default",
    label=gettext_lazy("Delete a dataset"),
    cancellable=False,
    while_suspended=True,
)
def erase_dataset(claimed: jobs.Claim) -> None:
    """Erase the dataset of this job. A killed attempt is taken up where it stopped."""
    dataset_id, start = uuid.UUID(claimed.arguments["dataset"]), time.thread_time()
    erasure_id = _receipt_of(claimed, dataset_id)
    left = -1
    while left:
        try:
            with tenant_scope(claimed.tenant_id):
                # Counted when the deletion was asked for: a dataset takes no more assets since.
                total = jobs.held(claimed).progress_total
                left = _erase_some(locked_receipt(claimed, erasure_id), dataset_id)
        except Held:
            # Set since it was asked for: what is left waits for its release.
            jobs.spend(claimed, cpu_s=time.thread_time() - start)
            jobs.give_turn(claimed, delay_s=HELD_S)
            return
        jobs.progress(claimed, renew=True, done=max(0, total - left), total=total)
    job_log.write(claimed, "Its assets are gone; clearing what else named them.")
    late = clear_derived(claimed.tenant_id)
    with tenant_scope(claimed.tenant_id):
        cpu_s = time.thread_time() - start
        finish(claimed, locked_receipt(claimed, erasure_id), late, cpu_s=cpu_s)


def _receipt_of(claimed: jobs.Claim, dataset_id: uuid.UUID) -> uuid.UUID:
    with tenant_scope(claimed.tenant_id):
        matched = jobs.held(claimed).progress_total
        wanted = {"kind": Erasure.Kind.DATASET, "target": dataset_id, "finished_at": None}
        erasure = Erasure.objects.filter(**wanted).first() or Erasure(**wanted, matched=matched)
        erasure.job_id = claimed.job_id
        erasure.save()
        return erasure.id


def _erase_some(erasure: Erasure, dataset_id: uuid.UUID) -> int:
    """Erase and count one batch in the caller's transaction; returns how many assets are left."""
    list(Dataset.objects.select_for_update().filter(pk=dataset_id).values_list("pk"))
    mine = Asset.objects.filter(dataset_id=dataset_id)
    # Equal files together, so that the last of them takes the file away.
    ids = list(mine.order_by("blob_id", "id").values_list("pk", flat=True)[:BATCH])
    if assets := locked(mine.filter(pk__in=ids)):
        add_to_receipt(erasure, *erase_batch(assets, mine))
    if not mine.exists() and (asked := _forget_generations(dataset_id=dataset_id)):
        # What was asked to be made for it, prompts and all.
        add_to_receipt(erasure, {"rows": {"generation": asked}}, 0)
    # The dataset itself goes with its last asset.
    return erase_some(dataset_id=dataset_id, count=0)
