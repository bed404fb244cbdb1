"""`manage.py move_index TENANT --to milvus|files|auto`: where a tenant's index lies, for operators."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.errors import ServiceError
from tenants.retrieval import index, model_routing
from tenants.scope import tenant_scope
from workers.management.job_progress import show_progress, tenant_of

AUTO = "auto"


class Command(BaseCommand):
    help = "Move a tenant's index to another engine in a worker, and keep it there."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="its slug")
        parser.add_argument(
            "--to",
            required=True,
            help=f"{index.FILES}, the name of an engine (milvus), or {AUTO}: where its size has it",
        )
        parser.add_argument("--wait", action="store_true", help="follow it to its end")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant, to = tenant_of(options["tenant"]), options["to"]
        try:
            with tenant_scope(tenant.id):
                job = index.move_index(model=model_routing.live(), to="" if to == AUTO else to)
        except ServiceError as error:
            raise CommandError(error.detail) from error
        if job is None:
            self.stdout.write("it is there already, and stays")
            return
        self.stdout.write(f"job       {job.id}")
        if options["wait"]:
            moved = show_progress(self, tenant, job, "move").result or {}
            self.stdout.write(f"{moved['kind']}, recall@10 {moved['recall']}, {moved['vectors']} vectors")
