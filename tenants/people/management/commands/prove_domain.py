"""`manage.py prove_domain DOMAIN --tenant SLUG --reason TEXT`: the operator vouches that a domain is a tenant's own."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts.operators import OPERATOR, Operator
from tenants.errors import ServiceError
from tenants.people.sign_on.domains import prove_by_operator

# Who has a shell on the installation.
CONSOLE = "manage.py"


class Command(BaseCommand):
    help = (
        "Prove a domain for a tenant's single sign-on; one that another tenant had proved is taken from it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("domain")
        parser.add_argument("--tenant", required=True, help="slug")
        parser.add_argument("--reason", required=True, help="kept in the operators' log")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            row = prove_by_operator(
                by=Operator(CONSOLE),
                label=f"{OPERATOR}{CONSOLE}",
                slug=options["tenant"],
                domain=options["domain"],
                reason=options["reason"],
            )
        except ServiceError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(f"{row.domain} is proved for {options['tenant']}.")
