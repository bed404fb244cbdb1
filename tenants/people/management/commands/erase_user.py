"""`manage.py erase_user EMAIL`: erase a person's account, with a receipt."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts.models import User
from tenants.errors import ServiceError
from tenants.people.erasure import erase_user


class Command(BaseCommand):
    help = "Erase a person: account, sessions, memberships, and their name in audit logs. Prints a receipt."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: object, **options: Any) -> None:
        user = User.objects.filter(email=User.objects.normalize_email(options["email"])).first()
        if user is None:
            raise CommandError(f"There is no account for {options['email']}.")
        try:
            receipt = erase_user(user=user)
        except ServiceError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(json.dumps(receipt, indent=2))
