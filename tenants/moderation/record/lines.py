"""The record of decisions: one line for each thing that happened, ids and digests only, never changed.

The application's role may insert and read lines, and nothing else. A line's sequence number comes from a row that is
locked until the line is committed: numbers have no gaps, and who sees a number sees all below it. Texts, evidence and
whatever an erasure has to reach are elsewhere; a line keeps the digest of what was said, so that what is still there
can be shown to be what was meant.

Taking the number is the last lock of a transaction: assets, reviews and quotas come before it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone
from uuid_utils.compat import uuid7

from tenants.moderation.models import Record
from tenants.scope import current_tenant_id, tenant_scope

# The kinds that this package writes; others may add their own (30 characters at most).
REVIEW_DECIDED, REVIEW_UNDONE = "review.decided", "review.undone"

APPEAL_OPENED, APPEAL_DECIDED = "appeal.opened", "appeal.decided"


_NEXT = """
INSERT INTO moderation_clock (id, tenant_id, last) VALUES (%s, %s, %s)
ON CONFLICT (tenant_id) DO UPDATE SET last = moderation_clock.last + EXCLUDED.last
RETURNING last
"""


@dataclass(frozen=True)
class RecordLine:
    """What is to be recorded. `payload` is anything that JSON can hold; only its digest is kept."""

    kind: str
    audit: uuid.UUID | None = None
    item: uuid.UUID | None = None
    subject: uuid.UUID | None = None
    policy_version: uuid.UUID | None = None
    decision: str = ""
    actor: str = ""
    payload: Mapping[str, Any] | None = None


def append(
    *,
    kind: str,
    audit: uuid.UUID | None = None,
    item: uuid.UUID | None = None,
    subject: uuid.UUID | None = None,
    policy_version: uuid.UUID | None = None,
    decision: str = "",
    actor: str = "",
    payload: Mapping[str, Any] | None = None,
) -> Record:
    """Add one line in the caller's transaction; it is there if and only if that commits.

    `subject` is what else it is about: a review, an appeal, an activation, a list. Call it last: other transactions of
    the tenant that add a line wait until this one has ended.
    """
    return append_all([RecordLine(kind, audit, item, subject, policy_version, decision, actor, payload)])[0]


def append_all(lines: Sequence[RecordLine]) -> list[Record]:
    """Several lines with one lock, in this order."""
    if not lines:
        return []
    tenant_id = current_tenant_id()
    with tenant_scope(tenant_id):
        last = _reserve_numbers(tenant_id, len(lines))
        # Read while the lock is held, so that times go up as numbers do (as far as clocks of machines agree).
        now = timezone.now()
        rows = [
            _row(tenant_id, last - len(lines) + place, now, line) for place, line in enumerate(lines, start=1)
        ]
        return Record.objects.bulk_create(rows)


def _reserve_numbers(tenant_id: uuid.UUID, count: int) -> int:
    """The last of the next `count` numbers. Makes the tenant's counter if there is none; safe among many."""
    with connection.cursor() as cursor:
        cursor.execute(_NEXT, [uuid7(), tenant_id, count])
        return int(cursor.fetchone()[0])


def _row(tenant_id: uuid.UUID, sequence: int, now: dt.datetime, line: RecordLine) -> Record:
    row = Record(
        tenant_id=tenant_id,
        sequence=sequence,
        kind=line.kind,
        audit=line.audit,
        item=line.item,
        subject=line.subject,
        policy_version=line.policy_version,
        decision=line.decision,
        actor=line.actor,
        payload_digest="" if line.payload is None else digest_of(line.payload),
        created_at=now,
    )
    row.digest = digest_line(row)
    return row


def digest_of(payload: Mapping[str, object]) -> str:
    """SHA-256 of canonical JSON: sorted keys, no blanks, UTF-8, ids and times as text."""
    content = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def digest_line(row: Record) -> str:
    return hashlib.sha256(canonical(row).encode()).hexdigest()


def canonical(row: Record) -> str:
    """The line as it is digested: JSON with sorted keys, every field but the digest itself."""
    shown = {"id": str(row.id), "tenant": str(row.tenant_id), **record_as_dict(row)}
    del shown["digest"]
    shown["created_at"] = row.created_at.astimezone(dt.UTC).isoformat(timespec="microseconds")
    return json.dumps(shown, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def list_records(*, audit: uuid.UUID | None = None) -> QuerySet[Record]:
    """The active tenant's lines, newest first; of one audit where it is given."""
    rows = Record.objects.order_by("-sequence")
    return rows if audit is None else rows.filter(audit=audit)


def record_as_dict(row: Record) -> dict[str, object]:
    """The line in the shape of the API."""
    return {
        "sequence": row.sequence,
        "kind": row.kind,
        "audit": _text(row.audit),
        "item": _text(row.item),
        "subject": _text(row.subject),
        "policy_version": _text(row.policy_version),
        "decision": row.decision,
        "actor": row.actor,
        "payload_digest": row.payload_digest,
        "digest": row.digest,
        "created_at": row.created_at,
    }


def _text(value: uuid.UUID | None) -> str | None:
    return None if value is None else str(value)
