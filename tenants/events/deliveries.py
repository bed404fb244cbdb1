"""Sending what is due: one worker at a time holds the lane to an endpoint, sends some of it, and makes room for others.

At least once, under an id that stays the same: what a worker had in hand when it died is sent again once its hold on
the lane has run out. Nothing is sent from within a transaction.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now
from django.utils import timezone

from tenants.accounts.models import Tenant
from tenants.clock import shared_now
from tenants.errors import NotFound
from tenants.events import endpoints, notices, sending, signing, webhooks
from tenants.events.models import Webhook, WebhookDelivery, WebhookDue, WebhookLane
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

State = WebhookDelivery.State

# Seconds before each further try: three days and three hours in all.
SCHEDULE = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
JITTER = 0.2
# What an endpoint may ask for by Retry-After.
MAX_RETRY_AFTER_S = 24 * 3600
MAX_ATTEMPTS_KEPT = 30
# Requests to one endpoint at a time; one while it fails.
WIDTH = 4
# After so long in one turn the lane goes to the end of the queue.
TURN_S = 10.0
# Lanes that fail hold no more of the workers' threads than this, as each may take its full time-out.
FAILING_LANES = 4


@dataclass(frozen=True)
class LaneLease:
    """A lane that this worker may use until its lease ends."""

    webhook_id: uuid.UUID
    tenant_id: uuid.UUID
    fence: int
    failing: bool


@dataclass(frozen=True)
class Outgoing:
    """One request, as it will be sent."""

    delivery_id: uuid.UUID
    event_id: str
    url: str
    body: str
    secrets: tuple[str, ...]

    def send(self) -> tuple[dt.datetime, sending.Answer]:
        at = timezone.now()
        if not self.secrets:
            return at, sending.Answer(None, 0, "The secret cannot be read any more. Rotate it.")
        signed = signing.headers(event_id=self.event_id, at=at, body=self.body, secrets_=self.secrets)
        return at, sending.post(self.url, self.body.encode(), signed)


class LaneLeaseLost(RuntimeError):
    """Another worker has the lane, or the endpoint is not active any more."""


# --- A turn ------------------------------------------------------------------------------------------------


def deliver(webhook_id: uuid.UUID, tenant_id: uuid.UUID) -> int:
    """Send what is due for this endpoint, for some seconds; returns how many attempts were made."""
    hold = _claim(webhook_id, tenant_id)
    if hold is None:
        return 0
    webhooks.acknowledge(webhook_id, tenant_id)
    made, until = 0, time.monotonic() + TURN_S
    try:
        while time.monotonic() < until and (batch := _next_batch(hold)):
            made += _attempt(hold, batch)
    except LaneLeaseLost:
        log.info(
            "the lane of a webhook went to another worker or was closed", extra={"webhook": str(webhook_id)}
        )
        return made
    finally:
        _release(hold)
    if _due(webhook_id).exists():
        # Behind the other endpoints that wait.
        webhooks.send(webhook_id, tenant_id)
    return made


def _claim(webhook_id: uuid.UUID, tenant_id: uuid.UUID) -> LaneLease | None:
    now = shared_now()
    with transaction.atomic():
        lanes = WebhookLane.objects.select_for_update(skip_locked=True)
        lane = lanes.filter(pk=webhook_id, tenant_id=tenant_id, open=True, held_until__lte=now).first()
        if lane is None or not Tenant.objects.filter(pk=tenant_id, state=Tenant.State.ACTIVE).exists():
            return None
        held = WebhookLane.objects.filter(failing=True, held_until__gt=now)
        if lane.failing and held.count() >= FAILING_LANES:
            return None
        lane.fence += 1
        lane.held_until = now + dt.timedelta(seconds=settings.WEBHOOK_LEASE_S)
        lane.save(update_fields=["fence", "held_until"])
    return LaneLease(webhook_id, tenant_id, lane.fence, lane.failing)


def _extend(hold: LaneLease) -> None:
    """For the next batch. Raises LaneLeaseLost."""
    until = Now() + dt.timedelta(seconds=settings.WEBHOOK_LEASE_S)
    mine = WebhookLane.objects.filter(pk=hold.webhook_id, fence=hold.fence, open=True)
    if not mine.update(held_until=until):
        raise LaneLeaseLost


def _release(hold: LaneLease) -> None:
    WebhookLane.objects.filter(pk=hold.webhook_id, fence=hold.fence).update(held_until=Now())


def _due(webhook_id: uuid.UUID) -> Any:
    return WebhookDue.objects.filter(webhook_id=webhook_id, due_at__lte=Now()).order_by("due_at")


def _next_batch(hold: LaneLease) -> list[Outgoing]:
    """The next requests, as many as may be under way together. Raises LaneLeaseLost."""
    with tenant_scope(hold.tenant_id):
        _extend(hold)
        row = Webhook.objects.get(pk=hold.webhook_id)
        width = 1 if row.failing_since or hold.failing else WIDTH
        ids = list(_due(hold.webhook_id).values_list("delivery_id", flat=True)[:width])
        found = WebhookDelivery.objects.select_related("event").in_bulk(ids)
        lost = [i for i in ids if i not in found or found[i].state != State.PENDING]
        # Of events that were forgotten meanwhile.
        WebhookDue.objects.filter(delivery_id__in=lost).delete()
        secrets = _secrets(row)
    batch = [
        Outgoing(d.id, str(d.event_id), row.url, d.event.body, secrets)
        for d in (found[i] for i in ids if i not in lost)
    ]
    return batch if batch or not lost else _next_batch(hold)


def _secrets(row: Webhook) -> tuple[str, ...]:
    try:
        return tuple(endpoints.secrets_of(row))
    except signing.Unreadable:
        log.error(
            "the secret of a webhook was sealed under a key that is not here", extra={"webhook": str(row.id)}
        )
        return ()


def _attempt(hold: LaneLease, batch: Sequence[Outgoing]) -> int:
    """Send these beside each other and store how each went. Raises LaneLeaseLost."""
    with ThreadPoolExecutor(len(batch)) as pool:
        answers = list(pool.map(Outgoing.send, batch))
    with tenant_scope(hold.tenant_id):
        # The endpoint before its lane, as those lock them who change it.
        try:
            row = endpoints.get_webhook(hold.webhook_id, lock=True)
        except NotFound as error:
            raise LaneLeaseLost from error
        _extend(hold)
        for outgoing, (at, answer) in zip(batch, answers, strict=True):
            _store(row, outgoing.delivery_id, at, answer)
    return len(batch)


# --- How it went -------------------------------------------------------------------------------------------


def _store(row: Webhook, delivery_id: uuid.UUID, at: dt.datetime, answer: sending.Answer) -> None:
    """On a locked endpoint, in the transaction of its batch."""
    delivery = WebhookDelivery.objects.select_for_update().filter(pk=delivery_id, state=State.PENDING).first()
    if delivery is None:
        # Given up because an earlier answer of the same batch has disabled the endpoint.
        return
    delivery.attempts = [*delivery.attempts, _attempt_record(at, answer)][-MAX_ATTEMPTS_KEPT:]
    delivery.tries += 1
    if answer.ok:
        _end(delivery, State.SUCCEEDED)
        _mark_healthy(row)
        return
    if answer.status == 410 or delivery.tries > len(SCHEDULE):
        _end(delivery, State.FAILED)
    else:
        _schedule_retry(delivery, answer.retry_after_s)
    _mark_failing(row, answer)


def _attempt_record(at: dt.datetime, answer: sending.Answer) -> dict[str, Any]:
    return {
        "at": webhooks.moment(at),
        "status": answer.status,
        "latency_ms": answer.latency_ms,
        "error": answer.error,
        "response": answer.excerpt,
    }


def _end(delivery: WebhookDelivery, state: str) -> None:
    delivery.state, delivery.due_at, delivery.finished_at = state, None, timezone.now()
    delivery.save()
    WebhookDue.objects.filter(pk=delivery.pk).delete()


def _schedule_retry(delivery: WebhookDelivery, retry_after_s: float | None) -> None:
    delivery.due_at = shared_now() + dt.timedelta(seconds=wait_s(delivery.tries, retry_after_s))
    delivery.save()
    WebhookDue.objects.filter(pk=delivery.pk).update(due_at=delivery.due_at)


def wait_s(tries: int, retry_after_s: float | None = None) -> float:
    """Seconds until the next try after so many; never sooner than an endpoint asked for, within bounds."""
    planned = SCHEDULE[tries - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load
    return max(planned, min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))


def _mark_healthy(row: Webhook) -> None:
    if row.failing_since is not None:
        row.failing_since = None
        row.save(update_fields=["failing_since"])
        WebhookLane.objects.filter(pk=row.pk).update(failing=False)


def _mark_failing(row: Webhook, answer: sending.Answer) -> None:
    now = timezone.now()
    if row.failing_since is None:
        row.failing_since = now
        row.save(update_fields=["failing_since"])
        WebhookLane.objects.filter(pk=row.pk).update(failing=True)
    if row.state == Webhook.State.DISABLED:
        return
    long = now - row.failing_since >= dt.timedelta(days=settings.WEBHOOK_FAILING_DAYS)
    if answer.status == 410 or long:
        endpoints.disable(row, reason=endpoints.GONE if answer.status == 410 else endpoints.FAILING)
        transaction.on_commit(partial(notices.post_disabled, row.id, row.tenant_id), robust=True)


# --- The sweep ---------------------------------------------------------------------------------------------


def sweep(*, limit: int = 1000) -> int:
    """Tell workers of endpoints with something due that nobody holds: retries, lost messages, dead workers."""
    # No hold ends so late, unless the database's clock was set back meanwhile.
    latest = Now() + dt.timedelta(seconds=2 * settings.WEBHOOK_LEASE_S)
    WebhookLane.objects.filter(held_until__gt=latest).update(held_until=Now())
    waiting = WebhookDue.objects.filter(webhook_id=OuterRef("webhook_id"), due_at__lte=Now())
    lanes = WebhookLane.objects.filter(Exists(waiting), open=True, held_until__lte=Now())
    active = Tenant.objects.filter(state=Tenant.State.ACTIVE).values("pk")
    rows = lanes.filter(tenant_id__in=active).order_by("held_until")
    found = list(rows.values_list("webhook_id", "tenant_id")[:limit])
    for webhook_id, tenant_id in found:
        webhooks.notify_worker(webhook_id, tenant_id)
    return len(found)
