"""Messages and schedules: the queue's own, upkeep, and letters. Kinds of jobs are declared beside their bodies
(`tenants.jobs.kinds.job`)."""

from __future__ import annotations

import time
import uuid

from celery import shared_task
from django.db import close_old_connections

from tenants.accounts import passwords
from tenants.events import deliveries, notices, quota_watch, syslog
from tenants.jobs import notify_workers
from tenants.jobs.kinds import QUEUES
from tenants.moderation.record import anchors, checkpoints, seals
from tenants.people import approvals, impersonation, invitations, letters, sign_up
from tenants.people.sign_on import break_glass
from tenants.pipeline.upkeep import operator_acts, periodic
from workers.base import JobTask, LetterTask, places, run_next


@shared_task(base=JobTask, name=notify_workers.TASK)
def next_job(queue: str) -> None:
    run_next(queue)


@shared_task(name="workers.sweep_jobs")
def sweep_jobs() -> None:
    notify_workers.sweep()


@shared_task(name="workers.flush_usage")
def flush_usage() -> None:
    periodic.flush_usage()


@shared_task(name="workers.tend_tenants")
def tend_tenants() -> None:
    periodic.tend_due()


@shared_task(name="workers.collect_garbage")
def collect_garbage() -> None:
    periodic.collect_garbage()


@shared_task(name="workers.seal_records")
def seal_records() -> None:
    seals.seal_all()
    checkpoints.make()


@shared_task(name="workers.send_anchors")
def send_anchors() -> None:
    anchors.send_due()


@shared_task(name="workers.stream_log")
def stream_log() -> None:
    syslog.stream()


@shared_task(name="workers.deliver_webhooks")
def deliver_webhooks(webhook_id: str, tenant_id: str) -> None:
    close_old_connections()
    try:
        deliveries.deliver(uuid.UUID(webhook_id), uuid.UUID(tenant_id))
    finally:
        close_old_connections()


@shared_task(name="workers.sweep_webhooks")
def sweep_webhooks() -> None:
    deliveries.sweep()


@shared_task(name="workers.watch_quotas")
def watch_quotas() -> None:
    quota_watch.watch_all()


@shared_task(name="workers.erase_tenant")
def erase_tenant(slug: str) -> None:
    # Sent again each minute until it is done.
    with places.taken(operator_acts.QUEUE) as there:
        if there:
            operator_acts.run_erasure(slug)


@shared_task(name="workers.tend_operators")
def tend_operators() -> None:
    """End what operators began and time has ended; go on with erasures whose worker was stopped."""
    impersonation.end_expired()
    operator_acts.resume_erasures()


@shared_task(name="workers.mail_invitation", base=LetterTask)
def mail_invitation(invitation_id: str) -> None:
    invitations.mail_invitation(uuid.UUID(invitation_id))


@shared_task(name="workers.mail_reset", base=LetterTask)
def mail_reset(email: str) -> None:
    passwords.mail_reset_link(email=email)


@shared_task(name=sign_up.TASK, base=LetterTask)
def mail_sign_up(sign_up_id: str) -> None:
    sign_up.mail_sign_up(uuid.UUID(sign_up_id))


@shared_task(name="workers.tend_self_service")
def tend_self_service() -> None:
    """What people asked for by themselves and time decides about; letters that must not be lost."""
    sign_up.tend()
    operator_acts.close_due()
    letters.note_trials()
    letters.send_due()


@shared_task(name=break_glass.TASK, base=LetterTask)
def mail_break_glass(tenant_id: str, user_id: str, when: str) -> None:
    break_glass.mail_use(uuid.UUID(tenant_id), uuid.UUID(user_id), when)


@shared_task(name=approvals.TASK, base=LetterTask)
def mail_operator_request(request_id: str) -> None:
    approvals.mail_request(uuid.UUID(request_id))


@shared_task(name="workers.mail_webhook_disabled", base=LetterTask)
def mail_webhook_disabled(webhook_id: str, tenant_id: str) -> None:
    notices.mail_disabled(uuid.UUID(webhook_id), uuid.UUID(tenant_id))


@shared_task(name="workers.ring_canaries")
def ring_canaries() -> None:
    """Send a canary down every queue: a worker that looks alive but consumes nothing lets its canary age."""
    for queue in QUEUES:
        canary.apply_async(args=[queue, time.time()], queue=queue, expires=60)


@shared_task(name="workers.canary")
def canary(queue: str, sent_at: float) -> None:
    periodic.note_canary(queue, sent_at)
