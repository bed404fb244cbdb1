"""Metadata checks, guessed types, facets and the filters that use them."""

from __future__ import annotations

import pytest
from django.db import connection, connections

from tenants.datasets import metadata, values
from tenants.datasets.models import Asset, Facet
from tenants.datasets.services import create_dataset
from tenants.errors import Invalid
from tenants.pipeline.assets.services import add_asset, update_asset
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
        ({"price": "10"}, {0}),
        ({"price": {"lt": "20"}}, {0, 2}),
        ({"price": {"in": ["10", 20.5]}}, {0, 1}),
        ({"sale": "yes"}, {0}),
        ({"colour": ""}, set()),
        ({"colour": 7}, set()),
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


@pytest.mark.parametrize(
    ("given", "pointer", "words"),
    [
        ({"price": "cheap"}, "/filter/price/eq", "'price' is number; 'cheap' is not."),
        ({"price": {"ne": True}}, "/filter/price/ne", "'price' is number; True is not."),
        ({"price": {"in": [10, "x"]}}, "/filter/price/in", "'price' is number; 'x' is not."),
        ({"price": {"lt": "2026-01-01"}}, "/filter/price/lt", "'price' is number; '2026-01-01' is not."),
        ({"since": 12}, "/filter/since/eq", "'since' is time; 12 is not."),
        ({"since": {"gt": 12}}, "/filter/since/gt", "'since' is time; 12 is not."),
        ({"sale": "red"}, "/filter/sale/eq", "'sale' is bool; 'red' is not."),
        ({"colour": {"gt": 3}}, "/filter/colour/gt", "'colour' is text, which has no order."),
        ({"sizes": {"gt": 3}}, "/filter/sizes/gt", "'sizes' is tags, which has no order."),
    ],
)
def test_a_value_that_its_key_cannot_have_is_refused(party, products, given, pointer, words) -> None:
    with tenant_scope(party.id), pytest.raises(Invalid) as caught:
        filters.matching_ids(filters.parse(given))
    assert caught.value.errors[0]["pointer"] == pointer
    assert caught.value.detail.startswith(words)


def test_the_datasets_that_are_searched_say_which_type_a_key_has(party, products) -> None:
    with tenant_scope(party.id):
        other = create_dataset(name="named", metadata_schema={"price": {"type": "text"}})
        cheap = add_asset(dataset_id=other.id, text="a price in words", values={"price": "cheap"}).asset
        given = filters.parse({"price": "cheap"})
        assert filters.matching_ids(given) == [cheap.id]
        assert filters.matching_ids(given, [other.id]) == [cheap.id]
        with pytest.raises(Invalid, match="has no order"):
            filters.matching_ids(filters.parse({"price": {"lt": 3}}), [other.id])
        assert filters.matching_ids(filters.parse({"price": {"lt": 3}})) == [products[2]]


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
    row = {
        "n": 1,
        "t": "x",
        "d": "2026-01-01",
        "b": True,
        "o": {"a": 1},
        "z": None,
        "l": [],
        "tags": ["a", "b"],
        "numbers": [1, 2],
        "days": ["2026-01-01"],
        "mixed": [1, "a"],
        "deep": [[1]],
        "long": ["x" * 101],
    }
    schema = metadata.guess_batch({}, [row, {}])
    assert {key: entry["type"] for key, entry in schema.items()} == {
        "n": "number",
        "t": "text",
        "d": "time",
        "b": "bool",
        "tags": "tags",
        "numbers": "number",
        "days": "time",
        "mixed": "text",
        "long": "text",
    }
    assert all(entry["guessed"] for entry in schema.values())
    assert metadata.guess_batch(schema, [{"n": "many"}])["n"] == {"type": "text", "guessed": True}
    assert metadata.guess_batch(schema, [{"t": ["x", "y"]}])["t"]["type"] == "tags"
    assert metadata.guess_batch(schema, [{"tags": "one"}])["tags"]["type"] == "tags"
    assert metadata.guess_batch({}, [{"k": 1}, {"k": "2026-01-01"}])["k"]["type"] == "text"
    assert metadata.guess_batch({"n": {"type": "text", "guessed": True, "label": "N"}}, [row])["n"] == {
        "type": "text",
        "guessed": True,
        "label": "N",
    }


def test_a_schema_never_outgrows_its_bound() -> None:
    rows = [{f"k{n}": n} for n in range(300)]
    assert list(metadata.guess_batch({}, rows)) == [f"k{n}" for n in range(metadata.MAX_KEYS)]


DECLARED = {
    "price": {"type": "number", "required": True},
    "colour": {"type": "text", "values": ["red", "blue"]},
    "size": {"type": "number", "values": [38, 40.5]},
    "words": {"type": "tags", "values": ["new", "sale"]},
    "day": {"type": "time"},
    "sold": {"type": "bool"},
    "note": {"type": "text"},
    "loose": {"type": "number", "guessed": True},
}


@pytest.mark.parametrize(
    ("given", "key", "detail"),
    [
        ({}, "price", "This field is required."),
        ({"price": None}, "price", "This field is required."),
        ({"price": "cheap"}, "price", "Expected number."),
        ({"price": "12"}, "price", "Expected number."),
        ({"price": True}, "price", "Expected number."),
        ({"price": {"eur": 1}}, "price", "Expected number."),
        ({"price": [1, "x"]}, "price", "Expected number."),
        ({"price": [[1]]}, "price", "Expected number."),
        ({"price": 1, "colour": "green"}, "colour", "Expected one of red, blue."),
        ({"price": 1, "colour": ["red", "green"]}, "colour", "Expected one of red, blue."),
        ({"price": 1, "size": 39}, "size", "Expected one of 38, 40.5."),
        ({"price": 1, "words": ["old"]}, "words", "Expected one of new, sale."),
        ({"price": 1, "words": "new"}, "words", metadata.expected("tags")),
        ({"price": 1, "words": ["x" * 101]}, "words", metadata.expected("tags")),
        ({"price": 1, "words": ["new"] * 101}, "words", metadata.expected("tags")),
        ({"price": 1, "day": "soon"}, "day", metadata.expected("time")),
        ({"price": 1, "day": 1767225600}, "day", metadata.expected("time")),
        ({"price": 1, "sold": "yes"}, "sold", "Expected true or false."),
        ({"price": 1, "note": 12}, "note", "Expected text."),
    ],
)
def test_what_is_declared_is_enforced(given, key, detail) -> None:
    with pytest.raises(Invalid) as caught:
        metadata.check_metadata(given, DECLARED)
    assert caught.value.errors == [{"pointer": f"/metadata/{key}", "detail": detail}]


@pytest.mark.parametrize(
    "given",
    [
        {"price": 12, "loose": "text"},
        {"price": [1, 2.5, None], "colour": ["red"], "size": 38.0, "words": [], "day": "2026-01-01"},
        {"price": 0, "sold": False, "note": "2026-01-01", "more": {"any": ["thing"]}},
    ],
)
def test_what_fits_is_kept_as_it_is(given) -> None:
    assert metadata.check_metadata(given, DECLARED) == given


def test_a_declared_type_is_never_guessed_away_and_refuses_assets(party) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="typed", metadata_schema=DECLARED)
        for values_given in ({"price": "cheap"}, {}):
            with pytest.raises(Invalid):
                add_asset(dataset_id=dataset.id, text="x", values=values_given)
        asset = add_asset(dataset_id=dataset.id, text="x", values={"price": 1}).asset
        with pytest.raises(Invalid):
            update_asset(asset_id=asset.id, values={"price": 2, "colour": "green"})
        asset.refresh_from_db()
        assert (asset.metadata, Asset.objects.count()) == ({"price": 1}, 1)
    assert metadata.guess_batch(DECLARED, [{"price": "cheap", "loose": 2}]) == DECLARED


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ({"type": "colour"}, ""),
        ("number", ""),
        ({"type": "number", "require": True}, "/require"),
        ({"type": "number", "required": 1}, "/required"),
        ({"type": "number", "guessed": True, "required": True}, "/guessed"),
        ({"type": "number", "guessed": True, "values": [1]}, "/guessed"),
        ({"type": "number", "values": [1, "2"]}, "/values/1"),
        ({"type": "number", "values": 3}, "/values"),
        ({"type": "number", "values": [[1]]}, "/values/0"),
        ({"type": "text", "values": ["a"] * 201}, "/values"),
        ({"type": "tags", "values": ["x" * 101]}, "/values/0"),
        ({"type": "time", "values": ["soon"]}, "/values/0"),
        ({"type": "text", "label": 3}, "/label"),
        ({"type": "text", "label": "x" * 101}, "/label"),
        ({"type": "text", "label": "\x00"}, "/label"),
        ({"type": "number", "values": [2**53 + 1]}, "/values/0"),
    ],
)
def test_a_bad_schema_is_refused_and_the_place_named(entry, place) -> None:
    with pytest.raises(Invalid) as caught:
        metadata.check_schema({"k": entry})
    assert caught.value.errors[0]["pointer"] == f"/metadata_schema/k{place}"


def test_a_good_schema_is_kept() -> None:
    assert metadata.check_schema(DECLARED) == DECLARED


@pytest.mark.parametrize(
    "given",
    [
        [],
        {"": 1},
        {"k" * 101: 1},
        {"k": "\x00"},
        {"k\x00": 1},
        {"k": "\udfff"},
        {"k": float("nan")},
        {"k": float("inf")},
        {"k": 10**400},
        {"k": 2**53 + 1},
        {"k": [[[[[[[[[[1]]]]]]]]]]},
        {str(n): n for n in range(101)},
    ],
)
def test_metadata_that_cannot_be_stored_is_refused(given) -> None:
    with pytest.raises(Invalid):
        metadata.check_metadata(given, {})


@pytest.mark.parametrize("value", ["2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"])
def test_times_are_read_as_utc(value) -> None:
    assert values.parse_time(value) == 1767225600.0


@pytest.mark.parametrize("value", ["", "red", "12", "9" * 60, "2026-13-01", "1-2-3", "20260101", "2026W011"])
def test_what_is_not_a_time(value) -> None:
    assert values.parse_time(value) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("0", 0), ("-12", -12), ("12.50", 12.5), ("1e3", 1000.0), ("2.5E-2", 0.025), ("-0", 0)),
        *((str(2**53), 2**53), (str(2**53 + 1), None), ("9" * 5000, None), ("1e999", None)),
        *(
            ("1,200", None),
            ("007", None),
            ("+5", None),
            (".5", None),
            ("5.", None),
            ("", None),
            ("1 000", None),
        ),
        *(("inf", None), ("nan", None), ("0x10", None), ("1_000", None), ("\u0661", None), ("12\n", None)),
    ],
)
def test_only_plain_decimals_are_numbers(text, number) -> None:
    assert values.read_number(text) == number


@pytest.mark.parametrize(
    ("cell", "entry", "expected"),
    [
        (" 12.5 ", None, 12.5),
        ("TRUE", None, True),
        ("yes", None, "yes"),
        ("2024-05-01", None, "2024-05-01"),
        ("1,200", None, "1,200"),
        ("12", {"type": "text"}, "12"),
        ("12", {"type": "number"}, 12),
        ("n/a", {"type": "number", "guessed": True}, "n/a"),
        ("No", {"type": "bool"}, False),
        ("1", {"type": "bool"}, True),
        (" 2024-05-01T10:00 ", {"type": "time"}, "2024-05-01T10:00"),
        ("a; b|a ,c,,", {"type": "tags"}, ["a", "b", "c"]),
    ],
)
def test_a_cell_becomes_a_value_of_its_columns_type(cell, entry, expected) -> None:
    found = metadata.coerce(cell, entry)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("cell", "kind"), [("cheap", "number"), ("maybe", "bool"), ("soon", "time"), ("x" * 101, "tags")]
)
def test_a_cell_that_is_not_of_the_declared_type_says_what_is_expected(cell, kind) -> None:
    with pytest.raises(Invalid) as caught:
        metadata.coerce(cell, {"type": kind})
    assert caught.value.detail == metadata.expected(kind)


def test_facets_follow_the_schema_where_values_are_older_than_it() -> None:
    given = {"price": "12.5", "words": "new; sale", "sold": "yes", "day": "2026-01-01", "note": " 7 "}
    found = {(f.key, f.text, f.number) for f in metadata.facets_of(None, given, DECLARED)}
    assert found == {
        ("price", "12.5", 12.5),
        ("words", "new", None),
        ("words", "sale", None),
        ("sold", "true", None),
        ("day", "2026-01-01", 1767225600.0),
        ("note", " 7 ", None),
    }
