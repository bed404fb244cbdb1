"""The doorbell: sending a job's task to the broker, and sending it again when it was lost."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from functools import partial

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from tenants.jobs.kinds import KINDS
from tenants.jobs.models import JobDispatch

log = logging.getLogger(__name__)


def ring(job_id: uuid.UUID, tenant_id: uuid.UUID, kind: str) -> None:
    """Send the task to the broker. A broker that is away loses nothing: the sweeper rings again."""
    try:
        current_app.signature(KINDS[kind].task, args=[str(job_id), str(tenant_id)]).apply_async(
            queue=KINDS[kind].queue, headers={"tenant": str(tenant_id)}, retry=False
        )
    except Exception:
        log.warning("broker did not take the message; the sweeper will send it", exc_info=True)


def sweep(*, limit: int = 500) -> int:
    """Ring again for jobs whose doorbell was lost or whose worker died; returns how many.

    A queue that is merely long is left alone: its messages are still there.
    """
    now, rung = timezone.now(), 0
    long = [queue for queue in {kind.queue for kind in KINDS.values()} if _queue_length(queue) > limit]
    with transaction.atomic():
        rows = JobDispatch.objects.select_for_update(skip_locked=True).exclude(queue__in=long)
        for row in rows.filter(due_at__lte=now).order_by("due_at")[:limit]:
            wait = timedelta(seconds=settings.JOB_RESEND_S * min(2**row.sends, 16))
            JobDispatch.objects.filter(pk=row.pk).update(sends=F("sends") + 1, due_at=now + wait)
            transaction.on_commit(partial(ring, row.job_id, row.tenant_id, row.kind))
            rung += 1
    return rung


def _queue_length(queue: str) -> int:
    try:
        with current_app.connection_for_read() as connection:
            return int(connection.default_channel.client.llen(queue))
    except Exception:
        return 0
