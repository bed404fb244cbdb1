"""`manage.py create_operator EMAIL`: the first person of an installation."""

from __future__ import annotations

import getpass
import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts import passwords, services
from tenants.accounts.models import User
from tenants.errors import ServiceError


class Command(BaseCommand):
    help = "Create an operator. The password comes from OPERATOR_PASSWORD or is asked for."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: object, **options: Any) -> None:
        password = os.environ.get("OPERATOR_PASSWORD") or getpass.getpass("Password: ")
        try:
            passwords.check(password, User(email=options["email"]))
            user = services.create_user(email=options["email"], password=password, operator=True)
        except ServiceError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(f"Operator {user.email} created.")
