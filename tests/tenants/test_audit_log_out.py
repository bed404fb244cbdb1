"""The audit log's way out: syslog in OCSF with every line at least once, webhooks, and what stands in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tenants.accounts.models import OperatorAct
from tenants.accounts.operators import Operator, record_act
from tenants.events import endpoints, ocsf, syslog
from tenants.events.models import AuditEvent, StreamPosition, WebhookEvent
from tenants.events.services import record
from tenants.moderation.record import seals
from tenants.moderation.record.chains import LOG
from tenants.scope import operator_scope, tenant_scope
from tests.conftest import Party
from tests.tenants.syslog_server import Receiver, certificate, receiving
from tests.waiting import until

# https://schema.ocsf.io/1.3.0: what the base event and each class require.
BASE = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
REQUIRED = {
    3001: {"user"},
    3002: {"user"},
    3004: {"entity"},
    3005: {"user", "privileges"},
    6003: {"actor", "api", "src_endpoint"},
}


@pytest.fixture(autouse=True)
def _alone() -> None:
    """The stream is of the installation: all that other tests left is sent already."""
    with operator_scope("tests"):
        StreamPosition.objects.all().delete()
    for batch in syslog._batches():
        batch.sent()


def log(party: Party, *verbs: str, details: dict[str, Any] | None = None) -> None:
    with tenant_scope(party.id):
        for verb in verbs:
            record(actor="key:x", verb=verb, target="7", details=details)
    seals.seal(party.id, LOG)


def of(party: Party, server: Receiver) -> list[dict[str, Any]]:
    return [event for event in server.events() if event["metadata"].get("tenant_uid") == str(party.id)]


@pytest.mark.parametrize("kind", ["tcp", "tls", "udp"])
def test_each_line_arrives_in_order(party: Party, settings: Any, tmp_path: Path, kind: str) -> None:
    context = certificate(tmp_path) if kind == "tls" else None
    with receiving(context, udp=kind == "udp") as server:
        settings.SYSLOG_URL, settings.SYSLOG_CA = server.url, str(tmp_path / "server.pem") if context else ""
        log(party, *(f"thing.done{n}" for n in range(5)))
        assert syslog.stream() == 5
        until(lambda: len(server.frames) == 5)
        found = of(party, server)
        assert [event["metadata"]["sequence"] for event in found] == [1, 2, 3, 4, 5]
        assert [event["metadata"]["event_code"] for event in found] == [f"thing.done{n}" for n in range(5)]
        assert syslog.stream() == 0, "nothing twice"
        log(party, "thing.again")
        assert syslog.stream() == 1
        until(lambda: len(server.frames) == 6)


def test_a_server_that_is_not_trusted_gets_nothing(party: Party, settings: Any, tmp_path: Path) -> None:
    with receiving(certificate(tmp_path)) as server:
        settings.SYSLOG_URL = server.url
        log(party, "thing.done")
        assert syslog.stream() == 0
        assert server.frames == []
        assert not StreamPosition.objects.filter(tenant=party.tenant).exists()


def test_a_server_that_hangs_up_loses_nothing(party: Party, settings: Any) -> None:
    """It reads some frames and closes: TCP has acknowledged more than it has read."""
    with receiving() as server:
        settings.SYSLOG_URL = server.url
        log(party, *(f"thing.done{n}" for n in range(30)))
        server.hangs_up_after = 7
        for _ in range(3):
            assert syslog.stream() == 0
        assert not StreamPosition.objects.filter(tenant=party.tenant).exists()
        server.hangs_up_after = None
        assert syslog.stream() == 30
        assert server.connections == 4
        # The last connection has all of them, in order.
        assert [event["metadata"]["sequence"] for event in of(party, server)[-30:]] == [*range(1, 31)]


def test_a_server_that_is_away_gets_it_later(party: Party, settings: Any) -> None:
    settings.SYSLOG_URL = "tcp://127.0.0.1:9"
    log(party, "thing.done")
    assert syslog.stream() == 0
    with receiving() as server:
        settings.SYSLOG_URL = server.url
        assert syslog.stream() == 1
        until(lambda: len(of(party, server)) == 1)


def test_a_sender_that_is_killed_sends_again(party: Party, settings: Any, monkeypatch: Any) -> None:
    def killed(self: Any) -> None:
        raise KeyboardInterrupt

    with receiving() as server:
        settings.SYSLOG_URL = server.url
        log(party, "thing.done")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(syslog.Batch, "sent", killed)
            syslog.stream()
        assert syslog.stream() == 1
        until(lambda: len(server.frames) == 2)
        one, two = of(party, server)
        assert one == two


def test_the_operators_log_goes_along(party: Party, settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(syslog, "SETTLED", syslog.SETTLED * 0)
    with receiving() as server:
        settings.SYSLOG_URL = server.url
        record_act(
            by=Operator("op@example.com", "192.0.2.1"), verb="plan.changed", target="small", reason="Asked."
        )
        assert syslog.stream() >= 1
        until(lambda: server.frames)
        event = server.events()[-1]
    assert (event["class_uid"], event["activity_id"], event["entity"]["uid"]) == (3004, 3, "small")
    assert event["actor"]["user"] == {"name": "operator:op@example.com", "type_id": 2}
    assert event["unmapped"]["details"]["reason"] == "Asked."
    assert OperatorAct.objects.filter(pk=event["metadata"]["uid"]).exists()


VERBS = {
    "session.started": (3002, 1, 1),
    "session.ended": (3002, 2, 1),
    "session.refused": (3002, 1, 2),
    "access.refused": (6003, 4, 2),
    "member.joined": (3001, 1, 1),
    "member.removed": (3001, 6, 1),
    "member.role_changed": (3005, 1, 1),
    "key.created": (3004, 1, 1),
    "export.downloaded": (3004, 2, 1),
    "policy.version_added": (3004, 1, 1),
    "webhook.updated": (3004, 3, 1),
    "asset.deleted": (3004, 4, 1),
    "something.new": (3004, 99, 1),
}


@pytest.mark.parametrize("verb", VERBS)
def test_an_event_has_what_its_class_requires(party: Party, verb: str) -> None:
    log(
        party,
        verb,
        details={
            "address": "192.0.2.7",
            "method": "DELETE",
            "scope": "admin",
            "from": "viewer",
            "to": "admin",
        },
    )
    (batch,) = [batch for batch in syslog._batches() if batch.tenant_id == party.id]
    event = ocsf.event_of(batch.lines[-1])
    class_uid, activity, status = VERBS[verb]
    assert (event["class_uid"], event["activity_id"], event["status_id"]) == (class_uid, activity, status)
    assert BASE | REQUIRED[class_uid] <= set(event)
    assert event["category_uid"] == class_uid // 1000
    assert event["type_uid"] == class_uid * 100 + activity
    assert event["metadata"]["version"] == "1.3.0"
    assert event["metadata"]["product"]["vendor_name"] == "Crosslight"
    if class_uid in (3002, 6003):
        assert event["src_endpoint"] == {"ip": "192.0.2.7"}
    if activity == 99:
        assert event["activity_name"] == verb


def test_large_details_are_left_out() -> None:
    line = ocsf.LogLine("1", syslog.timezone.now(), "key:x", "a.b", "", {"x": "y" * 5000}, "t", "t")
    assert ocsf.event_of(line)["unmapped"]["details"] == {"left_out": True}


# --- Webhooks ----------------------------------------------------------------------------------------------


def test_a_webhook_is_told_in_batches_without_details(party: Party) -> None:
    with tenant_scope(party.id):
        endpoints.create_webhook(url="https://hooks.example/", events=["audit.logged"], actor="key:x")
    seals.seal(party.id, LOG)
    with tenant_scope(party.id):
        before = WebhookEvent.objects.count()
    log(party, *(["thing.done"] * 150), details={"name": "Bert"})
    with tenant_scope(party.id):
        bodies = [event.body for event in WebhookEvent.objects.order_by("id")[before:]]
        newest = AuditEvent.objects.order_by("-id").first()
    assert [body.count('"verb":"thing.done"') for body in bodies] == [100, 50]
    assert str(newest.id) in bodies[1]
    assert "Bert" not in "".join(bodies)


# --- What stands in the log --------------------------------------------------------------------------------


def lines(party: Party, verb: str) -> list[dict[str, Any]]:
    with tenant_scope(party.id):
        return list(AuditEvent.objects.filter(verb=verb).order_by("id").values("actor", "target", "details"))


def test_what_was_refused_stands_in_the_log(make_party: Any, client: Client) -> None:
    party = make_party(scopes=("read",))
    for _ in range(2):
        assert client.get("/api/v1/webhooks", **party.auth).status_code == 403
    found = lines(party, "access.refused")
    prefix = party.token.partition(".")[0]
    details = {"address": "127.0.0.1", "method": "GET", "scope": "admin"}
    assert found == [{"actor": f"key:{prefix}", "target": "api:webhooks", "details": details}]
