"""Queries of several parts and sequences, over vectors that are put in directly."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tenants.datasets.models import Asset
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.query import encoding
from tenants.scope import tenant_scope
from tests.api.conftest import PROBLEM, Api, picture, refused, upload
from tests.api.test_search import ids
from tests.conftest import Party

Put = Callable[..., str]
UNKNOWN = str(uuid.UUID(int=7))


def axes(*numbers: float) -> np.ndarray:
    """A vector with these first numbers, of norm 1."""
    vector = np.zeros(256, np.float32)
    vector[: len(numbers)] = numbers
    return vector / np.linalg.norm(vector)


FIRST, SECOND, THIRD = axes(1), axes(0, 1), axes(0, 0, 1)


def part(vector: np.ndarray, **given: Any) -> dict[str, Any]:
    return {"vector": vector.tolist(), **given}


@pytest.fixture
def put(party: Party, add_text: Callable) -> Put:
    """Add an asset with these vectors, each with its segment or None; its id."""

    def put(*given: tuple[np.ndarray, dict | None], modality: str = "text", **fields: Any) -> str:
        asset_id = add_text(uuid.uuid4().hex, **fields)["asset"]["id"]
        with tenant_scope(party.id):
            Asset.objects.filter(pk=asset_id).update(status="ready", modality=modality)
            asset = Asset.objects.get(pk=asset_id)
            vectors = [NewVector(modality, values, segment) for values, segment in given]
            replace_vectors(asset=asset, model=encoding.model_id(), vectors=vectors)
        return asset_id

    return put


@pytest.fixture
def film(put: Put) -> Put:
    """A film that shows these vectors at these seconds, each for a second."""

    def film(*shown: tuple[float, np.ndarray], **fields: Any) -> str:
        return put(
            *((values, {"start_s": at, "end_s": at + 1}) for at, values in shown), modality="video", **fields
        )

    return film


def search(api: Api, **body: Any) -> dict[str, Any]:
    answer = api.post("/search", body)
    assert answer.status_code == 200, answer.content
    return answer.json()


def scores(answer: dict[str, Any]) -> list[float]:
    return [round(result["score"], 4) for result in answer["results"]]


# --- Parts -----------------------------------------------------------------------------------------------


def test_parts_meet_at_different_passages(api: Api, put: Put) -> None:
    """One vector of all parts would find the half-way one first; each of the others has both, apart."""
    both = put((FIRST, {"start_char": 0, "end_char": 9}), (SECOND, {"start_char": 9, "end_char": 20}))
    between = put((axes(1, 1), None))
    one = put((FIRST, None))
    answer = search(api, parts=[part(FIRST), part(SECOND)])
    assert ids(answer) == [both, between, one]
    assert scores(answer) == [1, 0.7071, 0.5]
    assert answer["results"][0]["matched"] == {
        "modality": "text",
        "segment": {"start_char": 0, "end_char": 9},
        "parts": [
            {"score": 1.0, "modality": "text", "segment": {"start_char": 0, "end_char": 9}},
            {"score": 1.0, "modality": "text", "segment": {"start_char": 9, "end_char": 20}},
        ],
    }
    assert answer["results"][0]["relevance"] is None
    assert answer["weights"] == {"parts/0": 0.5, "parts/1": 0.5}
    assert (answer["total_candidates"], answer["next"], answer["cache"]) == (3, None, "bypass")
    assert (answer["relevance_line"], answer["relevance_corrected"]) == (None, False)


def test_weights_say_which_part_counts(api: Api, put: Put) -> None:
    first, second = put((FIRST, None)), put((SECOND, None))
    answer = search(api, parts=[part(FIRST, weight=3), part(SECOND)])
    assert (ids(answer), scores(answer)) == ([first, second], [0.75, 0.25])
    assert answer["weights"] == {"parts/0": 0.75, "parts/1": 0.25}
    answer = search(api, parts=[part(FIRST), part(SECOND, weight=3)])
    assert (ids(answer), scores(answer)) == ([second, first], [0.75, 0.25])


def test_what_is_not_wanted_is_taken_off(api: Api, put: Put) -> None:
    with_it = put((FIRST, None), (THIRD, None))
    without = put((axes(4, 3), None))
    opposite = put((axes(3, 0, -4), None))
    assert ids(search(api, parts=[part(FIRST)])) == [with_it, without, opposite]
    answer = search(api, parts=[part(FIRST), {"not": part(THIRD)}])
    # What points away from it gains nothing by that.
    assert (ids(answer), scores(answer)) == ([without, with_it, opposite], [0.8, 0.7, 0.6])
    assert answer["weights"] == {"parts/0": 1.0, "parts/1": 0.3}
    heavier = search(api, parts=[part(FIRST), {"not": part(THIRD), "weight": 1}])
    assert (ids(heavier), scores(heavier)) == ([without, opposite, with_it], [0.8, 0.6, 0])


@pytest.mark.slow
def test_words_and_a_picture(api: Api, party: Party, put: Put) -> None:
    """The part of a picture asset stands for what it shows; words are cached as those of any search."""
    apple, pear = encoding.space().embed_texts(["a red apple", "a green pear"])
    both, other = put((apple, None), (pear, None)), put((apple, None))
    answer = search(
        api, parts=[{"text": "a red apple"}, {"text": "a green pear", "weight": 0.5}], explain=True
    )
    assert ids(answer) == [both, other]
    assert scores(answer)[0] == 1
    assert answer["explain"]["parts"] == {"parts/0": 0.6667, "parts/1": 0.3333}
    assert answer["explain"]["weighing"] is None
    assert answer["explain"]["cache"]["candidates"] == "bypass"
    assert search(api, parts=[{"text": "a red apple"}, {"text": "A  green pear"}])["cache"] == "hit"
    seen = put((apple, None), modality="image")
    answer = search(api, parts=[{"image": {"asset": seen}}, {"text": "a green pear"}], modalities=["text"])
    assert ids(answer) == [both, other]


def test_filters_datasets_facets_and_order(api: Api, put: Put) -> None:
    red = put((FIRST, None), metadata={"colour": "red"})
    blue = put((axes(4, 3), None), metadata={"colour": "blue"})
    seen = put((FIRST, None), modality="image", metadata={"colour": "red"})
    both = [part(FIRST), part(SECOND)]
    assert ids(search(api, parts=both, filter={"colour": "blue"})) == [blue]
    assert ids(search(api, parts=both, modalities=["image"])) == [seen]
    assert ids(search(api, parts=both, sort="newest")) == [seen, blue, red]
    answer = search(api, parts=both, facets=["colour"], filter={"colour": "red"})
    assert answer["facets"]["colour"]["values"] == [
        {"value": "red", "count": 2},
        {"value": "blue", "count": 1},
    ]
    elsewhere = api.post("/datasets", {"name": "elsewhere"}).json()["id"]
    assert ids(search(api, parts=both, datasets=[elsewhere])) == []
    assert ids(search(api, parts=both, exact=True)) == ids(search(api, parts=both))


def test_pages_tell_the_same_as_one_long_page(api: Api, put: Put) -> None:
    for at in range(5):
        put((axes(10, at), None), (axes(at, 10), {"start_char": at, "end_char": 20}))
    body = {"parts": [part(FIRST), part(SECOND, weight=0.5)]}
    whole = search(api, **body)["results"]
    pages = [search(api, **body, top_k=2)]
    while pages[-1]["next"]:
        pages.append(search(api, cursor=pages[-1]["next"], top_k=2))
    told = [result for page in pages for result in page["results"]]
    assert [one["asset"]["id"] for one in told] == [one["asset"]["id"] for one in whole]
    assert [one["matched"] for one in told] == [one["matched"] for one in whole]
    assert len(pages) == 3


def test_near_duplicates_are_folded(api: Api, put: Put) -> None:
    one, other = put((FIRST, None)), put((axes(100, 1), None))
    answer = search(api, parts=[part(FIRST), part(SECOND)], group="duplicates")
    assert len(answer["results"]) == 1
    assert {ids(answer)[0], answer["results"][0]["duplicates"][0]["asset"]} == {one, other}


def test_feedback_may_name_what_was_found(api: Api, put: Put) -> None:
    found = put((FIRST, None))
    answer = search(api, parts=[part(FIRST), part(SECOND)])
    told = api.post("/feedback", {"search_id": answer["search_id"], "asset": found, "kind": "click"})
    assert told.status_code == 201, told.content


# --- In order --------------------------------------------------------------------------------------------


def test_one_after_the_other_in_the_same_film(api: Api, film: Put, put: Put) -> None:
    right = film((0, SECOND), (10, FIRST), (25, SECOND), (60, SECOND))
    late = film((0, FIRST), (50, SECOND))
    film_only_one = film((0, FIRST))
    put((FIRST, None), (SECOND, None))
    answer = search(api, sequence=[part(FIRST), part(SECOND)], within_s=30)
    assert ids(answer)[0] == right
    assert scores(answer)[0] == 1
    assert answer["results"][0]["matched"] == {
        "modality": "video",
        "segment": {"start_s": 10, "end_s": 26},
        "parts": [
            {"score": 1.0, "modality": "video", "segment": {"start_s": 10, "end_s": 11}},
            {"score": 1.0, "modality": "video", "segment": {"start_s": 25, "end_s": 26}},
        ],
    }
    # 50 s apart, and nothing else that is later.
    assert ids(answer) == [right]
    assert set(ids(search(api, sequence=[part(FIRST), part(SECOND)]))) == {right, late}
    assert film_only_one not in ids(search(api, sequence=[part(FIRST), part(SECOND)], within_s=86_400))
    assert answer["weights"] == {"sequence/0": 0.5, "sequence/1": 0.5}


def test_the_order_matters(api: Api, film: Put) -> None:
    first_then_second, second_then_first = film((0, FIRST), (5, SECOND)), film((0, SECOND), (5, FIRST))
    answer = search(api, sequence=[part(FIRST), part(SECOND)])
    assert (ids(answer), scores(answer)) == ([first_then_second, second_then_first], [1, 0])
    answer = search(api, sequence=[part(SECOND), part(FIRST)])
    assert (ids(answer), scores(answer)) == ([second_then_first, first_then_second], [1, 0])


def test_exactly_within_and_at_the_same_moment(api: Api, film: Put) -> None:
    exactly, over = film((1.1, FIRST), (3.3, SECOND)), film((1.1, FIRST), (3.31, SECOND))
    film((7, FIRST), (7, SECOND))
    assert ids(search(api, sequence=[part(FIRST), part(SECOND)], within_s=2.2)) == [exactly]
    assert ids(search(api, sequence=[part(FIRST), part(SECOND)], within_s=2.21)) == [exactly, over]


def test_three_in_order_are_found_as_one_chain(api: Api, film: Put) -> None:
    """The nearest second one is too early for the third: the chain as a whole is the best."""
    found = film((0, FIRST), (10, axes(0, 4, 3)), (18, axes(0, 1)), (39, THIRD))
    body = {"sequence": [part(FIRST), part(SECOND), part(THIRD)], "within_s": 29}
    matched = search(api, **body)["results"][0]["matched"]
    assert [one["segment"]["start_s"] for one in matched["parts"]] == [0, 18, 39]
    matched = search(api, **{**body, "within_s": 21})["results"][0]["matched"]
    assert [one["segment"]["start_s"] for one in matched["parts"]] == [0, 18, 39]
    other = film((0, FIRST), (10, axes(0, 1)), (18, axes(0, 4, 3)), (39, THIRD))
    found_by = {one["asset"]["id"]: one for one in search(api, **{**body, "within_s": 21})["results"]}
    assert [one["segment"]["start_s"] for one in found_by[other]["matched"]["parts"]] == [0, 18, 39]
    assert round(found_by[found]["score"], 4) == 1
    assert round(found_by[other]["score"], 4) == round((1 + 0.8 + 1) / 3, 4)


def test_pages_of_a_sequence(api: Api, film: Put) -> None:
    films = [film((0, axes(10, at)), (5, SECOND)) for at in range(3)]
    body = {"sequence": [part(FIRST), part(SECOND)]}
    first = search(api, **body, top_k=2)
    rest = search(api, cursor=first["next"], top_k=2)
    assert [*ids(first), *ids(rest)] == films
    assert rest["results"][0]["matched"]["segment"] == {"start_s": 0, "end_s": 6}


# --- Refused ---------------------------------------------------------------------------------------------

V = FIRST.tolist()
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"parts": []}, "/parts"),
    ({"parts": {"text": "x"}}, "/parts"),
    ({"parts": [{}]}, "/parts/0"),
    ({"parts": [{"text": "  "}]}, "/parts/0"),
    ({"parts": [{"text": "x", "vector": V}]}, "/parts/0"),
    ({"parts": [{"text": "x", "not": {"text": "y"}}]}, "/parts/0"),
    ({"parts": [{"text": "x"}, {"not": {}}]}, "/parts/1/not"),
    ({"parts": [{"text": "x"}, {"not": {"not": {"text": "y"}}}]}, "/parts/1/not/not"),
    ({"parts": [{"not": {"text": "x"}}]}, "/parts"),
    ({"parts": [{"text": "x", "weight": 0}]}, "/parts/0/weight"),
    ({"parts": [{"text": "x", "weight": -1}]}, "/parts/0/weight"),
    ({"parts": [{"text": "x", "weight": 101}]}, "/parts/0/weight"),
    ({"parts": [{"text": "x", "weight": "1"}]}, "/parts/0/weight"),
    ({"parts": [{"text": "x", "like": {}}]}, "/parts/0/like"),
    ({"parts": [{"text": "x" * 10_001}]}, "/parts/0/text"),
    ({"parts": [{"vector": [0] * 256}]}, "/parts/0/vector"),
    ({"parts": [{"vector": V}, {"vector": [1, 2]}]}, "/parts/1/vector"),
    ({"parts": [{"vector": V}, {"not": {"vector": [1, 2]}}]}, "/parts/1/not/vector"),
    ({"parts": [{"text": "x"}] * 9}, "/parts"),
    ({"parts": [{"text": "x"}], "text": "y"}, "/text"),
    ({"parts": [{"text": "x"}], "vector": V}, "/vector"),
    ({"parts": [{"text": "x"}], "unlike": {"text": "y"}}, "/unlike"),
    ({"parts": [{"text": "x"}], "weights": {"text": 1}}, "/weights"),
    ({"parts": [{"text": "x"}], "task": "support"}, "/task"),
    ({"parts": [{"text": "x"}], "hybrid": True}, "/hybrid"),
    ({"parts": [{"vector": V}], "min_relevance": 0.5}, "/min_relevance"),
    ({"parts": [{"text": "x"}], "within_s": 3}, "/within_s"),
    ({"within_s": 3, "vector": V}, "/within_s"),
    ({"parts": [{"text": "x"}], "sequence": [{"text": "x"}, {"text": "y"}]}, "/sequence"),
    ({"sequence": [{"text": "x"}]}, "/sequence"),
    ({"sequence": [{"text": "x"}, {"not": {"text": "y"}}]}, "/sequence/1/not"),
    ({"sequence": [{"vector": V}, {"vector": V}], "within_s": 0}, "/within_s"),
    ({"sequence": [{"vector": V}, {"vector": V}], "within_s": 86_401}, "/within_s"),
]


@pytest.mark.parametrize(("body", "pointer"), WRONG)
def test_what_makes_no_question(api: Api, body: dict[str, Any], pointer: str) -> None:
    problem = refused(api.post("/search", body), 422, "invalid")
    assert [one["pointer"] for one in problem["errors"]] == [pointer]


@pytest.mark.parametrize(
    "body",
    [
        {"parts": [{"image": {"asset": UNKNOWN}}]},
        {"parts": [{"text": "x"}, {"not": {"video": {"asset": UNKNOWN}}}]},
        {"sequence": [{"text": "x"}, {"audio": {"asset": UNKNOWN}}]},
        {"parts": [{"image": {"file": UNKNOWN}}]},
        # What is not there is told before what is wrong.
        {"parts": [{"image": {"asset": UNKNOWN}}], "hybrid": True},
        {"parts": [{"text": "x"}, {"not": {"image": {"asset": UNKNOWN}}}], "top_k": 0},
    ],
)
def test_what_is_not_there_is_not_found(api: Api, body: dict[str, Any]) -> None:
    refused(api.post("/search", body), 404, "not-found")


def test_assets_of_another_workspace_are_not_there(api: Api, other: Api, put: Put) -> None:
    asset_id = put((FIRST, None), modality="image")
    refused(other.post("/search", {"parts": [{"image": {"asset": asset_id}}]}), 404, "not-found")
    assert search(api, parts=[{"image": {"asset": asset_id}}])["results"][0]["asset"]["id"] == asset_id


def test_a_file_beside_parts_is_refused(api: Api) -> None:
    answer = api.form("/search", {"parts": '[{"text": "x"}]', "image": upload(picture())})
    assert answer.json()["errors"][0]["pointer"] == "/image"
    assert answer.json()["type"] == f"{PROBLEM}invalid"


@pytest.mark.parametrize("where", ["/saved-searches", "/standing-queries"])
def test_they_cannot_be_kept_yet(api: Api, where: str) -> None:
    body = {"name": "x", "query": {"parts": [{"text": "a"}, {"text": "b"}]}}
    problem = refused(api.post(where, body), 422, "invalid")
    assert problem["detail"] == "A search of several parts cannot be kept yet: keep its body."
