"""The audit log as lines that can be sealed: each event gets a number without gaps and a digest, once a minute.

Numbers are given afterwards and not when an event is written: a number needs a lock, and who logs would hold it to the
end of his transaction. Events that committed late are found within `LATE`. Seals over the lines are of
`tenants.moderation.record.seals`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence

from django.db import connection
from django.db.models import Exists, Max, OuterRef, QuerySet, Subquery
from django.utils import timezone

from tenants.accounts.models import Tenant
from tenants.events import webhooks
from tenants.events.models import AuditEvent, AuditLogLine
from tenants.scope import current_tenant_id

ERASURE = "erasure"
# How long a transaction may take, and clocks of hosts may differ, for its events to get a line.
LATE = dt.timedelta(hours=1)
AT_ONCE = 5_000
# Events in one message to a webhook.
TOLD = 100
# An advisory lock for each tenant, of the transaction that gives numbers.
NUMBERING = 0x0C05


def digest_event(row: AuditEvent) -> str:
    """SHA-256 of the event in canonical JSON, as it was read from the database."""
    shown = {
        "id": str(row.id),
        "tenant": str(row.tenant_id),
        "actor": row.actor,
        "verb": row.verb,
        "target": row.target,
        "details": row.details,
        "created_at": row.created_at.astimezone(dt.UTC).isoformat(timespec="microseconds"),
    }
    return hashlib.sha256(json.dumps(shown, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def add_lines() -> int:
    """Number the active tenant's events that have no line yet, some thousand at most; returns how many."""
    tenant_id = current_tenant_id()
    _hold(tenant_id)
    events = list(_without_line().filter(id__gt=_watermark()).order_by("id")[:AT_ONCE])
    _append(tenant_id, events, "")
    # What happened long ago, before the log was numbered, is no news.
    news = [row for row in events if row.created_at > timezone.now() - LATE]
    webhooks.emit_all("audit.logged", (_told(news[at : at + TOLD]) for at in range(0, len(news), TOLD)))
    return len(events)


def _told(events: Sequence[AuditEvent]) -> dict[str, object]:
    """Some events in one message. Details stay here: they may hold names, and can be asked for by id."""
    return {
        "events": [
            {
                "id": row.id,
                "actor": row.actor,
                "verb": row.verb,
                "target": row.target,
                "created_at": row.created_at,
            }
            for row in events
        ]
    }


def count_overlooked() -> int:
    """How many of the active tenant's events are too old to get a line: they were put in afterwards."""
    return _without_line().filter(id__lte=_watermark()).count()


def count_waiting() -> int:
    """How many of the active tenant's events have no line yet."""
    return _without_line().filter(id__gt=_watermark()).count()


def tenants_with_new_events() -> list[uuid.UUID]:
    """Tenants whose newest event has no line. In an operator_scope."""
    events = AuditEvent.objects.filter(tenant_id=OuterRef("pk")).order_by("-id").values("id")[:1]
    lines = AuditLogLine.objects.filter(tenant_id=OuterRef("pk")).order_by("-event")
    newest = Tenant.objects.annotate(newest=Subquery(events)).exclude(newest=None)
    lined = Exists(lines.filter(event=OuterRef("newest")))
    return list(newest.exclude(lined).order_by("pk").values_list("pk", flat=True))


def note_erasure(events: Iterable[uuid.UUID]) -> None:
    """Say of changed events that a person was erased from them. In the operator_scope that changed them."""
    by_tenant: dict[uuid.UUID, list[AuditEvent]] = defaultdict(list)
    has_line = Exists(AuditLogLine.objects.filter(tenant_id=OuterRef("tenant_id"), event=OuterRef("pk")))
    for row in AuditEvent.objects.filter(has_line, pk__in=list(events)).order_by("tenant_id", "pk"):
        by_tenant[row.tenant_id].append(row)
    for tenant_id, rows in by_tenant.items():
        _hold(tenant_id)
        _append(tenant_id, rows, ERASURE)


def expected_digests(lines: Sequence[AuditLogLine]) -> list[str]:
    """What each line of the active tenant has to have by the events themselves; empty where an event is gone.

    A line that an erasure has replaced later is believed: what it was about is gone for good.
    """
    events = AuditEvent.objects.in_bulk([line.event for line in lines])
    replaced = dict(
        AuditLogLine.objects.filter(event__in=list(events), why=ERASURE)
        .values_list("event")
        .annotate(newest=Max("sequence"))
    )
    found = []
    for line in lines:
        event = events.get(line.event)
        later = event is not None and replaced.get(line.event, 0) > line.sequence
        found.append(line.digest if later else digest_event(event) if event else "")
    return found


def _without_line() -> QuerySet[AuditEvent]:
    return AuditEvent.objects.exclude(Exists(AuditLogLine.objects.filter(event=OuterRef("pk"))))


def _watermark() -> uuid.UUID:
    """Ids up to this one are of events that had their chance. Ids begin with their time (RFC 9562, section 5.7)."""
    newest = AuditLogLine.objects.order_by("-event").values_list("event", flat=True).first()
    if newest is None:
        return uuid.UUID(int=0)
    now_ms = int(timezone.now().timestamp() * 1000)
    before_ms = min(newest.int >> 80, now_ms) - int(LATE.total_seconds() * 1000)
    return uuid.UUID(int=max(before_ms, 0) << 80)


def _hold(tenant_id: uuid.UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [NUMBERING, str(tenant_id)])


def _append(tenant_id: uuid.UUID, events: Sequence[AuditEvent], why: str) -> None:
    mine = AuditLogLine.objects.filter(tenant_id=tenant_id)
    last = mine.aggregate(last=Max("sequence"))["last"] or 0
    AuditLogLine.objects.bulk_create(
        [
            AuditLogLine(
                tenant_id=tenant_id, sequence=number, event=row.id, digest=digest_event(row), why=why
            )
            for number, row in enumerate(events, start=last + 1)
        ],
        batch_size=1000,
    )
