"""What commands about one tenant's job share: which tenant, and following the job to its end."""

from __future__ import annotations

import time

from django.core.management.base import BaseCommand, CommandError

from tenants.accounts.models import Tenant
from tenants.jobs.models import Job
from tenants.scope import tenant_scope

POLL_S = 0.5


def tenant_of(slug: str) -> Tenant:
    """Raises CommandError."""
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        raise CommandError(f"There is no tenant {slug!r}.")
    return tenant


def show_progress(command: BaseCommand, tenant: Tenant, job: Job, what: str) -> Job:
    """Write its progress until it has succeeded. Raises CommandError if it ends otherwise."""
    shown = ""
    while not job.finished:
        time.sleep(POLL_S)
        with tenant_scope(tenant.id):
            job = Job.objects.get(pk=job.pk)
        line = f"{job.state:9} {job.progress_done} %"
        if line != shown:
            command.stdout.write(line)
            shown = line
    if job.state != Job.State.SUCCEEDED:
        raise CommandError(f"The {what} has {job.state}: {(job.error or {}).get('detail', '')}")
    return job
