"""`/assets/{id}/comparison/{later}` and `/alike-clauses`: what changed, what is refused, and whose it is."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tenants.datasets.services import create_dataset
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.conftest import Party

BEFORE = "1. Payment is due within 30 days of the invoice.\n2. The law of Norway applies.\n3. Either party may leave."
AFTER = (
    "1. Payment is due within 60 days of the invoice.\n2. Either party may leave.\n3. Disputes go to court."
)
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301"
    "0100c9fe92ef0000000049454e44ae426082"
)


@pytest.fixture
def add(party: Party) -> Callable[[str], str]:
    with tenant_scope(party.id):
        dataset = create_dataset(name=uuid.uuid4().hex)

    def add(text: str) -> str:
        with tenant_scope(party.id):
            return str(add_asset(dataset_id=dataset.id, text=text).asset.id)

    return add


def get(client: Client, party: Party, path: str) -> tuple[int, Any]:
    answer = client.get(f"/api/v1/assets/{path}", **party.auth)
    return answer.status_code, answer.json()


def test_changes_of_two_versions(client: Client, party: Party, add: Callable[[str], str]) -> None:
    before, after = add(BEFORE), add(AFTER)
    status, found = get(client, party, f"{before}/comparison/{after}")
    assert status == 200
    assert (found["before"], found["after"], found["next"]) == (before, after, None)
    assert found["counts"] == {"changed": 1, "added": 1, "removed": 1, "moved": 0, "same": 1}
    assert [one["kind"] for one in found["results"]] == ["changed", "removed", "added"]
    changed, removed, added = found["results"]
    assert changed["words"] == [
        {"change": "same", "text": "1. Payment is due within "},
        {"change": "removed", "text": "30"},
        {"change": "added", "text": "60"},
        {"change": "same", "text": " days of the invoice."},
    ]
    assert removed["before"] == {
        "number": "2.",
        "page": 1,
        "start_char": 49,
        "end_char": 78,
        "text": "2. The law of Norway applies.",
    }
    assert (removed["after"], added["before"], added["after"]["number"]) == (None, None, "3.")


def test_pages_and_what_stayed(client: Client, party: Party, add: Callable[[str], str]) -> None:
    path = f"{add(BEFORE)}/comparison/{add(AFTER)}"
    status, first = get(client, party, f"{path}?unchanged=true&limit=3")
    assert (status, len(first["results"]), first["next"]) == (200, 3, "3")
    _, rest = get(client, party, f"{path}?unchanged=true&limit=3&cursor={first['next']}")
    assert [one["kind"] for one in first["results"] + rest["results"]] == [
        "changed",
        "removed",
        "same",
        "added",
    ]
    assert rest["next"] is None


def test_clauses_that_one_text_has_twice(client: Client, party: Party, add: Callable[[str], str]) -> None:
    twice = BEFORE + "\n4. Payment is due within 30 days of each invoice."
    status, found = get(client, party, f"{add(twice)}/alike-clauses")
    assert (status, len(found["results"])) == (200, 1)
    [pair] = found["results"]
    assert (pair["one"]["number"], pair["other"]["number"]) == ("1.", "4.")
    assert 0.8 <= pair["alike"] < 1


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("cursor=x", "/cursor"),
        ("cursor=-1", "/cursor"),
        ("cursor=99999", "/cursor"),
        ("limit=0", "/limit"),
        ("limit=201", "/limit"),
        ("unchanged=yes", "/unchanged"),
        ("to=x", "/to"),
    ],
)
def test_what_cannot_be_asked(
    client: Client, party: Party, add: Callable[[str], str], query: str, pointer: str
) -> None:
    status, problem = get(client, party, f"{add(BEFORE)}/comparison/{add(AFTER)}?{query}")
    assert (status, [one["pointer"] for one in problem["errors"]]) == (422, [pointer])


def test_what_cannot_be_compared(client: Client, party: Party, add: Callable[[str], str]) -> None:
    text = add(BEFORE)
    with tenant_scope(party.id):
        dataset = create_dataset(name=uuid.uuid4().hex)
    form = {"file": _file()}
    picture = client.post(f"/api/v1/datasets/{dataset.id}/assets", form, **party.auth).json()["asset"]["id"]
    many = add("\n".join(f"{number % 900}) a clause" for number in range(2001)))
    for path, pointer in (
        (f"{text}/comparison/{text}", "/later_id"),
        (f"{text}/comparison/{picture}", "/later_id"),
        (f"{picture}/alike-clauses", "/asset_id"),
        (f"{many}/comparison/{text}", ""),
        (f"{many}/alike-clauses", ""),
    ):
        status, problem = get(client, party, path)
        assert (status, problem["errors"][0]["pointer"]) == (422, pointer), path


def test_of_another_workspace_it_is_absent(
    client: Client, party: Party, stranger: Party, add: Callable[[str], str]
) -> None:
    own, other = add(BEFORE), add(AFTER)
    with tenant_scope(stranger.id):
        dataset = create_dataset(name="theirs")
        theirs = str(add_asset(dataset_id=dataset.id, text=AFTER).asset.id)
    for path in (f"{own}/comparison/{theirs}", f"{theirs}/comparison/{own}", f"{theirs}/alike-clauses"):
        assert get(client, party, path)[0] == 404
    assert get(client, stranger, f"{own}/comparison/{other}")[0] == 404


def _file() -> Any:
    from django.core.files.uploadedfile import SimpleUploadedFile

    return SimpleUploadedFile("dot.png", PICTURE, "image/png")
