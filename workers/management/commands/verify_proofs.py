"""`manage.py verify_proofs [--tenant SLUG]`: whether stored proofs of decisions are proofs, of what was decided."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts.models import Tenant
from tenants.moderation.audits import proofs
from workers.management.job_progress import tenant_of

SHOWN = 20


class Command(BaseCommand):
    help = (
        "Replay the proofs of decisions by rules over facts with a checker that shares no code with what made them; "
        "exit status 1 where one does not fit."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="of this tenant only")

    def handle(self, *args: Any, **options: Any) -> None:
        chosen = (
            [tenant_of(options["tenant"])] if options["tenant"] else list(Tenant.objects.order_by("slug"))
        )
        broken = [tenant.slug for tenant in chosen if not self._verify(tenant)]
        if broken:
            raise CommandError(f"Proofs do not fit: {', '.join(broken)}.")

    def _verify(self, tenant: Tenant) -> bool:
        checked = mismatches = 0
        for one in proofs.replay(tenant.id):
            checked += 1
            if one.mismatch:
                mismatches += 1
                if mismatches <= SHOWN:
                    self.stdout.write(f"{tenant.slug:30} MISMATCH: audit {one.audit}: {one.mismatch}")
        self.stdout.write(f"{tenant.slug:30} {checked} proofs, {mismatches} mismatches")
        return not mismatches
