"""Declaring fields: what changes, what is counted, and the job after which filters and search follow."""

from __future__ import annotations

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from tenants.datasets import fields
from tenants.datasets.models import Asset, Dataset, Facet
from tenants.datasets.services import create_dataset, update_dataset
from tenants.errors import Invalid, NotFound
from tenants.jobs.models import Job
from tenants.jobs.services import cancel
from tenants.pipeline.assets.services import add_asset, delete_dataset
from tenants.retrieval import filters
from tenants.retrieval.models import LexicalEntry
from tenants.retrieval.query import lexical
from tenants.scope import tenant_scope
from workers.base import run_job

ROWS = [
    {"price": "12", "colour": "red", "tags": ["new", "sale"], "day": "2026-01-01"},
    {"price": "n/a", "colour": "blue", "tags": ["new"], "sold": True},
    {"price": 7, "colour": "red"},
]


class Shop:
    """A dataset whose prices came as text, so that their type was guessed wrongly."""

    def __init__(self, party) -> None:
        self.party = party
        with tenant_scope(party.id):
            self.dataset = create_dataset(name="shop")
            added = [
                add_asset(dataset_id=self.dataset.id, text=f"t{n}", values=v) for n, v in enumerate(ROWS)
            ]
            self.ids = [one.asset.id for one in added]

    @property
    def schema(self) -> dict:
        with tenant_scope(self.party.id):
            return Dataset.objects.get(pk=self.dataset.id).metadata_schema

    def declare(self, key: str, **entry) -> Job | None:
        with tenant_scope(self.party.id):
            return fields.declare_field(dataset_id=self.dataset.id, key=key, entry=entry)

    def run(self, job: Job) -> Job:
        run_job(str(job.id), str(self.party.id))
        with tenant_scope(self.party.id):
            return Job.objects.get(pk=job.id)

    def where(self, given: dict) -> list[int]:
        with tenant_scope(self.party.id):
            found = filters.matching_ids(filters.parse(given), [self.dataset.id])
        return sorted(self.ids.index(one) for one in found)


@pytest.fixture
def shop(party) -> Shop:
    return Shop(party)


def test_a_changed_type_reindexes_and_filters_follow(shop) -> None:
    assert shop.schema["price"] == {"type": "text", "guessed": True}
    with pytest.raises(Invalid, match="has no order"):
        shop.where({"price": {"lt": 10}})
    job = shop.declare("price", type="number", required=True)
    assert (job.kind, job.progress_total, job.arguments) == (
        *("reindex_metadata", 3),
        {"dataset": str(shop.dataset.id)},
    )
    assert shop.where({"price": {"lt": 20}}) == [2]
    done = shop.run(job)
    assert (done.state, done.result["assets"], done.progress_done) == ("succeeded", 3, 3)
    assert shop.where({"price": {"lt": 20}}) == [0, 2]
    assert shop.where({"price": 12}) == [0]
    with tenant_scope(shop.party.id):
        assert Asset.objects.get(pk=shop.ids[0]).metadata == ROWS[0]
        assert fields.count_misfits(shop.dataset.id, shop.schema) == {"price": 2}


def test_running_the_job_twice_or_after_its_dataset_is_gone_is_no_error(shop) -> None:
    first, second = shop.declare("price", type="number"), shop.declare("price", type="text")
    with tenant_scope(shop.party.id):
        before = Facet.objects.count()
    assert shop.run(second).state == "succeeded"
    assert shop.run(second).state == "succeeded"
    with tenant_scope(shop.party.id):
        assert Facet.objects.count() == before
        delete_dataset(dataset_id=shop.dataset.id)
    assert shop.run(first).result["assets"] == 0


def test_a_cancelled_job_changes_nothing(shop) -> None:
    job = shop.declare("price", type="number")
    with tenant_scope(shop.party.id):
        cancel(job_id=job.id)
    assert shop.run(job).state == "cancelled"
    assert shop.where({"price": {"lt": 20}}) == [2]


def test_a_change_that_keeps_the_types_needs_no_job(shop) -> None:
    assert shop.declare("colour", type="text", values=["red"], label="Colour") is None
    with tenant_scope(shop.party.id):
        assert not Job.objects.filter(kind="reindex_metadata").exists()
        assert fields.count_misfits(shop.dataset.id, shop.schema) == {"colour": 1}


def test_the_whole_schema_can_be_replaced_and_a_renaming_leaves_it_alone(shop) -> None:
    with tenant_scope(shop.party.id):
        update_dataset(dataset_id=shop.dataset.id, name="renamed")
        assert not Job.objects.filter(kind="reindex_metadata").exists()
        update_dataset(dataset_id=shop.dataset.id, metadata_schema={"price": {"type": "number"}})
        assert Job.objects.filter(kind="reindex_metadata").count() == 1
    assert shop.schema == {"price": {"type": "number"}}


def test_a_bad_declaration_changes_nothing(shop, stranger) -> None:
    before = shop.schema
    with pytest.raises(Invalid) as caught:
        shop.declare("price", type="money")
    assert caught.value.errors[0]["pointer"] == "/metadata_schema/price"
    with tenant_scope(stranger.id):
        for change in (
            lambda: fields.declare_field(dataset_id=shop.dataset.id, key="price", entry={"type": "number"}),
            lambda: fields.forget_field(dataset_id=shop.dataset.id, key="price"),
        ):
            with pytest.raises(NotFound):
                change()
    assert shop.schema == before


def test_a_forgotten_field_is_guessed_again_or_gone(shop) -> None:
    shop.declare("price", type="number", required=True)
    shop.declare("stock", type="number")
    with tenant_scope(shop.party.id):
        for key in ("price", "stock", "never"):
            fields.forget_field(dataset_id=shop.dataset.id, key=key)
    assert shop.schema["price"] == {"type": "text", "guessed": True}
    assert not {"stock", "never"} & set(shop.schema)


def test_the_words_of_metadata_follow_too(shop) -> None:
    shop.run(shop.declare("extra", type="text"))
    with tenant_scope(shop.party.id):
        assert {one for one, _ in lexical.matching("new", 9)} == set(shop.ids[:2])
        assert [one for one, _ in lexical.matching("t1", 9)] == [shop.ids[1]]
        assert LexicalEntry.objects.count() == 3
    shop.run(shop.declare("colour", type="number"))
    with tenant_scope(shop.party.id):
        assert lexical.matching("red", 9) == []
        assert [one for one, _ in lexical.matching("t1", 9)] == [shop.ids[1]]


def test_values_are_counted_most_frequent_first(shop) -> None:
    with tenant_scope(shop.party.id):
        counts = fields.facet_counts(shop.dataset.id)
        few = fields.facet_counts(shop.dataset.id, keys=["tags"], limit=1)
    assert counts == {
        "colour": [("red", 2), ("blue", 1)],
        "day": [("2026-01-01", 1)],
        "price": [("12", 1), ("7.0", 1), ("n/a", 1)],
        "sold": [("true", 1)],
        "tags": [("new", 2), ("sale", 1)],
    }
    assert few == {"tags": [("new", 2)]}


def test_values_of_other_datasets_and_tenants_are_not_counted(shop, stranger) -> None:
    with tenant_scope(shop.party.id):
        other = create_dataset(name="other")
        add_asset(dataset_id=other.id, text="x", values={"colour": "green"})
        assert fields.facet_counts(other.id) == {"colour": [("green", 1)]}
        assert fields.facet_counts(shop.dataset.id, ["colour"]) == {"colour": [("red", 2), ("blue", 1)]}
    with tenant_scope(stranger.id):
        assert fields.facet_counts(shop.dataset.id) == {}


def test_counting_reads_only_the_facets_of_the_newest_assets(shop, monkeypatch) -> None:
    monkeypatch.setattr(fields, "SAMPLE", 50)
    with tenant_scope(shop.party.id):
        blob = Asset.objects.get(pk=shop.ids[0]).blob_id
        rows = [Asset(dataset=shop.dataset, blob_id=blob, modality="text") for _ in range(3000)]
        Asset.objects.bulk_create(rows)
        Facet.objects.bulk_create(Facet(asset=a, key="k", text=f"v{n % 7}") for n, a in enumerate(rows))
    with connections["migration"].cursor() as owner:
        owner.execute("ANALYZE facet, asset")  # autovacuum's work, not waited for
    with tenant_scope(shop.party.id), CaptureQueriesContext(connection) as asked:
        counts = fields.facet_counts(shop.dataset.id)
    assert sum(count for _, count in counts["k"]) == 50
    with tenant_scope(shop.party.id), connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {asked.captured_queries[0]['sql']}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index Scan using facet_by_asset on facet" in plan, plan
    assert "Seq Scan" not in plan, plan
