"""The two chains of a tenant that are sealed: the record of decisions, and the audit log."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F, Max, OuterRef, Q, Subquery

from tenants.events import log_lines
from tenants.events.models import AuditLogLine
from tenants.moderation.models import LogSeal, Record, RecordClock, Seal
from tenants.moderation.record.lines import digest_line


@dataclass(frozen=True)
class Chain:
    """Numbered lines with a digest each, and the seals over them.

    `prepare` numbers what has no number yet and returns how many; `digests` is what lines have to have by what they are
    about; `clock` is the last number given; `behind` lists tenants with something to seal (in an operator_scope).
    """

    name: str
    lines: Any
    seals: type[Seal | LogSeal]
    prepare: Callable[[], int]
    digests: Callable[[Sequence[Any]], list[str]]
    clock: Callable[[], int]
    behind: Callable[[], list[uuid.UUID]]


def _record_clock() -> int:
    clock = RecordClock.objects.first()
    return clock.last if clock else 0


def _log_clock() -> int:
    """There is no counter: a sealed number was given, and so was that of a line that is there."""
    line = AuditLogLine.objects.aggregate(last=Max("sequence"))["last"] or 0
    seal = LogSeal.objects.aggregate(last=Max("last"))["last"] or 0
    return int(max(line, seal))


def _records_behind() -> list[uuid.UUID]:
    newest = Seal.objects.filter(tenant_id=OuterRef("tenant_id")).order_by("-first").values("last")[:1]
    clocks = RecordClock.objects.annotate(sealed=Subquery(newest))
    behind = clocks.filter(Q(sealed=None, last__gt=0) | Q(sealed__lt=F("last")))
    return list(behind.order_by("tenant_id").values_list("tenant_id", flat=True))


RECORD = Chain(
    name="record",
    lines=Record,
    seals=Seal,
    prepare=lambda: 0,
    digests=lambda rows: [digest_line(row) for row in rows],
    clock=_record_clock,
    behind=_records_behind,
)
LOG = Chain(
    name="log",
    lines=AuditLogLine,
    seals=LogSeal,
    prepare=log_lines.add_lines,
    digests=log_lines.expected_digests,
    clock=_log_clock,
    behind=log_lines.tenants_with_new_events,
)
CHAINS = {chain.name: chain for chain in (RECORD, LOG)}
