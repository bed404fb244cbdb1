"""A run of the tests in which each guard is taken away in turn, and the tests that it names must fail.

A plugin of pytest, for a session of its own: `make isolation-mutations`. MUTATIONS chooses guards by words in their
family or name, with | between them, and `sample` a few; one table says by what each was noticed.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol
from django.db import connections

if TYPE_CHECKING:
    from tests.isolation.guards import Guard

#: One of each family, for `make test`.
SAMPLE = (
    "row-level security of dataset",
    "row-level security and the manager's filter of policy",
    "queue_narrowing of review_outcome",
    "api.moderation.policies:Policies.scopes[GET] moderate",
    "needs write (datasets-new POST)",
    "tenants.retrieval.query.result_page:_cursor_key",
    "tenants.accounts.keys:usable and not record.revoked",
)


@dataclass(frozen=True)
class Verdict:
    guard: Guard
    #: The test that failed; empty where none did. `fault` is why the guard could not be tried.
    killed_by: str = ""
    fault: str = ""
    seconds: float = 0.0


def chosen() -> list[Guard]:
    # Not before Django is set up.
    from tests.isolation.guards import all_guards

    wanted = os.environ.get("MUTATIONS", "")
    guards = list(all_guards())
    if wanted == "sample":
        found = [
            guard for guard in guards if any(guard.name.startswith(s) or s in guard.name for s in SAMPLE)
        ]
        return [next(g for g in found if g.name.startswith(s) or s in g.name) for s in SAMPLE]
    words = wanted.split("|")
    return [guard for guard in guards if any(word in f"{guard.family}: {guard.name}" for word in words)]


class Mutations:
    """Runs chosen items again and again, each time without one guard."""

    def __init__(self, session: pytest.Session) -> None:
        self.session = session
        self.items: dict[str, Any] = {item.nodeid: item for item in session.items}
        self.siblings: dict[str, list[Any]] = {}
        for item in session.items:
            self.siblings.setdefault(item.nodeid.partition("::")[0], []).append(item)

    def named(self, test: str) -> list[Any]:
        """The items that a guard means: one, or all whose id begins so."""
        exact = self.items.get(test)
        return [exact] if exact else [item for name, item in self.items.items() if name.startswith(test)]

    def run(self, guards: list[Guard]) -> Iterator[Verdict]:
        order: dict[str, int] = {}
        for guard in guards:
            order.setdefault(_file(guard), len(order))
        # Fixtures of a module stay between guards that its tests notice.
        for guard in sorted(guards, key=lambda one: order[_file(one)]):
            yield self._try(guard)

    def _try(self, guard: Guard) -> Verdict:
        start = time.monotonic()
        items = [item for test in guard.tests for item in self.named(test)]
        if not items:
            return Verdict(guard, fault="names no test that is there")
        try:
            with guard.removed():
                killer = next((item for item in items if self._fails(item)), None)
        except (LookupError, AttributeError, SyntaxError) as error:
            return Verdict(guard, fault=f"{type(error).__name__}: {error}")
        # A connection may keep what was set without the guard, and a module's fixtures what was done.
        connections.close_all()
        if killer is not None:
            self._leave_module(killer)
        if killer is not None and self._fails(killer):
            # A test that fails anyway notices nothing; what an earlier guard let through may have stayed.
            return Verdict(guard, fault=f"fails with its guard in place: {_short(killer.nodeid)}")
        return Verdict(guard, _short(killer.nodeid) if killer else "", seconds=time.monotonic() - start)

    def _leave_module(self, item: Any) -> None:
        """End the fixtures of its module, not those of the session."""
        elsewhere = next((one for one in self.session.items if _file_of(one) != _file_of(item)), None)
        if elsewhere is not None:
            self.session._setupstate.teardown_exact(elsewhere)

    def _fails(self, item: Any) -> bool:
        # Whoever comes next decides which fixtures are kept: another test of this module keeps the module's.
        following = next((one for one in self.siblings[_file_of(item)] if one is not item), None)
        self.session._setupstate.teardown_exact(item)
        reports = runtestprotocol(item, log=False, nextitem=following)
        return any(report.failed for report in reports)


def _file(guard: Guard) -> str:
    return guard.tests[0].partition("::")[0] if guard.tests else ""


def _file_of(item: Any) -> str:
    return str(item.nodeid.partition("::")[0])


def _short(nodeid: str) -> str:
    file, _, name = nodeid.partition("::")
    return f"{file.rsplit('/', 1)[1].removesuffix('.py')}::{name}"[:110]


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Collect the test files that the chosen guards name."""
    session.config.args[:] = sorted({test.partition("::")[0] for one in chosen() for test in one.tests})


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """In place of running each test once."""
    if session.testsfailed:
        raise session.Interrupted("errors while collecting")
    terminal: Any = session.config.pluginmanager.getplugin("terminalreporter")
    mutations, guards = Mutations(session), chosen()
    verdicts = []
    for verdict in mutations.run(guards):
        verdicts.append(verdict)
        said = verdict.killed_by or verdict.fault or "SURVIVED"
        terminal.write_line(
            f"{verdict.guard.family:18} {verdict.guard.name:100.100} {said} ({verdict.seconds:.1f} s)"
        )
    terminal.write_line(table(verdicts))
    # The fixtures of the session end here.
    session._setupstate.teardown_exact(None)
    session.testsfailed = sum(not verdict.killed_by for verdict in verdicts)
    session.testscollected = len(verdicts)
    return True


def table(verdicts: list[Verdict]) -> str:
    families: dict[str, Counter[str]] = {}
    for one in verdicts:
        counts = families.setdefault(one.guard.family, Counter())
        counts["killed" if one.killed_by else "fault" if one.fault else "survived"] += 1
        counts["by calls"] += "test_every_operation_once" in one.killed_by
    kinds = ("killed", "by calls", "survived", "fault")
    lines = [f"{'guards removed':24}{'all':>8}" + "".join(f"{kind:>10}" for kind in kinds)]
    for family, counts in [*families.items(), ("all", sum(families.values(), Counter()))]:
        total = counts["killed"] + counts["survived"] + counts["fault"]
        lines.append(f"{family:24}{total:>8}" + "".join(f"{counts[kind]:>10}" for kind in kinds))
    return "\n".join(["", *lines])
