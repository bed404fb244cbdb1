"""`manage.py move_index TENANT --to pgvector|memory`: move a tenant's index to another engine, for operators."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.errors import ServiceError
from tenants.retrieval import copies, lifecycle, spaces
from tenants.retrieval.models import IndexPointer
from tenants.scope import tenant_scope
from workers.management.job_progress import show_progress, tenant_of


class Command(BaseCommand):
    help = "Move a tenant's index to another engine in a worker; what is served now stays until then."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="its slug")
        parser.add_argument("--to", required=True, choices=IndexPointer.Engine.values)
        parser.add_argument("--wait", action="store_true", help="follow it to its end")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = tenant_of(options["tenant"])
        try:
            with tenant_scope(tenant.id):
                if options["to"] != IndexPointer.Engine.MEMORY:
                    copies.engine_of(options["to"]).require()
                job = lifecycle.move(model=spaces.live(), to=options["to"])
        except ServiceError as error:
            raise CommandError(error.detail) from error
        if job is None:
            raise CommandError(
                "An index of this tenant is being built or moved already; try again afterwards."
            )
        self.stdout.write(f"job       {job.id}")
        if options["wait"]:
            done = show_progress(self, tenant, job, "move")
            self.stdout.write(json.dumps(done.result, indent=1))
