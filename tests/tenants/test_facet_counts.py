"""Counts of values: buckets that people can read, and the same counts from postings, from Postgres and by hand."""

from __future__ import annotations

import datetime as dt
import uuid

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ml.indexes.postings import Postings
from tenants.datasets import metadata
from tenants.datasets.models import Asset, Blob, Dataset, Facet
from tenants.datasets.services import create_dataset
from tenants.retrieval import filters
from tenants.retrieval.query import ranking
from tenants.retrieval.query.ranking import Allowed, count_facets
from tenants.scope import tenant_scope


def _time(year: int, month: int = 1, day: int = 1, hour: int = 0) -> float:
    return dt.datetime(year, month, day, hour, tzinfo=dt.UTC).timestamp()


# --- Buckets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "least", "greatest", "expected"),
    [
        ("number", 3, 3, [3, 3]),
        ("number", 0, 100, [0, 20, 40, 60, 80, 100]),
        ("number", 3.5, 99.9, [0, 20, 40, 60, 80, 99.9]),
        ("number", -0.3, 0.45, [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3, 0.4, 0.45]),
        ("number", 1, 8_000_000, [0, *(n * 1e6 for n in range(1, 9))]),
        ("number", -1e308, 1.5e308, [-1e308, -5e307, 0, 5e307, 1e308, 1.5e308]),
        (
            *("time", _time(2026, 3, 5, 7), _time(2026, 3, 5, 20)),
            [_time(2026, 3, 5, hour) for hour in (6, 9, 12, 15, 18, 20)],
        ),
        (
            *("time", _time(2019, 5, 6), _time(2026, 2, 1)),
            [_time(year) for year in range(2019, 2027)] + [_time(2026, 2)],
        ),
    ],
)
def test_buckets_begin_at_round_places(kind, least, greatest, expected) -> None:
    assert ranking.edges_of(kind, least, greatest) == expected


numbers = st.floats(allow_nan=False, allow_infinity=False)


@example("time", 1e300, -1e300)
@example("time", -62_135_646_800.0, 0.0)
@example("number", 1e16, 1e16 + 2)
@example("number", 5e-324, 1e-323)
@given(st.sampled_from(["number", "time"]), numbers, numbers | st.floats(-3, 3))
def test_buckets_are_few_and_leave_nothing_out(kind, one, other) -> None:
    least, greatest = sorted([one, other])
    edges = ranking.edges_of(kind, least, greatest)
    assert edges == sorted(edges) and 2 <= len(edges) <= ranking.BUCKETS + 2
    assert edges[0] <= least and edges[-1] == greatest
    assert len(set(edges)) == len(edges) or len(edges) == 2
    told = ranking.described(kind, edges)
    assert [set(bucket) for bucket in told] == [{"gte", "lt"}] * (len(told) - 1) + [{"gte", "lte"}]


@given(st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30), timezones=st.just(dt.UTC)))
def test_a_time_is_told_as_the_filter_reads_it(moment) -> None:
    told = ranking.on_scale("time", moment.timestamp())
    assert metadata.as_number(told) == moment.timestamp()


# --- Counts ----------------------------------------------------------------------------------------------

SCHEMA = {
    "colour": {"type": "text"},
    "price": {"type": "number", "guessed": True},
    "since": {"type": "time"},
    "sale": {"type": "bool"},
    "tags": {"type": "tags"},
    "mixed": {"type": "number"},
}
KEYS = [*SCHEMA, "nobody's"]

prices = st.sampled_from([0, 1, 1.5, 7, 12, 99.9, -3]) | st.integers(-5, 200)
row = st.fixed_dictionaries(
    {},
    optional={
        "colour": st.sampled_from(["red", "blue", "Blue", "x" * 301]) | st.lists(st.sampled_from("abc")),
        "price": prices | st.lists(prices, max_size=3),
        "since": st.sampled_from(
            ["2026-01-01", "2026-01-01T00:00:00Z", "2024-02-29T12:00:00.25+01:00", "0001-01-01"]
        ),
        "sale": st.booleans(),
        "tags": st.lists(st.sampled_from(["new", "sale", "é", "12"]), max_size=3),
        "mixed": st.sampled_from([1, "one"]),
    },
)


class Shop:
    def __init__(self, party) -> None:
        self.party = party
        with tenant_scope(party.id):
            self.dataset = create_dataset(name="shop", metadata_schema=SCHEMA)
            self.other = create_dataset(name="other", metadata_schema={"mixed": {"type": "text"}})
            self.blob = Blob.objects.create(sha256=uuid.uuid4().hex * 2, bytes=1, media_type="text/plain")

    def refill(self, rows: list[dict], dataset: Dataset | None = None) -> list[uuid.UUID]:
        """Assets with these metadata and no others, in the order of their ids."""
        with tenant_scope(self.party.id):
            Facet.objects.all().delete()
            Asset.objects.all()._raw_delete(using="default")
            assets = [
                Asset(dataset=dataset or self.dataset, blob=self.blob, modality="text", metadata=one)
                for one in rows
            ]
            Asset.objects.bulk_create(assets)
            Facet.objects.bulk_create(
                facet for asset in assets for facet in metadata.facets_of(asset.id, asset.metadata, SCHEMA)
            )
        return [asset.id for asset in assets]

    def count(self, keys: list[str], assets, **more) -> dict:
        with tenant_scope(self.party.id):
            return count_facets(keys, Allowed(assets, **{"datasets": [self.dataset.id], **more}))


@pytest.fixture
def shop(party) -> Shop:
    return Shop(party)


def indexed(ids: list[uuid.UUID], folder) -> Postings:
    filters.export_facets(np.array([one.bytes for one in ids], "S16"), folder)
    return Postings.open(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(row, min_size=1, max_size=12),
    of=st.lists(st.sampled_from(["out", "index", "database"]), min_size=12, max_size=12),
)
def test_all_ways_to_count_agree_and_filters_find_as_many(shop, tmp_path_factory, rows, of) -> None:
    ids = shop.refill(rows)
    of = of[: len(ids)]
    allowed = {asset_id for asset_id, where in zip(ids, of, strict=True) if where != "out"}
    with tenant_scope(shop.party.id):
        postings = indexed(ids, tmp_path_factory.mktemp("generation"))
    by_database = shop.count(KEYS, allowed)
    mask = np.array([where == "index" for where in of])
    newer = [asset_id for asset_id, where in zip(ids, of, strict=True) if where == "database"]
    assert shop.count(KEYS, newer, postings=postings, mask=mask) == by_database
    everywhere = np.array([where != "out" for where in of])
    assert shop.count(KEYS, [], postings=postings, mask=everywhere) == by_database

    assert [by_database[key]["type"] for key in KEYS] == [*(e["type"] for e in SCHEMA.values()), "text"]
    of_shop = [shop.dataset.id]
    with tenant_scope(shop.party.id):
        for key, counted in by_database.items():
            for told in counted["values"]:
                found = set(filters.matching_ids(filters.parse({key: told["value"]}), of_shop)) & allowed
                several = key == "price" and any(isinstance(one.get(key), list) for one in rows)
                assert len(found) == told["count"] or (several and len(found) > told["count"]), (key, told)


def test_what_is_counted_by_hand(shop) -> None:
    ids = shop.refill(
        [
            {"colour": "red", "price": 3, "since": "2026-01-01", "sale": True, "tags": ["a", "b"]},
            {"colour": "red", "price": [5, 90], "since": "2026-01-02T12:00:00+01:00", "tags": ["b"]},
            {"colour": "blue", "price": 100, "sale": False, "mixed": "many"},
            {"colour": "x" * 301, "price": 3},
        ]
    )
    assert shop.count(KEYS, ids) == {
        "colour": {"type": "text", "values": [{"value": "red", "count": 2}, {"value": "blue", "count": 1}]},
        "price": {
            "type": "number",
            "values": [
                {"value": {"gte": 0, "lt": 20}, "count": 3},
                {"value": {"gte": 20, "lt": 40}, "count": 0},
                {"value": {"gte": 40, "lt": 60}, "count": 0},
                {"value": {"gte": 60, "lt": 80}, "count": 0},
                {"value": {"gte": 80, "lte": 100}, "count": 2},
            ],
            "min": 3,
            "max": 100,
        },
        "since": {
            "type": "time",
            "values": [
                {"value": {"gte": "2026-01-01T00:00:00Z", "lt": "2026-01-01T06:00:00Z"}, "count": 1},
                *(
                    {"value": {"gte": f"2026-01-01T{a}:00:00Z", "lt": f"2026-01-0{d}T{b}:00:00Z"}, "count": 0}
                    for a, d, b in (("06", 1, "12"), ("12", 1, "18"), ("18", 2, "00"))
                ),
                {"value": {"gte": "2026-01-02T00:00:00Z", "lt": "2026-01-02T06:00:00Z"}, "count": 0},
                {"value": {"gte": "2026-01-02T06:00:00Z", "lte": "2026-01-02T11:00:00Z"}, "count": 1},
            ],
            "min": "2026-01-01T00:00:00Z",
            "max": "2026-01-02T11:00:00Z",
        },
        "sale": {"type": "bool", "values": [{"value": False, "count": 1}, {"value": True, "count": 1}]},
        "tags": {"type": "tags", "values": [{"value": "b", "count": 2}, {"value": "a", "count": 1}]},
        "mixed": {"type": "number", "values": []},
        "nobody's": {"type": "text", "values": []},
    }


def test_the_datasets_say_the_type_and_several_types_are_text(shop) -> None:
    ids = shop.refill([{"mixed": 3}, {"mixed": "3"}, {"mixed": "one"}], shop.other)
    spelled = {"type": "text", "values": [{"value": "3.0", "count": 2}, {"value": "one", "count": 1}]}
    assert shop.count(["mixed"], ids, datasets=None)["mixed"] == spelled
    assert shop.count(["mixed"], ids, datasets=[shop.other.id])["mixed"] == spelled
    assert shop.count(["mixed"], ids, datasets=[shop.dataset.id])["mixed"]["min"] == 3


@pytest.mark.parametrize("by_index", [False, True])
def test_only_the_most_frequent_values_are_told(shop, tmp_path, by_index) -> None:
    words = [f"w{n:02}" for n in range(30)]
    ids = shop.refill([{"tags": words}, {"tags": words[5:]}, {"tags": words[29:]}])
    with tenant_scope(shop.party.id):
        postings = indexed(ids, tmp_path)
    more = {"postings": postings, "mask": np.array([True, False, True])} if by_index else {}
    found = shop.count(["tags"], ids[1:2] if by_index else ids, **more)["tags"]["values"]
    assert [(v["value"], v["count"]) for v in found] == [("w29", 3)] + [(w, 2) for w in words[5:24]]
    assert len(found) == ranking.TOP_VALUES


def test_a_query_of_assets_is_counted_in_four_statements(shop, django_assert_num_queries) -> None:
    shop.refill([{"colour": "red", "price": n} for n in range(50)])
    with tenant_scope(shop.party.id):
        with django_assert_num_queries(4):
            found = count_facets(["colour", "price"], Allowed(Asset.objects.filter(dataset=shop.dataset)))
        assert found["colour"]["values"] == [{"value": "red", "count": 50}]
        assert sum(bucket["count"] for bucket in found["price"]["values"]) == 50
        assert (
            count_facets(["colour"], Allowed(Asset.objects.filter(dataset=shop.other)))["colour"]["values"]
            == []
        )


def test_assets_of_another_tenant_are_not_counted(shop, stranger) -> None:
    theirs = Shop(stranger)
    ids = theirs.refill([{"colour": "red", "price": 3}])
    assert shop.count(["colour", "price"], ids) == {
        "colour": {"type": "text", "values": []},
        "price": {"type": "number", "values": []},
    }
