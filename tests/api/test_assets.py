"""Datasets and assets: adding, listing, changing, serving."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from tenants.datasets import storage
from tenants.datasets.models import Asset, Blob
from tenants.datasets.services import create_dataset
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.api.conftest import Api, picture, refused, upload
from tests.conftest import Party
from tests.waiting import pause, until


def test_a_dataset_lives_and_goes(api: Api) -> None:
    schema = {"price": {"type": "number"}}
    made = api.post("/datasets", {"name": " shop ", "description": "all", "metadata_schema": schema})
    assert made.status_code == 201
    shown = made.json()
    assert made.headers["Location"] == f"/api/v1/datasets/{shown['id']}"
    assert api.get(f"/datasets/{shown['id']}").json() == shown
    assert (shown["name"], shown["metadata_schema"], shown["assets"]) == ("shop", schema, 0)
    changed = api.call("PATCH", f"/datasets/{shown['id']}", {"name": "store"})
    assert changed.json() == {**shown, "name": "store"}
    gone = api.call("DELETE", f"/datasets/{shown['id']}")
    assert gone.status_code == 202
    assert gone.headers["Location"] == f"/api/v1/jobs/{gone.json()['job']['id']}"
    refused(api.get(f"/datasets/{shown['id']}"), 404, "not-found")
    refused(api.call("DELETE", f"/datasets/{shown['id']}"), 404, "not-found")
    assert api.get("/datasets").json() == {"results": [], "next": None}


def test_an_asset_of_every_spelling(api: Api, dataset: str) -> None:
    path = f"/datasets/{dataset}/assets"
    by_json = api.post(path, {"text": "a red apple", "metadata": {"price": 3}, "external_id": "j"})
    by_form = api.form(path, {"text": "a red apple", "metadata": '{"price": 3}', "external_id": "f"})
    file = api.form(path, {"file": upload(picture()), "text": "red"})
    for answer, modality in ((by_json, "text"), (by_form, "text"), (file, "image")):
        assert answer.status_code == 202
        asset, job = answer.json()["asset"], answer.json()["job"]
        assert (asset["modality"], asset["status"], job["state"]) == (modality, "pending", "queued")
        assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}"
        assert api.get(f"/assets/{asset['id']}").json() == asset
        # Which waits, and says for how long.
        again = api.get(f"/jobs/{job['id']}").json()
        assert again.pop("queue_wait_s") >= job.pop("queue_wait_s") >= 0
        assert again == job
    assert file.json()["asset"]["caption"] == "red"
    assert by_form.json()["asset"]["metadata"] == {"price": 3}


def test_null_is_as_good_as_absent(api: Api, dataset: str) -> None:
    body = {"text": "x", "metadata": None, "external_id": None}
    assert api.post(f"/datasets/{dataset}/assets", body).status_code == 202
    # As a page's form sends what nobody filled in.
    empty = dict.fromkeys(("text", "captions", "metadata", "external_id", "upload"), "")
    path = f"/datasets/{dataset}/assets"
    assert api.form(path, {"file": upload(picture()), **empty}).json()["asset"]["external_id"] is None
    refused(api.form(path, empty), 422, "invalid")


def test_the_same_content_under_one_external_id(api: Api, dataset: str, add_text: Callable) -> None:
    first = add_text("one", external_id="x")
    again = api.post(f"/datasets/{dataset}/assets", {"text": "one", "external_id": "x"})
    assert again.status_code == 200
    assert again.json() == {"asset": first["asset"], "job": None}
    other = api.post(f"/datasets/{dataset}/assets", {"text": "two", "external_id": "x"})
    assert refused(other, 409, "conflict")["asset"] == first["asset"]["id"]


def test_changing_an_asset(api: Api, dataset: str) -> None:
    asset = api.form(f"/datasets/{dataset}/assets", {"file": upload(picture())}).json()["asset"]
    metadata = api.call("PATCH", f"/assets/{asset['id']}", {"metadata": {"a": [1, 2]}})
    assert metadata.status_code == 200
    assert metadata.json() == {**asset, "metadata": {"a": [1, 2]}}
    caption = api.call("PATCH", f"/assets/{asset['id']}", {"caption": "new"})
    assert caption.status_code == 202
    assert caption.json()["asset"]["caption"] == "new"
    assert api.call("DELETE", f"/assets/{asset['id']}").status_code == 204
    refused(api.get(f"/assets/{asset['id']}"), 404, "not-found")


def test_pages_hold_everything_once(api: Api, dataset: str, add_text: Callable) -> None:
    wanted = [add_text(f"text {n}")["asset"]["id"] for n in range(7)]
    seen, cursor = [], ""
    while cursor is not None:
        query = f"?limit=3&cursor={cursor}" if cursor else "?limit=3"
        page = api.get(f"/datasets/{dataset}/assets{query}").json()
        seen += [asset["id"] for asset in page["results"]]
        cursor = page["next"]
        # What comes in meanwhile is newer than the page, and moves nothing.
        add_text(uuid.uuid4().hex)
    assert seen == wanted[::-1]


def test_a_last_page_that_is_full_has_no_next(api: Api, dataset: str, add_text: Callable) -> None:
    for n in range(3):
        add_text(f"text {n}")
    assert api.get(f"/datasets/{dataset}/assets?limit=3").json()["next"] is None
    assert api.get("/jobs?limit=2").json()["next"] is not None


def test_filters(api: Api, dataset: str, add_text: Callable) -> None:
    text = add_text("x")
    image = api.form(f"/datasets/{dataset}/assets", {"file": upload(picture())}).json()
    api.post(f"/jobs/{text['job']['id']}/cancel")

    def ids(path: str) -> list[str]:
        return [row["id"] for row in api.get(path).json()["results"]]

    assert ids(f"/datasets/{dataset}/assets?modality=image") == [image["asset"]["id"]]
    assert ids(f"/datasets/{dataset}/assets?status=failed") == [text["asset"]["id"]]
    assert ids("/jobs?state=cancelled") == [text["job"]["id"]]
    assert ids("/jobs?kind=delete_dataset") == []


# --- Content ---------------------------------------------------------------------------------------------


def test_text_content_in_parts(api: Api, add_text: Callable) -> None:
    asset = add_text("0123456789")["asset"]
    path = f"/assets/{asset['id']}/content"
    whole = api.get(path)
    body = b"".join(whole)
    assert (whole.status_code, body) == (200, b"0123456789")
    assert whole.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert whole.headers["Cache-Control"] == "private, no-cache"
    etag = whole.headers["ETag"]
    for asked, status, part, where in (
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=5-100", 206, b"56789", "bytes 5-9/10"),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("letters=1-2", 200, b"0123456789", None),
        ("bytes=10-", 416, b"", "bytes */10"),
    ):
        answer = api.get(path, Range=asked)
        assert (answer.status_code, b"".join(answer), answer.headers.get("Content-Range")) == (
            status,
            part,
            where,
        )
    assert api.get(path, **{"If-None-Match": etag}).status_code == 304
    assert api.get(path, **{"If-None-Match": '"other"'}).status_code == 200
    stale = api.get(path, Range="bytes=2-4", **{"If-Range": '"other"'})
    assert stale.status_code == 200


def test_a_picture_is_not_served_before_it_was_checked(api: Api, dataset: str, party: Party) -> None:
    added = api.form(f"/datasets/{dataset}/assets", {"file": upload(picture(kind="JPEG"))}).json()
    asset_id = added["asset"]["id"]
    refused(api.get(f"/assets/{asset_id}/content"), 409, "not-ready")
    refused(api.get(f"/assets/{asset_id}/thumbnail"), 404, "not-found")
    api.post(f"/jobs/{added['job']['id']}/cancel")
    refused(api.get(f"/assets/{asset_id}/content"), 409, "not-ready")
    with tenant_scope(party.id):
        blob = Blob.objects.get(sha256=added["asset"]["sha256"])
        storage.put(storage.path_of(party.id, blob.sha256, "clean"), b"clean")
        storage.put(storage.path_of(party.id, blob.sha256, "thumbnail"), picture(kind="WEBP"))
        Blob.objects.update(width=40, height=30, clean_type="image/jpeg", has_thumbnail=True)
    clean = api.get(f"/assets/{asset_id}/content")
    assert (b"".join(clean), clean.headers["Content-Type"]) == (b"clean", "image/jpeg")
    small = api.get(f"/assets/{asset_id}/thumbnail")
    assert (b"".join(small), small.headers["Content-Type"]) == (picture(kind="WEBP"), "image/webp")
    assert small.headers["ETag"] != clean.headers["ETag"]
    with tenant_scope(party.id):
        storage.drop(storage.path_of(party.id, blob.sha256, "thumbnail"))
        storage.put(storage.path_of(party.id, blob.sha256, "thumbnail"), b"<script>alert(1)</script>")
    odd = api.get(f"/assets/{asset_id}/thumbnail")
    assert odd.headers["Content-Type"] == "application/octet-stream"
    assert odd.headers["Content-Disposition"].startswith("attachment;")


def test_active_content_is_only_ever_a_download(api: Api, add_text: Callable, party: Party) -> None:
    asset = add_text("<script>alert(1)</script>")["asset"]
    with tenant_scope(party.id):
        Blob.objects.filter(sha256=asset["sha256"]).update(media_type="text/html")
    answer = api.get(f"/assets/{asset['id']}/content")
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_lost_bytes(api: Api, add_text: Callable, party: Party) -> None:
    asset = add_text("lost")["asset"]
    storage.remove(party.id, asset["sha256"])
    refused(api.get(f"/assets/{asset['id']}/content"), 404, "not-found")


@pytest.mark.slow
def test_location_is_gone_from_what_is_served(api: Api, dataset: str, party: Party) -> None:
    """With the real decoder and models, in this process."""
    from tenants.pipeline.assets.embedding import embed_asset
    from tests.flows.pictures import with_location
    from workers.base import run_job

    original = with_location(1)
    added = api.form(f"/datasets/{dataset}/assets", {"file": upload(original)}).json()
    assert b"Exif" in original
    run_job(added["job"]["id"], str(party.id), embed_asset)
    assert api.get(f"/assets/{added['asset']['id']}").json()["status"] == "ready"
    served = b"".join(api.get(f"/assets/{added['asset']['id']}/content"))
    assert served
    assert b"Exif" not in served
    small = api.get(f"/assets/{added['asset']['id']}/thumbnail")
    assert small.headers["Content-Type"] == "image/jpeg"
    assert b"Exif" not in b"".join(small)


# --- Prefer: wait ----------------------------------------------------------------------------------------


def finish_soon(party: Party, state: str = "succeeded") -> threading.Thread:
    """A worker in a thread that takes the tenant's next queued job and ends it."""

    def work() -> None:
        def queued() -> Job | None:
            with tenant_scope(party.id):
                return Job.objects.filter(state=Job.State.QUEUED).first()

        job = until(queued)
        claimed = jobs.claim(job_id=job.id, tenant_id=party.id)
        pause(0.2, "the request waits meanwhile")
        with tenant_scope(party.id):
            Asset.objects.filter(pk=claimed.arguments["asset"]).update(status="ready")
            jobs.succeed(claimed, result={"vectors": 1}, cpu_s=0.1, gpu_s=0, used={})
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def waited(api: Api, dataset: str, prefer: str, **headers: str) -> Any:
    return api.call("POST", f"/datasets/{dataset}/assets", {"text": "x"}, {"Prefer": prefer, **headers})


def test_waiting_for_the_end(api: Api, dataset: str, party: Party) -> None:
    worker = finish_soon(party)
    answer = waited(api, dataset, "respond-async, wait=20", **{"Idempotency-Key": "w"})
    worker.join()
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert (answer.json()["asset"]["status"], answer.json()["job"]["state"]) == ("ready", "succeeded")
    replay = waited(api, dataset, "wait=1", **{"Idempotency-Key": "w"})
    assert (replay.status_code, replay.content) == (200, answer.content)


def test_waiting_in_vain(api: Api, dataset: str) -> None:
    start = time.monotonic()
    answer = waited(api, dataset, "wait=1")
    assert time.monotonic() - start > 0.9
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers
    for preference in ("wait=0", "wait=x", "wait=-1", "wait", "wait=99999999999", ""):
        assert waited(api, dataset, preference).status_code == 202


def test_tags_by_changing_an_asset(api: Api, dataset: str, add_text: Callable) -> None:
    asset = add_text("a pear", metadata={"price": 3, "tags": [" Ripe ", "ripe", "e\u0301te\u0301"]})["asset"]
    path = f"/assets/{asset['id']}"

    def change(**fields: Any) -> Any:
        answer = api.call("PATCH", path, fields)
        assert answer.status_code == 200
        return answer.json()["metadata"]

    assert asset["metadata"] == {"price": 3, "tags": ["Ripe", "\u00e9t\u00e9"]}
    assert change(add_tags=["sold", "RIPE"])["tags"] == ["Ripe", "\u00e9t\u00e9", "sold"]
    assert change(remove_tags=["SOLD", "never"], add_tags=["new"])["tags"] == ["Ripe", "\u00e9t\u00e9", "new"]
    assert change(tags=["only"]) == {"price": 3, "tags": ["only"]}
    assert change(metadata={"size": 1}, add_tags=["x"]) == {"size": 1, "tags": ["x"]}
    assert change(tags=[]) == {"size": 1}
    for fields in (
        {"tags": ["a"], "add_tags": ["b"]},
        {"tags": ["x" * 65]},
        {"add_tags": ["one, two"]},
        {"tags": [f"t{n}" for n in range(51)]},
        {"tags": ["a\x00"]},
        {"metadata": {"tags": ["x" * 65]}},
    ):
        refused(api.call("PATCH", path, fields), 422, "invalid")
    refused(api.call("PATCH", path, {"tags": "a"}), 422, "invalid")
    assert api.get(path).json()["metadata"] == {"size": 1}


def test_tags_of_an_earlier_release_stay_while_other_keys_change(
    api: Api, add_text: Callable, party: Party
) -> None:
    asset = add_text("a pear")["asset"]
    long = {"tags": [f"{n} {'x' * 90}" for n in range(60)]}
    with tenant_scope(party.id):
        Asset.objects.filter(pk=asset["id"]).update(metadata=long)
    path = f"/assets/{asset['id']}"
    kept = api.call("PATCH", path, {"metadata": {**long, "price": 1}})
    assert kept.json()["metadata"] == {**long, "price": 1}
    refused(api.call("PATCH", path, {"add_tags": ["more"]}), 422, "invalid")


def test_tags_of_many_assets(
    api: Api, dataset: str, add_text: Callable, party: Party, stranger: Party
) -> None:
    made = [add_text(f"text {n}")["asset"]["id"] for n in range(3)]
    with tenant_scope(party.id):
        other = add_asset(dataset_id=create_dataset(name="other").id, text="else").asset.id
    with tenant_scope(stranger.id):
        theirs = add_asset(dataset_id=create_dataset(name="theirs").id, text="theirs").asset.id
    path = f"/datasets/{dataset}/tags"
    strange = [str(other), str(theirs), "no id", "\x00"]
    refused(api.post(path, {"assets": [*made, *strange], "add": ["Red"]}), 422, "invalid")
    answer = api.post(path, {"assets": [*made[:2], made[0], *strange[:3]], "add": ["Red", "big"]})
    assert answer.status_code == 200
    gone = [{"asset": one, "detail": "This asset does not exist."} for one in strange[:3]]
    assert answer.json() == {"tagged": 2, "refused": gone}
    found = api.get(f"/datasets/{dataset}/assets?tag=Red").json()["results"]
    assert [one["id"] for one in found] == made[1::-1]
    assert api.get(f"/datasets/{dataset}/assets?tag=red").json()["results"] == []
    api.post(path, {"assets": made, "remove": ["RED"]})
    assert api.get(f"/datasets/{dataset}/assets?tag=Red").json()["results"] == []
    assert api.get(f"/assets/{made[0]}").json()["metadata"] == {"tags": ["big"]}
    assert api.get(f"/assets/{made[2]}").json()["metadata"] == {}
    for body in ({"assets": made}, {"assets": [], "add": ["x"]}, {"assets": made, "add": ["x;y"]}):
        refused(api.post(path, body), 422, "invalid")
    for owner, one in ((party, other), (stranger, theirs)):
        with tenant_scope(owner.id):
            assert Asset.objects.get(pk=one).metadata == {}
