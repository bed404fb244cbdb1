"""Metadata checks, guessed types, facets and the filters that use them."""

from __future__ import annotations

import pytest
from django.db import connection, connections

from tenants.datasets import metadata
from tenants.datasets.models import Facet
from tenants.datasets.services import create_dataset
from tenants.errors import Invalid
from tenants.pipeline.services import add_asset
from tenants.retrieval import filters
from tenants.scope import tenant_scope

PRODUCTS = [
    {"colour": "red", "price": 10, "sizes": ["s", "m"], "sale": True, "since": "2026-01-01"},
    {"colour": "blue", "price": 20.5, "sizes": ["l"], "sale": False, "since": "2026-06-01T12:00:00Z"},
    {"colour": "Red", "price": -3, "box": {"w": 1}, "zero": -0.0, "long": "x" * 400 + "a"},
    {},
]


@pytest.fixture
def products(party):
    """The ids of four products, in the order of PRODUCTS."""
    with tenant_scope(party.id):
        dataset = create_dataset(name="products")
        added = [
            add_asset(dataset_id=dataset.id, text=f"product {n}", values=v) for n, v in enumerate(PRODUCTS)
        ]
    return [one.asset.id for one in added]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"colour": "red"}, {0}),
        ({"colour": {"eq": "blue"}}, {1}),
        ({"colour": {"ne": "red"}}, {1, 2, 3}),
        ({"colour": {"in": ["red", "blue", "green"]}}, {0, 1}),
        ({"price": {"lt": 20}}, {0, 2}),
        ({"price": {"lte": 10}}, {0, 2}),
        ({"price": {"gt": 10}}, {1}),
        ({"price": {"gte": 10, "lt": 20.5}}, {0}),
        ({"price": 10.0}, {0}),
        ({"sizes": "m"}, {0}),
        ({"sale": True}, {0}),
        ({"sale": {"ne": True}}, {1, 2, 3}),
        ({"since": {"gte": "2026-03-01"}}, {1}),
        ({"colour": {"exists": False}}, {3}),
        ({"sale": {"exists": True}}, {0, 1}),
        ({"colour": "red", "price": {"lt": 5}}, set()),
        ({"unknown": "x"}, set()),
        ({"since": "2026-06-01T14:00:00+02:00"}, {1}),
        ({"since": {"in": ["2026-01-01T00:00:00Z"]}}, {0}),
        ({"box": {"exists": True}}, {2}),
        ({"zero": 0}, {2}),
        ({"long": "x" * 400 + "a"}, {2}),
        ({"long": "x" * 400 + "b"}, set()),
    ],
)
def test_filters(party, products, given, expected) -> None:
    with tenant_scope(party.id):
        found = filters.matching_ids(filters.parse(given))
    assert {products.index(one) for one in found} == expected


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ([], "/filter"),
        ("price < 3", "/filter"),
        ({"price": {}}, "/filter/price"),
        ({"price": {"like": "x"}}, "/filter/price/like"),
        ({"price": {"lt": "cheap"}}, "/filter/price/lt"),
        ({"price": {"lt": True}}, "/filter/price/lt"),
        ({"price": {"in": []}}, "/filter/price/in"),
        ({"price": {"in": "ab"}}, "/filter/price/in"),
        ({"price": {"in": [{}]}}, "/filter/price/in"),
        ({"price": {"exists": 1}}, "/filter/price/exists"),
        ({"price": None}, "/filter/price/eq"),
        ({"price": [1]}, "/filter/price/eq"),
        ({"a\x00b": 1}, "/filter"),
        ({"a": "\ud800"}, "/filter/a"),
        ({str(n): n for n in range(21)}, "/filter"),
    ],
)
def test_bad_filters_name_the_place(given, pointer) -> None:
    with pytest.raises(Invalid) as caught:
        filters.parse(given)
    assert caught.value.errors[0]["pointer"] == pointer


@pytest.mark.parametrize("clause", ["text = 'v7'", "text IN ('v7', 'v8')", "number < 20", "number >= 2990"])
def test_the_plan_of_a_facet_filter_uses_its_index(party, clause) -> None:
    """Row-level security hides indexes from operators that are not leakproof; the facet table's are."""
    with tenant_scope(party.id):
        asset = add_asset(dataset_id=create_dataset(name="many").id, text="x").asset
        Facet.objects.bulk_create(
            Facet(asset=asset, key=f"k{n % 5}", text=f"v{n}", number=float(n)) for n in range(3000)
        )
    with connections["migration"].cursor() as owner:
        owner.execute("ANALYZE facet")  # autovacuum's work, not waited for
    with tenant_scope(party.id), connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN SELECT asset_id FROM facet WHERE key = 'k1' AND {clause}")
        plan = [line.strip() for (line,) in cursor.fetchall()]
    column = clause.split()[0]
    assert any(f"facet_by_{column}" in line for line in plan), plan
    condition = next(line for line in plan if line.startswith("Index Cond"))
    assert f"({column} " in condition and "key" in condition and "tenant_id" in condition


def test_types_are_guessed_and_fall_back_to_text() -> None:
    schema = metadata.guessed_schema(
        {}, {"n": 1, "t": "x", "d": "2026-01-01", "b": True, "o": {"a": 1}, "z": None}
    )
    assert {key: entry["type"] for key, entry in schema.items()} == {
        "n": "number",
        "t": "text",
        "d": "time",
        "b": "bool",
    }
    assert metadata.guessed_schema(schema, {"n": "many"})["n"]["type"] == "text"


def test_a_declared_type_is_enforced_and_never_guessed_away(party) -> None:
    schema = {"price": {"type": "number"}}
    with tenant_scope(party.id):
        dataset = create_dataset(name="typed", metadata_schema=schema)
        with pytest.raises(Invalid) as caught:
            add_asset(dataset_id=dataset.id, text="x", values={"price": "cheap"})
    assert caught.value.errors == [{"pointer": "/metadata/price", "detail": "Expected number."}]
    assert metadata.guessed_schema(schema, {"price": "cheap"}) == schema


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"": 1},
        {"k" * 101: 1},
        {"k": "\x00"},
        {"k\x00": 1},
        {"k": "\udfff"},
        {"k": float("nan")},
        {"k": float("inf")},
        {"k": [[[[[[[[[[1]]]]]]]]]]},
        {str(n): n for n in range(101)},
    ],
)
def test_metadata_that_cannot_be_stored_is_refused(values) -> None:
    with pytest.raises(Invalid):
        metadata.check_metadata(values, {})


@pytest.mark.parametrize("value", ["2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"])
def test_times_are_read_as_utc(value) -> None:
    assert metadata.parse_time(value) == 1767225600.0


@pytest.mark.parametrize("value", ["", "red", "12", "9" * 60, "2026-13-01", "1-2-3"])
def test_what_is_not_a_time(value) -> None:
    assert metadata.parse_time(value) is None
