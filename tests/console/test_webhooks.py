"""The pages of webhooks: what is shown, what a form changes, what is shown once."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from console.webhooks import EVENTS, WebhookForm
from tenants.events import deliveries, endpoints, replays, webhooks
from tenants.events.models import AuditEvent, Webhook
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.tenants.receiver import Receiver, plain, receiving

URL = "https://hooks.example/in"


@pytest.fixture
def receiver(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    settings.WEBHOOK_ALLOW_HTTP = True
    settings.WEBHOOK_PORTS = ("1024-65535",)
    settings.WEBHOOK_ALLOWED_NETWORKS = ("127.0.0.1/32",)
    monkeypatch.setattr(webhooks, "send", lambda *args: None)
    with receiving() as server:
        yield server


def text_of(response: Any) -> str:
    page = response.content.decode()
    assert faults_of(page) == []
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def only(party: Party) -> Webhook:
    with tenant_scope(party.id):
        return Webhook.objects.get()


def test_made_with_a_choice_of_events_and_its_secret_shown_once(owner: Client, party: Party) -> None:
    assert "No webhooks yet" in text_of(owner.get("/webhooks"))
    assert "A job failed job.failed" in text_of(owner.get("/webhooks/new"))
    answer = owner.post(
        "/webhooks/new",
        {"url": URL, "which": "some", "events": ["job.failed", "asset.ready"], "description": "CI"},
    )
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", answer.content.decode())
    assert answer.status_code == 201
    assert secret
    row = only(party)
    assert (row.url, row.events, row.description) == (URL, ["asset.ready", "job.failed"], "CI")
    assert row.created_by == str(owner.user.pk)
    page = owner.get(f"/webhooks/{row.id}")
    assert "whsec_" not in page.content.decode()
    assert "Nothing was sent yet" in text_of(page)
    assert "2 types" in text_of(owner.get("/webhooks"))


def test_every_type_of_event_can_be_chosen_once() -> None:
    assert set(EVENTS) == set(webhooks.TYPES)
    chosen = [str(choice.data["value"]) for _, choices in WebhookForm().groups for choice in choices]
    assert sorted(chosen) == sorted(webhooks.TYPES)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"url": "http://hooks.example/", "which": "all"}, "The URL starts with https://"),
        ({"url": "https://a:b@hooks.example/", "which": "all"}, "no user name"),
        ({"url": "https://hooks.example:22/", "which": "all"}, "port 22"),
        ({"url": URL, "which": "some"}, "Choose at least one"),
        ({"url": "", "which": "all"}, "required"),
    ],
)
def test_what_cannot_be_used_is_said_in_the_form(
    owner: Client, party: Party, fields: dict[str, str], said: str
) -> None:
    answer = owner.post("/webhooks/new", fields)
    assert answer.status_code == 422
    assert said in text_of(answer)
    with tenant_scope(party.id):
        assert not Webhook.objects.exists()


def test_changed_paused_rotated_and_deleted(owner: Client, party: Party) -> None:
    with tenant_scope(party.id):
        row, old = endpoints.create_webhook(url=URL, events=["job.failed"], actor="key:x")
    path = f"/webhooks/{row.id}"
    assert 'value="job.failed"' in owner.get(f"{path}/edit").content.decode()
    changed = owner.post(f"{path}/edit", {"url": URL + "/2", "which": "all"}, follow=True)
    assert "Saved." in text_of(changed)
    assert (only(party).url, only(party).events) == (URL + "/2", [])
    assert "Paused: events are kept" in text_of(owner.post(f"{path}/state", {"state": "paused"}, follow=True))
    rotated = owner.post(f"{path}/rotate")
    [new] = re.findall(r"whsec_[A-Za-z0-9+/=]+", html.unescape(rotated.content.decode()))
    assert new != old
    assert endpoints.secrets_of(only(party)) == [new, old]
    assert "was deleted" in text_of(owner.post(f"{path}/delete", follow=True))
    with tenant_scope(party.id):
        assert not Webhook.objects.exists()
        assert AuditEvent.objects.filter(verb__startswith="webhook.", target=str(row.id)).count() == 5


def test_the_log_a_delivery_and_sending_it_again(owner: Client, party: Party, receiver: Receiver) -> None:
    with tenant_scope(party.id):
        row, secret = endpoints.create_webhook(url=receiver.url, actor="key:x")
    path = f"/webhooks/{row.id}"
    receiver.answer = plain(410, b"<script>gone</script>")
    asked = owner.post(f"{path}/test", follow=True)
    assert "About to be sent." in text_of(asked)
    deliveries.deliver(row.id, party.id)
    [delivery] = [asked.context["delivery"]]
    page = owner.get(f"{path}/deliveries/{delivery.id}")
    assert b"<script>gone" not in page.content
    assert "410" in text_of(page)
    assert '"type": "webhook.test"' in text_of(page)
    assert "Disabled: it answered 410 Gone" in text_of(owner.get(path))
    assert "A test webhook.test failed" in text_of(owner.get(f"{path}?state=failed"))
    assert "No deliveries in this state" in text_of(owner.get(f"{path}?state=succeeded"))
    refused = owner.post(f"{path}/deliveries/{delivery.id}/replay", follow=True)
    assert "This webhook is not active" in text_of(refused)
    owner.post(f"{path}/state", {"state": "active"})
    receiver.answer = plain(200)
    again = owner.post(f"{path}/replay", {"hours": 24}, follow=True)
    assert "1 delivery is sent again." in text_of(again)
    deliveries.deliver(row.id, party.id)
    part = owner.get(f"{path}/deliveries/{delivery.id}", headers={"hx-request": "true"}).content.decode()
    assert "<html" not in part
    assert "succeeded" in part
    assert len(set(receiver.ids)) == 1
    assert len(receiver.verified(secret)) == 2


def test_the_log_is_paged_with_a_constant_number_of_queries(
    owner: Client, party: Party, receiver: Receiver, django_assert_max_num_queries: Any
) -> None:
    with tenant_scope(party.id):
        row, _ = endpoints.create_webhook(url=receiver.url, actor="key:x")
        webhooks.emit_all("asset.ready", [{"asset": n} for n in range(120)])
    with django_assert_max_num_queries(25):
        first = owner.get(f"/webhooks/{row.id}")
    assert first.content.decode().count("asset.ready") == 50
    [before] = re.findall(r"before=([0-9a-f-]{36})", first.content.decode())
    with tenant_scope(party.id):
        ids = [d.id for d in replays.list_deliveries(row.id)]
    assert before == str(ids[49])
    third = owner.get(f"/webhooks/{row.id}?before={ids[99]}")
    assert third.content.decode().count("asset.ready") == 20
    assert "Older deliveries" not in text_of(third)
