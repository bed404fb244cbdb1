"""The search form: what becomes of its fields, and what its answers look like."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import QueryDict
from django.test import Client

from console.search.forms import read_filter, schema_of
from ml.media import MediaError
from tenants.datasets import services
from tenants.datasets.models import Dataset
from tenants.errors import CursorExpired
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval.query.searcher import Answer, Query
from tenants.retrieval.types import Hit
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of

HX = {"hx-request": "true"}
SCHEMA = {"price": "number", "sold": "bool", "day": "time", "colour": "text"}


def rows(*conditions: tuple[str, str, str]) -> QueryDict:
    form = QueryDict(mutable=True)
    for key, operator, value in conditions:
        form.appendlist("key", key)
        form.appendlist("operator", operator)
        form.appendlist("value", value)
    return form


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (("colour", "eq", " red "), {"colour": {"eq": "red"}}),
        (("price", "eq", "12"), {"price": {"eq": 12.0}}),
        (("price", "lt", "x"), {"price": {"lt": "x"}}),
        (("day", "gte", "2026-01-01"), {"day": {"gte": "2026-01-01"}}),
        (("sold", "eq", "yes"), {"sold": {"eq": True}}),
        (("colour", "in", "red, blue,"), {"colour": {"in": ["red", "blue"]}}),
        (("price", "in", "1,2"), {"price": {"in": [1.0, 2.0]}}),
        (("colour", "exists", "no"), {"colour": {"exists": False}}),
        (("colour", "exists", ""), {"colour": {"exists": True}}),
        (("unknown", "gt", "3"), {"unknown": {"gt": 3.0}}),
        ((" ", "eq", "3"), {}),
    ],
)
def test_a_row_becomes_a_condition_of_the_keys_type(row: Any, expected: dict) -> None:
    assert read_filter(rows(row), SCHEMA) == expected


def test_rows_of_one_key_are_joined() -> None:
    form = rows(("price", "gt", "1"), ("price", "lt", "9"))
    assert read_filter(form, SCHEMA) == {"price": {"gt": 1.0, "lt": 9.0}}


def test_the_newest_dataset_decides_a_keys_type() -> None:
    new = Dataset(metadata_schema={"b": {"type": "number"}})
    old = Dataset(metadata_schema={"b": {"type": "text"}, "a": {"type": "bool"}})
    assert schema_of([new, old]) == {"a": "bool", "b": "number"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Query]:
    """The queries that reached the service, which answers nothing."""
    seen: list[Query] = []

    def search(*, tenant_id: Any, query: Query) -> Answer:
        seen.append(query)
        return Answer("id", [], None, {"total_candidates": 0, "cache": "bypass", "took_ms": 1.0}, {})

    monkeypatch.setattr("console.search.views.search", search)
    return seen


def test_parts_weigh_what_the_sliders_say(owner: Client, asked: list[Query]) -> None:
    sent = {"text": " tea ", "weigh": "on", "weight_text": "70", "weight_image": "30", "weight_like": "99"}
    owner.post("/search/results", {**sent, "image": SimpleUploadedFile("x.jpg", b"\xff\xd8\xff")})
    assert asked[0].text == "tea"
    assert asked[0].image is not None
    # There are no examples that could weigh anything.
    assert asked[0].weights == {"text": 0.7, "image": 0.3}


@pytest.mark.parametrize(
    "change",
    [
        {"weigh": ""},  # left out below
        {"proposed": "on"},
        {"weight_text": "x", "weight_image": "-1"},
        {"weight_text": "0.5"},
        {"weight_text": "٣"},
        {"weight_text": "9" * 5000},
        {"text": "", "image_asset": str(uuid.uuid4())},
    ],
)
def test_else_the_weights_are_proposed(change: dict, owner: Client, asked: list[Query]) -> None:
    sent = {"text": "tea", "weigh": "on", "weight_text": "70", "weight_image": "30", **change}
    if change == {"weigh": ""}:
        del sent["weigh"]
    picture = SimpleUploadedFile("x.jpg", b"\xff\xd8\xff")
    files = {} if sent.get("image_asset") else {"image": picture}
    owner.post("/search/results", {**sent, **files}, headers=HX)
    assert asked[0].weights == {}


def test_the_sliders_do_nothing_for_one_part_alone(owner: Client, asked: list[Query]) -> None:
    sent = {"text": "tea", "weigh": "on", "weight_text": "20", "modality": ["image"]}
    owner.post("/search/results", sent, headers=HX)
    assert (asked[0].weights, asked[0].modalities, asked[0].datasets) == ({}, ["image"], None)


def weighed(owner: Client, monkeypatch: pytest.MonkeyPatch, weights: dict[str, float], **form: str) -> str:
    meta = {"total_candidates": 1, "cache": "miss", "took_ms": 1.0, "weights": weights}
    monkeypatch.setattr("console.search.views.search", lambda **given: Answer("id", [], None, meta, {}))
    return owner.post("/search/results", {"text": "tea", **form}, headers=HX).content.decode()


def test_the_sliders_stand_at_the_weights_of_the_answer(
    owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = weighed(owner, monkeypatch, {"text": 0.25, "image": 0.35, "audio": 0.4, "unlike": 0.3})
    found = re.findall(r'name="weight_(\w+)" min="0" max="100" step="1" value="(\d+)"', page)
    # What was spoken is words in the box from here on.
    assert found == [("text", "65"), ("image", "35")]
    assert "Suggested by the task" in page
    assert "Back to the suggestion" not in page
    assert faults_of(page) == []
    assert "weight_" not in weighed(owner, monkeypatch, {"text": 1.0})
    own = weighed(owner, monkeypatch, {"text": 0.5, "image": 0.5}, weigh="on", weight_text="50")
    assert "Back to the suggestion" in own


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Type what you are looking for"),
        ({"text": "x" * 10_001}, "at most 10000 characters"),
        ({"text": "x", "modality": "smell"}, "Unknown modality"),
        ({"text": "x", "key": "price", "operator": "lt", "value": "cheap"}, "Compare with a number"),
        ({"text": "x", "key": "price", "operator": "like", "value": "1"}, "Operators are"),
        ({"cursor": "nonsense"}, "not a cursor"),
    ],
)
def test_refusals_come_as_a_part_for_the_problem_box(fields: dict, words: str, owner: Client) -> None:
    response = owner.post("/search/results", fields, headers=HX)
    page = response.content.decode()
    assert response.status_code == 422
    assert response["HX-Retarget"] == "#problem"
    assert words in page
    assert faults_of(page) == []


@pytest.mark.parametrize(
    ("error", "status"), [(MediaError("corrupt", "Broken <b>"), 422), (MediaError("unsupported", "No"), 415)]
)
def test_a_picture_that_cannot_be_read_is_explained(
    error: MediaError, status: int, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(**given: Any) -> Answer:
        raise error

    monkeypatch.setattr("console.search.views.search", search)
    response = owner.post("/search/results", {"text": "x"}, headers=HX)
    assert response.status_code == status
    assert "<b>" not in response.content.decode()


def test_an_expired_cursor_says_so(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(**given: Any) -> Answer:
        raise CursorExpired("Send the search again.")

    monkeypatch.setattr("console.search.views.search", search)
    assert owner.post("/search/results", {"cursor": "x"}).status_code == 410


def test_results_show_score_match_and_transcript(
    party: Party, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant_scope(party.id):
        dataset = services.create_dataset(name="d")
        asset = add_asset(dataset_id=dataset.id, text="Tea <b>pot</b>").asset
    meta = {"total_candidates": 1234, "cache": "hit", "took_ms": 3.2, "transcript": 'tea" onload="x'}
    answer = Answer("id", [(asset, Hit(asset.id, 0.51234, "text"))], "CURSOR", meta, {})
    monkeypatch.setattr("console.search.views.search", lambda **given: answer)
    page = owner.post("/search/results", {"text": "tea"}, headers=HX).content.decode()
    assert faults_of(page) == []
    for shown in (
        "0.512",
        "by words",
        "1,234 compared",
        "3 ms",
        "query cache hit",
        "Tea &lt;b&gt;pot",
        "CURSOR",
    ):
        assert shown in page
    more = owner.post("/search/results", {"cursor": "abc"}, headers=HX).content.decode()
    assert more.count("<li") == 2
