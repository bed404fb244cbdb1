"""The uploading script's side: JSON answers, refusals in words, and nothing read from who may not come in."""

from __future__ import annotations

import io
import secrets
import uuid
from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tenants.datasets import selectors, services, storage
from tenants.datasets.models import Blob
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.flows.pictures import jpeg

JSON = {"accept": "application/json"}


@pytest.fixture
def dataset_id(party: Party) -> str:
    with tenant_scope(party.id):
        return str(services.create_dataset(name="uploads").id)


def picture() -> SimpleUploadedFile:
    return SimpleUploadedFile("../../../<b>.svg", jpeg(secrets.randbits(32)), content_type="image/svg+xml")


def test_a_picture_with_a_caption_and_metadata(party: Party, dataset_id: str, owner: Client) -> None:
    fields = {"file": picture(), "caption": "Sun", "metadata": '{"colour": "red"}', "text": "left in the box"}
    response = owner.post(f"/datasets/{dataset_id}/assets", fields, headers=JSON)
    assert response.status_code == 202
    body = response.json()
    assert body["job"]["kind"] == "embed_asset"
    with tenant_scope(party.id):
        asset = selectors.get_asset(body["asset"]["id"])
    assert (asset.caption, asset.metadata, asset.modality) == ("Sun", {"colour": "red"}, "image")
    tile = owner.get(body["asset"]["tile"])
    assert "Sun" in tile.content.decode()
    states = owner.get(f"/jobs/states?ids={body['job']['id']},nonsense").json()
    assert [job["id"] for job in states["jobs"]] == [body["job"]["id"]]


def test_an_upload_names_the_earlier_asset(party: Party, dataset_id: str, owner: Client) -> None:
    content = jpeg(7)

    def send(name: str) -> dict:
        sent = {"file": SimpleUploadedFile(name, content)}
        return owner.post(f"/datasets/{dataset_id}/assets", sent, headers=JSON).json()

    first, again = send("dir/the bike.jpg"), send("copy.jpg")
    assert (first["earlier"], first["skipped"]) == (None, False)
    assert again["earlier"] == {"title": "the bike.jpg", "url": f"/assets/{first['asset']['id']}"}
    assert not again["skipped"]
    page = owner.get(f"/datasets/{dataset_id}").content.decode()
    assert '<span class="tile-title">the bike.jpg</span>' in page
    edited = {"name": "uploads", "duplicates": "skip"}
    assert owner.post(f"/datasets/{dataset_id}/edit", edited).status_code == 302
    third = send("third.jpg")
    assert (third["skipped"], third["job"], third["asset"]["id"]) == (True, None, first["asset"]["id"])
    # A form without the choice leaves it.
    owner.post(f"/datasets/{dataset_id}/edit", {"name": "uploads"})
    with tenant_scope(party.id):
        assert selectors.get_dataset(uuid.UUID(dataset_id)).duplicates == "skip"


def test_a_text(party: Party, dataset_id: str, owner: Client) -> None:
    response = owner.post(f"/datasets/{dataset_id}/assets", {"text": " Hello \n"}, headers=JSON)
    assert response.status_code == 202
    assert "Hello" in owner.get(f"/assets/{response.json()['asset']['id']}").content.decode()


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        (
            {"file": SimpleUploadedFile("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>\x00")},
            415,
            "Accepted are",
        ),
        ({"text": "x", "metadata": "{oops"}, 422, "This is not JSON"),
        ({"text": "x", "metadata": '"word"'}, 422, "Write a JSON object"),
        ({"text": "   "}, 422, "Send a file, a text, or both."),
        ({"text": "x" * 100_001}, 422, "at most 100000"),
    ],
)
def test_refusals_say_why(
    fields: dict, status: int, words: str, party: Party, dataset_id: str, owner: Client
) -> None:
    response = owner.post(f"/datasets/{dataset_id}/assets", fields, headers=JSON)
    assert (response.status_code, response["Content-Type"]) == (status, "application/problem+json")
    assert words in response.json()["detail"]
    with tenant_scope(party.id):
        assert selectors.get_dataset(dataset_id).asset_count == 0


def test_a_file_that_is_too_large_is_refused_while_it_comes(dataset_id: str, owner: Client, settings) -> None:
    settings.MAX_UPLOAD_BYTES = 100_000
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000
    big = SimpleUploadedFile("big.jpg", b"\xff\xd8\xff" + b"x" * 500_000)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(owner.user)
    strict.get(f"/datasets/{dataset_id}")  # sets the cookie, so that the CSRF check reads the body
    for client in (owner, strict):
        big.seek(0)
        response = client.post(f"/datasets/{dataset_id}/assets", {"file": big}, headers=JSON)
        assert response.status_code == 413
        assert "Split the upload" in response.json()["detail"]


def test_nothing_is_read_from_who_may_not_upload(
    dataset_id: str, person: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise AssertionError("the body was read")

    monkeypatch.setattr("config.uploads.CappedUploadHandler.receive_data_chunk", fail)
    response = person("viewer").post(f"/datasets/{dataset_id}/assets", {"file": picture()}, headers=JSON)
    assert response.status_code == 403
    assert response.json()["detail"] == "Your role lacks the permission “write”."


def test_bytes_are_served_clean_and_only_once_checked(party: Party, dataset_id: str, owner: Client) -> None:
    added = owner.post(f"/datasets/{dataset_id}/assets", {"file": picture()}, headers=JSON).json()
    asset_id = added["asset"]["id"]
    with tenant_scope(party.id):
        blob = selectors.get_asset(asset_id).blob
        # As the decoder leaves it, whether or not a worker is running beside this test.
        for kind in ("clean", "thumbnail"):
            content = b"clean bytes" if kind == "clean" else jpeg(2)
            storage.put(storage.path_of(party.id, blob.sha256, kind), io.BytesIO(content))
        Blob.objects.filter(pk=blob.id).update(
            width=64, height=64, clean_type="image/jpeg", has_thumbnail=True
        )
    response = owner.get(f"/assets/{asset_id}/content")
    assert b"".join(response) == b"clean bytes"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    part = owner.get(f"/assets/{asset_id}/content", headers={"range": "bytes=6-"})
    assert (part.status_code, b"".join(part), part["Content-Range"]) == (206, b"bytes", "bytes 6-10/11")
    assert owner.get(f"/assets/{asset_id}/thumbnail")["Content-Type"] == "image/jpeg"
    again = owner.get(f"/assets/{asset_id}/content", headers={"if-none-match": response["ETag"]})
    assert again.status_code == 304


def test_a_picture_that_was_not_checked_is_not_served(party: Party, dataset_id: str, owner: Client) -> None:
    added = owner.post(f"/datasets/{dataset_id}/assets", {"file": picture()}, headers=JSON).json()
    with tenant_scope(party.id):
        blob_id = selectors.get_asset(added["asset"]["id"]).blob_id
        Blob.objects.filter(pk=blob_id).update(width=None)
    response = owner.get(f"/assets/{added['asset']['id']}/content", headers=JSON)
    assert response.status_code == 409
    assert "location data" in response.json()["detail"]
