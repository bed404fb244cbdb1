"""`manage.py import_folder TENANT DATASET FOLDER`: import a folder of this machine, for operators.

A worker does it, so that an interruption of this command interrupts nothing; the worker must see the folder.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts.models import Tenant
from tenants.datasets.models import Dataset, Import
from tenants.datasets.services import create_dataset
from tenants.errors import ServiceError
from tenants.jobs.models import Job
from tenants.pipeline.transfer import imports
from tenants.scope import tenant_scope

POLL_S = 0.5


class Command(BaseCommand):
    help = "Import every file of a folder into a dataset, which is made if there is none of that name."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="its slug")
        parser.add_argument("dataset", help="its name")
        parser.add_argument("folder", type=Path)
        parser.add_argument("--mapping", type=json.loads, help="of a manifest's columns, as JSON")
        parser.add_argument("--no-wait", action="store_true", help="queue it and return")

    def handle(self, *args: object, **options: object) -> None:
        tenant = Tenant.objects.filter(slug=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']!r}.")
        try:
            with tenant_scope(tenant.id):
                row, job = self._start(options)
        except ServiceError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(f"job       {job.id}")
        if not options["no_wait"]:
            self._follow(tenant, row, job)

    def _start(self, options: dict[str, Any]) -> tuple[Import, Job]:
        name = options["dataset"]
        dataset = Dataset.objects.filter(name=name, deleted_at=None).first() or create_dataset(name=name)
        row = imports.create_folder_import(
            dataset_id=dataset.id,
            folder=options["folder"].absolute(),
            mapping=options["mapping"],
            actor="operator",
        )
        return imports.start_import(import_id=row.id, actor="operator")

    def _follow(self, tenant: Tenant, row: Import, job: Job) -> None:
        shown = ""
        while not job.finished:
            time.sleep(POLL_S)
            with tenant_scope(tenant.id):
                row, job = Import.objects.get(pk=row.pk), Job.objects.get(pk=job.pk)
            merged = f" {row.merged} merged," if row.merged else ""
            counts = f"{row.imported} imported,{merged} {row.duplicate} duplicate, {row.failed} failed"
            line = f"{job.state:9} {counts}"
            if line != shown:
                self.stdout.write(line)
                shown = line
        with tenant_scope(tenant.id):
            for failure in imports.result_of(row)["failures"]:
                self.stdout.write(f"  row {failure['row']}  {failure['name']}: {failure['reason']}")
        if job.state != Job.State.SUCCEEDED:
            raise CommandError(f"The import has {job.state}: {(job.error or {}).get('detail', '')}")
