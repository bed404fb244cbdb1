"""`manage.py encrypt_files [SLUG …]`: files that were stored before ENCRYPT_FILES, while the stack runs."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts.models import Tenant
from tenants.accounts.operators import Operator, record_act
from tenants.errors import ServiceError
from tenants.pipeline.care.file_encryption import encrypt_files


class Command(BaseCommand):
    help = "Encrypt the stored files of tenants, of all if none is named. A killed run is taken up by the next one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slugs", nargs="*")
        parser.add_argument("--dry-run", action="store_true", help="count, and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.ENCRYPT_FILES:
            raise CommandError(
                "Set ENCRYPT_FILES=1 for all processes first: what is stored now is not encrypted."
            )
        rows = Tenant.objects.order_by("slug")
        if options["slugs"]:
            rows = rows.filter(slug__in=options["slugs"])
        found = list(rows.values_list("pk", "slug"))
        if missing := set(options["slugs"]) - {slug for _, slug in found}:
            raise CommandError(f"There is no tenant {min(missing)!r}.")
        try:
            damaged = [
                slug for tenant_id, slug in found if self._encrypt(tenant_id, slug, options["dry_run"])
            ]
        except ServiceError as error:
            raise CommandError(error.detail) from error
        if damaged:
            raise CommandError(
                f"There are damaged files of {', '.join(damaged)}: see above, and `manage.py doctor`."
            )

    def _encrypt(self, tenant_id: Any, slug: str, dry_run: bool) -> int:
        counted = encrypt_files(tenant_id, lambda line: None, dry_run=dry_run)
        would = "would be" if dry_run else "were"
        self.stdout.write(f"{slug}: {counted.done} of {counted.seen} files {would} encrypted")
        if counted.damaged:
            self.stderr.write(
                f"{slug}: {counted.damaged} files are damaged and stay as they are: {counted.example} …"
            )
        if not dry_run:
            by = Operator("manage.py encrypt_files")
            record_act(by=by, verb="files.encrypted", target=str(tenant_id), details={"files": counted.done})
        return counted.damaged
