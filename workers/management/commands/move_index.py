"""`manage.py move_index TENANT --to pgvector|memory`: move a tenant's index to another engine, for operators."""

from __future__ import annotations

import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts.models import Tenant
from tenants.errors import ServiceError
from tenants.jobs.models import Job
from tenants.retrieval import copies, encoding, lifecycle
from tenants.retrieval.models import IndexPointer
from tenants.scope import tenant_scope

POLL_S = 0.5


class Command(BaseCommand):
    help = "Move a tenant's index to another engine in a worker; what is served now stays until then."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="its slug")
        parser.add_argument("--to", required=True, choices=IndexPointer.Engine.values)
        parser.add_argument("--wait", action="store_true", help="follow it to its end")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.filter(slug=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']!r}.")
        try:
            with tenant_scope(tenant.id):
                if options["to"] != IndexPointer.Engine.MEMORY:
                    copies.engine_of(options["to"]).require()
                job = lifecycle.move(model=encoding.model_id(), to=options["to"])
        except ServiceError as error:
            raise CommandError(error.detail) from error
        if job is None:
            raise CommandError(
                "An index of this tenant is being built or moved already; try again afterwards."
            )
        self.stdout.write(f"job       {job.id}")
        if options["wait"]:
            self._follow(tenant, job)

    def _follow(self, tenant: Tenant, job: Job) -> None:
        shown = ""
        while not job.finished:
            time.sleep(POLL_S)
            with tenant_scope(tenant.id):
                job = Job.objects.get(pk=job.pk)
            line = f"{job.state:9} {job.progress_done} %"
            if line != shown:
                self.stdout.write(line)
                shown = line
        if job.state != Job.State.SUCCEEDED:
            raise CommandError(f"The move has {job.state}: {(job.error or {}).get('detail', '')}")
        self.stdout.write(json.dumps(job.result, indent=1))
