"""Names of files, duplicates within a dataset, and several captions of one file, over the API."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import pytest
from django.db import connection

from tenants.accounts import quotas
from tenants.datasets.models import Asset, Blob
from tenants.jobs.models import Job
from tenants.pipeline.assets.uploads import MAX_CAPTIONS
from tenants.scope import tenant_scope
from tests.api.conftest import Api, picture, refused, upload
from tests.conftest import Party

NAME = "IMG_2041-red_bicycle.JPG"


def add(api: Api, dataset: str, content: bytes | None = None, name: str = NAME, **fields: Any) -> Any:
    sent = {"file": upload(picture() if content is None else content, name), **fields}
    return api.form(f"/datasets/{dataset}/assets", sent)


def in_tus(api: Api, content: bytes, metadata: str) -> str:
    told = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(content)), "Upload-Metadata": metadata}
    begun = api.call("POST", "/uploads", headers=told)
    place = begun.headers["Location"].removeprefix("/api/v1")
    sent = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert api.call("PATCH", place, content, headers=sent).status_code == 204
    return place.rpartition("/")[2]


# --- Names -----------------------------------------------------------------------------------------------


def test_a_file_keeps_its_name(api: Api, dataset: str, party: Party) -> None:
    asset = add(api, dataset).json()["asset"]
    assert asset["filename"] == NAME
    assert api.get(f"/assets/{asset['id']}").json()["filename"] == NAME
    assert api.get(f"/datasets/{dataset}/assets").json()["results"][0]["filename"] == NAME
    text = api.post(f"/datasets/{dataset}/assets", {"text": "no file"}).json()["asset"]
    assert text["filename"] is None
    written = add(api, dataset, b"words of a file", "notes.txt").json()["asset"]
    assert (written["modality"], written["filename"]) == ("text", "notes.txt")


@pytest.mark.parametrize(("told", "kept"), [(f"../{NAME}", NAME), ("", None)])
def test_an_upload_in_parts_keeps_its_name(api: Api, dataset: str, told: str, kept: str | None) -> None:
    metadata = f"filename {base64.b64encode(told.encode()).decode()}" if told else ""
    body = {"upload": in_tus(api, picture(), metadata)}
    assert api.post(f"/datasets/{dataset}/assets", body).json()["asset"]["filename"] == kept


@pytest.mark.parametrize(
    ("name", "header"),
    [
        (NAME, f'inline; filename="{NAME}"'),
        ('a "quoted" one.jpg', 'inline; filename="a \\"quoted\\" one.jpg"'),
        ("红色自行车.jpg", "inline; filename*=utf-8''%E7%BA%A2%E8%89%B2%E8%87%AA%E8%A1%8C%E8%BD%A6.jpg"),
        ("x.html", 'inline; filename="x.html.jpg"'),
    ],
)
def test_a_download_is_called_as_the_upload(
    api: Api, dataset: str, party: Party, name: str, header: str
) -> None:
    asset = add(api, dataset, picture(kind="JPEG"), "a.jpg").json()["asset"]
    with tenant_scope(party.id):
        Asset.objects.update(filename=name)
        Blob.objects.update(width=40, height=30)
    assert api.get(f"/assets/{asset['id']}/content").headers["Content-Disposition"] == header


def test_a_name_is_not_told_of_what_is_held_back(api: Api, dataset: str, party: Party) -> None:
    from tenants.accounts import keys

    asset = add(api, dataset, text=["one", "two"]).json()["asset"]
    with tenant_scope(party.id):
        Asset.objects.update(moderation="block")
        _, token = keys.create_key(name="reader", scopes=["read"])
    shown = Api(token).get(f"/assets/{asset['id']}").json()
    assert (shown["filename"], shown["caption"], shown["captions"]) == (None, "", [])
    assert api.get(f"/assets/{asset['id']}").json()["filename"] == NAME


# --- Duplicates ------------------------------------------------------------------------------------------


@pytest.fixture
def skipping(api: Api) -> str:
    return api.post("/datasets", {"name": "skips", "duplicates": "skip"}).json()["id"]


def used(party: Party) -> dict[str, Any]:
    with tenant_scope(party.id):
        return {
            name: (one["used"], one["reserved"])
            for name, one in quotas.summary().items()
            if name != "requests"
        }


def test_duplicates_are_kept_unless_the_dataset_skips_them(api: Api, dataset: str) -> None:
    assert api.get(f"/datasets/{dataset}").json()["duplicates"] == "keep"
    first, second = add(api, dataset), add(api, dataset, name="other.png")
    assert "duplicate_of" not in first.json()
    assert (second.status_code, second.json()["duplicate_of"]) == (202, first.json()["asset"]["id"])
    assert second.json()["asset"]["id"] != first.json()["asset"]["id"]
    changed = api.call("PATCH", f"/datasets/{dataset}", {"duplicates": "skip"}).json()
    assert changed["duplicates"] == "skip"
    third = add(api, dataset)
    assert (third.status_code, third.json()["asset"]["id"]) == (200, first.json()["asset"]["id"])
    refused(api.call("PATCH", f"/datasets/{dataset}", {"duplicates": "merge"}), 422, "invalid", "/duplicates")


def test_a_skipped_duplicate_costs_nothing(api: Api, dataset: str, skipping: str, party: Party) -> None:
    add(api, dataset)
    first = add(api, skipping)
    # Never across datasets.
    assert (first.status_code, first.json().get("duplicate_of")) == (202, None)
    before = used(party)
    again = add(api, skipping, name="renamed.png", external_id="x", metadata='{"a": 1}')
    assert again.status_code == 200
    assert again.json() == {
        "asset": first.json()["asset"],
        "job": None,
        "duplicate_of": first.json()["asset"]["id"],
    }
    assert used(party) == before
    with tenant_scope(party.id):
        assert (Asset.objects.filter(dataset_id=skipping).count(), Job.objects.count()) == (1, 2)
        assert Blob.objects.get().references == 2


def test_texts_are_the_same_by_their_words(api: Api, skipping: str) -> None:
    path = f"/datasets/{skipping}/assets"
    first = api.post(path, {"text": "one"}).json()["asset"]["id"]
    assert api.post(path, {"text": "one"}).json()["asset"]["id"] == first
    assert api.post(path, {"text": "One"}).status_code == 202


def test_a_caption_that_is_new_is_content(api: Api, skipping: str) -> None:
    first = add(api, skipping, text="red").json()["asset"]["id"]
    assert add(api, skipping, text="red").status_code == 200
    assert add(api, skipping).status_code == 200
    other = add(api, skipping, text="blue")
    assert (other.status_code, other.json()["duplicate_of"]) == (202, first)
    assert add(api, skipping, text="blue").json()["asset"]["id"] == other.json()["asset"]["id"]


@pytest.mark.parametrize(
    ("state", "status"),
    [({"status": "failed"}, 202), ({"moderation": "block"}, 200), ({"moderation": "quarantined"}, 200)],
)
def test_what_counts_as_there(
    api: Api, skipping: str, party: Party, state: dict[str, str], status: int
) -> None:
    add(api, skipping)
    with tenant_scope(party.id):
        Asset.objects.update(**state)
    assert add(api, skipping).status_code == status


def test_what_was_deleted_is_not_there(api: Api, skipping: str) -> None:
    asset = add(api, skipping).json()["asset"]["id"]
    assert api.call("DELETE", f"/assets/{asset}").status_code == 204
    assert add(api, skipping).status_code == 202


def test_two_at_once_are_one_asset(api: Api, skipping: str, party: Party) -> None:
    answers, barrier = [], threading.Barrier(4)

    def send() -> None:
        mine = Api(party.token)
        barrier.wait()
        answers.append(add(mine, skipping).status_code)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 200, 200, 202]
    with tenant_scope(party.id):
        assert Asset.objects.filter(dataset_id=skipping).count() == 1


# --- Captions --------------------------------------------------------------------------------------------


def test_several_captions_are_one_asset(api: Api, dataset: str, party: Party) -> None:
    by_form = add(api, dataset, text=["a red bike", " a bicycle ", "", "a red bike"])
    shown = by_form.json()["asset"]
    assert (shown["caption"], shown["captions"]) == ("a red bike", ["a red bike", "a bicycle"])
    by_json = {"upload": in_tus(api, picture("blue"), ""), "text": "one", "captions": ["two", "three"]}
    shown = api.post(f"/datasets/{dataset}/assets", by_json).json()["asset"]
    assert shown["captions"] == ["one", "two", "three"]
    listed = add(api, dataset, picture("green"), captions=json.dumps(["x", "y"])).json()["asset"]
    assert (listed["caption"], listed["captions"]) == ("x", ["x", "y"])
    with tenant_scope(party.id):
        # A vector of the picture and one of each caption.
        assert quotas.summary()["vectors"]["reserved"] == 3 + 4 + 3


def test_captions_that_are_refused(api: Api, dataset: str) -> None:
    path = f"/datasets/{dataset}/assets"
    refused(api.post(path, {"text": "one", "captions": ["two"]}), 422, "invalid", "/text")
    refused(api.post(path, {"text": "one", "captions": "two"}), 422, "invalid", "/captions")
    refused(api.post(path, {"text": "one", "captions": [2]}), 422, "invalid")
    refused(add(api, dataset, text=["a", "b"], captions='["c"]'), 422, "invalid", "/captions")
    many = [f"caption {n}" for n in range(MAX_CAPTIONS + 1)]
    refused(add(api, dataset, text=many), 422, "invalid", "/captions")
    refused(add(api, dataset, text=["x" * 9_999, "y" * 9_999, "zzz"]), 422, "invalid", "/captions")
    refused(add(api, dataset, b"a text file", "a.txt", text=["a", "b"]), 422, "invalid", "/text")
    assert api.get(path).json()["results"] == []


def test_captions_are_changed(api: Api, dataset: str) -> None:
    asset = add(api, dataset, text=["one", "two"]).json()["asset"]
    path = f"/assets/{asset['id']}"
    # The first alone: the others stay.
    first = api.call("PATCH", path, {"caption": "uno"})
    assert (first.status_code, first.json()["asset"]["captions"]) == (202, ["uno", "two"])
    assert api.call("PATCH", path, {"caption": ""}).json()["asset"]["captions"] == ["two"]
    every = api.call("PATCH", path, {"captions": ["a", "b", "c"]}).json()["asset"]
    assert (every["caption"], every["captions"]) == ("a", ["a", "b", "c"])
    same = api.call("PATCH", path, {"captions": ["a", "b", "c"]})
    assert (same.status_code, same.json()["captions"]) == (200, ["a", "b", "c"])
    refused(api.call("PATCH", path, {"caption": "x", "captions": ["y"]}), 422, "invalid", "/captions")
    assert api.call("PATCH", path, {"captions": []}).json()["asset"]["captions"] == []
    text = api.post(f"/datasets/{dataset}/assets", {"text": "no caption"}).json()["asset"]["id"]
    refused(api.call("PATCH", f"/assets/{text}", {"captions": ["y"]}), 422, "invalid", "/captions")


def test_the_same_captions_under_one_external_id(api: Api, dataset: str) -> None:
    first = add(api, dataset, text=["one", "two"], external_id="x").json()["asset"]["id"]
    again = add(api, dataset, text=["two", "one"], external_id="x")
    assert (again.status_code, again.json()["asset"]["id"]) == (200, first)
    other = add(api, dataset, text=["one", "two", "three"], external_id="x")
    assert refused(other, 409, "conflict")["asset"] == first
