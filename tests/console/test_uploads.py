"""The uploading script's side: JSON answers, refusals in words, and nothing read from who may not come in."""

from __future__ import annotations

import io
import re
import secrets
import uuid
from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tenants.accounts.models import Plan, Tenant
from tenants.datasets import selectors, services, storage
from tenants.datasets.models import Asset, Blob
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.conftest import Party, new_party
from tests.console.pages import faults_of
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


def test_the_page_says_what_is_left_of_the_plan(
    party: Party, dataset_id: str, person: Callable[..., Client]
) -> None:
    slug = f"p-{secrets.token_hex(6)}"
    Plan.objects.create(slug=slug, name=slug, limits={"assets": 3, "bytes": 1000})
    Tenant.objects.filter(pk=party.id).update(plan=slug)
    owner, address = person("owner"), f"/datasets/{dataset_id}"
    assert owner.post(f"{address}/assets", {"text": "pears"}, headers=JSON).status_code == 202
    page = re.sub(r"\s+", " ", owner.get(address).content.decode())
    assert 'data-assets-left="2" data-bytes-left="995"' in page
    assert "Left in your plan: 2 assets, 995 bytes." in page
    assert "-left=" not in person("viewer").get(address).content.decode()


def test_without_limits_nothing_is_said_of_them(party: Party, dataset_id: str, owner: Client) -> None:
    slug = f"p-{secrets.token_hex(6)}"
    Plan.objects.create(slug=slug, name=slug, limits={})
    Tenant.objects.filter(pk=party.id).update(plan=slug)
    page = owner.get(f"/datasets/{dataset_id}").content.decode()
    assert "Left in your plan" not in page and "-left=" not in page


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


def failed(asset_id: object, kind: str = "corrupt", **more: object) -> None:
    """As a worker leaves an asset that it could not decode. In the tenant's scope."""
    error = {"type": kind, "detail": "The file is damaged."}
    Asset.objects.filter(pk=asset_id).update(status="failed", error=error, **more)


def test_without_a_script_several_files_are_taken_and_the_refused_stand_first(
    party: Party, dataset_id: str, owner: Client
) -> None:
    files = [picture(), SimpleUploadedFile("notes.bin", b"\x7fELF\x02\x01" + bytes(99)), picture()]
    response = owner.post(f"/datasets/{dataset_id}/assets", {"file": files, "text": "and a text"})
    page = response.content.decode()
    assert (response.status_code, faults_of(page)) == (200, [])
    assert re.findall(r'<li data-state="(\w+)">', page) == [
        *("failed", "working", "working", "working"),
        "waiting",  # the template of a line, for the script
    ]
    assert "3 accepted, 1 refused" in page
    assert "Accepted are JPEG" in page
    with tenant_scope(party.id):
        assert selectors.get_dataset(dataset_id).asset_count == 3
    alone = owner.post(f"/datasets/{dataset_id}/assets", {"file": [files[1]]})
    assert alone.status_code == 422
    assert "1 refused" in alone.content.decode()
    assert owner.post(f"/datasets/{dataset_id}/assets", {}).status_code == 422


def test_the_tabs_count_what_their_lists_show(party: Party, dataset_id: str, owner: Client) -> None:
    with tenant_scope(party.id):
        made = [add_asset(dataset_id=uuid.UUID(dataset_id), text=f"text {n}").asset.id for n in range(6)]
        Asset.objects.filter(pk__in=made[:3]).update(status="ready", error=None)
        failed(made[3])
        failed(made[4])
    counts = {"": 6, "pending": 1, "ready": 3, "failed": 2}
    for status, count in counts.items():
        page = owner.get(f"/datasets/{dataset_id}?status={status}&view=table").content.decode()
        assert faults_of(page) == []
        assert len(re.findall(r'<tr id="asset-', page)) == count
        found = re.findall(r'id="tab-(\w+)"[^>]*>\w+ <span class="count[^"]*">(\d+)</span>', page)
        assert found == [
            ("all", "6"),
            ("pending", "1"),
            ("ready", "3"),
            ("failed", "2"),
            ("versions", "0"),
            ("imports", "0"),
        ]


def test_only_what_is_settled_is_drawn_anew(party: Party, dataset_id: str, owner: Client) -> None:
    with tenant_scope(party.id):
        made = [add_asset(dataset_id=uuid.UUID(dataset_id), text=f"text {n}").asset.id for n in range(3)]
        Asset.objects.filter(pk=made[0]).update(status="ready", error=None)
        failed(made[1])
        other = services.create_dataset(name="other")
        elsewhere = add_asset(dataset_id=other.id, text="elsewhere").asset.id
        Asset.objects.filter(pk=elsewhere).update(status="ready")
    asked = "&".join(f"unsettled={one}" for one in [*made, elsewhere, "x", "%00"])
    for view, mark in (("grid", "asset"), ("table", "state")):
        part = owner.get(f"/datasets/{dataset_id}?tabs=1&view={view}&{asked}", headers={"hx-request": "true"})
        text = part.content.decode()
        assert text.startswith('<nav id="asset-tabs"')
        drawn = re.findall(rf'id="{mark}-([0-9a-f-]{{36}})" hx-swap-oob="true"', text)
        assert sorted(drawn) == sorted(map(str, made[:2]))
        assert "every 3s" in text
    with tenant_scope(party.id):
        Asset.objects.filter(pk=made[2]).update(status="ready")
    part = owner.get(f"/datasets/{dataset_id}?tabs=1", headers={"hx-request": "true"})
    assert "every 3s" not in part.content.decode()


def test_what_failed_is_tried_again_one_by_one_and_all_at_once(
    party: Party, dataset_id: str, owner: Client
) -> None:
    with tenant_scope(party.id):
        made = [add_asset(dataset_id=uuid.UUID(dataset_id), text=f"text {n}").asset.id for n in range(5)]
        for one in made[:3]:
            failed(one)
        failed(made[3], moderation="block")
        before = {one.id: one.revision for one in Asset.objects.filter(pk__in=made)}
    page = owner.get(f"/datasets/{dataset_id}?status=failed").content.decode()
    assert faults_of(page) == []
    assert page.count("save or export it again") == 1 + 3  # beside the words for the script
    address = f"/datasets/{dataset_id}/assets/retry"
    answer = owner.post(address, {"asset": str(made[0])}, headers=JSON)
    assert (answer.status_code, answer.json()["job"]["kind"]) == (202, "embed_asset")
    for one in (made[3], made[4]):
        assert owner.post(address, {"asset": str(one)}, headers=JSON).status_code == 409
    told = owner.post(address, {"all": "1"}, follow=True).content.decode()
    assert "2 assets are processed again." in told
    assert "Select assets first" in owner.post(address, {"asset": "\0"}, follow=True).content.decode()
    with tenant_scope(party.id):
        rows = {one.id: one for one in Asset.objects.filter(pk__in=made)}
        assert [rows[one].status for one in made] == ["pending"] * 3 + ["failed", "pending"]
        assert [rows[one].revision - before[one] for one in made] == [1, 1, 1, 0, 0]
        assert [rows[one].error for one in made[:3]] == [None] * 3
        jobs = Job.objects.filter(kind="embed_asset", arguments__asset=str(made[1])).order_by("id")
        assert [job.arguments["revision"] for job in jobs] == [1, 2]


def test_an_asset_of_another_dataset_or_workspace_is_not_tried_again(
    party: Party, dataset_id: str, owner: Client
) -> None:
    theirs = new_party()
    with tenant_scope(theirs.id):
        foreign = add_asset(dataset_id=services.create_dataset(name="t").id, text="theirs").asset.id
        failed(foreign)
    with tenant_scope(party.id):
        mine = add_asset(dataset_id=services.create_dataset(name="else").id, text="else").asset.id
        failed(mine)
    for one in (foreign, mine):
        sent = owner.post(f"/datasets/{dataset_id}/assets/retry", {"asset": str(one)}, headers=JSON)
        assert sent.status_code == 404
    for where, one in ((theirs, foreign), (party, mine)):
        with tenant_scope(where.id):
            assert Asset.objects.get(pk=one).status == "failed"
