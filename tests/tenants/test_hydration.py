"""The raw statements of the query path against the models and selectors that they stand for."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from api.rendering import to_json
from tenants.datasets import selectors
from tenants.datasets.models import Asset, Blob, Dataset
from tenants.datasets.services import create_dataset
from tenants.retrieval.index.memory import read_index_status
from tenants.retrieval.models import IndexGeneration, IndexPointer, VectorClock
from tenants.retrieval.query.result_page import _ASSETS, hydrate
from tenants.retrieval.types import Current, IndexStatus
from tenants.scope import TenantMismatch, tenant_scope

MODEL = "prior:1"
SOUND = {"duration_s": 1.5, "has_sound": True, "truncated": False, "examined": {"speech": "examined"}}
# Every column with each kind of value that it may hold.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain text": ({"modality": "text", "excerpt": "a 'quoted' \\ 日本 %s"}, {"media_type": "text/plain"}),
    "picture with all": (
        {
            "modality": "image",
            "status": "ready",
            "external_id": "x-1",
            "filename": "picture 'of' %s.png",
            "caption": "c",
            "more_captions": ["d", "e"],
            "metadata": {"n": 10**30},
        },
        {"media_type": "image/png", "width": 3, "height": 4, "scan": {"state": "clean", "engine": "e"}},
    ),
    "sound": (
        {"modality": "audio", "status": "ready"},
        {"details": {**SOUND, "peaks": [1, 2], "codecs": ["a"]}},
    ),
    "film": ({"modality": "video", "status": "ready"}, {"details": {**SOUND, "has_sound": False}}),
    "failed": (
        {
            "modality": "video",
            "status": "failed",
            "error": {"code": "unreadable", "message": "m", "n": [1.25]},
        },
        {"scan": {}},
    ),
}


def _add(dataset: Dataset, of_asset: dict[str, Any], of_blob: dict[str, Any]) -> Asset:
    blob = Blob.objects.create(**{"sha256": uuid.uuid4().hex * 2, "bytes": 7, "media_type": "m/t", **of_blob})
    return Asset.objects.create(dataset=dataset, blob=blob, **of_asset)


@pytest.mark.parametrize("kind", KINDS)
def test_an_asset_is_hydrated_as_the_selectors_show_it(party, kind: str) -> None:
    with tenant_scope(party.id):
        added = _add(create_dataset(name="d"), *KINDS[kind])
        expected = selectors.asset_shape(selectors.get_asset(added.id))
        found = hydrate(party.id, [added.id])
    assert found == {added.id: expected}
    # Also in the order of fields and in types that compare as equal (1, 1.0 and True).
    assert to_json(found[added.id]) == to_json(expected)


def test_many_assets_take_one_statement(party) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        ids = [_add(dataset, *kind).id for kind in KINDS.values()]
        hydrate(party.id, ids)  # prepares it on this connection
        with CaptureQueriesContext(connection) as queries:
            assert hydrate(party.id, []) == {}
            found = hydrate(party.id, [*ids, uuid.uuid4(), ids[0]])
        assert len(queries) == 1
        assert set(found) == set(ids)


def test_nothing_of_a_dataset_that_is_being_deleted(party) -> None:
    with tenant_scope(party.id):
        kept, going = create_dataset(name="kept"), create_dataset(name="going")
        here, there = (_add(dataset, *KINDS["plain text"]).id for dataset in (kept, going))
        assert set(hydrate(party.id, [here, there])) == {here, there}
        Dataset.objects.filter(pk=going.id).update(deleted_at=timezone.now())
        assert set(hydrate(party.id, [here, there])) == {here}


def test_nothing_of_another_tenant(party, stranger) -> None:
    with tenant_scope(stranger.id):
        theirs = _add(create_dataset(name="d"), *KINDS["plain text"]).id
    assert hydrate(party.id, [theirs]) == {}
    assert set(hydrate(stranger.id, [theirs])) == {theirs}
    with tenant_scope(party.id):
        assert hydrate(party.id, [theirs]) == {}
        with pytest.raises(TenantMismatch):
            hydrate(stranger.id, [theirs])


# --- IndexStatus ---------------------------------------------------------------------------------------------


def test_the_opening_of_a_new_tenant(party) -> None:
    assert read_index_status(party.id, MODEL) == IndexStatus(0, 0, (), "memory", None, MODEL)


def test_the_opening_says_what_the_tables_say_in_one_statement(party, stranger) -> None:
    for tenant, recall in ((party, 0.995), (stranger, None)):
        with tenant_scope(tenant.id):
            VectorClock.objects.create(last=12, pruned=5)
            made = [
                IndexGeneration.objects.create(model=model, state="ready", kind=kind, seq=seq, recall=recall)
                for model, kind, seq in (
                    ("other:1", "slow:flat", 4),
                    (MODEL, "hnsw", 9),
                    (MODEL, "hnsw", 10),
                )
            ]
            IndexPointer.objects.create(model="other:1", current=made[0])
            IndexPointer.objects.create(model=MODEL, current=made[1], previous=made[2])
            create_dataset(name="kept")
            going = [create_dataset(name=name).id for name in ("a", "b")]
            Dataset.objects.filter(pk__in=going).update(deleted_at=timezone.now())
            read_index_status(tenant.id, MODEL)  # prepares it on this connection
            with CaptureQueriesContext(connection) as queries:
                seen = read_index_status(tenant.id, MODEL)
            assert len(queries) == 1
            assert set(seen.hidden) == set(going)
            assert seen == IndexStatus(
                12, 5, seen.hidden, "memory", Current(made[1].id, 9, "hnsw", recall), MODEL
            )
            assert read_index_status(tenant.id, "other:1").engine == "slow"
            assert read_index_status(tenant.id, "none:1") == IndexStatus(
                12, 5, seen.hidden, "memory", None, MODEL
            )


def test_a_pointer_to_nothing(party) -> None:
    with tenant_scope(party.id):
        IndexPointer.objects.create(model=MODEL)
        assert read_index_status(party.id, MODEL) == IndexStatus(0, 0, (), "memory", None, MODEL)


def test_the_one_plan_for_all_tenants_begins_with_the_ids(party) -> None:
    """On many small tenants Postgres thinks little of a whole dataset, which of a large one takes half a second."""
    with tenant_scope(party.id), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("PREPARE planned (uuid, uuid[]) AS " + _ASSETS.sql)
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute("EXPLAIN EXECUTE planned (%s::uuid, %s::uuid[])", [party.id, [uuid.uuid4()]])
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("DEALLOCATE planned")
    conditions = [line.strip() for line in plan.splitlines() if "Index Cond" in line]
    assert "Function Scan on unnest wanted" in plan
    assert any("(id = wanted.id)" in line for line in conditions), plan
    assert any("(id = a.blob_id)" in line for line in conditions), plan
    assert not any("dataset_id = " in line for line in conditions), plan
