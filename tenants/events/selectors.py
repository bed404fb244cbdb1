"""Reading the audit log."""

from __future__ import annotations

import datetime as dt
import uuid

from django.db.models import QuerySet

from tenants.distinct import distinct_values
from tenants.events import shapes
from tenants.events.models import AuditEvent


def list_events(
    *,
    verb: str = "",
    actor: str = "",
    target: str = "",
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
) -> QuerySet[AuditEvent]:
    """The active tenant's log, newest first; of one verb, actor or target, and of a span, where they are given.

    `until` is not included. Times are those of the ids, which begin with them (RFC 9562, section 5.7).
    """
    wanted = {name: value for name, value in (("verb", verb), ("actor", actor), ("target", target)) if value}
    rows = AuditEvent.objects.filter(**wanted).order_by("-id")
    rows = rows.filter(pk__gte=first_id(since)) if since else rows
    return rows.filter(pk__lt=first_id(until)) if until else rows


def first_id(moment: dt.datetime) -> uuid.UUID:
    """The least id that was made at this moment or later."""
    return uuid.UUID(int=max(int(moment.timestamp() * 1000), 0) << 80)


def as_shape(row: AuditEvent) -> shapes.AuditEvent:
    return shapes.AuditEvent(
        id=str(row.id),
        actor=row.actor,
        verb=row.verb,
        target=row.target,
        details=row.details,
        created_at=row.created_at,
    )


def about(target: str) -> QuerySet[AuditEvent]:
    """What was done to one thing, newest first."""
    return AuditEvent.objects.filter(target=target).order_by("-id")


def verbs() -> list[str]:
    """Every kind of act that the log knows."""
    return distinct_values("audit_event", "verb")


def actors() -> list[str]:
    """Everybody who acted, as the log names them."""
    return distinct_values("audit_event", "actor")
