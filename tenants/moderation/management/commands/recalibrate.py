"""`manage.py recalibrate SLUG`: thresholds of a workspace's policy from what its reviewers decided."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts.models import Tenant
from tenants.errors import ServiceError
from tenants.moderation.models import Policy
from tenants.moderation.policies import enforcing_row, newest
from tenants.moderation.policies.recalibration import ACTIVATIONS, NONE, Compared, Wanted, recalibrate
from tenants.scope import tenant_scope

WHY = {
    "accepted": "accepted",
    "few": "kept: it takes 20 different contents that were confirmed, and as many that were let go",
    "not_better": "kept: on decisions that it had not seen, the score as it is says as much",
    "no_gain": "kept: a higher threshold would lose more than it may",
    "loses_too_much": "kept: on decisions that it had not seen, the higher threshold lost more than it may",
}


class Command(BaseCommand):
    help = (
        "Compare the scores of detectors with what reviewers decided, and propose a version of the policy with other "
        "thresholds. Nothing is in force by that unless --activate says so."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="of the workspace")
        parser.add_argument("--policy", default="", help="its name; default: the one that is enforced")
        parser.add_argument(
            "--lose",
            type=float,
            help="share of confirmed flags that may be lost to higher thresholds, up to 0.2; default: 0.02",
        )
        parser.add_argument(
            "--activate", choices=ACTIVATIONS, default=NONE, help="the new version; default: none"
        )
        parser.add_argument("--dry-run", action="store_true", help="compare, and propose nothing")

    def handle(self, *args: object, **options: Any) -> None:
        tenant = Tenant.objects.filter(slug=options["slug"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['slug']!r}.")
        wanted = Wanted(self._policy(tenant.id, options["policy"]), options["lose"], options["activate"])
        try:
            report = recalibrate(tenant.id, wanted, actor="operator", dry=options["dry_run"])
        except ServiceError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(f"policy {report.name}, version {report.from_version}")
        for name, found in report.categories.items():
            self._tell(name, found)
        if report.version is None:
            self.stdout.write("no new version")
        else:
            state = "in force nowhere" if report.activated == NONE else report.activated
            self.stdout.write(f"version {report.version}: {state}")

    def _policy(self, tenant_id: uuid.UUID, name: str) -> uuid.UUID:
        with tenant_scope(tenant_id):
            if name:
                found = Policy.objects.filter(name=name).values_list("pk", flat=True).first()
                if found is None:
                    raise CommandError(f"There is no policy {name!r}.")
                return found
            row = enforcing_row(newest())
            if row is None:
                raise CommandError("No policy is enforced. Name one with --policy.")
            return row.policy_id

    def _tell(self, name: str, compared: Compared) -> None:
        found, unseen = compared.found, compared.found.unseen
        self.stdout.write(f"{name}: {WHY[found.outcome]}")
        contents = f"different contents: {found.groups.confirmed} confirmed, {found.groups.let_go} let go"
        about = f"rules {', '.join(compared.rules)}; {compared.detector or 'no detector'}"
        self._line("decisions", f"{found.decisions}, {found.confirmed} confirmed ({contents}; {about})")
        self._line("threshold", f"{found.threshold.before:.2f} -> {found.threshold.after:.2f}")
        if unseen:
            self._line("log_loss", f"{unseen.log_loss.before:.4f} -> {unseen.log_loss.after:.4f}")
            self._line("brier", f"{unseen.brier.before:.4f} -> {unseen.brier.after:.4f}")
            lost = f"{unseen.confirmed_lost} of {unseen.confirmed} confirmed ones lost"
            self._line("unseen folds", f"{found.flagged} flagged -> {unseen.flagged}; {lost}")
        if certain := found.certain:
            sure = f"{certain.confirmed} of {certain.flagged} on unseen folds"
            self._line("certain", f"from {certain.least:.2f} on reviewers confirm 95 % at least; {sure}")

    def _line(self, what: str, said: str) -> None:
        self.stdout.write(f"  {what:15}{said}")
