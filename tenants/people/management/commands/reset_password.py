"""`manage.py reset_password EMAIL`: a link that lets a person choose a new password."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts import passwords, second_factor
from tenants.accounts.models import User


class Command(BaseCommand):
    help = "Print a link with which a person chooses a new password. It works once and ends their sessions."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument(
            "--forget-second-factor",
            action="store_true",
            help="for somebody who lost app or passkeys and the recovery codes; make sure that it is them",
        )

    def handle(self, *args: object, **options: Any) -> None:
        user = User.objects.filter(
            email=User.objects.normalize_email(options["email"]), is_active=True
        ).first()
        if user is None:
            raise CommandError(f"There is no active account for {options['email']}.")
        if options["forget_second_factor"] and second_factor.forget_all(user=user):
            self.stdout.write("The second factor is forgotten.")
        hours = settings.PASSWORD_RESET_TIMEOUT // 3600
        self.stdout.write(
            f"Give them this link; it is valid for {hours} hours:\n{passwords.reset_link(user)}"
        )
