"""After a change of a dataset's schema: facets and words of metadata anew, so that filters and search follow."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterable

from django.utils.translation import gettext_lazy

from tenants.datasets import metadata
from tenants.datasets.models import Asset, Dataset, Facet, TranscriptSegment
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.retrieval import query
from tenants.retrieval.index import record_changes
from tenants.scope import tenant_scope

BATCH = 200

# Key, text and number of facets, each as often as it stands there.
Values = Counter[tuple[str, str | None, float | None]]


@job("reindex_metadata", queue="default", label=gettext_lazy("Apply changed fields"))
def reindex_metadata(claimed: jobs.Claim) -> None:
    """Go through the assets of this job's dataset in the order of their ids. Running twice changes nothing more."""
    dataset_id, start = uuid.UUID(claimed.arguments["dataset"]), time.thread_time()
    done, after = 0, uuid.UUID(int=0)
    while True:
        with tenant_scope(claimed.tenant_id):
            total = jobs.held(claimed).progress_total
            ids = _reindex_some(dataset_id, after)
            if not ids:
                cpu_s = time.thread_time() - start
                result = {"dataset": str(dataset_id), "assets": done}
                jobs.succeed(claimed, result=result, cpu_s=cpu_s, gpu_s=0, used={})
                return
        done, after = done + len(ids), ids[-1]
        jobs.progress(claimed, done=done, total=max(total, done))


def _reindex_some(dataset_id: uuid.UUID, after: uuid.UUID) -> list[uuid.UUID]:
    """The next assets, reindexed in the caller's transaction; none once all are done or the dataset is gone."""
    dataset = Dataset.objects.filter(pk=dataset_id, deleted_at=None).first()
    if dataset is None:
        return []
    mine = Asset.objects.select_for_update().filter(dataset=dataset, pk__gt=after)
    assets = list(mine.order_by("pk")[:BATCH])
    schema = dataset.metadata_schema
    changed = _replace_facets(assets, schema)
    words = {asset.id: query.words_of(asset.metadata, schema) for asset in assets}
    known = set(query.index_fields(list(words.items())))
    _index_missing([asset for asset in assets if asset.id not in known], schema)
    # Last, as others wait for the clock.
    record_changes(changed)
    return [asset.id for asset in assets]


def _replace_facets(assets: list[Asset], schema: metadata.Schema) -> list[uuid.UUID]:
    """Write the facets of those assets whose facets are others under this schema; returns which.

    Most are not: a number stands as number and text under any type. An index that holds the rest would have to be
    asked anew for each asset that is said to have changed.
    """
    stored: dict[uuid.UUID, Values] = {asset.id: Counter() for asset in assets}
    given = metadata.given_facets([asset.id for asset in assets])
    for asset_id, key, text, number in given.values_list("asset_id", "key", "text", "number"):
        stored[asset_id][key, text, number] += 1
    wanted = {asset.id: list(metadata.facets_of(asset.id, asset.metadata, schema)) for asset in assets}
    changed = [
        asset_id
        for asset_id, facets in wanted.items()
        if stored[asset_id] != Counter((facet.key, facet.text, facet.number) for facet in facets)
    ]
    metadata.given_facets(changed).delete()
    Facet.objects.bulk_create(facet for asset_id in changed for facet in wanted[asset_id])
    return changed


def _index_missing(assets: list[Asset], schema: metadata.Schema) -> None:
    """Entries for assets that are older than the lexical index, by what their rows say."""
    spoken: dict[uuid.UUID, list[str]] = {}
    segments = TranscriptSegment.objects.filter(asset__in=assets).order_by("start_s") if assets else []
    for segment in segments:
        spoken.setdefault(segment.asset_id, []).append(segment.text)
    query.index_texts(_entries(assets, schema, spoken))


def _entries(
    assets: list[Asset], schema: metadata.Schema, spoken: dict[uuid.UUID, list[str]]
) -> Iterable[query.Entry]:
    for asset in assets:
        yield query.entry_of(asset, schema, [*asset.captions, *spoken.get(asset.id, [asset.excerpt])])
