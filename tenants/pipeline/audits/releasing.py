"""Letting go what was blocked as a copy of something that should not have been on a list."""

from __future__ import annotations

import time
import uuid

from tenants.datasets.models import Asset
from tenants.jobs import services as jobs
from tenants.moderation import record
from tenants.moderation.cases import BLOCK
from tenants.moderation.effects import apply_decision
from tenants.moderation.models import Audit, Record
from tenants.scope import tenant_scope

# Lines of the record: `subject` is the listed item.
BLOCKED, RELEASED = "copy.blocked", "copy.released"
BATCH = 100


def release(claimed: jobs.Claim) -> None:
    """Show again what the record says was blocked as a copy of this job's item. Run twice, it finds nothing more.

    Each becomes what its audit had decided; what a person or a newer audit has decided about since is left as it is.
    Raises LeaseLost, Cancelled, QuotaExceeded where the vectors of what is shown again do not fit.
    """
    after, done, released = 0, 0, 0
    while True:
        cpu = time.thread_time()
        with tenant_scope(claimed.tenant_id):
            lines = _lines(claimed, after)
            if not lines:
                result = {"item": claimed.arguments["item"], "released": released}
                jobs.succeed(claimed, result=result, cpu_s=0, gpu_s=0, used={})
                return
            jobs.held(claimed)
            shown = [line for line in lines if _let_go(line, claimed.arguments.get("actor") or "copies")]
            record.append_all(
                [
                    record.Line(kind=RELEASED, audit=one.audit, item=one.item, subject=one.subject)
                    for one in shown
                ]
            )
            after, done, released = lines[-1].sequence, done + len(lines), released + len(shown)
            jobs.progress(claimed, done=done, total=done, renew=True)
            jobs.spend(claimed, cpu_s=time.thread_time() - cpu)


def _lines(claimed: jobs.Claim, after: int) -> list[Record]:
    lines = Record.objects.filter(
        kind=BLOCKED, subject=uuid.UUID(claimed.arguments["item"]), sequence__gt=after
    )
    return list(lines.order_by("sequence")[:BATCH])


def _let_go(line: Record, actor: str) -> bool:
    asset = Asset.objects.select_for_update(of=("self",)).filter(pk=line.item, moderation=BLOCK).first()
    if asset is None or Record.objects.filter(item=line.item, sequence__gt=line.sequence).exists():
        return False
    audit = Audit.objects.filter(pk=line.audit).exclude(decision=BLOCK).first()
    if audit is None:
        return False
    apply_decision(
        audit_id=audit.id, asset_id=asset.id, decision=audit.decision, labels=asset.labels, actor=actor
    )
    return True
