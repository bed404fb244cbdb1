"""The same key and request replay the first answer."""

from __future__ import annotations

import datetime as dt
import json
import threading
import uuid
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from api import docs
from tenants.accounts.models import ApiKey
from tenants.datasets.models import Asset, Dataset
from tenants.events.models import IdempotentAnswer
from tenants.events.services import forget_old_answers
from tenants.jobs.models import Job
from tenants.scope import tenant_scope
from tests.api.conftest import Api, picture, refused, upload
from tests.conftest import Party

pytestmark = pytest.mark.guard

KEY = {"Idempotency-Key": "first"}


def test_a_replay_is_the_first_answer_byte_for_byte(api: Api, party: Party) -> None:
    first = api.call("POST", "/datasets", {"name": "Straße 店 \u2028"}, KEY)
    again = api.call("POST", "/datasets", {"name": "Straße 店 \u2028"}, KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert first.headers["Location"] == again.headers["Location"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    with tenant_scope(party.id):
        assert Dataset.objects.count() == 1


def test_another_request_under_the_same_key(api: Api, dataset: str) -> None:
    api.call("POST", "/datasets", {"name": "one"}, KEY)
    refused(api.call("POST", "/datasets", {"name": "two"}, KEY), 422, "invalid")
    refused(api.call("POST", f"/datasets/{dataset}/assets", {"text": "one"}, KEY), 422, "invalid")
    refused(api.call("POST", "/keys", {"name": "one", "scopes": ["read"]}, KEY), 422, "invalid")


def test_keys_are_the_tenants_own(api: Api, other: Api) -> None:
    first = api.call("POST", "/datasets", {"name": "one"}, KEY).json()
    second = other.call("POST", "/datasets", {"name": "two"}, KEY)
    assert second.status_code == 201
    assert second.json()["id"] != first["id"]


def test_refusals_are_not_kept(api: Api, dataset: str) -> None:
    refused(api.call("POST", "/datasets", {"name": "things"}, KEY), 409, "conflict")
    refused(api.call("POST", "/datasets", {"name": ""}, KEY), 422, "invalid", "/name")
    assert api.call("DELETE", f"/datasets/{dataset}").status_code == 202
    assert api.call("POST", "/datasets", {"name": "things"}, KEY).status_code == 201


def test_uploads_are_told_apart_by_their_bytes(api: Api, dataset: str, party: Party) -> None:
    path, red = f"/datasets/{dataset}/assets", picture("red")
    first = api.form(path, {"file": upload(red, "a.png"), "text": "red"}, KEY)
    again = api.form(path, {"file": upload(red, "b.png"), "text": "red"}, KEY)
    assert first.status_code == again.status_code == 202
    assert first.content == again.content
    refused(api.form(path, {"file": upload(picture("blue")), "text": "red"}, KEY), 422, "invalid")
    refused(api.form(path, {"file": upload(red), "text": "blue"}, KEY), 422, "invalid")
    with tenant_scope(party.id):
        assert (Asset.objects.count(), Job.objects.count()) == (1, 1)


def test_a_replayed_key_has_no_token(api: Api, party: Party) -> None:
    body = {"name": "ci", "scopes": ["read"]}
    first = api.call("POST", "/keys", body, KEY).json()
    again = api.call("POST", "/keys", body, KEY)
    assert first.pop("token").startswith(first["prefix"] + ".")
    assert again.json() == {**first, "token": None}
    with tenant_scope(party.id):
        assert ApiKey.objects.filter(name="ci").count() == 1
        assert 'token\\":null' in json.dumps(IdempotentAnswer.objects.get().body)


@pytest.mark.parametrize("kind", ["datasets", "assets"])
def test_concurrent_requests_with_one_key_act_once(api: Api, dataset: str, party: Party, kind: str) -> None:
    path = "/datasets" if kind == "datasets" else f"/datasets/{dataset}/assets"
    body = {"name": "raced"} if kind == "datasets" else {"text": "raced"}
    start, answers = threading.Barrier(8), []

    def post() -> None:
        start.wait()
        answers.append(Api(api.token).call("POST", path, body, KEY))
        connection.close()

    together(post, 8)
    assert {answer.status_code for answer in answers} == {201 if kind == "datasets" else 202}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 7
    with tenant_scope(party.id):
        assert Dataset.objects.filter(name="raced").count() == (kind == "datasets")
        assert Asset.objects.count() == (kind == "assets")


def test_concurrent_external_ids_make_one_asset(api: Api, dataset: str, party: Party) -> None:
    start, answers = threading.Barrier(6), []

    def post() -> None:
        start.wait()
        body = {"text": "same", "external_id": "x"}
        answers.append(Api(api.token).call("POST", f"/datasets/{dataset}/assets", body))
        connection.close()

    together(post, 6)
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [202]
    assert len({answer.json()["asset"]["id"] for answer in answers}) == 1
    with tenant_scope(party.id):
        assert Job.objects.count() == 1


def together(act: Any, count: int) -> None:
    threads = [threading.Thread(target=act) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_no_key_no_memory(api: Api, party: Party) -> None:
    api.post("/datasets", {"name": uuid.uuid4().hex})
    with tenant_scope(party.id):
        assert not IdempotentAnswer.objects.exists()


def test_every_request_that_creates_takes_a_key() -> None:
    """Walks the OpenAPI document. What answers 200 changes or looks at something that is there."""
    document = json.loads(docs.document())
    creating = [
        (path, operation["post"])
        for path, operation in document["paths"].items()
        if {"201", "202"} & set(operation.get("post", {}).get("responses", ()))
    ]
    without = {
        path
        for path, operation in creating
        if "Idempotency-Key" not in [parameter["name"] for parameter in operation.get("parameters", ())]
    }
    # About a job that is there: to ask twice is refused, or the same as to ask once.
    of_jobs = ("/api/v1/jobs/{job_id}", "/api/v1/generations/{generation_id}")
    # A ticket is a secret for one stream and a minute: an answer that is kept would keep it.
    tickets = {"/api/v1/live"}
    assert without == {f"{path}/{verb}" for path in of_jobs for verb in ("cancel", "retry")} | tickets
    assert len(creating) > 20


def test_an_upload_is_begun_once(api: Api, party: Party) -> None:
    sent = {"Tus-Resumable": "1.0.0", "Upload-Length": "4", **KEY}
    first, again = (api.call("POST", "/uploads", headers=sent) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.headers["Location"] == again.headers["Location"]
    assert again.headers["Tus-Resumable"] == "1.0.0"
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    refused(api.call("POST", "/uploads", headers={**sent, "Upload-Length": "5"}), 422, "invalid")


def test_a_key_is_remembered_for_a_day(api: Api, party: Party) -> None:
    first = api.call("POST", "/datasets", {"name": "one"}, KEY).json()
    for hours, replayed in ((23, True), (25, False)):
        with tenant_scope(party.id):
            at = timezone.now() - dt.timedelta(hours=hours)
            IdempotentAnswer.objects.update(created_at=at)
            forget_old_answers()
            assert IdempotentAnswer.objects.exists() == replayed
    refused(api.call("POST", "/datasets", {"name": "one"}, KEY), 409, "conflict")
    assert first["name"] == "one"
