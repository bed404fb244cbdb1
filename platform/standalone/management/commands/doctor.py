"""`manage.py doctor`: what is wrong with this installation, and what to do. Exit status 1 if anything fails."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from standalone.doctor import configuration, database, indexes, processing, storage, surroundings, valkey
from standalone.doctor.alerts import ALERTS, Alert
from standalone.doctor.findings import FAIL, OK, Check, Finding, Options, as_dicts, examine

CHECKS: tuple[Check, ...] = (
    *configuration.CHECKS,
    *database.CHECKS,
    *valkey.CHECKS,
    *storage.CHECKS,
    *processing.CHECKS,
    *indexes.CHECKS,
    *surroundings.CHECKS,
)


class Command(BaseCommand):
    help = "Explain what is wrong with this installation and what to do about it."
    # It reports for itself, also when nothing works.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="a list of {check, verdict, what, advice}")
        parser.add_argument(
            "--deep", action="store_true", help="every file and counter, not a sample: may take hours"
        )
        wanted = parser.add_mutually_exclusive_group()
        wanted.add_argument("--only", help="comma-separated names of checks, and what they need")
        wanted.add_argument(
            "--alert", help="what an alert of Prometheus means, and the checks that look for its cause"
        )

    def handle(self, *args: object, **options: Any) -> None:
        alert = _alert(options["alert"])
        checks = chosen(",".join(alert.checks) if alert else options["only"])
        # What goes wrong is in the findings.
        logging.disable(logging.CRITICAL)
        try:
            found = examine(checks, Options(deep=options["deep"]))
        finally:
            logging.disable(logging.NOTSET)
        if options["json"]:
            self.stdout.write(json.dumps(as_dicts(found), indent=1))
        else:
            if alert:
                self.stdout.write(f"{alert.meaning}\nWhat to do: docs/runbooks.md, {options['alert']}\n")
            self._show(found)
        if any(finding.verdict == FAIL for finding in found.values()):
            sys.exit(1)

    def _show(self, found: dict[str, Finding]) -> None:
        styles = {FAIL: self.style.ERROR, OK: self.style.SUCCESS}
        for name, finding in found.items():
            style = styles.get(finding.verdict, self.style.WARNING)
            self.stdout.write(f"{style(f'{finding.verdict:8}')}{name:20} {finding.what}")
            if finding.advice:
                self.stdout.write(f"{'':8}{'':20} → {finding.advice}")
        verdicts = [finding.verdict for finding in found.values()]
        counts = ", ".join(f"{verdicts.count(v)} {v}" for v in sorted(set(verdicts)))
        self.stdout.write(f"\n{counts}")


def _alert(name: str | None) -> Alert | None:
    if name is not None and name not in ALERTS:
        raise CommandError(f"No such alert: {name}. There are: {', '.join(ALERTS)}.")
    return ALERTS[name] if name else None


def chosen(only: str | None) -> list[Check]:
    """The named checks with those that they need, in the order of all."""
    by_name = {check.name: check for check in CHECKS}
    wanted = set((only or ",".join(by_name)).split(","))
    if unknown := wanted - set(by_name):
        raise CommandError(f"No such check: {', '.join(sorted(unknown))}. There are: {', '.join(by_name)}.")
    for check in reversed(CHECKS):
        if check.name in wanted and check.needs:
            wanted.add(check.needs)
    return [check for check in CHECKS if check.name in wanted]
