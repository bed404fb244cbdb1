"""Earlier copies of what was put on a list of bad content: found by what their audits saw, and blocked.

The job walks the tenant's stored evidence in the order of ids, a batch in a transaction with how far it has come: a
job that is killed goes on from there, and one whose item is taken off its list stops. What it blocked stands in the
record under the listed item's id.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.db import connection
from django.utils.translation import gettext_lazy
from uuid_utils.compat import uuid7

from ml.hashing.fingerprints import Fingerprints
from ml.media import MediaError
from tenants.datasets.models import Asset
from tenants.datasets.selectors import visible_assets
from tenants.errors import Invalid, Unavailable
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.moderation import known_content, record
from tenants.moderation.known_content.matching import ListState, LoadedList, copies_of
from tenants.moderation.models import Audit, HashEntry, Record
from tenants.moderation.reviews.cases import BLOCK
from tenants.moderation.reviews.effects import apply_decision
from tenants.pipeline.audits.fingerprinting import look_at
from tenants.scope import current_tenant_id, tenant_scope

log = logging.getLogger(__name__)

BATCH, RELEASED_AT_ONCE = 200, 100
#: After so long others of the queue come in between.
TURN_S = 30.0
_NOTHING = str(uuid.UUID(int=0))
# Lines of the record: `subject` is the listed item.
BLOCKED, RELEASED = "copy.blocked", "copy.released"

_BATCH = """
SELECT id, audit_id, asset_id, (document->'fingerprints')::text FROM audit_evidence
WHERE tenant_id = %s AND id > %s AND id <= %s AND asset_id IS NOT NULL ORDER BY id LIMIT %s
"""


@dataclass(frozen=True)
class StoredFingerprints:
    """One audit's evidence: what an asset was seen to be."""

    evidence: uuid.UUID
    audit: uuid.UUID
    asset: uuid.UUID
    prints: Fingerprints


@dataclass
class Checkpoint:
    """How far the job has come; kept in the job's arguments."""

    after: str = _NOTHING
    # What is audited after the job began is matched then.
    until: str = field(default_factory=lambda: str(uuid7()))
    done: int = 0
    blocked: int = 0
    complete: bool = False

    @classmethod
    def of(cls, arguments: dict[str, Any]) -> Checkpoint:
        return cls(**arguments.get("tally", {}))


@job("match_again", queue="default", label=gettext_lazy("Look for known copies"))
def match_again(claimed: jobs.Claim) -> None:
    """Block earlier copies of the job's item, or let them go. Raises LeaseLost, Cancelled."""
    if claimed.arguments.get("release"):
        release(claimed)
        return
    tally, begun = Checkpoint.of(claimed.arguments), time.monotonic()
    if not tally.complete:
        _complete(claimed)
        tally.complete = True
    while True:
        cpu = time.thread_time()
        with tenant_scope(claimed.tenant_id):
            target = _target(uuid.UUID(claimed.arguments["item"]))
            batch = _batch(tally) if target else []
        if target is None or not batch:
            _finish(claimed, tally)
            return
        # Comparing takes time; it reads only the candidates' points.
        with tenant_scope(claimed.tenant_id):
            copies = [seen for seen in batch if copies_of(seen.prints, *target)]
        with tenant_scope(claimed.tenant_id):
            total = max(jobs.held(claimed).progress_total, tally.done + len(batch))
            tally.blocked += _block(claimed, copies)
            tally.after, tally.done = str(batch[-1].evidence), tally.done + len(batch)
            _save_checkpoint(claimed, tally)
            jobs.progress(claimed, done=tally.done, total=total, renew=True)
            jobs.spend(claimed, cpu_s=time.thread_time() - cpu)
        if time.monotonic() - begun > TURN_S:
            jobs.give_turn(claimed)
            return


def _complete(claimed: jobs.Claim) -> None:
    """Look at the file of an item that is listed by its bytes only."""
    asset_id, item_id = claimed.arguments.get("asset"), uuid.UUID(claimed.arguments["item"])
    if asset_id is None:
        return
    with tenant_scope(claimed.tenant_id):
        listed = HashEntry.objects.filter(item=item_id)
        bare = listed.exists() and not listed.exclude(algorithm="sha256").exists()
        asset = visible_assets().filter(pk=asset_id).first() if bare else None
    if asset is None:
        return
    try:
        prints = look_at(asset)
    except (Invalid, MediaError, Unavailable, FileNotFoundError):
        log.warning("what was listed cannot be looked at; only its bytes are matched", exc_info=True)
        return
    with tenant_scope(claimed.tenant_id):
        known_content.complete_item(item_id=item_id, fingerprints=prints)


def _target(item_id: uuid.UUID) -> tuple[ListState, LoadedList] | None:
    """The item by itself; None once it is on no list, or on one of good content."""
    entries = list(HashEntry.objects.select_related("hash_list").filter(item=item_id).order_by("id"))
    if not entries or entries[0].hash_list.stance != "bad":
        return None
    row = entries[0].hash_list
    listed = ListState(row.id, row.name, row.stance, False, row.revision)
    return listed, LoadedList.of([(e.id, e.item, e.algorithm, known_content.in_memory(e)) for e in entries])


def _batch(tally: Checkpoint) -> list[StoredFingerprints]:
    with connection.cursor() as cursor:
        cursor.execute(_BATCH, [current_tenant_id(), tally.after, tally.until, BATCH])
        rows = cursor.fetchall()
    digests = _digests(asset_id for _, _, asset_id, _ in rows)
    return [
        StoredFingerprints(evidence, audit, asset, _fingerprints(stored, digests.get(asset, "")))
        for evidence, audit, asset, stored in rows
    ]


def _digests(asset_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, str]:
    return dict(Asset.objects.filter(pk__in=list(asset_ids)).values_list("id", "blob__sha256"))


def _fingerprints(stored: str | None, sha256: str) -> Fingerprints:
    try:
        read = msgspec.json.decode(stored or "{}")
    except (msgspec.DecodeError, RecursionError):
        read = {}
    return Fingerprints.read({**(read if isinstance(read, dict) else {}), "sha256": sha256})


def _block(claimed: jobs.Claim, copies: Sequence[StoredFingerprints]) -> int:
    """Block those that are not blocked already; how many. In the caller's transaction."""
    shown = Asset.objects.filter(pk__in=[seen.asset for seen in copies]).exclude(moderation=BLOCK)
    open_ = set(shown.values_list("pk", flat=True)) - {_origin(claimed)}
    lines = []
    for seen in sorted(copies, key=lambda one: one.asset):
        if seen.asset in open_:
            open_.discard(seen.asset)
            actor = claimed.arguments.get("actor") or "copies"
            apply_decision(audit_id=seen.audit, asset_id=seen.asset, decision=BLOCK, actor=actor)
            lines.append(
                record.RecordLine(
                    kind=BLOCKED,
                    audit=seen.audit,
                    item=seen.asset,
                    subject=uuid.UUID(claimed.arguments["item"]),
                    decision=BLOCK,
                    actor=actor,
                )
            )
    # The record's clock is the last lock of all.
    record.append_all(lines)
    return len(lines)


def _origin(claimed: jobs.Claim) -> uuid.UUID | None:
    """The asset that was listed: whoever listed it decides about it."""
    return uuid.UUID(claimed.arguments["asset"]) if claimed.arguments.get("asset") else None


def _save_checkpoint(claimed: jobs.Claim, tally: Checkpoint) -> None:
    job = jobs.held(claimed)
    job.arguments = {**job.arguments, "tally": vars(tally)}
    job.save(update_fields=["arguments"])


def _finish(claimed: jobs.Claim, tally: Checkpoint) -> None:
    result = {"item": claimed.arguments["item"], "audits": tally.done, "blocked": tally.blocked}
    jobs.succeed(claimed, result=result, cpu_s=0, gpu_s=0, used={})


# --- Letting go what was blocked as a copy of something that should not have been on a list ----------------


def release(claimed: jobs.Claim) -> None:
    """Show again what the record says was blocked as a copy of this job's item. Run twice, it finds nothing more.

    Each becomes what its audit had decided; what a person or a newer audit has decided about since is left as it is.
    Raises LeaseLost, Cancelled, QuotaExceeded where the vectors of what is shown again do not fit.
    """
    after, done, released = 0, 0, 0
    while True:
        cpu = time.thread_time()
        with tenant_scope(claimed.tenant_id):
            lines = _blocked_lines(claimed, after)
            if not lines:
                result = {"item": claimed.arguments["item"], "released": released}
                jobs.succeed(claimed, result=result, cpu_s=0, gpu_s=0, used={})
                return
            jobs.held(claimed)
            shown = [
                line for line in lines if _release_asset(line, claimed.arguments.get("actor") or "copies")
            ]
            record.append_all(
                [
                    record.RecordLine(kind=RELEASED, audit=one.audit, item=one.item, subject=one.subject)
                    for one in shown
                ]
            )
            after, done, released = lines[-1].sequence, done + len(lines), released + len(shown)
            jobs.progress(claimed, done=done, total=done, renew=True)
            jobs.spend(claimed, cpu_s=time.thread_time() - cpu)


def _blocked_lines(claimed: jobs.Claim, after: int) -> list[Record]:
    lines = Record.objects.filter(
        kind=BLOCKED, subject=uuid.UUID(claimed.arguments["item"]), sequence__gt=after
    )
    return list(lines.order_by("sequence")[:RELEASED_AT_ONCE])


def _release_asset(line: Record, actor: str) -> bool:
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
