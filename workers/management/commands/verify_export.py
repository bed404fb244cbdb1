"""`manage.py verify_export PATH [--key FILE] [--identity FILE]`: whether an export is whole, and whose it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.errors import Invalid
from tenants.pipeline.transfer.export_reading import ExportFile, open_export
from workers.management.export_keys import add_key_arguments, check_signer, private_keys


class Command(BaseCommand):
    help = "Check every digest of an export, and its signature. Nothing is made of it. Needs no database."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path)
        add_key_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with open_export(options["path"], private_keys(options["identity"])) as export:
                check_signer(export, options["key"])
                self._tell(export, options["key"])
        except Invalid as error:
            raise CommandError(error.detail) from error

    def _tell(self, export: ExportFile, key: str) -> None:
        self.stdout.write(f"whole: {export.slug}, exported {export.header.get('exported_at')}")
        if not export.signed_by:
            self.stdout.write("not signed: whoever had it could change it")
        elif key:
            self.stdout.write(f"signed by a key in {key}")
        else:
            self.stdout.write(
                f"signed by this key, whosever it is; --key says whose counts:\n{export.signed_by}"
            )
