"""Telling whoever asked what happens: `emit` in the transaction in which it happens (an outbox), sent after its commit.

Events hold ids and states, never content. How they get there is in `deliveries`, who asked in `endpoints`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from celery import current_app
from django.db import transaction
from django.utils import timezone

from tenants.clock import shared_now
from tenants.events.models import Webhook, WebhookDelivery, WebhookDue, WebhookEvent
from tenants.jobs.kinds import on_every_end
from tenants.jobs.models import Job
from tenants.scope import current_tenant_id
from tenants.valkey import Unavailable, client, tenant_key

log = logging.getLogger(__name__)

TYPES = (
    *("asset.created", "asset.ready", "asset.failed", "asset.deleted"),
    *("job.succeeded", "job.failed", "job.cancelled"),
    "audit.completed",
    *("review.opened", "review.decided"),
    *("appeal.opened", "appeal.decided"),
    *("model.trained", "model.promoted", "model.rolled_back"),
    *("generation.finished", "generation.failed"),
    *("quota.warning", "quota.exceeded"),
    *("record.sealed", "audit.logged"),
    *("standing_query.matched", "standing_query.digest"),
)
TEST = "webhook.test"
TASK, QUEUE = "workers.deliver_webhooks", "hooks"
# Messages about one endpoint within this time are one; the sweep finds what falls between.
QUIET_MS = 1000


def emit(event_type: str, data: Mapping[str, object]) -> None:
    """Tell the active tenant's endpoints, in the caller's transaction. One indexed look where there are none."""
    emit_all(event_type, (data,))


def emit_all(
    event_type: str, found: Iterable[Mapping[str, object]], *, ids: Iterable[uuid.UUID] | None = None
) -> None:
    """The same for many things at once, in as many statements as for one. `ids`: those that the events take, which are
    their `webhook-id`."""
    # Also a check that a scope is open; no savepoint of its own, as most tenants have no endpoint.
    current_tenant_id()
    if listeners := _listeners(event_type):
        bodies = [body_of(event_type, data) for data in found]
        named: Iterable[dict[str, uuid.UUID]] = (
            [{}] * len(bodies) if ids is None else [{"id": i} for i in ids]
        )
        events = [
            WebhookEvent(type=event_type, body=body, **own) for body, own in zip(bodies, named, strict=True)
        ]
        WebhookEvent.objects.bulk_create(events, batch_size=1000)
        queue(events, listeners)


def emit_once(event_type: str, data: Mapping[str, object], *, once: str) -> bool:
    """Tell it unless an event with this `once` was told before; whether it was told now."""
    current_tenant_id()
    listeners = _listeners(event_type)
    if not listeners:
        return False
    wanted = {"type": event_type, "body": body_of(event_type, data)}
    event, created = WebhookEvent.objects.get_or_create(once=once, defaults=wanted)
    if created:
        queue([event], listeners)
    return created


def _listeners(event_type: str) -> list[uuid.UUID]:
    rows = Webhook.objects.exclude(state=Webhook.State.DISABLED).values_list("id", "events")
    return [webhook_id for webhook_id, wanted in rows if not wanted or event_type in wanted]


def body_of(event_type: str, data: Mapping[str, object]) -> str:
    payload = {"type": event_type, "timestamp": moment(timezone.now()), "data": data}
    return json.dumps(payload, separators=(",", ":"), default=_text)


def moment(at: Any) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: object) -> str:
    return moment(value) if hasattr(value, "isoformat") else str(value)


def queue(events: Sequence[WebhookEvent], webhooks: Sequence[uuid.UUID]) -> list[WebhookDelivery]:
    """Deliveries of stored events to these endpoints, due now. In the caller's transaction and scope."""
    now, tenant_id = shared_now(), current_tenant_id()
    made = [WebhookDelivery(event=event, webhook_id=w, due_at=now) for event in events for w in webhooks]
    WebhookDelivery.objects.bulk_create(made, batch_size=1000)
    make_due(made)
    for webhook_id in webhooks:
        transaction.on_commit(partial(notify_worker, webhook_id, tenant_id), robust=True)
    return made


def make_due(deliveries: Iterable[WebhookDelivery]) -> None:
    WebhookDue.objects.bulk_create(
        [
            WebhookDue(delivery_id=d.id, webhook_id=d.webhook_id, tenant_id=d.tenant_id, due_at=d.due_at)
            for d in deliveries
            # Without a time there is nothing more to do for it.
            if d.due_at is not None
        ],
        batch_size=1000,
        update_conflicts=True,
        unique_fields=["delivery_id"],
        update_fields=["due_at"],
    )


# --- Telling workers ---------------------------------------------------------------------------------------


def notify_worker(webhook_id: uuid.UUID, tenant_id: uuid.UUID) -> None:
    """Have a worker look after this endpoint. With the broker away nothing is lost: the sweep finds it."""
    try:
        if client().set(_recent(webhook_id, tenant_id), b"1", px=QUIET_MS, nx=True):
            send(webhook_id, tenant_id)
    except Unavailable:
        log.warning("no message about a webhook; the sweep will find it", exc_info=True)


def send(webhook_id: uuid.UUID, tenant_id: uuid.UUID) -> None:
    try:
        task = current_app.signature(TASK, args=[str(webhook_id), str(tenant_id)])
        task.apply_async(queue=QUEUE, retry=False)
    except Exception:
        log.warning("the broker did not take a message about a webhook", exc_info=True)


def acknowledge(webhook_id: uuid.UUID, tenant_id: uuid.UUID) -> None:
    """What is told from now on is news."""
    with contextlib.suppress(Unavailable):
        client().delete(_recent(webhook_id, tenant_id))


def _recent(webhook_id: uuid.UUID, tenant_id: uuid.UUID) -> str:
    return tenant_key(tenant_id, "webhook", str(webhook_id))


# --- What other modules' ends are told as ------------------------------------------------------------------


@on_every_end
def job_ended(job: Job) -> None:
    """Tell that a job has ended, in the transaction that ends it."""
    kind_of_error = (job.error or {}).get("type") if job.state == Job.State.FAILED else None
    data = {"job": str(job.id), "kind": job.kind, "state": job.state}
    emit(f"job.{job.state}", data if kind_of_error is None else {**data, "error": kind_of_error})
