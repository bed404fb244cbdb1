"""`manage.py export_tenant SLUG --to DIR`: everything a tenant owns, in open formats, into a new folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts.models import Tenant
from tenants.errors import ServiceError
from tenants.pipeline.transfer.export_writing import FolderSink, write_export


class Command(BaseCommand):
    help = "Export a tenant into a folder that is empty or not there yet. Prints what was written."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--to", type=Path, required=True, metavar="DIR")
        parser.add_argument(
            "--without-vectors", action="store_true", help="they are computed anew by an import"
        )

    def handle(self, *args: object, **options: Any) -> None:
        tenant = Tenant.objects.filter(slug=options["slug"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['slug']!r}.")
        try:
            header = write_export(
                tenant_id=tenant.id,
                sink=FolderSink(options["to"]),
                with_vectors=not options["without_vectors"],
            )
        except ServiceError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(json.dumps(header, indent=2))
