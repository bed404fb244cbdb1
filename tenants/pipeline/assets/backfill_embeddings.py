"""The job that embeds a tenant's assets for another model beside the one that answers, until nothing is missing.

It goes through the assets that lack vectors of the model, from their stored files, and stores a handful at a time.
What is stored is not missing any more, so a job that is killed goes on from there, and one that runs twice does nothing
twice. What comes in, changes or goes meanwhile is its own job's affair: an asset of another revision than the one that
was read is left alone. A file that cannot be read again is noted as a gap and holds nothing up.

More than a shard is queued as parts, a range of ids each, which the workers of all hosts take up; the job waits for
them and does itself what they left. Where there is a Ray cluster that does the sharing out.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from django.conf import settings
from django.db import connection
from django.db.models import Count, Sum
from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext as _

from tenants.datasets.models import Asset
from tenants.errors import Conflict, NotReady
from tenants.jobs import fair_queue
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.learning import promotions
from tenants.pipeline.assets import on_ray
from tenants.pipeline.assets.embedding import is_plain_text
from tenants.pipeline.assets.reembed import Item, page_of, reembed, reembed_texts
from tenants.pipeline.transfer.import_job import QUEUE
from tenants.retrieval import index, model_routing, standing
from tenants.retrieval.index import add_vectors, locked_clock, record_changes
from tenants.retrieval.models import Vector
from tenants.scope import tenant_scope

# Assets that are looked up at a time, and what one transaction stores: many texts, some pictures, or one film.
PAGE, FULL = 256, 64
# Assets of a part.
SHARD, PART = 5_000, "embed_shard"
WEIGHTS = {
    Asset.Modality.TEXT: 1,
    Asset.Modality.AUDIO: 2,
    Asset.Modality.IMAGE: 4,
    Asset.Modality.VIDEO: FULL,
}
DOCUMENT_WEIGHT = FULL // 4
# How long it may keep its place while others wait for one, and how long it leaves it while an index is built.
TURN_S, WAIT_S = 20.0, 5.0
# Rows of writers that began before the model was written are found by another pass; each finds fewer.
PASSES = 20
KILLED = "The worker stopped while it looked at this."


def _weight(asset: Asset) -> int:
    return WEIGHTS[Asset.Modality(asset.modality)] if asset.blob.document is None else DOCUMENT_WEIGHT


class GivenUp(Conflict):
    """The model is not written any more: its promotion has ended."""

    slug, title = "promotion-ended", "This promotion has ended"


def _on_end(job: Job) -> None:
    """Show on the promotion what became of its job."""
    if job.arguments.get("promotion"):
        promotions.on_job_end(job)


# As long as an import, and as patient.
@job("embed_beside", queue=QUEUE, label=gettext_lazy("Embed for another model"), on_end=_on_end, kept=True)
def backfill_embeddings(claimed: jobs.Claim) -> None:
    """Embed what is missing, have an index built where one is needed, and hand over to the promotion.

    Raises GivenUp, ModelUnavailable, and Conflict for an index that cannot be built.
    """
    run = Backfill(claimed)
    for _round in range(PASSES):
        if not run.embed():
            # Its turn is over, and it waits for another.
            return
        if not run.encode_queries():
            jobs.give_turn(claimed)
            return
        try:
            _finish(claimed, run)
            return
        except model_routing.Missing:
            continue
        except NotReady:
            jobs.give_turn(claimed, delay_s=WAIT_S)
            return
    raise Conflict(
        gettext("Assets came in faster than they could be embedded for another model; try again later.")
    )


@job(PART, queue=QUEUE, label=gettext_lazy("Embed a part for another model"))
def embed_shard(claimed: jobs.Claim) -> None:
    """Embed what is missing in a range of ids, for the job that queued this. Raises GivenUp, ModelUnavailable."""
    if Backfill(claimed).embed():
        with tenant_scope(claimed.tenant_id):
            result = {"model": claimed.arguments["model"], "assets": jobs.held(claimed).progress_done}
            jobs.succeed(claimed, result=result, cpu_s=0, gpu_s=0, used={})


def _finish(claimed: jobs.Claim, run: Backfill) -> None:
    """Raises Missing where something came in, NotReady where the index is not there yet."""
    with tenant_scope(claimed.tenant_id):
        model_routing.require_whole(run.model)
        has_index = _ensure_index(run.model, claimed.job_id)
    if not has_index:
        raise NotReady(_("The index is being built."))
    told = promotions.embedded(claimed) if claimed.arguments.get("promotion") else {}
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        result = {"model": run.model, "gaps": model_routing.gaps(run.model), **told}
        # The processor time of each part is counted as it is stored.
        jobs.succeed(claimed, result=result, cpu_s=0, gpu_s=0, used={})


def _ensure_index(model: str, parent: uuid.UUID) -> bool:
    """Whether the model has an index such as the live one's; a job builds it where not. Raises Conflict where that has
    just been given up."""
    live = model_routing.live()
    if live == model or model_routing.has_index(live, model):
        return True
    if index.build_rests(model, index.JOBS):
        raise Conflict(_("The index for this model could not be built; its own job says why."))
    index.build_index(model=model, engine=index.engine_of(live), parent=parent)
    return False


class Backfill:
    """One attempt."""

    def __init__(self, claimed: jobs.Claim) -> None:
        self.model: str = claimed.arguments["model"]
        self._claimed, self._began = claimed, time.monotonic()
        self._is_part = claimed.kind == PART
        self._above = uuid.UUID(claimed.arguments["above"]) if self._is_part else model_routing.FIRST
        self._until = uuid.UUID(claimed.arguments["until"]) if self._is_part else None
        self._spaces = {self.model: model_routing.space(self.model, claimed.tenant_id)}
        # After an attempt that died: one by one, so that what kills the worker is passed over the next time.
        self._alone = FULL if claimed.attempt > 1 else 0

    def embed(self) -> bool:
        """One pass over what is missing. False if the turn ended before."""
        if not self._is_part and not (self._embed_on_ray() if settings.RAY_ADDRESS else self._share_out()):
            return False
        above = self._above
        with ThreadPoolExecutor(settings.IMPORT_THREADS, "beside") as pool:
            while page := self._page(above, PAGE):
                for items in self._portions(page):
                    self._embed_items(items, pool)
                    if self._turn_is_over():
                        jobs.give_turn(self._claimed)
                        return False
                above = page[-1].asset.id
        return True

    def _embed_on_ray(self) -> bool:
        """Texts and pictures, shard by shard; few of them are left to this process, as is all else."""
        above = model_routing.FIRST
        while page := self._page(above, on_ray.SHARD):
            items = [item for item in page if on_ray.is_for_ray(item)]
            if len(items) >= on_ray.LEAST:
                self._encode_on_ray(items)
                if self._turn_is_over():
                    jobs.give_turn(self._claimed)
                    return False
            above = page[-1].asset.id
        return True

    def _encode_on_ray(self, items: Sequence[Item]) -> None:
        tenant_id, check = self._claimed.tenant_id, self._require_uncancelled
        encoded = on_ray.encode(items, model=self.model, tenant_id=tenant_id, check=check)
        with closing(encoded):
            for some in encoded:
                self._store(some)

    def _share_out(self) -> bool:
        """Whether this process is to go on: the parts, if there are any, have ended, however they did."""
        parent = self._claimed.job_id
        with tenant_scope(self._claimed.tenant_id):
            job = jobs.held(self._claimed)
            parts = Job.objects.filter(kind=PART, parent_id=parent)
            unfinished = Count("pk", filter=jobs.UNFINISHED)
            found = parts.aggregate(all=Count("pk"), unfinished=unfinished, done=Sum("progress_done"))
            waiting = found["unfinished"] if found["all"] else self._queue_parts()
        if (done := found["done"] or 0) > job.progress_done:
            jobs.progress(self._claimed, done=done, total=max(job.progress_total, done))
        if waiting:
            jobs.give_turn(self._claimed, delay_s=WAIT_S)
        return not waiting

    def _queue_parts(self) -> int:
        """One for each shard, in the transaction that has seen that there are none; how many; 0 for one."""
        self._require_written()
        shards, above = [], model_routing.FIRST
        while ids := model_routing.some_missing(self.model, above=above, count=SHARD):
            shards.append((above, ids[-1], len(ids)))
            above = ids[-1]
        if len(shards) < 2:
            return 0
        for first, last, count in shards:
            arguments = {"model": self.model, "above": str(first), "until": str(last)}
            jobs.enqueue(kind=PART, arguments=arguments, total=count, reserve={}, parent=self._claimed.job_id)
        return len(shards)

    def _page(self, above: uuid.UUID, count: int) -> list[Item]:
        with tenant_scope(self._claimed.tenant_id):
            self._require_written()
            page = page_of(self.model, self._spaces, above=above, count=count)
        return [item for item in page if self._until is None or item.asset.id <= self._until]

    def _require_written(self) -> None:
        if not model_routing.is_written(self.model):
            raise GivenUp(_("This model is no longer being written."))

    def _portions(self, page: Sequence[Item]) -> Iterator[list[Item]]:
        portion: list[Item] = []
        for item in page:
            portion.append(item)
            weight = sum(_weight(one.asset) for one in portion)
            if self._alone or weight >= FULL:
                yield portion
                portion = []
        if portion:
            yield portion

    def _embed_items(self, items: list[Item], pool: ThreadPoolExecutor) -> None:
        if self._alone:
            self._alone -= 1
            self._embed_alone(items[0])
        else:
            files = [item for item in items if not is_plain_text(item.asset)]
            seen = pool.map(self._embed_file, files)
            texts = [item for item in items if is_plain_text(item.asset)]
            reembed_texts(texts, self._spaces)
            list(seen)
        self._store(items)

    def _embed_alone(self, item: Item) -> None:
        """Say that it is tried, before it is: if it ends this process, it stays a gap."""
        self._note_gap(item, KILLED)
        try:
            reembed(item, self._spaces, self._require_uncancelled)
        except Exception:
            with tenant_scope(self._claimed.tenant_id):
                model_routing.forget_gaps(model=self.model, asset_ids=[item.asset.id])
            raise

    def _note_gap(self, item: Item, reason: str) -> None:
        with tenant_scope(self._claimed.tenant_id):
            if Asset.objects.select_for_update().filter(pk=item.asset.pk).exists():
                model_routing.note_gap(item.asset, self.model, reason)

    def _embed_file(self, item: Item) -> None:
        try:
            reembed(item, self._spaces, self._require_uncancelled)
        finally:
            connection.close()

    def _require_uncancelled(self, done_s: float = 0.0, total_s: float = 0.0) -> None:
        """Of a long film, now and then. Raises Cancelled, LeaseLost."""
        with tenant_scope(self._claimed.tenant_id):
            if jobs.held(self._claimed).cancel_requested:
                raise jobs.Cancelled

    def _store(self, items: Sequence[Item]) -> None:
        """In one transaction, with the progress: what is still as it was read, and was not embedded meanwhile."""
        with tenant_scope(self._claimed.tenant_id):
            job = jobs.held(self._claimed)
            current = self._locked(items)
            clock = locked_clock()
            if self.model != clock.live and self.model not in clock.beside:
                raise GivenUp(_("This model is no longer being written."))
            model_routing.forget_gaps(model=self.model, asset_ids=[item.asset.id for item in current])
            seen = [item for item in current if not item.reason]
            if seen:
                add_vectors(vectors=[(item.asset, item.prepared.vectors) for item in seen])
            failed = [item for item in current if item.reason]
            for item in failed:
                model_routing.note_gap(item.asset, self.model, item.reason)
            # Words still find it: who holds facets beside the model's vectors has to learn of it.
            record_changes([item.asset.id for item in failed])
            done, gaps = job.progress_done + len(items), model_routing.gaps(self.model)
            jobs.spend(self._claimed, cpu_s=sum(item.prepared.cpu_s for item in items))
        total = max(job.progress_total, done)
        jobs.progress(self._claimed, renew=True, done=done, total=total, failed=gaps)

    def _locked(self, items: Sequence[Item]) -> list[Item]:
        ids = [item.asset.id for item in items]
        rows = Asset.objects.select_for_update(of=("self",)).filter(pk__in=ids).order_by("pk")
        revisions = dict(rows.values_list("pk", "revision"))
        there = set(
            Vector.objects.filter(asset_id__in=ids, model=self.model).values_list("asset_id", flat=True)
        )
        return [
            item
            for item in items
            if revisions.get(item.asset.id) == item.asset.revision and item.asset.id not in there
        ]

    def encode_queries(self) -> bool:
        """Whether all standing queries are encoded for the model, too; those that are not go on in the next turn."""
        return standing.encode_missing(self._claimed.tenant_id, self.model, is_over=self._turn_is_over)

    def _turn_is_over(self) -> bool:
        if time.monotonic() - self._began < TURN_S:
            return False
        return fair_queue.is_waiting(QUEUE)
