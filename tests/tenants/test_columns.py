"""Filters against postings: the same answers as the facet table gives, on any metadata and any conditions."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.indexes.postings import Postings
from tenants.datasets import fields, metadata
from tenants.datasets.models import Asset, Blob, Dataset, Facet
from tenants.datasets.services import create_dataset
from tenants.errors import Invalid
from tenants.jobs.services import enqueue
from tenants.pipeline.assets.services import add_asset, update_asset
from tenants.pipeline.care.erasure import erase_asset
from tenants.retrieval import filters
from tenants.retrieval.index.vectors import take_numbers
from tenants.retrieval.models import FacetChange
from tenants.scope import tenant_scope
from workers.base import run_job

# Values that are close to each other in one way and apart in another.
ATOMS = [
    *(
        "",
        "red",
        "Red",
        "12",
        "12.0",
        "-0",
        "0",
        "true",
        "yes",
        "x" * 301,
        "x" * 300 + "y",
        "é",
        "e\u0301",
        "a/b",
    ),
    *(0, -0.0, 12, 12.5, -3, 1e300, True, False, None),
    *("2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "1970-01-01T00:00:12", "1967-10-04"),
]
KEYS = ["plain", "colour", "price", "since", "sale", "tags", "odd/key\u2028"]
SCHEMA = {
    "colour": {"type": "text"},
    "price": {"type": "number", "guessed": True},
    "since": {"type": "time"},
    "sale": {"type": "bool", "guessed": True},
    "tags": {"type": "tags", "guessed": True},
}
OTHER_SCHEMA = {"price": {"type": "text"}, "since": {"type": "number"}, "odd/key\u2028": {"type": "time"}}

atoms = st.sampled_from(ATOMS)
values = atoms | st.lists(atoms | st.just({"nested": 1}), max_size=4)
rows = st.lists(st.dictionaries(st.sampled_from(KEYS), values, max_size=4), min_size=1, max_size=8)
operands = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne", "lt", "lte", "gt", "gte"]), atoms),
    st.tuples(st.just("in"), st.lists(atoms, min_size=1, max_size=3)),
    st.tuples(st.just("exists"), st.booleans()),
)
conditions = st.dictionaries(
    st.sampled_from([*KEYS, "nobody's"]), st.lists(operands, min_size=1, max_size=2).map(dict), max_size=3
)


class Shelf:
    """Two datasets that disagree about types, and their assets; made of rows alone, as no file matters here."""

    def __init__(self, party) -> None:
        self.party = party
        with tenant_scope(party.id):
            self.datasets = [
                create_dataset(name=name, metadata_schema=schema)
                for name, schema in (("one", SCHEMA), ("other", OTHER_SCHEMA))
            ]
            self.blob = Blob.objects.create(sha256=uuid.uuid4().hex * 2, bytes=1, media_type="text/plain")

    def refill(self, rows: list[dict]) -> np.ndarray:
        """Assets with these metadata and no others; their ids as a generation orders them."""
        with tenant_scope(self.party.id):
            Facet.objects.all().delete()
            Asset.objects.all()._raw_delete(using="default")
            assets = [
                Asset(dataset=self.datasets[n % 2], blob=self.blob, modality="text", metadata=row)
                for n, row in enumerate(rows)
            ]
            Asset.objects.bulk_create(assets)
            for asset in assets:
                write_facets(asset, asset.dataset)
        return np.sort(np.array([asset.id.bytes for asset in assets], "S16"))


def write_facets(asset: Asset, dataset: Dataset) -> None:
    Facet.objects.filter(asset=asset).delete()
    Facet.objects.bulk_create(metadata.facets_of(asset.id, asset.metadata, dataset.metadata_schema))


@pytest.fixture
def shelf(party) -> Shelf:
    return Shelf(party)


def as_uuid(raw: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=raw.ljust(16, b"\0"))


def answer(ask: Callable[[], object]) -> object:
    """What it returns, or how it refuses."""
    try:
        return ask()
    except Invalid as error:
        return error.detail, error.errors


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=rows,
    wanted=st.lists(conditions, min_size=1, max_size=6),
    of=st.sampled_from([None, [0], [1], [0, 1], []]),
)
def test_postings_and_the_facet_table_agree(shelf, tmp_path_factory, rows, wanted, of) -> None:
    ids, folder = shelf.refill(rows), tmp_path_factory.mktemp("generation")
    datasets = None if of is None else [shelf.datasets[n].id for n in of]
    with tenant_scope(shelf.party.id):
        filters.export_facets(ids, folder)
        postings = Postings.open(folder)
        for one in wanted:
            try:
                parsed = filters.parse(one)
            except Invalid:
                continue

            def by_table(parsed=parsed) -> set[uuid.UUID]:
                return set(filters.matching_ids(parsed, datasets))

            def by_postings(parsed=parsed) -> set[uuid.UUID]:
                mask = filters.resolve(parsed, datasets, postings, len(ids))
                assert mask.dtype == bool and mask.shape == (len(ids),)
                return {as_uuid(raw) for raw in ids[mask]}

            expected = answer(by_table)
            assert answer(by_postings) == expected
            assert (
                answer(lambda p=parsed: filters.live(p, datasets, [as_uuid(raw) for raw in ids])) == expected
            )


def test_export_takes_the_tenants_own_assets_of_the_generation_only(party, stranger, tmp_path) -> None:
    mine, theirs = Shelf(party), Shelf(stranger)
    ids = mine.refill([{"colour": "red"}, {"colour": "red"}, {"colour": "blue"}])
    theirs.refill([{"colour": "red"}])
    with tenant_scope(party.id):
        filters.export_facets(ids[1:].astype("V16"), tmp_path)
    postings = Postings.open(tmp_path)
    assert postings.having("colour").tolist() == [0, 1]
    assert [postings.count("colour", {c}) for c in ("red", "blue")] == [1, 1]


def test_an_export_of_no_asset_is_empty(party, tmp_path) -> None:
    with tenant_scope(party.id):
        filters.export_facets(np.zeros(0, "S16"), tmp_path)
    assert not len(Postings.open(tmp_path).having("colour"))


def test_an_id_that_ends_in_zeros_keeps_its_facets(shelf, tmp_path) -> None:
    """NumPy drops the trailing zeros of fixed-width bytes."""
    shelf.refill([{"colour": "red"}])
    with tenant_scope(shelf.party.id):
        asset = Asset(
            id=uuid.UUID(int=uuid.uuid4().int >> 24 << 24),
            dataset=shelf.datasets[0],
            blob=shelf.blob,
            modality="text",
            metadata={"colour": "grey"},
        )
        asset.save(force_insert=True)
        write_facets(asset, shelf.datasets[0])
        ids = np.sort(np.array([pk.bytes for pk in Asset.objects.values_list("pk", flat=True)], "S16"))
        filters.export_facets(ids, tmp_path)
        mask = filters.resolve(filters.parse({"colour": "grey"}), None, Postings.open(tmp_path), 2)
    assert [as_uuid(raw) for raw in ids[mask]] == [asset.id]


@pytest.mark.parametrize("bound", [2, 40_000])
def test_live_answers_for_the_named_assets_alone(
    shelf, monkeypatch, bound, django_assert_num_queries
) -> None:
    monkeypatch.setattr(filters, "MAX_NAMED", bound)
    ids = [
        as_uuid(raw) for raw in shelf.refill([{"colour": "red"}, {"colour": "blue"}, {}, {"colour": "red"}])
    ]
    red, not_red = (filters.parse(c) for c in ({"colour": "red"}, {"colour": {"ne": "red"}}))
    gone = uuid.uuid4()
    with tenant_scope(shelf.party.id):
        with django_assert_num_queries(2):
            assert filters.live(red, None, [*ids[:3], gone]) == {ids[0]}
        assert filters.live(not_red, None, [*ids[1:], gone]) == {ids[1], ids[2]}
        assert filters.live([], None, [*ids[:3], gone]) == set(ids[:3])
        assert filters.live(red, None, []) == set()


def test_conditions_that_nobody_can_meet_or_that_everyone_meets(shelf, tmp_path) -> None:
    ids = shelf.refill([{"colour": "red"}, {"price": 3}])
    with tenant_scope(shelf.party.id):
        filters.export_facets(ids, Path(tmp_path))
        postings = Postings.open(tmp_path)

        def resolve(given: dict[str, Any]) -> list[bool]:
            return filters.resolve(filters.parse(given), None, postings, 2).tolist()

        assert resolve({}) == [True, True]
        assert resolve({"nobody's": 1}) == [False, False]
        assert resolve({"nobody's": {"ne": 1, "exists": False}}) == [True, True]
        assert resolve({"colour": "red", "price": 3}) == [False, False]


# --- Changes after a generation was built ----------------------------------------------------------------


class Built:
    """Assets of a dataset, with postings of how they were."""

    def __init__(self, party, folder: Path) -> None:
        self.party = party
        with tenant_scope(party.id):
            self.dataset = create_dataset(name="shop")
            rows = [{"price": "12", "colour": "red"}, {"price": "n/a", "colour": "blue"}, {"price": 7}]
            self.assets = [
                add_asset(dataset_id=self.dataset.id, text=f"t{n}", values=row).asset.id
                for n, row in enumerate(rows)
            ]
            self.ids = np.array([asset_id.bytes for asset_id in self.assets], "S16")
            self.seq = take_numbers(1)
            filters.export_facets(self.ids, folder)
        self.postings = Postings.open(folder)

    @property
    def changed(self) -> list[uuid.UUID]:
        with tenant_scope(self.party.id):
            found = FacetChange.objects.filter(seq__gt=self.seq).order_by("seq")
            return list(found.values_list("asset_id", flat=True))

    def where(self, given: dict) -> set[int]:
        """By the postings, except for what has changed; the same as by the facet table."""
        changed = self.changed
        numbers = [self.assets.index(one) for one in changed if one in self.assets]
        with tenant_scope(self.party.id):
            parsed = filters.parse(given)
            mask = filters.resolve(parsed, None, self.postings, len(self.ids))
            mask[numbers] = False
            found = {self.assets[n] for n in np.flatnonzero(mask)} | filters.live(parsed, None, changed)
            assert found == set(filters.matching_ids(parsed))
        return {self.assets.index(one) for one in found}

    def reindexed(self, **entry) -> None:
        with tenant_scope(self.party.id):
            job = fields.declare_field(dataset_id=self.dataset.id, key="price", entry=entry)
        run_job(str(job.id), str(self.party.id))


@pytest.fixture
def built(party, tmp_path) -> Built:
    return Built(party, tmp_path)


def test_new_metadata_of_an_asset_count_at_once(built) -> None:
    assert built.where({"colour": "red"}) == {0}
    with tenant_scope(built.party.id):
        update_asset(asset_id=built.assets[0], values={"colour": "green"})
        update_asset(asset_id=built.assets[2], values={"colour": "red"})
        update_asset(asset_id=built.assets[2], values={"colour": "red", "price": 1})
    assert built.changed == [built.assets[0], built.assets[2], built.assets[2]]
    assert built.where({"colour": "red"}) == {2}
    assert built.where({"colour": {"ne": "red"}}) == {0, 1}
    assert built.where({"price": {"exists": False}}) == {0}


def test_a_change_that_fails_is_no_change(built) -> None:
    with tenant_scope(built.party.id), pytest.raises(Invalid):
        update_asset(asset_id=built.assets[0], values={"colour": "green"}, caption="texts have none")
    assert built.changed == []


def test_a_changed_type_changes_the_assets_whose_facets_it_changes(built) -> None:
    with pytest.raises(Invalid, match="has no order"):
        built.where({"price": {"lt": 20}})
    built.reindexed(type="number")
    # 7 was a number before, and "n/a" is none.
    assert built.changed == [built.assets[0]]
    assert built.where({"price": {"lt": 20}}) == {0, 2}
    built.reindexed(type="text")
    assert built.changed == [built.assets[0], built.assets[0]]
    assert built.where({"price": "12"}) == {0}


def test_facets_that_follow_the_schema_already_stay_as_they_are(built) -> None:
    built.reindexed(type="number")
    with tenant_scope(built.party.id):
        before = set(Facet.objects.values_list("pk", "asset_id", "key", "text", "number"))
    with tenant_scope(built.party.id):
        job = enqueue(
            kind="reindex_metadata", arguments={"dataset": str(built.dataset.id)}, total=3, reserve={}
        )
    run_job(str(job.id), str(built.party.id))
    with tenant_scope(built.party.id):
        assert set(Facet.objects.values_list("pk", "asset_id", "key", "text", "number")) == before
    assert built.changed == [built.assets[0]]


def test_new_assets_and_captions_are_no_changes_and_erased_ones_leave_none(built) -> None:
    with tenant_scope(built.party.id):
        add_asset(dataset_id=built.dataset.id, text="new", values={"colour": "red"})
        update_asset(asset_id=built.assets[0], values={"colour": "green"})
        update_asset(asset_id=built.assets[1], values={"colour": "green"})
        receipt = erase_asset(asset_id=built.assets[0])
    assert receipt.removed["rows"]["facet_change"] == 1
    assert built.changed == [built.assets[1]]


def test_changes_of_one_tenant_are_not_those_of_another(built, stranger) -> None:
    with tenant_scope(built.party.id):
        update_asset(asset_id=built.assets[0], values={})
    with tenant_scope(stranger.id):
        assert not FacetChange.objects.exists()
