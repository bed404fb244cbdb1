"""Scheduled upkeep over all tenants: each tenant in a short scope of its own."""

from __future__ import annotations

import datetime as dt
import logging
import random
import time
from collections.abc import Callable, Iterable
from functools import partial
from uuid import UUID

from django.conf import settings

from tenants.accounts import leases, metering, sessions
from tenants.datasets import asset_counts
from tenants.datasets.resumable import discard_expired
from tenants.datasets.services import collect_blobs, collect_orphans
from tenants.events import replays
from tenants.events.services import forget_old_answers
from tenants.jobs import worker_registry
from tenants.jobs.kinds import QUEUES
from tenants.learning import cleanup
from tenants.moderation.policies import recalibration
from tenants.people import invitations
from tenants.people.sign_on import flows as sign_on_flows
from tenants.pipeline.assets.services import resume_deletions
from tenants.pipeline.audits import audit_requests, auditing
from tenants.pipeline.care.erasure_receipts import settle
from tenants.pipeline.care.retention import expire_assets
from tenants.pipeline.care.subject_erasure import resume_erasures
from tenants.pipeline.streams.sources import ensure_reading
from tenants.pipeline.transfer.exports import forget_exports
from tenants.pipeline.transfer.import_receipts import forget_rows
from tenants.pipeline.transfer.import_sources import collect_sources
from tenants.pipeline.upkeep import ranges
from tenants.pipeline.upkeep.job_archive import archive_jobs
from tenants.retrieval import index, map_points, model_routing, query, query_pictures, saved, standing
from tenants.retrieval.index import prune_tombstones
from tenants.scope import tenant_scope
from tenants.valkey import client

log = logging.getLogger(__name__)

STALE_FILE_S = 3600
# Of what is of the installation; that of tenants has a period of its own.
UPKEEP_S = 300
# For copying indexes to the storage, of all tenants of a range; what is left has time until the next upkeep.
STORING_S = 30
# The same for vectors of models that answer no searches any more.
FORGETTING_S = 45
# And for finished jobs that go into files.
FILING_S = 15


def flush_usage() -> None:
    metering.flush()


def tend_due() -> None:
    """Look after the tenants whose turn it is, and after what is of the installation."""
    ranges.tend_due(_tend)
    _tend_installation()


def collect_garbage(tenants: Iterable[UUID] | None = None) -> None:
    """Remove blobs that nothing uses, old tombstones, old replayed answers, unused uploads, and files left by a crash.

    Of these tenants, None: of all, before their time.
    """
    if tenants is None:
        ranges.want_all()
        ranges.tend_due(_tend)
    else:
        _tend(list(tenants), int(time.time() // UPKEEP_S))
    _tend_installation(at_once=True)


_installation_tended_at = float("-inf")


def _tend_installation(*, at_once: bool = False) -> None:
    """What no tenant has: once in a period in each process that does upkeep."""
    global _installation_tended_at
    if not at_once and time.monotonic() - _installation_tended_at < UPKEEP_S:
        return
    _installation_tended_at = time.monotonic()
    sessions.forget_expired()
    invitations.forget_ended()
    leases.forget_ended()
    index.note_figures()


def _tend(tenants: list[UUID], runs: int) -> None:
    """One of the 256 shards of each tenant's files is looked through at a time: all of them in a day."""
    orphans = partial(collect_orphans, shard=f"{runs % 256:02x}", older_than_s=STALE_FILE_S)
    now = time.monotonic()
    storing_until, forgetting_until, filing_until = now + STORING_S, now + FORGETTING_S, now + FILING_S
    todo = list(tenants)
    # The times above are for all tenants together: not always the same ones go without.
    random.shuffle(todo)
    for tenant_id in todo:
        for step in (
            partial(_forget_old, tenant_id),
            collect_blobs,
            _tend_sources,
            forget_rows,
            orphans,
            _prune,
            _tend_searches,
            resume_deletions,
            resume_erasures,
            settle,
            forget_exports,
            index.consider_indexes,
            auditing.settle_failed,
            audit_requests.forget_content,
            audit_requests.forget_evidence,
            cleanup.remove_leftovers,
            recalibration.consider,
            _forget_webhook_events,
            map_points.tidy_points,
            asset_counts.compact,
            query.index_older_names,
        ):
            _in_scope(tenant_id, step)
        _log_failure(tenant_id, partial(discard_expired, tenant_id))
        _log_failure(tenant_id, partial(expire_assets, tenant_id))
        _log_failure(tenant_id, partial(query_pictures.forget, tenant_id))
        _log_failure(tenant_id, partial(index.look_after_stored, tenant_id, storing_until))
        _log_failure(tenant_id, partial(archive_jobs, tenant_id, until=filing_until))
        _log_failure(tenant_id, partial(model_routing.forget_retired, tenant_id, until=forgetting_until))


def _prune() -> None:
    """Forget tombstones and changes that no generation in use needs any more."""
    prune_tombstones(needed_above=index.oldest_kept_seq())
    index.prune_changes()


def _forget_old(tenant_id: UUID) -> None:
    """Days of usage, answers to requests that may have been repeated, and what was asked of providers of sign-on."""
    metering.forget_old_days(tenant_id)
    forget_old_answers()
    sign_on_flows.forget_expired()


def _tend_sources() -> None:
    """Files of imports, and the jobs that read brokers."""
    ensure_reading()
    collect_sources()


def _tend_searches() -> None:
    saved.forget_recent()
    standing.tend()


def _forget_webhook_events() -> None:
    kept = dt.timedelta(days=settings.WEBHOOK_KEEP_DAYS)
    # What is told once a month must not be told twice in it.
    replays.forget_old(older_than=kept, once_older_than=max(kept, dt.timedelta(days=40)))


def _in_scope(tenant_id: UUID, step: Callable[[], object]) -> None:
    def scoped() -> None:
        with tenant_scope(tenant_id):
            step()

    _log_failure(tenant_id, scoped)


def _log_failure(tenant_id: UUID, step: Callable[[], object]) -> None:
    try:
        step()
    except Exception:
        # One tenant's trouble must not keep the others from being looked after.
        log.exception("upkeep failed", extra={"tenant": str(tenant_id)})


def note_canary(queue: str, sent_at: float) -> None:
    client().hset("canary", queue, sent_at)
    worker_registry.note_canary(queue, sent_at)


def canary_ages() -> dict[str, float]:
    """Seconds since the newest canary that came through each queue was sent; infinite for none yet."""
    seen = client().hgetall("canary")
    now = time.time()
    return {q: now - float(seen[q.encode()]) if q.encode() in seen else float("inf") for q in QUEUES}
