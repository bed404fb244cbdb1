"""`manage.py recalibrate SLUG`: thresholds of a workspace's policy from what its reviewers decided."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts.models import Tenant
from tenants.errors import ServiceError
from tenants.moderation.models import Policy
from tenants.moderation.policies import enforcing_row, newest
from tenants.moderation.policies.recalibration import ACTIVATIONS, NONE, Wanted, recalibrate
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
        self.stdout.write(f"policy {report['name']}, version {report['from_version']}")
        for name, found in report["categories"].items():
            self._tell(name, found)
        if report["version"] is None:
            self.stdout.write("no new version")
        else:
            state = report["activated"]
            self.stdout.write(
                f"version {report['version']}: {'in force nowhere' if state == NONE else state}"
            )

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

    def _tell(self, name: str, found: dict[str, Any]) -> None:
        threshold, groups = found["threshold"], found["groups"]
        self.stdout.write(f"{name}: {WHY[found['outcome']]}")
        contents = f"different contents: {groups['confirmed']} confirmed, {groups['let_go']} let go"
        about = f"rules {', '.join(found['rules'])}; {found['detector'] or 'no detector'}"
        self._line("decisions", f"{found['decisions']}, {found['confirmed']} confirmed ({contents}; {about})")
        self._line("threshold", f"{threshold['before']:.2f} -> {threshold['after']:.2f}")
        for key in ("log_loss", "brier"):
            if key in found:
                self._line(key, f"{found[key]['before']:.4f} -> {found[key]['after']:.4f}")
        if "still_flagged" in found:
            lost = f"{found['confirmed_lost']} of {found['confirmed_flagged']} confirmed ones lost"
            self._line("unseen folds", f"{found['flagged']} flagged -> {found['still_flagged']}; {lost}")
        if certain := found["certain"]:
            unseen = f"{certain['confirmed']} of {certain['flagged']} on unseen folds"
            self._line("certain", f"from {certain['from']:.2f} on reviewers confirm 95 % at least; {unseen}")

    def _line(self, what: str, said: str) -> None:
        self.stdout.write(f"  {what:15}{said}")
