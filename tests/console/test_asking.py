"""The search form: what becomes of its fields, and what its answers look like."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import QueryDict
from django.test import Client

from console.asking import read_filter, schema_of
from ml.media import MediaError
from tenants.datasets import services
from tenants.datasets.models import Dataset
from tenants.errors import CursorExpired
from tenants.pipeline.services import add_asset
from tenants.retrieval.search import Answer, Query
from tenants.retrieval.state import Hit
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
    "row,expected",
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

    monkeypatch.setattr("console.views.search.search", search)
    return seen


def test_words_and_picture_are_weighed_by_the_slider(owner: Client, asked: list[Query]) -> None:
    picture = SimpleUploadedFile("x.jpg", b"\xff\xd8\xff")
    owner.post("/search/results", {"text": " tea ", "image": picture, "balance": "30"})
    assert asked[0].text == "tea"
    assert asked[0].image is not None
    assert asked[0].weights == {"text": 0.7, "image": 0.3}


def test_the_slider_does_nothing_for_one_part_alone(owner: Client, asked: list[Query]) -> None:
    owner.post("/search/results", {"text": "tea", "balance": "100", "modality": ["image"]}, headers=HX)
    assert (asked[0].weights, asked[0].modalities, asked[0].datasets) == ({}, ["image"], None)


@pytest.mark.parametrize(
    "fields,words",
    [
        ({}, "Type what you look for"),
        ({"text": "x" * 10_001}, "at most 10000 characters"),
        ({"text": "x", "modality": "smell"}, "no modality"),
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
    "error,status", [(MediaError("corrupt", "Broken <b>"), 422), (MediaError("unsupported", "No"), 415)]
)
def test_a_picture_that_cannot_be_read_is_explained(
    error: MediaError, status: int, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(**given: Any) -> Answer:
        raise error

    monkeypatch.setattr("console.views.search.search", search)
    response = owner.post("/search/results", {"text": "x"}, headers=HX)
    assert response.status_code == status
    assert "<b>" not in response.content.decode()


def test_an_expired_cursor_says_so(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(**given: Any) -> Answer:
        raise CursorExpired("Send the search again.")

    monkeypatch.setattr("console.views.search.search", search)
    assert owner.post("/search/results", {"cursor": "x"}).status_code == 410


def test_results_show_score_match_and_transcript(
    party: Party, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant_scope(party.id):
        dataset = services.create_dataset(name="d")
        asset = add_asset(dataset_id=dataset.id, text="Tea <b>pot</b>").asset
    meta = {"total_candidates": 1234, "cache": "hit", "took_ms": 3.2, "transcript": 'tea" onload="x'}
    answer = Answer("id", [(asset, Hit(asset.id, 0.51234, "text"))], "CURSOR", meta, {})
    monkeypatch.setattr("console.views.search.search", lambda **given: answer)
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
