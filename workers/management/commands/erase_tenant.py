"""`manage.py erase_tenant SLUG --yes`: everything of a tenant, with a receipt. Run again, it goes on."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.errors import ServiceError
from tenants.pipeline.care import tenant_erasure


class Command(BaseCommand):
    help = "Erase a tenant: rows, files, keys, and people who belong to no other. Prints a receipt as JSON."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--yes", action="store_true", help="erase; without it, show what there is")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["yes"]:
                shown = tenant_erasure.as_dict(tenant_erasure.erase_tenant(slug=options["slug"]))
            else:
                shown = tenant_erasure.survey(options["slug"])
                self.stderr.write("Nothing was erased. This is there; add --yes to erase it, for good.")
        except ServiceError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(json.dumps(shown, indent=2, default=str))
