"""Reading the log of deliveries, and sending again what is in it."""

from __future__ import annotations

import datetime as dt
import uuid
from functools import partial

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from msgspec.structs import asdict

from tenants.clock import shared_now
from tenants.errors import Conflict, NotFound
from tenants.events import endpoints, shapes, webhooks
from tenants.events.models import Webhook, WebhookDelivery, WebhookDue, WebhookEvent
from tenants.events.services import record
from tenants.ids import first_id_of
from tenants.scope import current_tenant_id, tenant_scope

State = WebhookDelivery.State

# In one go; the answer says when there is more.
MAX_REPLAYED = 10_000
CHUNK = 5000


def list_webhooks() -> QuerySet[Webhook]:
    return Webhook.objects.order_by("-id")


def list_deliveries(webhook_id: uuid.UUID, *, state: str = "") -> QuerySet[WebhookDelivery]:
    """The newest first."""
    rows = WebhookDelivery.objects.select_related("event").filter(webhook_id=webhook_id).order_by("-id")
    return rows.filter(state=state) if state else rows


def get_delivery(webhook_id: uuid.UUID | None, delivery_id: uuid.UUID | None) -> WebhookDelivery:
    """Raises NotFound."""
    rows = WebhookDelivery.objects.select_related("event").filter(webhook_id=webhook_id)
    row = rows.filter(pk=delivery_id).first()
    if row is None:
        raise NotFound(_("This delivery does not exist."))
    return row


def replay(*, webhook_id: uuid.UUID, delivery_id: uuid.UUID, actor: str) -> WebhookDelivery:
    """Send a finished delivery again, under the same event id. Raises NotFound, Conflict."""
    with tenant_scope(current_tenant_id()):
        endpoints.require_active(endpoints.get_webhook(webhook_id))
        get_delivery(webhook_id, delivery_id)
        row = (
            WebhookDelivery.objects.select_for_update(of=("self",))
            .select_related("event")
            .get(pk=delivery_id)
        )
        if row.state == State.PENDING:
            raise Conflict(_("This delivery is in progress; it is retried automatically."))
        _queue([row])
        record(
            actor=actor, verb="webhook.replayed", target=str(webhook_id), details={"delivery": str(row.id)}
        )
    return row


def replay_failed(*, webhook_id: uuid.UUID, since: dt.datetime, actor: str) -> tuple[int, bool]:
    """Send again what has failed since a moment, the oldest first; how many, and whether there are more of them.

    Raises NotFound, Conflict.
    """
    with tenant_scope(current_tenant_id()):
        endpoints.require_active(endpoints.get_webhook(webhook_id))
        failed = WebhookDelivery.objects.filter(
            webhook_id=webhook_id, state=State.FAILED, pk__gte=first_id_of(since)
        )
        rows = list(failed.select_for_update(of=("self",)).order_by("id")[: MAX_REPLAYED + 1])
        chosen = rows[:MAX_REPLAYED]
        if chosen:
            _queue(chosen)
            details = {"since": webhooks.moment(since), "deliveries": len(chosen)}
            record(actor=actor, verb="webhook.replayed", target=str(webhook_id), details=details)
    return len(chosen), len(rows) > MAX_REPLAYED


def _queue(rows: list[WebhookDelivery]) -> None:
    now = shared_now()
    for row in rows:
        row.state, row.tries, row.due_at, row.finished_at = State.PENDING, 0, now, None
    changes = {"state": State.PENDING, "tries": 0, "due_at": now, "finished_at": None}
    for start in range(0, len(rows), CHUNK):
        ids = [row.id for row in rows[start : start + CHUNK]]
        WebhookDelivery.objects.filter(pk__in=ids).update(**changes)
    webhooks.make_due(rows)
    transaction.on_commit(partial(webhooks.notify_worker, rows[0].webhook_id, rows[0].tenant_id), robust=True)


def forget_old(*, older_than: dt.timedelta, once_older_than: dt.timedelta) -> int:
    """Delete some of the active tenant's old events with their deliveries; how many events.

    What is told once a month is remembered longer, so that it is not told twice.
    """
    now = timezone.now()
    old = WebhookEvent.objects.filter(pk__lt=first_id_of(now - older_than), once=None).order_by("id")
    told = WebhookEvent.objects.filter(pk__lt=first_id_of(now - once_older_than)).exclude(once=None)
    ids = [*old.values_list("pk", flat=True)[:CHUNK], *told.values_list("pk", flat=True)[:CHUNK]]
    deliveries = WebhookDelivery.objects.filter(event_id__in=ids)
    WebhookDue.objects.filter(delivery_id__in=list(deliveries.values_list("pk", flat=True))).delete()
    deliveries._raw_delete(using="default")
    return WebhookEvent.objects.filter(pk__in=ids)._raw_delete(using="default") if ids else 0


# --- As the API shows them ---------------------------------------------------------------------------------


def webhook_shape(row: Webhook) -> shapes.WebhookShape:
    rotated = row.previous_until if row.previous_until and row.previous_until > timezone.now() else None
    return shapes.WebhookShape(
        id=str(row.id),
        url=row.url,
        description=row.description,
        events=row.events or None,
        state=row.state,
        reason=row.reason or None,
        failing_since=row.failing_since,
        previous_secret_until=rotated,
        created_at=row.created_at,
    )


def delivery_shape(row: WebhookDelivery) -> shapes.DeliveryShape:
    last = row.attempts[-1] if row.attempts else {}
    return shapes.DeliveryShape(
        id=str(row.id),
        webhook=str(row.webhook_id),
        event=shapes.EventName(id=str(row.event_id), type=row.event.type),
        state=row.state,
        attempt_count=len(row.attempts),
        status=last.get("status"),
        latency_ms=last.get("latency_ms"),
        error=last.get("error") or None,
        next_attempt_at=row.due_at,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def delivery_in_full(row: WebhookDelivery) -> shapes.DeliveryInFull:
    sent = shapes.Sent(body=row.event.body)
    return shapes.DeliveryInFull(**asdict(delivery_shape(row)), request=sent, attempts=row.attempts)
