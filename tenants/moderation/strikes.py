"""Strikes: how many items of one sender were blocked, for as long as the policy remembers.

A strike belongs to one audit: it is added when its item comes to be blocked and withdrawn when that is taken back. The
subject is who sent the item in the client's words, so it may name a person: `erase` forgets it.

A policy says how long a strike counts (`{"strikes": {"expire_days": 90}}`) and, in its rules, how many are too many:
they see the count as the variable `strikes`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from tenants.moderation.cases import Case
from tenants.moderation.models import Audit, AuditRequest, Evidence, PolicyVersion, Strike

DAYS = 90


def add(*, audit: Audit, subject: str, rule: str = "", days: float | None = None) -> Strike | None:
    """Count the audit against who sent its item; once, however often it is called. None without a subject.

    `days`: how long it counts; by default what the audit's policy says.
    """
    if not subject:
        return None
    expires = timezone.now() + dt.timedelta(days=days or _days(audit))
    # Again after a withdrawal: the same row counts anew.
    Strike.objects.bulk_create(
        [Strike(audit=audit, subject=subject, rule=rule, expires_at=expires)],
        update_conflicts=True,
        unique_fields=["tenant", "audit"],
        update_fields=["withdrawn_at", "expires_at", "rule"],
    )
    return Strike.objects.get(audit=audit)


def add_for(case: Case, *, rule: str = "") -> None:
    add(audit=case.audit, subject=subject_of(case.audit.id), rule=rule, days=_days_in(case.document))


def withdraw(*, audit_id: uuid.UUID) -> int:
    """The block was taken back: its strike counts no more."""
    return Strike.objects.filter(audit_id=audit_id, withdrawn_at=None).update(withdrawn_at=timezone.now())


def counting() -> QuerySet[Strike]:
    return Strike.objects.filter(withdrawn_at=None, expires_at__gt=timezone.now())


def count(*, subject: str) -> int:
    """The strikes of a subject that count now."""
    return counting().filter(subject=subject).count() if subject else 0


def subject_of(audit_id: uuid.UUID) -> str:
    """Who sent the item of an audit; empty where nobody said so, or where it was erased."""
    asked = AuditRequest.objects.filter(pk=audit_id).values_list("subject", flat=True).first()
    if asked:
        return asked
    document = Evidence.objects.filter(audit_id=audit_id).values_list("document", flat=True).first() or {}
    return str((document.get("item") or {}).get("subject") or "")


def erase(*, subject: str) -> int:
    """Forget a sender's strikes, also those that count no more; returns how many."""
    return Strike.objects.filter(subject=subject).delete()[0] if subject else 0


def erase_items(items: Collection[uuid.UUID]) -> int:
    """Forget the strikes for these assets, as when all that a person sent is erased; returns how many."""
    audits = Audit.objects.filter(item__in=items).values("pk")
    return Strike.objects.filter(audit__in=audits).delete()[0]


def _days(audit: Audit) -> float:
    version = PolicyVersion.objects.filter(pk=audit.policy_version).first()
    return _days_in(version.document if version else {})


def _days_in(document: Mapping[str, Any]) -> float:
    return float((document.get("strikes") or {}).get("expire_days") or DAYS)
