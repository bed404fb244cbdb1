"""`manage.py verify_record [--tenant SLUG]`: whether the records of decisions are what was written and sealed."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts.models import Tenant
from tenants.moderation.record import seals
from workers.management.job_progress import tenant_of


class Command(BaseCommand):
    help = "Look through the record of decisions and its seals; exit status 1 where something does not fit."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="of this tenant only")
        parser.add_argument(
            "--known",
            default="",
            metavar="DIGEST",
            help="of a seal, noted elsewhere before: it must still be in the chain (with --tenant)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["known"] and not options["tenant"]:
            raise CommandError("A digest belongs to one tenant: say --tenant.")
        chosen = [tenant_of(options["tenant"])] if options["tenant"] else Tenant.objects.order_by("slug")
        broken = [tenant.slug for tenant in chosen if not self._verify(tenant, options["known"])]
        if broken:
            raise CommandError(f"The record is broken: {', '.join(broken)}.")

    def _verify(self, tenant: Tenant, known: str) -> bool:
        report = seals.verify(tenant.id, known=known)
        seen = f"{report.lines} lines, {report.seals} seals, {report.unsealed} not sealed yet"
        if report.broken is not None:
            seen = f"BROKEN ({report.broken.kind}): {report.broken.detail}"
        elif report.known is False:
            seen = f"BROKEN (known): no seal has the digest {known}."
        self.stdout.write(f"{tenant.slug:30} {seen}")
        if report.head:
            self.stdout.write(f"{'':30} newest seal, to line {report.head_last}: {report.head}")
        return report.ok
