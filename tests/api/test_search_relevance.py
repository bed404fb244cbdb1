"""How likely results are right: curves by kind, what is left out, counts over the rest. Vectors are put in directly."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from ml.alignment.relevance import Curve
from tenants.datasets.models import Asset
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.query import encoding, lexical, searcher
from tenants.scope import tenant_scope
from tests.api.conftest import Api, picture, refused
from tests.conftest import Party
from tests.relevance import RELEVANCE, WORDS, at_score

Put = Callable[..., str]


@pytest.fixture(autouse=True)
def _calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding.space(), "relevance", RELEVANCE)


@pytest.fixture
def put(api: Api, party: Party, add_text: Callable) -> Put:
    """Add an asset of a kind with a score for WORDS; its id."""

    def put(score: float, kind: str = "text", said: str = "", **given: Any) -> str:
        asset_id = add_text(said or uuid.uuid4().hex, **given)["asset"]["id"]
        with tenant_scope(party.id):
            Asset.objects.filter(pk=asset_id).update(modality=kind, status="ready")
            asset = Asset.objects.get(pk=asset_id)
            vectors = [NewVector(kind, at_score(score, seed=hash(asset_id) % 2**32))]
            replace_vectors(asset=asset, model=encoding.model_id(), vectors=vectors)
            if said:
                lexical.index_texts([lexical.Entry(asset.id, asset.dataset_id, kind, said)])
        return asset_id

    return put


def search(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post("/search", fields)
    assert answer.status_code == 200, answer.content
    return answer.json()


def found(answer: dict[str, Any]) -> list[tuple[str, float | None]]:
    return [
        (one["asset"]["id"], one["relevance"] if one["relevance"] is None else round(one["relevance"], 2))
        for one in answer["results"]
    ]


def test_each_result_tells_how_likely_it_is_by_its_kind(api: Api, put: Put) -> None:
    text, photo, weak = put(0.5), put(0.25, "image"), put(0.1, "image")
    answer = search(api, text=WORDS)
    # By score, as ever: no picture has what a text has.
    assert found(answer) == [(text, 0.12), (photo, 0.88), (weak, 0.02)]
    assert answer["relevance_line"] == 0.5


def test_the_likeliest_come_first_where_a_relevance_is_asked_for(api: Api, put: Put) -> None:
    text, photo, weak = put(0.62), put(0.25, "image"), put(0.1, "image")
    assert found(search(api, text=WORDS, min_relevance=0.5)) == [(photo, 0.88), (text, 0.6)]
    assert found(search(api, text=WORDS, min_relevance=0.7)) == [(photo, 0.88)]
    assert [one for one, _ in found(search(api, text=WORDS, min_relevance=0))] == [photo, text, weak]
    # A form says the same.
    answer = api.form("/search", {"text": WORDS, "min_relevance": "0.7"})
    assert found(answer.json()) == [(photo, 0.88)]


def test_where_nothing_fits_nothing_is_found(api: Api, put: Put) -> None:
    put(0.3), put(0.05, "image")
    answer = search(api, text=WORDS, min_relevance=0.5)
    assert (answer["results"], answer["next"], answer["total_candidates"]) == ([], None, 2)


def test_many_texts_keep_no_picture_out(api: Api, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searcher, "FUSED_DEPTH", 3)
    for score in (0.50, 0.51, 0.52, 0.53, 0.54):
        put(score)
    photo = put(0.3, "image")
    assert found(search(api, text=WORDS, min_relevance=0.5, top_k=2)) == [(photo, 0.98)]


def test_a_text_that_holds_all_words_is_likely(api: Api, put: Put) -> None:
    whole = put(0.1, said="We sell two apples, ripe and red.")
    put(0.1, said="Apples, by the dozen")
    assert found(search(api, text=WORDS, min_relevance=0.5)) == [(whole, 0.8)]
    assert found(search(api, text=WORDS, min_relevance=0.9)) == []


def test_pages_leave_out_the_same(api: Api, put: Put) -> None:
    likely = [put(0.3 + step / 100, "image") for step in range(5)]
    put(0.1, "image"), put(0.2)
    answers = [search(api, text=WORDS, min_relevance=0.5, top_k=2)]
    while answers[-1]["next"]:
        answers.append(search(api, cursor=answers[-1]["next"], top_k=2))
    shown = [one for answer in answers for one in found(answer)]
    assert [len(answer["results"]) for answer in answers] == [2, 2, 1]
    assert [asset for asset, _ in shown] == likely[::-1]
    assert all(chance is not None and chance >= 0.5 for _, chance in shown)


def test_folded_and_fused_results_are_judged_too(api: Api, put: Put) -> None:
    photo = put(0.3, "image")
    put(0.05, "image")
    grouped = search(api, text=WORDS, min_relevance=0.5, group="duplicates")
    assert found(grouped) == [(photo, 0.98)]
    named = put(0.05, said="two ripe apples in a bowl")
    fused = search(api, text=WORDS, min_relevance=0.5, hybrid=True)
    assert dict(found(fused)) == {photo: 0.98, named: 0.8}


def test_facets_count_what_is_likely_enough(api: Api, put: Put) -> None:
    for score, colour in ((0.3, "red"), (0.25, "red"), (0.21, "green"), (0.1, "blue")):
        put(score, "image", metadata={"colour": colour})

    def counts(**fields: Any) -> dict[str, int]:
        told = search(api, text=WORDS, facets=["colour"], top_k=1, **fields)["facets"]["colour"]
        assert "estimated" not in told
        return {one["value"]: one["count"] for one in told["values"]}

    assert counts() == {"red": 2, "green": 1}
    assert counts(min_relevance=0.8) == {"red": 2}
    assert counts(min_relevance=0) == {"red": 2, "green": 1, "blue": 1}
    assert counts(filter={"colour": "red"}) == {"red": 2, "green": 1}
    # Nobody can say how likely what a vector finds is.
    told = search(api, vector=at_score(0.9).tolist(), facets=["colour"])["facets"]["colour"]
    assert sum(one["count"] for one in told["values"]) == 4


def test_counts_of_very_many_are_estimated(api: Api, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searcher, "FUSED_DEPTH", 1)
    monkeypatch.setattr(searcher, "COUNTED", 2)
    for score in (0.3, 0.31, 0.32):
        put(score, "image", metadata={"colour": "red"})
    told = search(api, text=WORDS, facets=["colour"], top_k=1)["facets"]["colour"]
    assert told == {"type": "text", "values": [{"value": "red", "count": 2}], "estimated": True}


def test_what_was_not_calibrated_says_so(api: Api, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = put(0.3, "image")
    by_vector = search(api, vector=at_score(0.9).tolist())
    assert (found(by_vector), by_vector["relevance_line"]) == ([(photo, None)], None)
    assert search(api, text=WORDS, vector=at_score(0.9).tolist())["relevance_line"] is None
    # To ask for nothing leaves out nothing.
    assert found(search(api, vector=at_score(0.9).tolist(), min_relevance=0)) == [(photo, None)]
    refused(
        api.post("/search", {"vector": at_score(0.9).tolist(), "min_relevance": 0.5}),
        422,
        "invalid",
        "/min_relevance",
    )
    monkeypatch.setattr(encoding.space(), "relevance", None)
    assert found(search(api, text=WORDS)) == [(photo, None)]
    refused(api.post("/search", {"text": WORDS, "min_relevance": 0.5}), 422, "invalid", "/min_relevance")


@pytest.mark.parametrize("value", [-0.1, 1.1, "0.5", True, [0.5]])
def test_no_chance_is_refused(api: Api, value: Any) -> None:
    refused(api.post("/search", {"text": WORDS, "min_relevance": value}), 422, "invalid", "/min_relevance")


def test_pictures_ask_by_their_own_curves(api: Api, party: Party, put: Put) -> None:
    photo = put(0.9, "image")
    sent = SimpleUploadedFile("a.png", picture(), "image/png")
    answer = api.form("/search", {"min_relevance": "0", "image": sent}).json()
    (one,) = answer["results"]
    assert one["asset"]["id"] == photo
    assert one["relevance"] == pytest.approx(Curve(20.0, 0.7).chance(one["score"]), abs=1e-3)


def test_likely_pictures_behind_unlikely_captions_are_found_and_counted(
    api: Api, party: Party, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caption has a score that a picture never has, and is unlikely at it."""
    monkeypatch.setattr(searcher, "FUSED_DEPTH", 2)
    for _ in range(5):
        captioned = put(0.1, "image", metadata={"colour": "grey"})
        with tenant_scope(party.id):
            asset = Asset.objects.get(pk=captioned)
            vectors = [NewVector("text", at_score(0.4, seed=hash(captioned) % 2**32))]
            replace_vectors(asset=asset, model=encoding.model_id(), vectors=vectors)
    photo = put(0.3, "image", metadata={"colour": "red"})
    answer = search(api, text=WORDS, min_relevance=0.5, top_k=1, facets=["colour"])
    assert found(answer) == [(photo, 0.98)]
    assert answer["facets"]["colour"]["values"] == [{"value": "red", "count": 1}]
    assert found(search(api, text=WORDS, min_relevance=0.5, top_k=1)) == [(photo, 0.98)]
