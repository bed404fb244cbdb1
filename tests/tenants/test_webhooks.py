"""Events in the transaction in which they happen, sent after it, signed, tried again, and never twice at once."""

from __future__ import annotations

import datetime as dt
import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from tenants.accounts.models import Tenant
from tenants.errors import Conflict, NotFound
from tenants.events import deliveries, endpoints, replays, sending, signing, webhooks
from tenants.events.models import AuditEvent, Webhook, WebhookDelivery, WebhookDue, WebhookEvent, WebhookLane
from tenants.scope import NoTenantScope, tenant_scope
from tests.conftest import Party
from tests.keys import another_master_key
from tests.tenants.receiver import Receiver, plain, receiving
from tests.waiting import PATIENCE_S, pause

State = WebhookDelivery.State


@pytest.fixture(autouse=True)
def _loopback_allowed(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBHOOK_ALLOW_HTTP = True
    settings.WEBHOOK_PORTS = ("1024-65535",)
    settings.WEBHOOK_ALLOWED_NETWORKS = ("127.0.0.0/8",)
    # These tests are the workers.
    monkeypatch.setattr(webhooks, "send", lambda *args: None)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def make(party: Party, url: str, **fields: Any) -> tuple[Webhook, str]:
    with tenant_scope(party.id):
        return endpoints.create_webhook(url=url, actor="key:x", **fields)


def tell(party: Party, event_type: str = "asset.ready", **data: Any) -> None:
    with tenant_scope(party.id):
        webhooks.emit(event_type, data or {"asset": "1"})


def work(row: Webhook) -> int:
    return deliveries.deliver(row.id, row.tenant_id)


def log_of(row: Webhook, **wanted: Any) -> list[WebhookDelivery]:
    with tenant_scope(row.tenant_id):
        return list(replays.list_deliveries(row.id, **wanted))


def fresh(row: Webhook) -> Webhook:
    with tenant_scope(row.tenant_id):
        return Webhook.objects.get(pk=row.pk)


def make_due_now(row: Webhook) -> None:
    WebhookDue.objects.filter(webhook_id=row.id).update(due_at=timezone.now())


# --- Emitting ----------------------------------------------------------------------------------------------


def test_an_event_arrives_signed_and_once(party: Party, receiver: Receiver) -> None:
    row, secret = make(party, receiver.url)
    tell(party, asset="7", state="ready")
    assert work(row) == 1
    [request] = receiver.requests
    [payload] = receiver.verified(secret)
    assert request["path"] == "/hook?a=1"
    assert request["headers"]["Host"] == f"127.0.0.1:{receiver.port}"
    assert request["headers"]["Content-Type"] == "application/json"
    assert (payload["type"], payload["data"]) == ("asset.ready", {"asset": "7", "state": "ready"})
    assert dt.datetime.fromisoformat(payload["timestamp"]).tzinfo is not None
    [delivery] = log_of(row)
    assert (delivery.state, str(delivery.event_id)) == (State.SUCCEEDED, request["headers"]["webhook-id"])
    assert [(a["status"], a["error"]) for a in delivery.attempts] == [(204, "")]
    assert work(row) == 0
    assert not WebhookDue.objects.filter(webhook_id=row.id).exists()


def test_what_is_rolled_back_is_not_told(party: Party, receiver: Receiver) -> None:
    row, _ = make(party, receiver.url)
    with pytest.raises(RuntimeError), tenant_scope(party.id):
        webhooks.emit("asset.ready", {"asset": "1"})
        raise RuntimeError
    assert work(row) == 0
    assert log_of(row) == []


def test_without_an_endpoint_one_look_and_nothing_more(party: Party) -> None:
    with tenant_scope(party.id), CaptureQueriesContext(connection) as asked:
        webhooks.emit_all("asset.ready", [{"asset": n} for n in range(1000)])
    assert len(asked) == 1, [q["sql"] for q in asked]
    with tenant_scope(party.id):
        assert not WebhookEvent.objects.exists()
    with pytest.raises(NoTenantScope):
        webhooks.emit("asset.ready", {})


def test_many_events_cost_as_many_statements_as_one(party: Party, receiver: Receiver) -> None:
    make(party, receiver.url)
    counts = []
    for many in (1, 200):
        with tenant_scope(party.id), CaptureQueriesContext(connection) as asked:
            webhooks.emit_all("asset.ready", [{"asset": n} for n in range(many)])
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_an_endpoint_is_told_what_it_asked_for(party: Party, receiver: Receiver) -> None:
    some, _ = make(party, receiver.url, events=["job.failed", "asset.ready"])
    every, _ = make(party, receiver.url)
    for name in ("asset.ready", "asset.created", "job.failed"):
        tell(party, name)
    assert [d.event.type for d in log_of(some)] == ["job.failed", "asset.ready"]
    assert len(log_of(every)) == 3
    with tenant_scope(party.id):
        # The payload is kept once.
        assert WebhookEvent.objects.count() == 3


def test_tenants_hear_only_of_themselves(party: Party, stranger: Party, receiver: Receiver) -> None:
    mine, secret = make(party, receiver.url)
    theirs, _ = make(stranger, receiver.url)
    tell(party, asset="mine")
    assert (work(theirs), work(mine)) == (0, 1)
    assert receiver.verified(secret)[0]["data"] == {"asset": "mine"}
    assert log_of(theirs) == []
    # A worker that is sent an endpoint under another tenant's name does nothing.
    tell(party)
    assert deliveries.deliver(mine.id, stranger.id) == 0
    with tenant_scope(stranger.id):
        for act in (
            lambda: endpoints.get_webhook(mine.id),
            lambda: endpoints.rotate_secret(webhook_id=mine.id, actor="x"),
            lambda: endpoints.delete_webhook(webhook_id=mine.id, actor="x"),
            lambda: replays.get_delivery(mine.id, uuid.uuid4()),
            lambda: replays.replay_failed(webhook_id=mine.id, since=timezone.now(), actor="x"),
        ):
            with pytest.raises(NotFound):
                act()


def test_the_end_of_a_transaction_is_enough(party: Party, receiver: Receiver) -> None:
    """Without a message, as when the process dies right after its commit, the sweep finds what is due."""
    row, secret = make(party, receiver.url)
    sent: list[Any] = []
    with tenant_scope(party.id):
        webhooks.emit("asset.ready", {"asset": "1"})
        connection.run_on_commit.clear()
    webhooks.acknowledge(row.id, row.tenant_id)
    original, webhooks.send = webhooks.send, lambda *args: sent.append(args)
    try:
        deliveries.sweep()
    finally:
        webhooks.send = original
    assert (row.id, row.tenant_id) in sent
    work(row)
    assert len(receiver.verified(secret)) == 1


def test_an_endpoint_that_is_deleted_meanwhile_fails_nobody(party: Party, receiver: Receiver) -> None:
    row, _ = make(party, receiver.url)

    def remove() -> None:
        with tenant_scope(party.id):
            endpoints.delete_webhook(webhook_id=row.id, actor="x")
        connection.close()

    with tenant_scope(party.id):
        webhooks.emit("asset.ready", {"asset": "1"})
        thread = threading.Thread(target=remove)
        thread.start()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert work(row) == 0


# --- Sending -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 500, 503])
def test_what_is_not_2xx_is_tried_again_under_the_same_id(
    party: Party, receiver: Receiver, status: int
) -> None:
    with receiving() as elsewhere:
        row, secret = make(party, receiver.url)
        receiver.answer = plain(status, b"no", Location=elsewhere.url)
        tell(party)
        assert work(row) == 1
        [delivery] = log_of(row)
        assert (delivery.state, delivery.attempts[0]["status"]) == (State.PENDING, status)
        assert delivery.attempts[0]["response"] == "no"
        wait = (delivery.due_at - timezone.now()).total_seconds()
        assert 3 <= wait <= 6.1
        assert work(row) == 0
        receiver.answer = plain(200)
        make_due_now(row)
        assert work(row) == 1
        # A redirect leads nowhere.
        assert elsewhere.requests == []
    assert len(set(receiver.ids)) == 1
    assert len(receiver.verified(secret)) == 2
    assert [a["status"] for a in log_of(row)[0].attempts] == [status, 200]
    assert fresh(row).failing_since is None


def test_the_schedule_spans_three_days_and_ends(party: Party, receiver: Receiver) -> None:
    row, _ = make(party, receiver.url)
    receiver.answer = plain(500)
    tell(party)
    waits = []
    while log_of(row)[0].state == State.PENDING:
        make_due_now(row)
        work(row)
        due = log_of(row)[0].due_at
        waits += [(due - timezone.now()).total_seconds()] if due else []
    assert len(receiver.requests) == len(deliveries.SCHEDULE) + 1
    for planned, real in zip(deliveries.SCHEDULE, waits, strict=True):
        assert planned * 0.79 - 1 <= real <= planned * 1.21
    assert 3 * 86400 <= sum(deliveries.SCHEDULE) <= 4 * 86400
    assert log_of(row)[0].state == State.FAILED
    assert len(set(receiver.ids)) == 1


def test_an_endpoint_may_ask_for_time_within_bounds() -> None:
    assert deliveries.wait_s(1, 1000) == 1000
    assert deliveries.wait_s(1, 10**9) == 24 * 3600
    assert 240 <= deliveries.wait_s(2, 1) <= 360
    assert {round(deliveries.wait_s(1), 3) for _ in range(20)} != {5.0}
    for text, seconds in (("7", 7.0), ("soon", None), ("", None), ("-1", None), ("9" * 40, None)):
        assert sending._retry_after(text) == seconds
    later = timezone.now() + dt.timedelta(minutes=2)
    assert 110 < sending._retry_after(later.strftime("%a, %d %b %Y %H:%M:%S GMT")) <= 121
    assert sending._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_retry_after_is_honoured(party: Party, receiver: Receiver) -> None:
    row, _ = make(party, receiver.url)
    receiver.answer = plain(503, Retry_After="600")
    tell(party)
    work(row)
    assert 590 <= (log_of(row)[0].due_at - timezone.now()).total_seconds() <= 601


def test_410_disables_and_what_waits_has_failed(party: Party, receiver: Receiver, settings: Any) -> None:
    settings.EMAIL_HOST = "mail.example"
    row, _ = make(party, receiver.url)
    receiver.answer = plain(410)
    for n in range(6):
        tell(party, asset=n)
    work(row)
    assert (fresh(row).state, fresh(row).reason) == ("disabled", "gone")
    assert {d.state for d in log_of(row)} == {State.FAILED}
    assert not WebhookDue.objects.filter(webhook_id=row.id).exists()
    tell(party)
    assert len(log_of(row)) == 6
    assert work(row) == 0
    from workers import tasks

    sent = len(mail.outbox)
    tasks.mail_webhook_disabled.run(str(row.id), str(party.id))
    [letter] = mail.outbox[sent:]
    assert letter.to == [party.owner.email]
    assert receiver.url in letter.body
    assert "410 Gone" in letter.body
    with tenant_scope(party.id):
        line = AuditEvent.objects.get(verb="webhook.disabled")
        assert (line.actor, line.details, line.target) == ("", {"reason": "gone"}, str(row.id))


def test_failing_for_days_disables(party: Party, receiver: Receiver) -> None:
    row, _ = make(party, receiver.url)
    receiver.answer = plain(500)
    for days, state in ((4, "active"), (6, "disabled")):
        tell(party)
        with tenant_scope(party.id):
            Webhook.objects.filter(pk=row.pk).update(failing_since=timezone.now() - dt.timedelta(days=days))
        work(row)
        assert fresh(row).state == state
    assert fresh(row).reason == "failing"


def test_paused_keeps_and_disabled_does_not(party: Party, receiver: Receiver) -> None:
    row, secret = make(party, receiver.url)

    def enter(state: str) -> None:
        with tenant_scope(party.id):
            endpoints.update_webhook(webhook_id=row.id, changes={"state": state}, actor="key:x")

    enter("paused")
    tell(party, asset="kept")
    assert work(row) == 0
    enter("active")
    assert work(row) == 1
    enter("disabled")
    tell(party, asset="lost")
    enter("active")
    assert work(row) == 0
    assert [p["data"]["asset"] for p in receiver.verified(secret)] == ["kept"]


def test_a_suspended_tenants_webhooks_rest(party: Party, receiver: Receiver) -> None:
    row, _ = make(party, receiver.url)
    tell(party)
    Tenant.objects.filter(pk=party.id).update(state="suspended")
    assert work(row) == 0
    Tenant.objects.filter(pk=party.id).update(state="active")
    assert work(row) == 1


# --- Two workers, dead workers, slow endpoints ---------------------------------------------------------------


def test_two_workers_do_not_send_the_same(party: Party, receiver: Receiver) -> None:
    row, _ = make(party, receiver.url)

    def slowly(handler: Any, number: int) -> None:
        pause(0.05, "the other worker looks for work meanwhile")
        plain(200)(handler, number)

    receiver.answer = slowly
    for n in range(20):
        tell(party, asset=n)
    made: list[int] = []

    def one() -> None:
        made.append(work(row))
        connection.close()

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(made) == 20
    assert len(receiver.ids) == len(set(receiver.ids)) == 20


def test_what_a_dead_worker_held_is_sent_when_its_lease_is_over(
    party: Party, receiver: Receiver, settings: Any
) -> None:
    settings.WEBHOOK_LEASE_S = 0.5
    row, _ = make(party, receiver.url)
    tell(party)
    hold = deliveries._claim(row.id, party.id)
    assert hold is not None
    assert work(row) == 0
    pause(0.6, "the lease ends by the clock of the database")
    assert work(row) == 1
    # The one that was thought dead comes back: it stores nothing and frees nothing.
    with pytest.raises(deliveries.LaneLeaseLost), tenant_scope(party.id):
        deliveries._extend(hold)
    before = WebhookLane.objects.get(pk=row.id).held_until
    deliveries._release(hold)
    assert WebhookLane.objects.get(pk=row.id).held_until == before


def test_one_slow_endpoint_gets_one_request_at_a_time_and_few_threads(
    party: Party, receiver: Receiver
) -> None:
    rows = [make(party, receiver.url)[0] for _ in range(6)]
    now = timezone.now()
    WebhookLane.objects.filter(pk__in=[r.id for r in rows]).update(failing=True)
    tell(party)
    WebhookLane.objects.filter(failing=True).exclude(pk__in=[r.id for r in rows]).update(held_until=now)
    held = [deliveries._claim(row.id, party.id) for row in rows]
    assert sum(h is not None for h in held) == deliveries.FAILING_LANES
    assert all(len(deliveries._next_batch(h)) == 1 for h in held if h)
    well, _ = make(party, receiver.url)
    for n in range(6):
        tell(party, asset=n)
    hold = deliveries._claim(well.id, party.id)
    assert hold is not None
    assert len(deliveries._next_batch(hold)) == deliveries.WIDTH


def test_a_turn_ends_so_that_others_have_theirs(
    party: Party, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "TURN_S", 0.0)
    sent: list[Any] = []
    monkeypatch.setattr(webhooks, "send", lambda *args: sent.append(args))
    row, _ = make(party, receiver.url)
    for n in range(9):
        tell(party, asset=n)
    sent.clear()
    assert work(row) == 0
    assert sent == [(row.id, row.tenant_id)]
    assert deliveries._claim(row.id, party.id) is not None


# --- Secrets -----------------------------------------------------------------------------------------------


def test_both_secrets_sign_for_a_day(party: Party, receiver: Receiver) -> None:
    row, old = make(party, receiver.url)
    with tenant_scope(party.id):
        _, new = endpoints.rotate_secret(webhook_id=row.id, actor="key:x")
    tell(party)
    work(row)
    assert len(receiver.verified(old)) == len(receiver.verified(new)) == 1
    assert receiver.requests[0]["headers"]["webhook-signature"].count("v1,") == 2
    with tenant_scope(party.id):
        left = Webhook.objects.get(pk=row.pk).previous_until - timezone.now()
        assert dt.timedelta(hours=23) < left <= dt.timedelta(hours=24)
        Webhook.objects.filter(pk=row.pk).update(previous_until=timezone.now())
    receiver.requests.clear()
    tell(party)
    work(row)
    assert len(receiver.verified(new)) == 1
    with pytest.raises(WebhookVerificationError):
        receiver.verified(old)


def test_secrets_are_sealed_and_stand_nowhere_else(party: Party, receiver: Receiver) -> None:
    row, secret = make(party, receiver.url)
    raw = secret.removeprefix("whsec_").encode()
    assert secret.startswith("whsec_")
    stored = bytes(fresh(row).sealed_secret)
    assert raw not in stored
    assert signing.unseal(stored, party.id) == secret
    with tenant_scope(party.id):
        assert secret not in json.dumps(
            list(AuditEvent.objects.values("details", "verb", "target")), default=str
        )
    assert secret not in repr(replays.webhook_shape(fresh(row)))


def test_a_secret_of_another_key_is_told_and_not_sent(
    party: Party, receiver: Receiver, tmp_path: Path
) -> None:
    row, _ = make(party, receiver.url)
    with another_master_key(tmp_path):
        tell(party)
        assert work(row) == 1
    assert receiver.requests == []
    assert "Rotate it" in log_of(row)[0].attempts[0]["error"]


def test_a_forged_body_does_not_verify(party: Party, receiver: Receiver) -> None:
    row, secret = make(party, receiver.url)
    tell(party)
    work(row)
    request = receiver.requests[0]
    with pytest.raises(WebhookVerificationError):
        Verifier(secret).verify(request["body"].replace(b"ready", b"error"), request["headers"])


# --- Replays -----------------------------------------------------------------------------------------------


def test_a_replay_has_the_same_id_and_body(party: Party, receiver: Receiver) -> None:
    row, secret = make(party, receiver.url)
    tell(party)
    work(row)
    [delivery] = log_of(row)
    with tenant_scope(party.id):
        replays.replay(webhook_id=row.id, delivery_id=delivery.id, actor="key:x")
        with pytest.raises(Conflict):
            replays.replay(webhook_id=row.id, delivery_id=delivery.id, actor="key:x")
    work(row)
    assert len(set(receiver.ids)) == 1
    assert receiver.requests[0]["body"] == receiver.requests[1]["body"]
    assert len(receiver.verified(secret)) == 2
    assert len(log_of(row)[0].attempts) == 2


def test_all_that_failed_since_a_moment(party: Party, receiver: Receiver) -> None:
    row, _ = make(party, receiver.url)
    receiver.answer = plain(410)
    tell(party, asset="old")
    work(row)
    between = timezone.now()
    pause(0.01, "what comes is later by the clock")

    def enter(state: str) -> None:
        with tenant_scope(party.id):
            endpoints.update_webhook(webhook_id=row.id, changes={"state": state}, actor="key:x")

    enter("paused")
    tell(party, asset="new")
    with tenant_scope(party.id), pytest.raises(Conflict):
        replays.replay_failed(webhook_id=row.id, since=between, actor="key:x")
    enter("disabled")
    enter("active")
    receiver.answer = plain(200)
    receiver.requests.clear()
    with tenant_scope(party.id):
        assert replays.replay_failed(webhook_id=row.id, since=between, actor="key:x") == (1, False)
        assert replays.replay_failed(webhook_id=row.id, since=between, actor="key:x") == (0, False)
    work(row)
    assert [json.loads(r["body"])["data"]["asset"] for r in receiver.requests] == ["new"]
    assert [d.state for d in log_of(row)] == [State.SUCCEEDED, State.FAILED]


def test_a_test_goes_to_one_endpoint_whatever_it_asked_for(party: Party, receiver: Receiver) -> None:
    row, secret = make(party, receiver.url, events=["job.failed"])
    other, _ = make(party, receiver.url)
    with tenant_scope(party.id):
        endpoints.send_test(webhook_id=row.id, actor="key:x")
    assert (work(other), work(row)) == (0, 1)
    assert receiver.verified(secret)[0]["type"] == "webhook.test"


def test_old_deliveries_are_forgotten(party: Party, receiver: Receiver) -> None:
    row, _ = make(party, receiver.url)
    receiver.answer = plain(500)
    tell(party)
    work(row)
    with tenant_scope(party.id):
        webhooks.emit_once("quota.warning", {}, once="quota.warning/assets/2026-11")
        kept = dt.timedelta(0), dt.timedelta(days=62)
        pause(0.01, "what is there is older by the clock")
        assert replays.forget_old(older_than=kept[0], once_older_than=kept[1]) == 1
        assert [e.type for e in WebhookEvent.objects.all()] == ["quota.warning"]
    assert len(log_of(row)) == 1
    assert WebhookDue.objects.filter(webhook_id=row.id).count() == 1


def test_every_change_stands_in_the_log(party: Party, receiver: Receiver) -> None:
    row, _ = make(party, receiver.url)
    with tenant_scope(party.id):
        endpoints.update_webhook(webhook_id=row.id, changes={"description": "x"}, actor="key:x")
        endpoints.rotate_secret(webhook_id=row.id, actor="key:x")
        endpoints.send_test(webhook_id=row.id, actor="key:x")
        endpoints.delete_webhook(webhook_id=row.id, actor="key:x")
        verbs = list(
            AuditEvent.objects.filter(target=str(row.id)).order_by("id").values_list("verb", flat=True)
        )
    names = ("created", "updated", "secret_rotated", "tested", "deleted")
    assert verbs == [f"webhook.{name}" for name in names]
    assert not WebhookLane.objects.filter(pk=row.id).exists()
