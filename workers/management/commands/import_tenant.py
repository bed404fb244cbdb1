"""`manage.py import_tenant PATH --slug NEW`: a new tenant from an export, checked before anything is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.errors import ServiceError
from tenants.pipeline.transfer.export_reading import open_export
from tenants.pipeline.transfer.tenant_import import import_tenant
from workers.management.export_keys import add_key_arguments, check_signer, private_keys


class Command(BaseCommand):
    help = "Make a tenant from an export: a folder, or the zip file that the API hands out."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path)
        parser.add_argument("--slug", required=True, help="of the new tenant")
        parser.add_argument("--name", default="", help="by default the one in the export")
        parser.add_argument("--plan", default="starter")
        add_key_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with open_export(options["path"], private_keys(options["identity"])) as export:
                check_signer(export, options["key"])
                self.stderr.write(
                    f"Every digest is right: {export.slug}, {json.dumps(export.header['counts'])}"
                )
                tenant, counts = import_tenant(
                    export, slug=options["slug"], name=options["name"], plan=options["plan"]
                )
        except ServiceError as error:
            raise CommandError(
                f"{error.detail} If the tenant was begun, it is suspended: remove it with erase_tenant."
            ) from error
        self.stdout.write(json.dumps({"tenant": tenant.slug, **counts}, indent=2))
        self.stderr.write("People and keys are not in an export: invite an owner for the new tenant.")
