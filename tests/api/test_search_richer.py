"""Likeness, negative examples, highlights, folded duplicates and facets, over vectors that are put in directly."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tenants.datasets.models import Asset, TranscriptSegment
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.query import encoding, lexical
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.api.test_search import find, ids, towards
from tests.conftest import Party

Put = Callable[..., str]


@pytest.fixture
def put(api: Api, party: Party, add_text: Callable) -> Put:
    """Add an asset that points in a direction, given in degrees or as vectors; its id."""

    def put(degrees: float = 0, text: str = "", **given: Any) -> str:
        changes, vectors = (
            given.pop("changes", {}),
            given.pop("vectors", [NewVector("text", towards(degrees))]),
        )
        asset_id = add_text(text or uuid.uuid4().hex, **given)["asset"]["id"]
        with tenant_scope(party.id):
            asset = Asset.objects.get(pk=asset_id)
            replace_vectors(asset=asset, model=encoding.model_id(), vectors=vectors)
            Asset.objects.filter(pk=asset_id).update(status="ready", **changes)
        return asset_id

    return put


def search(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post("/search", fields)
    assert answer.status_code == 200, answer.content
    return answer.json()


def pages(api: Api, **fields: Any) -> list[dict[str, Any]]:
    """The answers of all pages."""
    found = [search(api, **fields)]
    while found[-1]["next"]:
        found.append(search(api, cursor=found[-1]["next"], top_k=fields["top_k"]))
    return found


# --- Like and unlike -------------------------------------------------------------------------------------


def test_more_like_some_assets_leaves_them_out(api: Api, put: Put) -> None:
    left, right, between, far = put(0), put(60), put(30), put(90)
    answer = search(api, like={"assets": [left, right]})
    assert ids(answer) == [between, far]
    assert round(answer["results"][0]["score"], 4) == 1
    assert (answer["weights"], answer["cache"]) == ({"like": 1.0}, "bypass")


def test_likeness_is_one_part_among_others(api: Api, put: Put) -> None:
    left, between, right = put(0), put(45), put(90)
    fields = {"like": {"assets": [left]}, "vector": towards(90).tolist()}
    assert ids(search(api, **fields)) == [between, right]
    answer = search(api, **fields, weights={"like": 0, "vector": 2})
    assert (ids(answer), answer["weights"]) == ([right, between], {"like": 0.0, "vector": 1.0})


def test_pages_of_likeness_never_show_what_was_named(api: Api, put: Put) -> None:
    named, unwanted = put(0), put(80)
    others = [put(degrees) for degrees in (10, 20, 30, 40, 50)]
    fields = {"like": {"assets": [named]}, "unlike": {"assets": [unwanted]}}
    found = [one for page in pages(api, **fields, top_k=2) for one in ids(page)]
    assert sorted(found) == sorted(others)


def test_unlike_turns_the_query_away(api: Api, put: Put) -> None:
    near, away, bad = put(30), put(-35), put(60)
    assert ids(find(api)) == [near, away, bad]
    answer = find(api, unlike={"assets": [bad]})
    assert ids(answer) == [away, near]
    assert answer["weights"] == {"vector": 1.0, "unlike": 0.3}
    assert ids(find(api, unlike={"assets": [bad]}, weights={"unlike": 0})) == [near, away]


@pytest.mark.slow
def test_unlike_words(api: Api, party: Party, put: Put) -> None:
    apple, pear = encoding.space().embed_texts(["a red apple", "a green pear"])
    first, second = put(vectors=[NewVector("text", apple)]), put(vectors=[NewVector("text", pear)])
    mixed = (apple + 0.9 * pear).tolist()
    assert ids(search(api, vector=mixed)) == [first, second]
    answer = search(api, vector=mixed, unlike={"text": "a red apple"}, weights={"unlike": 1})
    assert ids(answer) == [second, first]
    assert answer["weights"] == {"vector": 1.0, "unlike": 1.0}


def test_a_query_that_cancels_itself_out_is_refused(api: Api, put: Put) -> None:
    bad = put(0)
    body = {"vector": towards(0).tolist(), "unlike": {"assets": [bad]}, "weights": {"unlike": 1}}
    refused(api.post("/search", body), 422, "invalid")


def test_assets_as_spoken_and_seen_parts(api: Api, put: Put) -> None:
    film = put(
        vectors=[
            NewVector("video", towards(0), {"start_s": 0, "end_s": 1}),
            NewVector("video", towards(20), {"start_s": 1, "end_s": 2}),
            NewVector("audio", towards(90), {"start_s": 0, "end_s": 2}),
        ]
    )
    seen, said = put(10), put(90)
    answer = search(api, video={"asset": film}, modalities=["text"])
    assert (ids(answer)[-1], answer["weights"]) == (said, {"video": 1.0})
    assert {result["asset"]["id"]: round(result["score"], 3) for result in answer["results"]}[seen] == 1
    answer = search(api, audio={"asset": film}, top_k=2)
    assert answer["weights"] == {"audio": 1.0}
    assert said in ids(answer)
    assert film in ids(search(api, audio={"asset": film}))


@pytest.mark.parametrize("part", ["image", "audio", "video"])
def test_an_asset_without_that_part_is_refused(api: Api, put: Put, part: str) -> None:
    refused(api.post("/search", {part: {"asset": put(0)}}), 422, "invalid", f"/{part}/asset")


def test_assets_that_are_not_ready_are_named(api: Api, put: Put, add_text: Callable) -> None:
    ready, pending = put(0), add_text("later")["asset"]["id"]
    for part in ("like", "unlike"):
        body = {"vector": towards(9).tolist(), part: {"assets": [ready, pending]}}
        refused(api.post("/search", body), 422, "invalid", f"/{part}/assets/1")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"like": {}}, "/like/assets"),
    ({"like": {"assets": []}}, "/like/assets"),
    ({"like": {"assets": "x"}}, "/like/assets"),
    ({"like": {"text": "x"}}, "/like/text"),
    ({"unlike": {"text": "x"}}, ""),
    ({"vector": [1.0] * 256, "unlike": {}}, "/unlike"),
    ({"vector": [1.0] * 256, "unlike": {"text": " "}}, "/unlike"),
    ({"vector": [1.0] * 256, "unlike": {"text": "x" * 10_001}}, "/unlike/text"),
    ({"vector": [1.0] * 256, "unlike": {"text": "\x00"}}, "/unlike/text"),
    ({"vector": [1.0] * 256, "weights": {"unlike": 1.1}}, "/weights/unlike"),
    ({"vector": [1.0] * 256, "weights": {"unlike": -0.1}}, "/weights/unlike"),
    ({"vector": [1.0] * 256, "group": "colours"}, "/group"),
    ({"vector": [1.0] * 256, "group": True}, "/group"),
    ({"vector": [1.0] * 256, "highlight": "yes"}, "/highlight"),
    ({"vector": [1.0] * 256, "facets": "colour"}, "/facets"),
    ({"vector": [1.0] * 256, "facets": []}, "/facets"),
    ({"vector": [1.0] * 256, "facets": [1]}, "/facets/0"),
    ({"vector": [1.0] * 256, "facets": ["x" * 101]}, "/facets/0"),
    ({"vector": [1.0] * 256, "facets": ["\x00"]}, "/facets/0"),
    ({"vector": [1.0] * 256, "facets": [str(n) for n in range(11)]}, "/facets"),
]


@pytest.mark.parametrize(("body", "pointer"), WRONG)
def test_wrong_values_are_refused(api: Api, body: dict[str, Any], pointer: str) -> None:
    refused(api.post("/search", body), 422, "invalid", pointer)


def test_an_asset_is_wanted_or_not(api: Api, put: Put) -> None:
    one = put(0)
    body = {"like": {"assets": [one]}, "unlike": {"assets": [one]}}
    refused(api.post("/search", body), 422, "invalid", "/unlike")


def test_twenty_assets_and_no_more(api: Api, put: Put) -> None:
    named = [put(degrees) for degrees in range(21)]
    assert ids(search(api, like={"assets": named[:20]})) == [named[20]]
    refused(api.post("/search", {"like": {"assets": named}}), 422, "invalid", "/like/assets")


# --- What belongs to others ------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{}, {"top_k": 0}, {"colour": 1}, {"filter": {"a": {"near": 1}}}])
def test_another_tenants_asset_is_absent_before_anything_else(
    other: Api, put: Put, wrong: dict[str, Any]
) -> None:
    foreign, vector = put(0), towards(0).tolist()
    for named in (
        {"like": {"assets": [foreign]}},
        {"unlike": {"assets": [foreign]}, "vector": vector},
        {"image": {"asset": foreign}},
        {"audio": {"asset": foreign}},
        {"video": {"asset": foreign}},
        {"like": {"assets": ["no id"]}},
        {"vector": vector, "datasets": [str(uuid.uuid4())]},
    ):
        refused(other.post("/search", {**named, **wrong}), 404, "not-found")


# --- Highlights ------------------------------------------------------------------------------------------


def test_highlights_tell_places_in_plain_text(api: Api, party: Party, put: Put) -> None:
    text = "<b>Red</b> apples & a red pear"
    found = put(0, text, metadata={"label": "Apple", "price": 3, "tags": ["green", "apples"]})
    plain = put(10, "nothing of it", metadata={"label": "x"})
    answer = search(api, text="red apple", vector=towards(0).tolist(), weights={"text": 0}, highlight=True)
    told = {result["asset"]["id"]: result["highlights"] for result in answer["results"]}
    assert sorted(told[found], key=lambda one: one["field"]) == [
        {"field": "excerpt", "text": text, "marks": [[3, 6], [11, 17], [22, 25]]},
        {"field": "metadata.label", "text": "Apple", "marks": [[0, 5]]},
        {"field": "metadata.tags", "text": "apples", "marks": [[0, 6]]},
    ]
    assert told[plain] == []
    assert "highlights" not in find(api)["results"][0]


def test_highlights_without_words_are_empty(api: Api, put: Put) -> None:
    put(0, "red")
    assert find(api, highlight=True)["results"][0]["highlights"] == []


def test_highlights_are_of_the_passage_that_was_found(api: Api, put: Put) -> None:
    first, second = "apple one. " + "x " * 600, "é apple two. " + "y " * 300
    segments = [(0, len(first)), (len(first), len(first) + len(second))]
    put(
        text=first + second,
        vectors=[
            NewVector("text", towards(degrees), {"start_char": start, "end_char": end})
            for degrees, (start, end) in zip((90, 0), segments, strict=True)
        ],
    )
    answer = search(api, text="apple", vector=towards(0).tolist(), weights={"text": 0}, highlight=True)
    [told] = answer["results"][0]["highlights"]
    assert told["field"] == "passage"
    assert told["text"].startswith("é apple two.")
    assert [told["text"][a:b] for a, b in told["marks"]] == ["apple"]


def test_highlights_of_captions_and_of_what_is_said(api: Api, party: Party, put: Put) -> None:
    moment = {"start_s": 10.0, "end_s": 20.0}
    film = put(
        vectors=[NewVector("audio", towards(0), moment)],
        changes={"modality": "video", "caption": "An apple a day", "excerpt": "the first words, apple"},
    )
    with tenant_scope(party.id):
        for start, text in ((0, "apple early"), (12, "the apple"), (16, "falls"), (30, "apple late")):
            TranscriptSegment.objects.create(asset_id=film, start_s=start, end_s=start + 4, text=text)
    answer = search(api, text="apples", vector=towards(0).tolist(), weights={"text": 0}, highlight=True)
    assert answer["results"][0]["highlights"] == [
        {"field": "transcript", "text": "the apple falls", "marks": [[4, 9]]},
        {"field": "caption", "text": "An apple a day", "marks": [[3, 8]]},
    ]


def test_further_pages_are_highlighted_too(api: Api, put: Put) -> None:
    for degrees in range(5):
        put(degrees, f"apple {degrees}")
    fields = {"text": "apple", "vector": towards(0).tolist(), "weights": {"text": 0}, "top_k": 2}
    found = [result for page in pages(api, **fields, highlight=True) for result in page["results"]]
    assert len(found) == 5
    assert all(result["highlights"][0]["marks"] == [[0, 5]] for result in found)


# --- Groups ----------------------------------------------------------------------------------------------


def test_duplicates_are_folded_into_the_best(api: Api, put: Put) -> None:
    best, other, copy, last = put(1), put(40), put(5), put(80)
    answer = find(api, group="duplicates")
    assert ids(answer) == [best, other, last]
    folded = [[one["asset"] for one in result["duplicates"]] for result in answer["results"]]
    assert folded == [[copy], [], []]
    assert answer["results"][0]["duplicates"][0]["score"] == pytest.approx(np.cos(np.radians(5)), abs=1e-5)
    assert "duplicates" not in find(api)["results"][0]


def test_pages_count_groups_and_do_not_tear_them(api: Api, put: Put) -> None:
    wanted = [[put(base + offset) for offset in (0, 3)] for base in (0, 20, 40, 60, 80)]
    first = find(api, group="duplicates", top_k=2)
    put(1)
    api.call("DELETE", f"/assets/{wanted[2][0]}")
    for gone in wanted[3]:
        api.call("DELETE", f"/assets/{gone}")
    second = search(api, cursor=first["next"], top_k=2)
    third = search(api, cursor=second["next"], top_k=2)
    found = [
        [result["asset"]["id"], *(one["asset"] for one in result["duplicates"])]
        for page in (first, second, third)
        for result in page["results"]
    ]
    assert found == [wanted[0], wanted[1], [wanted[2][1]], wanted[4]]
    assert third["next"] is None


def test_an_answer_of_one_group_has_no_next_page(api: Api, put: Put) -> None:
    for degrees in range(4):
        put(degrees)
    answer = find(api, group="duplicates", top_k=1)
    assert (len(answer["results"]), len(answer["results"][0]["duplicates"]), answer["next"]) == (1, 3, None)


# --- Facets, exact ---------------------------------------------------------------------------------------


def test_facets_count_all_that_may_be_found(api: Api, put: Put) -> None:
    for degrees, colour in ((0, "red"), (10, "red"), (20, "blue"), (30, "green")):
        named = put(degrees, metadata={"colour": colour, "price": degrees})
    fields = {"facets": ["colour", "absent", "colour"], "top_k": 1, "filter": {"price": {"lt": 30}}}
    found = find(api, **fields)
    assert found["facets"] == {
        "colour": {"type": "text", "values": [{"value": "red", "count": 2}, {"value": "blue", "count": 1}]},
        "absent": {"type": "text", "values": []},
    }
    assert "facets" not in search(api, cursor=found["next"])
    assert "facets" not in find(api)
    answer = search(api, like={"assets": [named]}, facets=["colour"])
    assert "green" not in {value["value"] for value in answer["facets"]["colour"]["values"]}
    # What a key is filtered by does not narrow its own counts, and narrows all others.
    narrowed = find(api, facets=["colour", "price"], filter={"colour": "red"})["facets"]
    assert {one["value"]: one["count"] for one in narrowed["colour"]["values"]} == {
        "red": 2,
        "blue": 1,
        "green": 1,
    }
    assert sum(bucket["count"] for bucket in narrowed["price"]["values"]) == 2
    both = find(api, facets=["colour"], filter={"colour": {"in": ["red"]}, "price": {"gte": 20}})["facets"]
    assert {one["value"]: one["count"] for one in both["colour"]["values"]} == {"blue": 1, "green": 1}
    prices = find(api, facets=["price"])["facets"]["price"]
    assert (prices["type"], prices["min"], prices["max"]) == ("number", 0, 30)
    assert sum(bucket["count"] for bucket in prices["values"]) == 4


def test_facets_see_no_other_tenant(api: Api, other: Api, put: Put) -> None:
    put(0, metadata={"colour": "red"})
    answer = other.post("/search", {"vector": towards(0).tolist(), "facets": ["colour"]}).json()
    assert answer["facets"] == {"colour": {"type": "text", "values": []}}


def test_everything_at_once_in_a_form(api: Api, party: Party, put: Put) -> None:
    named, unwanted, found = put(0), put(80), put(10, "apple", metadata={"colour": "red"})
    with tenant_scope(party.id):
        asset = Asset.objects.get(pk=found)
        lexical.index_texts([lexical.Entry(asset.id, asset.dataset_id, "text", "apple")])
    fields = {
        "text": "apple",
        "like": f'{{"assets": ["{named}"]}}',
        "unlike": f'{{"assets": ["{unwanted}"]}}',
        "weights": '{"text": 0, "unlike": 0.5}',
        "facets": '["colour"]',
        "group": "duplicates",
        **dict.fromkeys(("hybrid", "highlight", "exact"), "true"),
    }
    answer = api.form("/search", fields)
    assert answer.status_code == 200, answer.content
    assert ids(answer.json()) == [found]
    assert answer.json()["results"][0]["highlights"][0]["marks"] == [[0, 5]]
    assert answer.json()["weights"] == {"like": 1.0, "text": 0.0, "unlike": 0.5}
