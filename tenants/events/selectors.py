"""Reading the audit log."""

from __future__ import annotations

from django.db import connection
from django.db.models import QuerySet

from tenants.events.models import AuditEvent
from tenants.scope import current_tenant_id


def list_events(*, verb: str = "", actor: str = "") -> QuerySet[AuditEvent]:
    """The active tenant's log, newest first; of one verb, and of one actor, where they are given."""
    rows = AuditEvent.objects.order_by("-id")
    if verb:
        rows = rows.filter(verb=verb)
    return rows.filter(actor=actor) if actor else rows


def about(target: str) -> QuerySet[AuditEvent]:
    """What was done to one thing, newest first."""
    return AuditEvent.objects.filter(target=target).order_by("-id")


def verbs() -> list[str]:
    """Every kind of act that the log knows."""
    return _distinct("verb")


def actors() -> list[str]:
    """Everybody who acted, as the log names them."""
    return _distinct("actor")


# Each value by one look into an index that begins with tenant and column: a DISTINCT would read the whole log.
_NEXT = """
WITH RECURSIVE found(value) AS (
    (SELECT {0} FROM audit_event WHERE tenant_id = %(tenant)s ORDER BY {0} LIMIT 1)
    UNION ALL
    SELECT (SELECT {0} FROM audit_event WHERE tenant_id = %(tenant)s AND {0} > found.value ORDER BY {0} LIMIT 1)
    FROM found WHERE found.value IS NOT NULL
)
SELECT value FROM found WHERE value IS NOT NULL
"""


def _distinct(column: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(_NEXT.format(column), {"tenant": current_tenant_id()})
        return [value for (value,) in cursor.fetchall()]
