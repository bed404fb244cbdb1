"""`manage.py build_index TENANT`: build a tenant's index anew, or go back to the one before, for operators."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.errors import ServiceError
from tenants.jobs.models import Job
from tenants.jobs.services import UNFINISHED
from tenants.retrieval import index, model_routing
from tenants.scope import tenant_scope
from workers.management.job_progress import show_progress, tenant_of


class Command(BaseCommand):
    help = "Build the index of a tenant anew in a worker; what is served now stays until then."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="its slug")
        parser.add_argument("--kind", default="", help="of ml/indexes/kinds; chosen by itself when not given")
        parser.add_argument("--wait", action="store_true", help="follow it to its end")
        parser.add_argument(
            "--roll-back", action="store_true", help="answer from the generation before instead"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = tenant_of(options["tenant"])
        try:
            with tenant_scope(tenant.id):
                if options["roll_back"]:
                    generation = index.roll_back_index(model=model_routing.live())
                    self.stdout.write(f"generation {generation.id} answers again")
                    return
                model, kind = model_routing.live(), options["kind"]
                engine = index.engine_of(model)
                if engine and kind:
                    raise CommandError(f"The index of this tenant is in {engine}; --kind is of files.")
                job = index.build_index(model=model, kind=kind, engine=engine)
                job = job or Job.objects.filter(UNFINISHED, kind=index.JOB).first()
        except ServiceError as error:
            raise CommandError(error.detail) from error
        if job is None:
            raise CommandError("The index of this tenant is being moved; try again afterwards.")
        self.stdout.write(f"job       {job.id}")
        if options["wait"]:
            built = show_progress(self, tenant, job, "build").result or {}
            self.stdout.write(f"{built['kind']}, recall@10 {built['recall']}, {built['vectors']} vectors")
