"""Erasing a person's data: every asset that carries what names them, by a job, with a receipt."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, cast

from django.db.models import Count, F, Q, QuerySet, Sum
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.accounts import installation_secrets
from tenants.datasets import holds
from tenants.datasets.metadata import check_json
from tenants.datasets.models import Asset
from tenants.datasets.selectors import require_dataset
from tenants.errors import Held, Invalid
from tenants.events.models import Erasure
from tenants.events.services import record
from tenants.generation.models import Generation
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.moderation.reviews import effects
from tenants.pipeline.care import shapes
from tenants.pipeline.care.erasure import (
    BATCH,
    add_to_receipt,
    clear_derived,
    erase_batch,
    finish,
    locked,
    locked_receipt,
)
from tenants.pipeline.care.erasure_receipts import added, remains
from tenants.pipeline.transfer.exports import withdraw_exports
from tenants.scope import current_tenant_id, tenant_scope

MAX_KEYS = 20
MAX_IDS = 1000
# What comes in while a person's data is erased is erased too; somebody who keeps sending it is not waited for.
MAX_ROUNDS = 5
REST_S = 300.0


def check_criteria(
    *, values: Any = None, external_ids: Any = None, dataset_id: uuid.UUID | None = None
) -> dict[str, Any]:
    """What is asked for, checked. Raises Invalid, NotFound.

    `values` maps metadata keys to a value, or `{"in": [values]}`; all must fit. Ranges are refused: a person is named,
    not approximated. Assets with one of the `external_ids` come in addition.
    """
    wanted = _checked_values(values or {})
    ids = _checked_ids(external_ids or [])
    if not wanted and not ids:
        raise Invalid(_("Say whose data: a filter, external_ids, or both."), pointer="/filter")
    if dataset_id is not None:
        require_dataset(dataset_id)
    return {"filter": wanted, "external_ids": ids, "dataset": str(dataset_id) if dataset_id else None}


def _checked_values(values: Any) -> dict[str, list[Any]]:
    if not isinstance(values, dict) or len(values) > MAX_KEYS:
        raise Invalid(
            _("A filter is an object of at most %(keys)s keys.") % {"keys": MAX_KEYS}, pointer="/filter"
        )
    check_json(values, "/filter")
    return {key: _alternatives(given, f"/filter/{key}") for key, given in values.items()}


def _alternatives(given: Any, pointer: str) -> list[Any]:
    options = given
    if isinstance(given, dict):
        if list(given) not in (["in"], ["eq"]):
            raise Invalid(_("Name a value, or a list of them under `in`."), pointer=pointer)
        options = next(iter(given.values()))
    options = options if isinstance(options, list) else [options]
    if not 1 <= len(options) <= MAX_IDS or any(
        not isinstance(o, str | int | float) or o == "" for o in options
    ):
        raise Invalid(
            _("Name 1 to %(ids)s texts, numbers, true or false.") % {"ids": MAX_IDS}, pointer=pointer
        )
    return options


def _checked_ids(ids: Any) -> list[str]:
    if not isinstance(ids, list) or len(ids) > MAX_IDS or any(not isinstance(i, str) or not i for i in ids):
        raise Invalid(
            _("external_ids is a list of at most %(ids)s texts.") % {"ids": MAX_IDS}, pointer="/external_ids"
        )
    check_json(ids, "/external_ids")
    return ids


def matching(criteria: Mapping[str, Any]) -> QuerySet[Asset]:
    """The assets that are meant: also those of datasets that are being deleted, and what was generated from them.

    On the metadata itself, not on the facets: those keep only the first hundred values of a list.
    """
    named = Q(external_id__in=criteria["external_ids"])
    if criteria["filter"]:
        fits = Q()
        for key, options in criteria["filter"].items():
            fits &= _has_one(key, options)
        named |= fits
    remixes = Generation.objects.filter(remix_of_id__in=Asset.objects.filter(named).values("pk"))
    assets = Asset.objects.filter(named | Q(generation_id__in=remixes.values("pk")))
    return assets.filter(dataset_id=criteria["dataset"]) if criteria["dataset"] else assets


def _has_one(key: str, options: Sequence[Any]) -> Q:
    found = Q(pk=None)
    for value in (spelt for option in options for spelt in _spellings(option)):
        found |= Q(metadata__contains={key: value}) | Q(metadata__contains={key: [value]})
    return found


def _spellings(value: Any) -> list[Any]:
    """42 and "42" are the same customer, whoever typed which."""
    if isinstance(value, bool):
        return [value]
    if isinstance(value, str):
        return [value, int(value)] if value.isascii() and value.isdigit() and len(value) < 19 else [value]
    return [value, str(int(value) if value == int(value) else value)]


def preview_subject(criteria: Mapping[str, Any]) -> shapes.ErasurePreview:
    """How much `erase_subject` would erase, by dataset."""
    by_dataset = (
        matching(criteria)
        .values("dataset_id", "dataset__name")
        .annotate(assets=Count("id"), bytes=Sum("blob__bytes"))
        .order_by("dataset_id")
    )
    datasets = [
        shapes.DatasetShare(
            id=str(d["dataset_id"]), name=d["dataset__name"], assets=d["assets"], bytes=d["bytes"]
        )
        for d in by_dataset
    ]
    return shapes.ErasurePreview(
        matched=sum(share.assets for share in datasets),
        bytes=sum(share.bytes for share in datasets),
        datasets=datasets,
    )


def request_erasure(*, criteria: Mapping[str, Any], actor: str = "") -> tuple[Erasure, Job]:
    """Queue the erasure of all that `check_criteria` described. Raises Held if any of it is under a legal hold."""
    with tenant_scope(current_tenant_id()):
        wanted = matching(criteria)
        holds.refuse_held(list(wanted.order_by().values_list("dataset_id", flat=True).distinct()))
        matched = wanted.count()
        erasure = Erasure(
            kind=Erasure.Kind.SUBJECT, requested_by=actor, matched=matched, criteria=dict(criteria)
        )
        erasure.subject_hash = subject_hash(erasure.id, criteria)
        record(actor=actor, verb="erasure.requested", target=str(erasure.id), details={"matched": matched})
        job = _queue(erasure)
    return erasure, job


def subject_hash(erasure_id: uuid.UUID, criteria: Mapping[str, Any]) -> str:
    """Shows whose data a receipt is about to the one who knows; keyed and salted, so that it cannot be guessed."""
    asked = json.dumps(criteria, sort_keys=True)
    lasting = installation_secrets.lasting_secret()
    return salted_hmac(f"erasure:{erasure_id}", asked, secret=lasting, algorithm="sha256").hexdigest()


def _queue(erasure: Erasure) -> Job:
    job = jobs.enqueue(
        kind="erase_subject",
        arguments={"erasure": str(erasure.id)},
        total=max(erasure.matched, 1),
        reserve={},
    )
    erasure.job_id = job.id
    erasure.save()
    return job


def resume_erasures() -> int:
    """Queue the active tenant's erasures of a person's data again on which no job works any more."""
    busy = Job.objects.filter(jobs.UNFINISHED, kind="erase_subject").values_list("id", flat=True)
    left = Erasure.objects.filter(kind=Erasure.Kind.SUBJECT, finished_at=None).exclude(job_id__in=list(busy))
    return len([_queue(erasure) for erasure in left])


@job(
    "erase_subject",
    queue="default",
    label=gettext_lazy("Erase a person's data"),
    cancellable=False,
    while_suspended=True,
)
def erase_subject(claimed: jobs.Claim) -> None:
    """Erase what the erasure of this job asks for. A killed attempt is taken up where it stopped."""
    start, erasure_id = time.thread_time(), uuid.UUID(claimed.arguments["erasure"])
    for _round in range(MAX_ROUNDS):
        try:
            while _erase_next(claimed, erasure_id):
                pass
        except Held:
            # Set since it was asked for: what is left waits for its release.
            break
        late = _clear_all(claimed.tenant_id)
        with tenant_scope(claimed.tenant_id):
            erasure = locked_receipt(claimed, erasure_id)
            if not matching(_asked(erasure)).exists():
                erasure.remains = remains(erasure.remains.get("shared_blobs", 0))
                finish(claimed, erasure, late, cpu_s=time.thread_time() - start)
                return
            erasure.removed = added(erasure.removed, late)
            erasure.save(update_fields=["removed"])
    # More came in all the time, or is held. It has not been done until the receipt says so.
    jobs.spend(claimed, cpu_s=time.thread_time() - start)
    jobs.give_turn(claimed, delay_s=REST_S)


def _clear_all(tenant_id: uuid.UUID) -> dict[str, int]:
    """The places that are not rows of an asset, and every export: somebody could still download it."""
    late = clear_derived(tenant_id)
    with tenant_scope(tenant_id):
        exports = withdraw_exports()
    return {**late, "exports": exports} if exports else late


def _asked(erasure: Erasure) -> Mapping[str, Any]:
    """What a receipt that is not signed yet was asked for."""
    return cast("Mapping[str, Any]", erasure.criteria)


def _erase_next(claimed: jobs.Claim, erasure_id: uuid.UUID) -> bool:
    """Erase and count one batch; False if there was nothing left."""
    with tenant_scope(claimed.tenant_id):
        erasure = locked_receipt(claimed, erasure_id)
        wanted = matching(_asked(erasure))
        # What was made from others first, while the others tell that it was. Then equal files together, so that the
        # last of them takes the file away.
        ids = list(
            wanted.order_by(F("generation_id").asc(nulls_last=True), "blob_id", "id").values_list(
                "pk", flat=True
            )[:BATCH]
        )
        if assets := locked(Asset.objects.filter(pk__in=ids)):
            # A strike names who sent the item; of a single asset that is deleted it stays.
            forgotten = effects.erase_strikes_about([asset.id for asset in assets])
            removed, shared = erase_batch(assets, wanted)
            removed["rows"] |= {"strike": forgotten} if forgotten else {}
            add_to_receipt(erasure, removed, shared)
        done = erasure.removed.get("assets", 0)
    jobs.progress(claimed, renew=True, done=done, total=max(erasure.matched, done, 1))
    return bool(ids)
