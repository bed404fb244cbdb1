"""What an erasure removed, where, and what remains: the receipt, from its first count to its last look.

A receipt outlives what it is about. It holds numbers and random ids, never content, names or metadata.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet, UUIDField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.datasets.models import Asset, Blob, Import
from tenants.errors import NotFound
from tenants.events.models import Erasure, Export, IdempotentAnswer
from tenants.jobs import kinds
from tenants.jobs.models import Job, JobNote
from tenants.jobs.services import UNFINISHED
from tenants.pipeline.care import shapes
from tenants.retrieval import index
from tenants.retrieval.index import KEEP_TOMBSTONES
from tenants.retrieval.models import IndexPointer

# Stands in the records of finished jobs where the id of an erased asset stood: such a job can still be shown, and
# even retried, and finds nothing.
NOBODY = str(uuid.UUID(int=0))
SCRUBBED = {"asset": NOBODY, "note": "What this job worked on was erased."}
CHUNK = 1000
# Receipts that no job finishes: written with the deletion itself.
AT_ONCE = (Erasure.Kind.ASSET, Erasure.Kind.RETENTION)


def added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The sum of two nested counts."""
    total = dict(one)
    for key, value in other.items():
        nested = isinstance(value, Mapping)
        total[key] = added(total.get(key, {}), value) if nested else total.get(key, 0) + value
    return total


def remains(shared_blobs: int = 0) -> dict[str, object]:
    """What stays after an erasure and until when; None means for as long as the workspace exists."""
    now = timezone.now()
    backups = now + dt.timedelta(days=settings.BACKUP_KEEP_DAYS)
    places = [
        ("backups", "what they held when they were made", backups.date().isoformat()),
        ("audit log", "random ids and what was done, no content", None),
        (
            "tombstones",
            "random ids, so that running searches forget them",
            (now + KEEP_TOMBSTONES).isoformat(),
        ),
        ("pages of searches", "random ids and scores", (now + dt.timedelta(minutes=5)).isoformat()),
        ("logs of the processes", "random ids, no content", "their rotation"),
    ]
    if IndexPointer.objects.filter(current__isnull=False).exists():
        what = "vectors and values of metadata by random id, which no search shows"
        places.append(("indexes", what, (now + index.FORGET_WITHIN).isoformat()))
    if shared_blobs:
        places.append(("files", f"{shared_blobs} that other assets have too", None))
    if exports := list(live_exports().values_list("expires_at", flat=True)):
        unready = now + dt.timedelta(days=settings.EXPORT_KEEP_DAYS)
        until = max(expires_at or unready for expires_at in exports)
        places.append(("exports", f"{len(exports)} files made before; they may hold it", until.isoformat()))
    if waiting := _unread_imports():
        places.append(("imports", f"{waiting} files not read to their end; they may hold it too", None))
    listed = [{"where": where, "what": what, "until": until} for where, what, until in places]
    return {"shared_blobs": shared_blobs, "places": listed}


def live_exports() -> QuerySet[Export]:
    """Those that can be downloaded, or are being made."""
    return Export.objects.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()))


def _unread_imports() -> int:
    busy = Job.objects.filter(UNFINISHED, kind="import_assets").values("id")
    return Import.objects.filter(Q(job_id=None) | Q(job_id__in=busy)).count()


def get_erasure(erasure_id: uuid.UUID | None) -> Erasure:
    erasure = Erasure.objects.filter(pk=erasure_id).first()  # None matches no row
    if erasure is None:
        raise NotFound(_("This receipt does not exist."))
    return erasure


def list_erasures(*, target: uuid.UUID | None = None) -> QuerySet[Erasure]:
    rows = Erasure.objects.order_by("-id")
    return rows if target is None else rows.filter(target=target)


def erasure_shape(erasure: Erasure) -> shapes.Erasure:
    """The receipt in the shape of the API."""
    return shapes.Erasure(
        id=str(erasure.id),
        kind=erasure.kind,
        target=str(erasure.target) if erasure.target else None,
        subject_hash=erasure.subject_hash or None,
        job=str(erasure.job_id) if erasure.job_id else None,
        requested_by=erasure.requested_by,
        matched=erasure.matched,
        removed=erasure.removed,
        remains=erasure.remains,
        verified=erasure.verified,
        created_at=erasure.created_at,
        finished_at=erasure.finished_at,
    )


# --- The last look: what names an asset that is gone ------------------------------------------------------


def settle() -> int:
    """Finish the active tenant's open receipts: forget what names their assets, look once more, sign.

    Deleting one asset stays fast because this comes later, once for all of them; returns how many were signed.
    """
    open_ones = list(Erasure.objects.filter(unsettled()).order_by("id")[:CHUNK])
    if not open_ones:
        return 0
    jobs, answers = scrub_jobs(), forget_answers()
    verified = nothing_left()
    for erasure in open_ones:
        names = str(erasure.target)
        late = {name: n for name, n in (("jobs", jobs[names]), ("answers", answers[names])) if n}
        sign(erasure, late, verified=verified)
    return len(open_ones) if verified else 0


def unsettled() -> Q:
    return Q(verified=False) & (Q(kind__in=AT_ONCE) | ~Q(finished_at=None))


def sign(erasure: Erasure, late: Mapping[str, object], *, verified: bool) -> None:
    """Add what was removed last, and say that (and whether) nothing was found any more."""
    erasure.removed = added(erasure.removed, late)
    erasure.finished_at = erasure.finished_at or timezone.now()
    erasure.criteria, erasure.verified = None, verified
    erasure.save()


def scrub_jobs(limit: int = CHUNK) -> Counter[str]:
    """Take the ids of assets that are gone out of the records of finished jobs; asset id -> number of jobs."""
    found = {job.pk: job.names for job in _jobs_of_nobody()[:limit]}
    rows = Job.objects.filter(pk__in=list(found))
    JobNote.objects.filter(job_id__in=list(found)).delete()
    rows.filter(error__isnull=False).update(
        error={"type": "erased", "detail": SCRUBBED["note"]}, traceback=""
    )
    rows.update(arguments={"asset": NOBODY, "revision": 0}, result=SCRUBBED)
    return Counter(str(asset_id) for asset_id in found.values())


def _jobs_of_nobody() -> QuerySet[Any]:
    about = kinds.kind_names(lambda kind: kind.names_asset)
    ended = Job.objects.filter(kind__in=about, state__in=Job.TERMINAL).exclude(arguments__asset=NOBODY)
    named = ended.annotate(names=Cast(KeyTextTransform("asset", "arguments"), UUIDField()))
    return named.filter(~Exists(Asset.objects.filter(pk=OuterRef("names"))))


def forget_answers() -> Counter[str]:
    """Delete replayable answers that hold an asset that is gone; asset id -> number of answers."""
    forgotten: Counter[str] = Counter()
    for answer_id, shown in _answers():
        gone = shown - {str(pk) for pk in Asset.objects.filter(pk__in=shown).values_list("pk", flat=True)}
        if gone:
            IdempotentAnswer.objects.filter(pk=answer_id).delete()
            forgotten.update(gone)
    return forgotten


def _answers() -> Iterator[tuple[uuid.UUID, set[str]]]:
    rows = IdempotentAnswer.objects.filter(body__icontains="sha256").values_list("pk", "body")
    for answer_id, body in rows.iterator(chunk_size=500):
        shown = set(_assets_in(json.loads(body) if isinstance(body, str) else body))
        if shown:
            yield answer_id, shown


def _assets_in(value: object) -> Iterator[str]:
    """The ids of all assets in an answer, wherever in it they stand."""
    if isinstance(value, dict):
        if {"id", "dataset", "sha256"} <= value.keys():
            yield value["id"]
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _assets_in(inner)


def nothing_left() -> bool:
    """Whether no file without an asset, and no finished job that names one that is gone, is left in this tenant."""
    return not Blob.objects.filter(references=0).exists() and not _jobs_of_nobody().exists()
