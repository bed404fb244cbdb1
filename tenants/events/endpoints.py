"""Who is told: the tenant's endpoints, made, changed, paused, given new secrets and deleted. Every change is logged."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts.services import lock_members
from tenants.clock import shared_now
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events import signing, ssrf_guard, webhooks
from tenants.events.models import Webhook, WebhookDelivery, WebhookDue, WebhookEvent, WebhookLane
from tenants.events.services import record
from tenants.scope import current_tenant_id, tenant_scope

State = Webhook.State

MAX_WEBHOOKS = 20
MAX_DESCRIPTION = 200
# A secret that was rotated signs beside its successor for this long.
OVERLAP = dt.timedelta(hours=24)
GONE, FAILING = "gone", "failing"


def get_webhook(webhook_id: uuid.UUID | None, *, lock: bool = False) -> Webhook:
    """Raises NotFound."""
    rows = Webhook.objects.select_for_update(no_key=True) if lock else Webhook.objects
    row = rows.filter(pk=webhook_id).first()
    if row is None:
        raise NotFound(_("This webhook does not exist."))
    return row


def create_webhook(
    *, url: str, description: str = "", events: Sequence[str] = (), actor: str
) -> tuple[Webhook, str]:
    """An endpoint that is told these types of events, of all if none is named; and its secret, shown once.

    Raises Invalid, and Conflict where there are too many. Whether its host may be called is found out when it is.
    """
    check(url=url, description=description, events=events)
    secret = signing.new_secret()
    with tenant_scope(current_tenant_id()):
        # One at a time, so that they can be counted.
        lock_members()
        if Webhook.objects.count() >= MAX_WEBHOOKS:
            raise Conflict(
                _("A workspace has at most %(most)s webhooks. Delete one first.") % {"most": MAX_WEBHOOKS}
            )
        row = Webhook.objects.create(
            url=url,
            description=description,
            events=_sorted(events),
            sealed_secret=signing.seal(secret, current_tenant_id()),
            created_by=actor,
        )
        WebhookLane.objects.create(webhook_id=row.id, tenant_id=row.tenant_id, held_until=shared_now())
        record(
            actor=actor,
            verb="webhook.created",
            target=str(row.id),
            details={"url": url, "events": row.events},
        )
    return row, secret


def check(*, url: str | None = None, description: str = "", events: Sequence[str] = ()) -> None:
    """Raises Invalid."""
    if url is not None:
        ssrf_guard.read(url)
    if len(description) > MAX_DESCRIPTION or "\0" in description:
        raise Invalid(_("A description has at most 200 characters."), pointer="/description")
    if unknown := sorted(set(events) - set(webhooks.TYPES)):
        detail = _("Unknown event type %(name)r.") % {"name": unknown[0][:60]}
        raise Invalid(detail, pointer="/events")


def _sorted(events: Sequence[str]) -> list[str]:
    """In the order of the catalogue, once each."""
    return [name for name in webhooks.TYPES if name in set(events)]


def update_webhook(*, webhook_id: uuid.UUID, changes: Mapping[str, Any], actor: str) -> Webhook:
    """Change url, description, events or state (active, paused or disabled). Raises NotFound, Invalid."""
    check(**{name: changes[name] for name in ("url", "description", "events") if name in changes})
    with tenant_scope(current_tenant_id()):
        row = get_webhook(webhook_id, lock=True)
        before = {name: getattr(row, name) for name in changes}
        for name, value in changes.items():
            setattr(row, name, _sorted(value) if name == "events" else value)
        if "url" in changes and row.url != before["url"]:
            # Another address has no history of failing.
            row.failing_since = None
            WebhookLane.objects.filter(pk=row.id).update(failing=False)
        if "state" in changes and row.state != before["state"]:
            _enter(row)
        row.save()
        changed = {n: getattr(row, n) for n in changes if getattr(row, n) != before[n]}
        record(actor=actor, verb="webhook.updated", target=str(row.id), details=changed)
    return row


def _enter(row: Webhook) -> None:
    """What follows from a state that a person chose."""
    row.reason = ""
    lane = WebhookLane.objects.filter(webhook_id=row.id)
    lane.update(open=row.state == State.ACTIVE, failing=False)
    if row.state == State.DISABLED:
        give_up_pending(row.id)
    elif row.state == State.ACTIVE:
        row.failing_since = None
        transaction.on_commit(partial(webhooks.notify_worker, row.id, row.tenant_id), robust=True)


def disable(row: Webhook, *, reason: str) -> None:
    """Tell a locked endpoint nothing any more, as its own answers say so. In the caller's transaction."""
    row.state, row.reason = State.DISABLED, reason
    row.save(update_fields=["state", "reason"])
    WebhookLane.objects.filter(webhook_id=row.id).update(open=False)
    give_up_pending(row.id)
    record(actor="", verb="webhook.disabled", target=str(row.id), details={"reason": reason})


def give_up_pending(webhook_id: uuid.UUID) -> None:
    """What waits for an endpoint that is told nothing has failed; it can be sent again later."""
    pending = WebhookDelivery.objects.filter(webhook_id=webhook_id, state=WebhookDelivery.State.PENDING)
    pending.update(state=WebhookDelivery.State.FAILED, due_at=None, finished_at=timezone.now())
    WebhookDue.objects.filter(webhook_id=webhook_id).delete()


def rotate_secret(*, webhook_id: uuid.UUID, actor: str) -> tuple[Webhook, str]:
    """A new secret, shown once; the one before signs beside it for a day. Raises NotFound."""
    secret = signing.new_secret()
    with tenant_scope(current_tenant_id()):
        row = get_webhook(webhook_id, lock=True)
        row.sealed_previous, row.previous_until = row.sealed_secret, timezone.now() + OVERLAP
        row.sealed_secret = signing.seal(secret, row.tenant_id)
        row.save(update_fields=["sealed_secret", "sealed_previous", "previous_until"])
        record(actor=actor, verb="webhook.secret_rotated", target=str(row.id))
    return row, secret


def secrets_of(row: Webhook) -> list[str]:
    """The secrets that sign now, the newest first. Raises signing.Unreadable."""
    found = [signing.unseal(row.sealed_secret, row.tenant_id)]
    if row.sealed_previous is not None and row.previous_until and row.previous_until > timezone.now():
        found.append(signing.unseal(row.sealed_previous, row.tenant_id))
    return found


def send_test(*, webhook_id: uuid.UUID, actor: str) -> WebhookDelivery:
    """A `webhook.test` event to this endpoint alone, whatever it asked for. Raises NotFound, Conflict."""
    with tenant_scope(current_tenant_id()):
        row = get_webhook(webhook_id)
        require_active(row)
        body = webhooks.body_of(webhooks.TEST, {"webhook": str(row.id)})
        event = WebhookEvent.objects.create(type=webhooks.TEST, body=body)
        record(actor=actor, verb="webhook.tested", target=str(row.id))
        return webhooks.queue([event], [row.id])[0]


def require_active(row: Webhook) -> None:
    """Raises Conflict."""
    if row.state != State.ACTIVE:
        raise Conflict(_("This webhook is not active. Make it active first."))


def delete_webhook(*, webhook_id: uuid.UUID, actor: str) -> None:
    """Forget the endpoint, its secrets and its deliveries. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        row = get_webhook(webhook_id, lock=True)
        WebhookLane.objects.filter(webhook_id=row.id).delete()
        WebhookDue.objects.filter(webhook_id=row.id).delete()
        WebhookDelivery.objects.filter(webhook_id=row.id)._raw_delete(using="default")
        record(actor=actor, verb="webhook.deleted", target=str(row.id), details={"url": row.url})
        row.delete()
