"""What operators do with tenants that needs the machinery of the tenants' own work: exports, erasure, jobs."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from functools import partial

from celery import current_app
from django.db import transaction

from tenants import observe
from tenants.accounts import leases
from tenants.accounts.operators import Operator, checked_reason, record_act
from tenants.errors import NotFound, ServiceError
from tenants.events.models import TenantErasure
from tenants.events.services import record
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.people import approvals, tenancies
from tenants.people.tenancies import locked
from tenants.pipeline.care import closing, tenant_erasure
from tenants.pipeline.transfer import exports
from tenants.pipeline.upkeep import tenant_figures
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)
QUEUE = "default"
TASK = "workers.erase_tenant"


@transaction.atomic
def request_export(*, by: Operator, label: str, slug: str, with_vectors: bool) -> Job:
    """Queue an export of a tenant, also of a suspended one. Raises NotFound, NotAllowed, Conflict."""
    tenant = locked(slug)
    approvals.check(tenant, by, approvals.FULL)
    with tenant_scope(tenant.id), observe.bound(observe.requester, label):
        _export, job = exports.request_export(with_vectors=with_vectors, actor=label)
    record_act(by=by, verb="tenant.exported", target=slug, details={"vectors": with_vectors})
    return job


@transaction.atomic
def note_download(*, by: Operator, label: str, slug: str, export_id: uuid.UUID) -> None:
    """An export that an operator downloads is seen by the tenant. Raises NotFound, NotAllowed."""
    tenant = locked(slug)
    approvals.check(tenant, by, approvals.FULL)
    record_act(by=by, verb="export.downloaded", target=slug, details={"export": str(export_id)})
    with tenant_scope(tenant.id):
        record(actor=label, verb="export.downloaded", target=str(export_id))


# --- Erasing a tenant --------------------------------------------------------------------------------------


@transaction.atomic
def request_erasure(*, by: Operator, label: str, slug: str, reason: str) -> TenantErasure:
    """Close a tenant for good and have it erased; the receipt fills as it goes on.

    Raises NotFound, Invalid, NotAllowed.
    """
    reason, tenant = checked_reason(reason), locked(slug)
    approvals.check(tenant, by, approvals.FULL)
    receipt, _created = TenantErasure.objects.get_or_create(erased_tenant=tenant.id, defaults={"slug": slug})
    tenancies.close(tenant)
    record_act(by=by, verb="tenant.erased", target=slug, reason=reason, details={"receipt": str(receipt.id)})
    transaction.on_commit(partial(_send, slug))
    return receipt


def _send(slug: str) -> None:
    try:
        current_app.signature(TASK, args=[slug]).apply_async(queue=QUEUE, retry=False)
    except Exception:
        log.warning("the broker did not take an erasure; it is sent again", exc_info=True)


def resume_erasures() -> int:
    """Send erasures again that have not come to their end, as their worker was stopped; returns how many."""
    slugs = list(TenantErasure.objects.filter(finished_at=None).values_list("slug", flat=True))
    for slug in slugs:
        _send(slug)
    return len(slugs)


def close_due() -> int:
    """Begin the erasure of workspaces whose owners closed them, and whose time to take that back has passed."""
    slugs = [slug for slug in map(closing.close, closing.due()) if slug]
    for slug in slugs:
        _send(slug)
    return len(slugs)


def run_erasure(slug: str) -> None:
    """The body of the task: erase, unless another worker does so now. What stays is tried again."""
    with leases.held(f"erase:{slug}") as mine:
        if not mine:
            return
        try:
            tenant_erasure.erase_tenant(slug=slug)
        except NotFound:
            return  # another run has signed the receipt
        except ServiceError:
            log.warning("a tenant could not be erased yet", exc_info=True, extra={"slug": slug})


# --- Dead letters ------------------------------------------------------------------------------------------


def retry_job(*, by: Operator, label: str, slug: str, job_id: uuid.UUID) -> Job:
    """Queue a failed job of a tenant again. Raises NotFound, Conflict, QuotaExceeded."""
    tenant = tenant_figures.get_tenant(slug)
    with transaction.atomic():
        with tenant_scope(tenant.id):
            job = jobs.retry(job_id=job_id)
            record(actor=label, verb="job.retried", target=str(job_id))
        record_act(by=by, verb="job.retried", target=slug, details={"job": str(job_id), "kind": job.kind})
    return job


def retry_jobs(*, by: Operator, label: str, wanted: Iterable[tuple[str, uuid.UUID]]) -> tuple[int, int]:
    """Queue many again, each for itself; how many were, and how many could not be."""
    done = refused = 0
    for slug, job_id in wanted:
        try:
            retry_job(by=by, label=label, slug=slug, job_id=job_id)
            done += 1
        except ServiceError:
            refused += 1
    return done, refused
