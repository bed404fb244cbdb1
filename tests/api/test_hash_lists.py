"""`/hash-lists`: lists, what is put on them, and what matches. Files are looked at in the real limited process."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from tenants.jobs.models import Job
from tenants.moderation.models import HashEntry, HashList
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused, upload
from tests.conftest import Party
from tests.ml.drawings import drawing

HASH, OTHER = "0f" * 32, "a5" * 32


def png(seed: int, box: tuple[int, int, int, int] | None = None, mirrored: bool = False) -> bytes:
    image = Image.fromarray(drawing(seed, 300, 400))
    image = image.crop(box) if box else image
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def bad(api: Api) -> str:
    return api.post("/hash-lists", {"name": "bad things", "stance": "bad"}).json()["id"]


def entries(api: Api, list_id: str) -> list[dict[str, Any]]:
    return api.get(f"/hash-lists/{list_id}/entries").json()["results"]


def match(api: Api, **hash_: str) -> list[dict[str, Any]]:
    answer = api.post("/hash-lists/match", {"hash": hash_})
    assert answer.status_code == 200, answer.content
    return answer.json()["matches"]


def test_a_list_is_made_shown_and_deleted(api: Api) -> None:
    body = {"name": "bad things", "stance": "bad", "description": "of ours"}
    answer = api.post("/hash-lists", body)
    made = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/api/v1/hash-lists/{made['id']}")
    assert {**body, "shared": False, "entries": 0}.items() <= made.items()
    assert api.get("/hash-lists").json()["results"] == [made]
    assert api.get(f"/hash-lists/{made['id']}").json() == made
    refused(api.post("/hash-lists", body), 409, "conflict")
    assert api.call("DELETE", f"/hash-lists/{made['id']}").status_code == 204
    refused(api.get(f"/hash-lists/{made['id']}"), 404, "not-found")


def test_hashes_of_others_are_listed_once_and_match(api: Api, bad: str) -> None:
    body = {
        "hashes": [{"algorithm": "pdq", "hash": HASH, "note": "n"}, {"algorithm": "sha256", "hash": OTHER}]
    }
    answer = api.post(f"/hash-lists/{bad}/entries", body)
    assert (answer.status_code, answer.json()) == (201, {"added": 2, "known": 0, "entry": None, "job": None})
    assert api.post(f"/hash-lists/{bad}/entries", body).json()["known"] == 2
    listed = entries(api, bad)
    assert [(one["algorithms"], one["pdq"], one["sha256"], one["note"]) for one in listed] == [
        (["sha256"], None, OTHER, ""),
        (["pdq"], HASH, None, "n"),
    ]
    assert match(api, algorithm="sha256", hash=HASH) == []
    (found,) = match(api, algorithm="pdq", hash="0e" + HASH[2:])
    assert (found["entry"], found["list"], found["distance"]) == (listed[1]["id"], bad, 1.0)
    assert api.call("DELETE", f"/hash-lists/{bad}/entries/{found['entry']}").status_code == 204
    assert match(api, algorithm="pdq", hash=HASH) == []
    assert api.get(f"/hash-lists/{bad}").json()["entries"] == 1


def test_entries_come_in_pages(api: Api, bad: str) -> None:
    hashes = [{"algorithm": "pdq", "hash": f"{number:064x}"} for number in range(5)]
    api.post(f"/hash-lists/{bad}/entries", {"hashes": hashes})
    seen, cursor = [], ""
    while True:
        page = api.get(f"/hash-lists/{bad}/entries?limit=2{cursor}").json()
        seen += [one["pdq"] for one in page["results"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [f"{number:064x}" for number in reversed(range(5))]


def test_a_file_is_known_again_cropped_and_mirrored(api: Api, bad: str) -> None:
    answer = api.form(f"/hash-lists/{bad}/entries", {"file": upload(png(1)), "note": "seen in May"})
    entry = answer.json()["entry"]
    assert (answer.status_code, entry["algorithms"], entry["note"]) == (
        201,
        ["pdq", "sha256", "vector"],
        "seen in May",
    )
    assert _algorithms(api, png(1)) == {"sha256", "pdq", "vector"}
    assert _algorithms(api, png(1, (50, 20, 400, 280), mirrored=True)) == {"vector"}
    assert _algorithms(api, png(2)) == set()


def _algorithms(api: Api, content: bytes) -> set[str]:
    answer = api.form("/hash-lists/match", {"file": upload(content)})
    assert answer.status_code == 200, answer.content
    assert answer.json()["fingerprints"]["pdq_quality"] == 100
    return {found["algorithm"] for found in answer.json()["matches"]}


def test_an_asset_is_listed_and_found(api: Api, bad: str, dataset: str) -> None:
    asset = api.form(f"/datasets/{dataset}/assets", {"file": upload(png(3))}).json()["asset"]["id"]
    answer = api.post(f"/hash-lists/{bad}/entries", {"asset": asset, "retroactive": True})
    assert answer.status_code == 202
    job = answer.json()["job"]
    assert (job["kind"], answer.headers["Location"]) == ("match_again", f"/api/v1/jobs/{job['id']}")
    found = api.post("/hash-lists/match", {"asset": asset}).json()["matches"]
    assert {one["algorithm"] for one in found} == {"sha256", "pdq", "vector"}


def test_a_text_is_known_by_its_bytes(api: Api, bad: str) -> None:
    assert api.form(f"/hash-lists/{bad}/entries", {"file": upload(b"some words")}).status_code == 201
    found = api.form("/hash-lists/match", {"file": upload(b"some words")}).json()["matches"]
    assert [one["algorithm"] for one in found] == ["sha256"]


def test_a_table_of_hashes_is_imported(api: Api, bad: str) -> None:
    table = f"\ufeffHash,Note,Algorithm\n{HASH},first,\n\n{OTHER},,sha256\n".encode()
    answer = api.form(f"/hash-lists/{bad}/entries", {"hashes": upload(table)})
    assert answer.json() == {"added": 2, "known": 0, "entry": None, "job": None}
    assert {one["pdq"] or one["sha256"] for one in entries(api, bad)} == {HASH, OTHER}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/file"),
        ({"hashes": []}, "/hashes"),
        ({"hashes": [{"algorithm": "pdq", "hash": "z" * 64}]}, "/hashes/0/hash"),
        ({"hashes": [{"algorithm": "sound", "hash": HASH}]}, "/hashes/0/algorithm"),
        ({"hashes": [{"algorithm": "pdq", "hash": HASH}], "asset": "x"}, "/hashes"),
        ({"hashes": [{"algorithm": "pdq", "hash": HASH}], "retroactive": True}, "/retroactive"),
        ({"hashes": [{"algorithm": "pdq", "hash": HASH, "more": 1}]}, "/hashes/0/more"),
    ],
)
def test_what_cannot_be_listed_is_refused(
    api: Api, party: Party, bad: str, body: dict[str, Any], pointer: str
) -> None:
    refused(api.post(f"/hash-lists/{bad}/entries", body), 422, "invalid", pointer)
    with tenant_scope(party.id):
        assert not HashEntry.objects.exists()


def test_a_damaged_file_is_refused(api: Api, party: Party, bad: str) -> None:
    broken = upload(png(1)[:3000])
    refused(api.form(f"/hash-lists/{bad}/entries", {"file": broken}), 422, "invalid", "/file")
    with tenant_scope(party.id):
        assert not HashEntry.objects.exists()


def test_good_content_has_no_copies_to_block(api: Api, party: Party) -> None:
    good = api.post("/hash-lists", {"name": "good", "stance": "good"}).json()["id"]
    answer = api.form(f"/hash-lists/{good}/entries", {"file": upload(b"words"), "retroactive": "true"})
    refused(answer, 422, "invalid", "/retroactive")
    with tenant_scope(party.id):
        assert not Job.objects.filter(kind="match_again").exists()


def test_the_same_key_lists_once(api: Api, bad: str) -> None:
    body = {"hashes": [{"algorithm": "pdq", "hash": HASH}]}
    first = api.post(f"/hash-lists/{bad}/entries", body, Idempotency_Key="k")
    again = api.post(f"/hash-lists/{bad}/entries", body, Idempotency_Key="k")
    assert first.content == again.content
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_stranger_finds_nothing_and_changes_nothing(api: Api, other: Api, party: Party, bad: str) -> None:
    api.post(f"/hash-lists/{bad}/entries", {"hashes": [{"algorithm": "pdq", "hash": HASH}]})
    assert match(other, algorithm="pdq", hash=HASH) == []
    assert other.get("/hash-lists").json()["results"] == []
    (entry,) = entries(api, bad)
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/entries"),
        ("POST", "/entries"),
        ("DELETE", f"/entries/{entry['id']}"),
    ):
        refused(
            other.call(method, f"/hash-lists/{bad}{path}", {} if method == "POST" else None), 404, "not-found"
        )
    with tenant_scope(party.id):
        assert HashList.objects.count() == HashEntry.objects.count() == 1


def test_a_strangers_asset_is_not_there(api: Api, other: Api, dataset: str) -> None:
    asset = api.form(f"/datasets/{dataset}/assets", {"file": upload(png(4))}).json()["asset"]["id"]
    theirs = other.post("/hash-lists", {"name": "theirs", "stance": "bad"}).json()["id"]
    refused(other.post(f"/hash-lists/{theirs}/entries", {"asset": asset}), 404, "not-found")
    refused(other.post("/hash-lists/match", {"asset": asset}), 404, "not-found")
    assert entries(other, theirs) == []
