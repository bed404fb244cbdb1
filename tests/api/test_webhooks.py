"""Webhooks over the API: what is asked, what is answered, what is shown once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tenants.events import deliveries, endpoints, webhooks
from tenants.events.models import IdempotentAnswer, Webhook
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party
from tests.tenants.receiver import Receiver, plain, receiving

URL = "https://hooks.example/in?a=1"


@pytest.fixture
def receiver(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    settings.WEBHOOK_ALLOW_HTTP = True
    settings.WEBHOOK_PORTS = ("1024-65535",)
    settings.WEBHOOK_ALLOWED_NETWORKS = ("127.0.0.1/32",)
    monkeypatch.setattr(webhooks, "send", lambda *args: None)
    with receiving() as server:
        yield server


def work(party: Party) -> None:
    with tenant_scope(party.id):
        ids = list(Webhook.objects.values_list("pk", flat=True))
    for webhook_id in ids:
        deliveries.deliver(webhook_id, party.id)


def test_its_life(api: Api, party: Party) -> None:
    answer = api.post("/webhooks", {"url": URL, "events": ["job.failed", "asset.ready"], "description": "CI"})
    made = answer.json()
    secret = made.pop("secret")
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/api/v1/webhooks/{made['id']}")
    assert secret.startswith("whsec_")
    assert (made["url"], made["events"], made["state"]) == (URL, ["asset.ready", "job.failed"], "active")
    path = f"/webhooks/{made['id']}"
    assert api.get(path).json() == made
    assert api.get("/webhooks").json() == {"results": [made], "next": None}
    changed = api.call("PATCH", path, {"events": None, "state": "paused"}).json()
    assert changed == {**made, "events": None, "state": "paused"}
    refused(api.post(f"{path}/test"), 409, "conflict")
    rotated = api.post(f"{path}/rotate-secret").json()
    assert rotated["secret"] not in (None, secret)
    assert rotated["previous_secret_until"] is not None
    assert api.call("DELETE", path).status_code == 204
    refused(api.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ({"url": "http://hooks.example/"}, "/url"),
        ({"url": "https://me:pw@hooks.example/"}, "/url"),
        ({"url": "https://hooks.example:22/"}, "/url"),
        ({"url": "https://hooks.example/#a"}, "/url"),
        ({"url": "ftp://hooks.example/"}, "/url"),
        ({"url": "https:///path"}, "/url"),
        ({"url": "https://exa mple/"}, "/url"),
        ({"url": URL, "events": ["asset.exploded"]}, "/events/0"),
        ({"url": URL, "events": []}, "/events"),
        ({"url": URL, "state": "paused"}, "/state"),
        ({"url": URL, "secret": "whsec_x"}, "/secret"),
        ({"url": URL, "description": "x" * 201}, "/description"),
        ({"url": URL, "description": "a\0b"}, "/description"),
    ],
)
def test_refusals(api: Api, body: dict[str, Any], pointer: str, party: Party) -> None:
    problem = refused(api.post("/webhooks", body), 422, "invalid")
    assert any(error["pointer"].startswith(pointer) for error in problem["errors"]), problem
    with tenant_scope(party.id):
        assert not Webhook.objects.exists()


def test_there_are_only_so_many(api: Api) -> None:
    for _ in range(endpoints.MAX_WEBHOOKS):
        assert api.post("/webhooks", {"url": URL}).status_code == 201
    refused(api.post("/webhooks", {"url": URL}), 409, "conflict")


def test_a_replayed_answer_has_no_secret(api: Api, party: Party) -> None:
    first = api.post("/webhooks", {"url": URL}, Idempotency_Key="k")
    again = api.post("/webhooks", {"url": URL}, Idempotency_Key="k")
    assert again.json() == {**first.json(), "secret": None}
    assert again.headers["Idempotent-Replayed"] == "true"
    path = f"/webhooks/{first.json()['id']}/rotate-secret"
    rotated = [api.post(path, Idempotency_Key="r").json() for _ in range(2)]
    assert rotated[1] == {**rotated[0], "secret": None}
    with tenant_scope(party.id):
        assert Webhook.objects.count() == 1
        assert "whsec_" not in json.dumps(list(IdempotentAnswer.objects.values("body")))


def test_the_log_of_deliveries_and_replays(api: Api, party: Party, receiver: Receiver) -> None:
    made = api.post("/webhooks", {"url": receiver.url}).json()
    path = f"/webhooks/{made['id']}"
    receiver.answer = plain(410, b"<b>gone</b>")
    tested = api.post(f"{path}/test", Idempotency_Key="t")
    assert tested.content == api.post(f"{path}/test", Idempotency_Key="t").content
    assert (tested.status_code, tested.json()["delivery"]["state"]) == (202, "pending")
    work(party)
    [line] = api.get(f"{path}/deliveries?state=failed").json()["results"]
    assert api.get(f"{path}/deliveries?state=succeeded").json()["results"] == []
    refused(api.get(f"{path}/deliveries?state=lost"), 422, "invalid")
    assert (line["status"], line["attempt_count"], line["event"]["type"]) == (410, 1, "webhook.test")
    full = api.get(f"{path}/deliveries/{line['id']}").json()
    assert json.loads(full["request"]["body"])["data"] == {"webhook": made["id"]}
    assert full["attempts"][0]["response"] == "<b>gone</b>"
    assert (api.get(path).json()["state"], api.get(path).json()["reason"]) == ("disabled", "gone")
    refused(api.post(f"{path}/deliveries/{line['id']}/replay"), 409, "conflict")
    api.call("PATCH", path, {"state": "active"})
    receiver.answer = plain(200)
    again = api.post(f"{path}/deliveries/{line['id']}/replay")
    assert (again.status_code, again.headers["Location"]) == (202, f"/api/v1{path}/deliveries/{line['id']}")
    work(party)
    assert api.get(f"{path}/deliveries/{line['id']}").json()["state"] == "succeeded"
    assert len(set(receiver.ids)) == 1
    assert len(receiver.verified(made["secret"])) == 2
    since = {"since": "2026-01-01T00:00:00Z"}
    assert api.post(f"{path}/replay", since).json() == {"replayed": 0, "more": False}
    refused(api.post(f"{path}/replay", {"since": "yesterday"}), 422, "invalid", "/since")


def test_another_tenants_are_absent(api: Api, other: Api, receiver: Receiver) -> None:
    path = f"/webhooks/{api.post('/webhooks', {'url': receiver.url}).json()['id']}"
    delivery = api.post(f"{path}/test").json()["delivery"]["id"]
    mine = f"/webhooks/{other.post('/webhooks', {'url': receiver.url}).json()['id']}"
    for method, address in (
        *(("GET", path), ("PATCH", path), ("DELETE", path), ("POST", f"{path}/test")),
        *(("POST", f"{path}/rotate-secret"), ("POST", f"{path}/replay"), ("GET", f"{path}/deliveries")),
        *(("GET", f"{path}/deliveries/{delivery}"), ("POST", f"{path}/deliveries/{delivery}/replay")),
        # Under a webhook of one's own, too.
        *(("GET", f"{mine}/deliveries/{delivery}"), ("POST", f"{mine}/deliveries/{delivery}/replay")),
    ):
        refused(other.call(method, address), 404, "not-found")
    assert api.get(path).json()["state"] == "active"


def test_what_happens_is_told(api: Api, party: Party, receiver: Receiver, dataset: str) -> None:
    secret = api.post("/webhooks", {"url": receiver.url}).json()["secret"]
    added = api.post(f"/datasets/{dataset}/assets", {"text": "A red kettle."}).json()
    api.post(f"/jobs/{added['job']['id']}/cancel")
    api.call("DELETE", f"/assets/{added['asset']['id']}")
    work(party)
    told = {event["type"]: event["data"] for event in receiver.verified(secret)}
    asset = added["asset"]["id"]
    assert told["asset.created"] == {
        "asset": asset,
        "dataset": dataset,
        "modality": "text",
        "status": "pending",
    }
    assert told["job.cancelled"] == {"job": added["job"]["id"], "kind": "embed_asset", "state": "cancelled"}
    assert told["asset.failed"]["asset"] == asset
    assert told["asset.deleted"] == {"asset": asset, "dataset": dataset}
    assert "kettle" not in json.dumps(told)
