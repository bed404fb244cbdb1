"""`manage.py create_tenant SLUG --name … --owner EMAIL`: a tenant, its owner and a first API key."""

from __future__ import annotations

import os
import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from tenants.accounts import keys, passwords, services
from tenants.accounts.models import User
from tenants.accounts.permissions import SCOPES
from tenants.errors import ServiceError
from tenants.scope import tenant_scope


class Command(BaseCommand):
    help = "Create a tenant with an owner and an API key. Secrets are printed once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--name", default="")
        parser.add_argument("--plan", default="starter")
        parser.add_argument("--owner", required=True, help="e-mail of the owner; made if unknown")

    def handle(self, *args: object, **options: object) -> None:
        try:
            with transaction.atomic():
                self._create(options)
        except ServiceError as error:
            raise CommandError(error.detail) from error

    def _create(self, options: dict[str, Any]) -> None:
        slug = options["slug"]
        tenant = services.create_tenant(slug=slug, name=options["name"] or slug, plan=options["plan"])
        owner = User.objects.filter(email=User.objects.normalize_email(options["owner"])).first()
        if owner is None:
            given = os.environ.get("OWNER_PASSWORD")
            if given:
                passwords.check(given, User(email=options["owner"]), (tenant.name, tenant.slug))
            # Of 96 bits that chance chose: one in thousands looks like a walk over the keys, and is none to guess.
            password = given or secrets.token_urlsafe(12)
            owner = services.create_user(email=options["owner"], password=password)
            self.stdout.write(f"owner     {owner.email}\npassword  {password}")
        services.set_role(tenant=tenant, user=owner, role="owner")
        with tenant_scope(tenant.id):
            _, token = keys.create_key(name="first key", scopes=list(SCOPES), created_by=owner)
        self.stdout.write(f"tenant    {tenant.slug}\napi key   {token}")
