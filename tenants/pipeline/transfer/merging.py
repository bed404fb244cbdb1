"""Making one asset of a dataset's copies of a file, with the captions of all. A job first says what it would do.

Copies are assets with the same bytes. Those are merged that say the same but for their captions: equal metadata, labels
and decision of the policy; the earliest stays. A look changes nothing; its id is the plan that the merge needs. What
changed since is sorted anew, and a merge never touches assets that are newer than its plan.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.accounts import quotas
from tenants.datasets import holds
from tenants.datasets.models import Asset, Dataset, ImportRow, TranscriptSegment
from tenants.datasets.selectors import require_dataset
from tenants.datasets.services import lock_dataset
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.services import record
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.learning.models import GoldenAnswer
from tenants.pipeline.assets.services import replace_captions
from tenants.pipeline.assets.uploads import fits
from tenants.pipeline.care.erasure import erase_batch, locked
from tenants.retrieval import query
from tenants.retrieval.index import NewVector, replace_vectors
from tenants.retrieval.models import Vector
from tenants.scope import current_tenant_id, tenant_scope

KIND = "merge_copies"
# Files that are looked at together, and examples in a plan.
PAGE, EXAMPLES = 100, 20


@dataclass
class Merge:
    """One asset that stays, those that go into it, and the captions that it then has."""

    keeper: Asset
    copies: list[Asset] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)


def start_merge(*, dataset_id: uuid.UUID, plan: uuid.UUID | None = None, actor: str = "") -> Job:
    """Queue a look at a dataset's copies or, with the id of an earlier look as `plan`, the merge.

    Raises NotFound, Invalid (the job was no look), Conflict (a plan that has not succeeded), Held.
    """
    with tenant_scope(current_tenant_id()):
        require_dataset(dataset_id)
        arguments: dict[str, Any] = {"dataset": str(dataset_id), "plan": None, "actor": actor}
        if plan is None:
            mine = Asset.objects.filter(dataset_id=dataset_id).order_by("-id")
            newest = mine.values_list("id", flat=True).first()
            return jobs.enqueue(
                kind=KIND, arguments={**arguments, "until": str(newest or uuid.UUID(int=0))}, reserve={}
            )
        looked = Job.objects.filter(pk=plan, kind=KIND, arguments__dataset=str(dataset_id)).first()
        if looked is None:
            raise NotFound(_("This plan does not exist for this dataset."))
        if looked.arguments["plan"]:
            raise Invalid(
                _("This job has merged already. Look again, and send that job's id."), pointer="/plan"
            )
        if looked.state != Job.State.SUCCEEDED or not looked.result:
            raise Conflict(_("This plan has not been made to its end."))
        holds.refuse_held([dataset_id])
        arguments |= {"plan": str(plan), "until": looked.arguments["until"]}
        total = max(1, int(looked.result["assets"]))
        return jobs.enqueue(kind=KIND, arguments=arguments, total=total, reserve={})


@job("merge_copies", queue="default", label=gettext_lazy("Merge copies of files"))
def merge_copies(claimed: jobs.Claim) -> None:
    """Look or merge, file by file. A killed attempt is taken up where it stopped: what is merged has no copies."""
    start, arguments = time.thread_time(), claimed.arguments
    dataset_id, until = uuid.UUID(arguments["dataset"]), uuid.UUID(arguments["until"])
    with tenant_scope(claimed.tenant_id):
        blobs = _repeated(dataset_id, until)
    run = _MergeRun(claimed, dataset_id, until) if arguments["plan"] else _PlanRun(claimed, dataset_id, until)
    for first in range(0, len(blobs), PAGE):
        run.take(blobs[first : first + PAGE], len(blobs))
    run.finish(time.thread_time() - start)


def _assets(dataset_id: uuid.UUID, until: uuid.UUID) -> QuerySet[Asset]:
    return Asset.objects.filter(dataset_id=dataset_id, id__lte=until, dataset__deleted_at=None)


def _repeated(dataset_id: uuid.UUID, until: uuid.UUID) -> list[uuid.UUID]:
    """The files that several assets have, in the order of their ids."""
    counted = _assets(dataset_id, until).order_by().values("blob_id").annotate(n=Count("id"))
    return list(counted.filter(n__gt=1).order_by("blob_id").values_list("blob_id", flat=True))


def planned(copies: Sequence[Asset], apart: Counter[str]) -> list[Merge]:
    """What becomes of the assets of one file, the earliest first; `apart` counts by reason those that stay beside."""
    merges: dict[str, Merge] = {}
    for asset in copies:
        if reason := _reason_apart(asset):
            apart[reason] += 1
            continue
        key = json.dumps([asset.metadata, asset.moderation, sorted(asset.labels)], sort_keys=True)
        merge = merges.setdefault(key, Merge(asset, captions=asset.captions))
        if merge.keeper is asset:
            if len(merges) > 1:
                apart["other_metadata"] += 1
            continue
        captions = list(dict.fromkeys([*merge.captions, *asset.captions]))
        if fits(captions):
            merge.copies.append(asset)
            merge.captions = captions
        else:
            apart["too_many_captions"] += 1
    return [merge for merge in merges.values() if merge.copies]


def _reason_apart(asset: Asset) -> str:
    if asset.status != Asset.State.READY:
        return "not_ready"
    if asset.moderation in Asset.HIDDEN or asset.moderation == "review":
        return "held_back"
    return "generated" if asset.generation_id else ""


class _Run:
    def __init__(self, claimed: jobs.Claim, dataset_id: uuid.UUID, until: uuid.UUID) -> None:
        self.claimed, self.dataset_id, self.until = claimed, dataset_id, until
        self.apart: Counter[str] = Counter()

    def result(self) -> dict[str, Any]:
        return {"dataset": str(self.dataset_id), "kept_apart": dict(sorted(self.apart.items()))}

    def _require_wanted(self) -> Job:
        """Raises Cancelled, LeaseLost. In the tenant's scope."""
        job = jobs.held(self.claimed)
        if job.cancel_requested:
            raise jobs.Cancelled
        return job


class _PlanRun(_Run):
    """Counts and examples by id: nothing of what assets say, which an erasure would not find here."""

    def __init__(self, claimed: jobs.Claim, dataset_id: uuid.UUID, until: uuid.UUID) -> None:
        super().__init__(claimed, dataset_id, until)
        self.counts: Counter[str] = Counter(files=0, assets=0, captions=0, external_ids=0)
        self.examples: list[dict[str, Any]] = []
        self.looked = 0

    def take(self, blobs: Sequence[uuid.UUID], files: int) -> None:
        with tenant_scope(self.claimed.tenant_id):
            self._require_wanted()
            rows = list(
                _assets(self.dataset_id, self.until).filter(blob_id__in=blobs).order_by("blob_id", "id")
            )
        for _blob, copies in groupby(rows, key=lambda row: row.blob_id):
            for merge in planned(list(copies), self.apart):
                self._count(merge)
        self.looked += len(blobs)
        jobs.progress(self.claimed, renew=True, done=self.looked, total=files)

    def _count(self, merge: Merge) -> None:
        named = sum(copy.external_id is not None for copy in merge.copies)
        taken_over = merge.keeper.external_id is None and named > 0
        self.counts.update(
            files=1,
            assets=len(merge.copies),
            captions=len(merge.captions) - len(merge.keeper.captions),
            external_ids=named - taken_over,
        )
        if len(self.examples) < EXAMPLES:
            merged = [str(copy.id) for copy in merge.copies[:EXAMPLES]]
            self.examples.append({"asset": str(merge.keeper.id), "merges": merged})

    def finish(self, cpu_s: float) -> None:
        result = {**self.result(), "dry_run": True, **self.counts, "examples": self.examples}
        with tenant_scope(self.claimed.tenant_id):
            jobs.succeed(self.claimed, result=result, cpu_s=cpu_s, gpu_s=0, used={})


class _MergeRun(_Run):
    def take(self, blobs: Sequence[uuid.UUID], files: int) -> None:
        for blob_id in blobs:
            with tenant_scope(self.claimed.tenant_id):
                job = self._require_wanted()
                done, total = job.progress_done + self._merge(blob_id), job.progress_total
            jobs.progress(self.claimed, renew=True, done=done, total=max(done, total))

    def _merge(self, blob_id: uuid.UUID) -> int:
        """One file, in one transaction; returns how many assets went."""
        try:
            dataset = lock_dataset(self.dataset_id)
        except NotFound:
            return 0
        merges = planned(locked(_assets(self.dataset_id, self.until).filter(blob_id=blob_id)), self.apart)
        for merge in merges:
            _apply(dataset, merge, self.claimed)
        return sum(len(merge.copies) for merge in merges)

    def finish(self, cpu_s: float) -> None:
        with tenant_scope(self.claimed.tenant_id):
            merged = jobs.held(self.claimed).progress_done
            details = {"assets": merged}
            actor = self.claimed.arguments["actor"]
            record(actor=actor, verb="dataset.merged", target=str(self.dataset_id), details=details)
            result = {**self.result(), "dry_run": False, "plan": self.claimed.arguments["plan"], **details}
            jobs.succeed(self.claimed, result=result, cpu_s=cpu_s, gpu_s=0, used={})


def _apply(dataset: Dataset, merge: Merge, claimed: jobs.Claim) -> None:
    """In the caller's transaction, all assets locked. What was embedded for a copy's captions is taken over."""
    keeper, copies = merge.keeper, merge.copies
    vectors = _vectors(merge)
    ids = [copy.id for copy in copies]
    # Receipts and right answers lead to what stays.
    ImportRow.objects.filter(asset_id__in=ids).update(asset_id=keeper.id)
    _move_answers(keeper, ids)
    erase_batch(copies)
    keeper.filename = keeper.filename or next((copy.filename for copy in copies if copy.filename), "")
    keeper.external_id = keeper.external_id or next(
        (copy.external_id for copy in copies if copy.external_id), None
    )
    keeper.save(update_fields=["filename", "external_id"])
    if merge.captions == keeper.captions:
        return
    if vectors is None:
        replace_captions(keeper, merge.captions, claimed.arguments["actor"], claimed.job_id)
        return
    keeper.captions = merge.captions
    # Another revision: whoever embeds it for another model at this moment has seen fewer captions.
    keeper.revision += 1
    keeper.save(update_fields=["caption", "more_captions", "revision"])
    more = replace_vectors(asset=keeper, vectors=vectors)
    quotas.charge(amounts={"vectors": max(0, more)})
    spoken = TranscriptSegment.objects.filter(asset=keeper).order_by("start_s").values_list("text", flat=True)
    said = [*keeper.captions, *spoken]
    query.index_texts([query.entry_of(keeper, dataset.metadata_schema, said)])


def _move_answers(keeper: Asset, ids: Sequence[uuid.UUID]) -> None:
    known = set(GoldenAnswer.objects.filter(asset=keeper).values_list("golden_id", flat=True))
    wanted = set(GoldenAnswer.objects.filter(asset_id__in=ids).values_list("golden_id", flat=True)) - known
    GoldenAnswer.objects.bulk_create(GoldenAnswer(golden_id=golden, asset=keeper) for golden in wanted)


def _vectors(merge: Merge) -> list[NewVector] | None:
    """All vectors of the merged asset, in each model that the keeper has; None where one of a caption is missing."""
    stored = {asset.id: _stored(asset) for asset in (merge.keeper, *merge.copies)}
    mine = stored[merge.keeper.id]
    models = {vector.model for _, vector in mine}
    if not models:
        # A recording in which nobody speaks: what its captions lack is made anew.
        return None
    found = [vector for _, vector in mine]
    for number, caption in enumerate(
        merge.captions[len(merge.keeper.captions) :], len(merge.keeper.captions)
    ):
        copy = next(copy for copy in merge.copies if caption in copy.captions)
        place = copy.captions.index(caption)
        taken = [vector for at, vector in stored[copy.id] if at == place and vector.model in models]
        if {vector.model for vector in taken} != models:
            return None
        found += [_placed(vector, number) for vector in taken]
    return found


def _stored(asset: Asset) -> list[tuple[int | None, NewVector]]:
    """The vectors of an asset, each with the place of the caption that it is of; None for those of the file."""
    rows = Vector.objects.filter(asset=asset).order_by("seq")
    return list(_numbered(rows, asset.modality))


def _numbered(rows: QuerySet[Vector], modality: str) -> Iterator[tuple[int | None, NewVector]]:
    for row in rows:
        vector = NewVector(row.modality, np.frombuffer(bytes(row.data), "<f4"), row.segment, row.model)
        of_caption = row.modality == Asset.Modality.TEXT and modality != Asset.Modality.TEXT
        yield (row.segment or {}).get("caption", 0) if of_caption else None, vector


def _placed(vector: NewVector, number: int) -> NewVector:
    """The vector as one of another caption."""
    segment = {name: value for name, value in (vector.segment or {}).items() if name != "caption"}
    return replace(vector, segment={**({"caption": number} if number else {}), **segment} or None)
