"""`manage.py remove_space SLUG`: removes a space that was added, where no workspace has anything of it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.errors import ServiceError
from tenants.learning.added import remove_added_space


class Command(BaseCommand):
    help = "Remove the files of a space that add_space made, where no workspace uses it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="such as clip-vit-base-patch32-1")

    def handle(self, *args: object, **options: Any) -> None:
        try:
            remove_added_space(options["slug"])
        except ServiceError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(f"{options['slug']} is removed")
