"""Reading the audit log."""

from __future__ import annotations

from django.db.models import QuerySet

from tenants.events.models import AuditEvent


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
    return list(AuditEvent.objects.order_by("verb").values_list("verb", flat=True).distinct())


def actors() -> list[str]:
    """Everybody who acted, as the log names them."""
    return list(AuditEvent.objects.order_by("actor").values_list("actor", flat=True).distinct())
