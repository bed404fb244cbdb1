"""`manage.py verify_record [--tenant SLUG]`: whether records and audit logs are what was written and sealed."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts.models import Tenant
from tenants.moderation.record import anchors, seals, signatures
from tenants.moderation.record.chains import CHAINS, Chain
from workers.management.job_progress import tenant_of


class Command(BaseCommand):
    help = (
        "Look through the records of decisions, the audit logs, their seals and what is kept of them outside; exit "
        "status 1 where something does not fit."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="of this tenant only")
        parser.add_argument(
            "--known",
            default="",
            metavar="DIGEST",
            help="of a seal, noted elsewhere before: it must still be in one of the chains (with --tenant)",
        )
        parser.add_argument(
            "--key",
            default="",
            metavar="ID",
            help="of the signing key, noted elsewhere before: it must be ours",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["known"] and not options["tenant"]:
            raise CommandError("A digest belongs to one tenant: say --tenant.")
        chosen = (
            [tenant_of(options["tenant"])] if options["tenant"] else list(Tenant.objects.order_by("slug"))
        )
        broken = [tenant.slug for tenant in chosen if not self._verify(tenant, options["known"])]
        broken += self._verify_key(options["key"])
        if not options["tenant"] and not self._verify_anchors():
            broken.append("what is kept outside")
        if broken:
            raise CommandError(f"The record is broken: {', '.join(broken)}.")

    def _verify(self, tenant: Tenant, known: str) -> bool:
        found = {chain.name: seals.verify(tenant.id, chain=chain, known=known) for chain in CHAINS.values()}
        for chain in CHAINS.values():
            self._tell(tenant, chain, found[chain.name])
        faults = list(anchors.check_tenant(tenant))
        for fault in faults:
            self.stdout.write(f"{tenant.slug:30} BROKEN ({fault.kind}): {fault.detail}")
        there = not known or any(report.known for report in found.values())
        if not there:
            self.stdout.write(f"{tenant.slug:30} BROKEN (known): no seal has the digest {known}.")
        return there and not faults and all(report.broken is None for report in found.values())

    def _tell(self, tenant: Tenant, chain: Chain, report: seals.VerificationReport) -> None:
        seen = f"{report.lines} lines, {report.seals} seals, {report.unsealed} not sealed yet"
        if report.rewritten:
            seen += f", {report.rewritten} written anew when a person was erased"
        if report.broken is not None:
            seen = f"BROKEN ({report.broken.kind}): {report.broken.detail}"
        self.stdout.write(f"{tenant.slug:30} {chain.name}: {seen}")
        if report.head:
            self.stdout.write(f"{'':30} newest seal, to line {report.head_last}: {report.head}")

    def _verify_key(self, wanted: str) -> list[str]:
        keys = signatures.key_ring().public
        self.stdout.write(f"signed by {keys[0].id} since {keys[0].since:%Y-%m-%d %H:%M}")
        if wanted and wanted not in {key.id for key in keys}:
            self.stdout.write(f"BROKEN (key): {wanted} is not a key of this installation.")
            return ["the signing key"]
        return []

    def _verify_anchors(self) -> bool:
        for state in anchors.states():
            newest = f"checkpoint {state.newest}" if state.newest else "nothing"
            self.stdout.write(
                f"{state.place}: {newest} arrived, {state.waiting} waiting {state.error}".rstrip()
            )
        faults = list(anchors.check())
        for fault in faults:
            about = f"{fault.tenant}: " if fault.tenant else ""
            self.stdout.write(f"BROKEN ({fault.kind}): {about}{fault.detail}")
        return not faults
