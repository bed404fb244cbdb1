"""`manage.py shared_hashes …`: lists of known content that every workspace is matched against, for operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.errors import ServiceError
from tenants.moderation import known_content
from tenants.moderation.known_content import RAW
from tenants.moderation.known_content.selectors import read_hashes
from tenants.moderation.models import Stance


class Command(BaseCommand):
    help = "Lists of hashes shared with every workspace: list them, import a file into one, delete one."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list")
        importing = actions.add_parser("import", help="add the hashes of a CSV file (hash, note, algorithm)")
        importing.add_argument("file", type=Path)
        importing.add_argument("--name", required=True, help="of the list; made if there is none")
        importing.add_argument("--stance", choices=Stance.values, default=Stance.BAD.value)
        importing.add_argument("--algorithm", choices=RAW, default=RAW[0], help="of hashes without one")
        importing.add_argument("--replace", action="store_true", help="drop what the file does not have")
        deleting = actions.add_parser("delete")
        deleting.add_argument("name")

    def handle(self, *args: object, **options: object) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except ServiceError as error:
            raise CommandError(error.detail) from error

    def _list(self, options: dict[str, object]) -> None:
        for row, hashes in known_content.list_shared():
            self.stdout.write(f"{row.name}  {row.stance}  {hashes:,} hashes  {row.id}")

    def _import(self, options: dict[str, Any]) -> None:
        try:
            with options["file"].open("rb") as stream:
                hashes = read_hashes(stream, options["algorithm"])
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from error
        added, removed = known_content.import_shared_hashes(
            name=options["name"], stance=options["stance"], hashes=hashes, replace=options["replace"]
        )
        self.stdout.write(f"{added:,} added, {removed:,} removed, of {len(hashes):,} in the file")

    def _delete(self, options: dict[str, Any]) -> None:
        self.stdout.write(f"{known_content.delete_shared_list(name=options['name']):,} hashes deleted")
