"""The real stack at work while it is killed, stopped, cut off, filled up and damaged; `make chaos` does so at length.

``CHAOS_FAULTS``, ``CHAOS_OPERATIONS`` and ``CHAOS_SEED`` choose how much, and which (docs/chaos.md).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks._report import machine, revision
from tests.chaos import population
from tests.chaos.checks import CHECKS, Checked, Checks
from tests.chaos.faults import Faults
from tests.chaos.journal import Journal
from tests.chaos.population import Shelf, Worker
from tests.chaos.world import ENV, World
from tests.waiting import pause, until

FAULTS = int(os.environ.get("CHAOS_FAULTS", "20"))
OPERATIONS = int(os.environ.get("CHAOS_OPERATIONS", "200"))
SEED = int(os.environ.get("CHAOS_SEED", "19"))
AT_LENGTH = FAULTS > 20
TENANTS, CLIENTS = (3, 3) if AT_LENGTH else (2, 2)
#: Seconds of the longest stop or cut, and between faults.
LONGEST_S, BETWEEN_S = (12.0, 6.0) if AT_LENGTH else (2.0, 0.8)
SETTLE_S = 900 if AT_LENGTH else 240
#: Twelve rounds of upkeep, and what it takes to look.
LOOK_S = 12 * float(ENV["UPKEEP_S"]) + 20 if AT_LENGTH else 0.0
TIMEOUT_S = 1200 + 60 * FAULTS

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(TIMEOUT_S)]


@dataclass
class Run:
    world: World
    journal: Journal
    checks: Checks
    faults: Faults
    found: dict[str, Checked] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    broke_off: str = ""

    def work(self) -> None:
        """Clients and faults, until there were enough of both."""
        done = [False]
        shelves, mix = list(self.faults.shelves), population.AT_LENGTH if AT_LENGTH else population.MIX

        def wanted() -> bool:
            return not done[0]

        workers = [
            Worker(self.world.client(shelf.tenant), shelf, self.journal, number, SEED, wanted, mix)
            for number, shelf in enumerate(shelves * CLIENTS)
        ]
        for worker in workers:
            worker.start()
        try:
            until(lambda: len(self.journal.operations) > 20, 120, "nobody works")
            for _ in range(FAULTS):
                self.faults.one()
                pause(self.faults.random.uniform(0.2, 1.0) * BETWEEN_S, "a while without a fault")
            until(lambda: len(self.journal.operations) >= OPERATIONS, TIMEOUT_S, "too little was done")
        finally:
            done[0] = True
            self.world.heal()
            for worker in workers:
                worker.join(200)

    def judge(self) -> None:
        self.checks.settle(SETTLE_S)
        self.found = self.checks.all()

    @property
    def wrong(self) -> list[str]:
        return [f"{name}: {one}" for name, checked in self.found.items() for one in checked.wrong]

    def report(self) -> str:
        lines = [
            "",
            f"make chaos FAULTS={FAULTS} OPERATIONS={OPERATIONS} SEED={SEED}",
            f"  {machine()}, revision {revision()}, {time.monotonic() - self.began:.0f} s",
            *(f"  left out: {what}" for what in self.world.without),
            f"{'operations':44}{'acknowledged':>14}{'refused':>10}{'answers lost':>14}{'passing refusals':>18}",
        ]
        for kind in sorted({operation.kind for operation in self.journal.operations}):
            some = [operation for operation in self.journal.operations if operation.kind == kind]
            states = Counter(operation.state for operation in some)
            lost, refused = sum(one.lost for one in some), sum(one.refused for one in some)
            lines.append(
                f"  {kind:42}{states['acknowledged']:>14}{states['refused']:>10}{lost:>14}{refused:>18}"
            )
        lines.append(f"{'faults':44}{'done':>14}")
        for kind, count in sorted(Counter(fault.kind for fault in self.journal.faults).items()):
            lines.append(f"  {kind:42}{count:>14}")
        lines.append(f"  {'damaged files that were answered with 503':42}{self.faults.found:>14}")
        lines.append(
            f"  {'messages that came again after a failure':42}{len(self.world.receiver.failed):>14}"
        )
        lines.append(f"{'checks':44}{'looked at':>14}{'wrong':>10}")
        for name, checked in self.found.items():
            lines.append(f"  {name:42}{checked.count:>14}{len(checked.wrong):>10}")
        lines += [f"broken off: {self.broke_off}"] if self.broke_off else []
        return "\n".join([*lines, *(f"! {one}" for one in self.wrong)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run to its end, and what came of it; the stack goes on for whoever looks at it afterwards."""
    folder: Path = tmp_path_factory.mktemp("chaos")
    world = World(folder, 2048 if AT_LENGTH else 700)
    try:
        tenants = world.tenants(TENANTS)
        shelves = [Shelf(tenant) for tenant in tenants]
        journal = Journal(folder / "journal.jsonl")
        made = Run(
            world,
            journal,
            Checks(world, journal, tenants, LOOK_S),
            Faults(world, journal, shelves, SEED, LONGEST_S),
        )
        try:
            made.work()
            made.judge()
        except BaseException as error:
            made.broke_off = f"{str(error)[:4000]}\n{world.logs()[-8000:]}"
        yield made
    finally:
        world.keep_logs()
        world.close()


def test_what_was_promised_is_kept(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(run.report())  # noqa: T201 - a run says what it met
    assert run.broke_off == ""
    assert run.wrong == []
    assert len(run.journal.faults) == FAULTS


# --- That a check can fail -------------------------------------------------------------------------------

#: What is changed in the database, by the check that has to see it.
PLANTED = {
    "acknowledged files are there and found": "UPDATE asset SET status = 'failed' WHERE id = '{kept}'",
    "nothing is there twice": (
        "INSERT INTO audit SELECT (jsonb_populate_record(one, jsonb_build_object('id', gen_random_uuid()))).*"
        " FROM audit one WHERE source = 'request' LIMIT 1"
    ),
    "jobs have ended well": "UPDATE job SET state = 'failed' WHERE id = '{job}'",
    "usage is what was done": "UPDATE quota_counter SET used = used + 1 WHERE resource = 'assets'",
    "the record verifies": (
        "UPDATE audit_log_line SET digest = repeat('0', 64)"
        " WHERE sequence = (SELECT min(sequence) FROM audit_log_line)"
    ),
    "indexes are what is stored": "DELETE FROM vector WHERE asset_id = '{kept}'",
}


def test_what_was_not_kept_is_seen(run: Run) -> None:
    """On the same stack, after it was found in order: each check sees what is taken, added or changed."""
    assert run.wrong == []
    kept, other, *_ = (
        one for one in run.journal.acknowledged("upload") if one.promised["asset"] not in run.checks.erased
    )
    until(lambda: run.world.query("SELECT 1 FROM audit_log_line LIMIT 1"), 180, "the log is never sealed")
    with run.world.superuser() as cursor:
        # As one who writes around triggers and foreign keys.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for statement in PLANTED.values():
            cursor.execute(statement.format(kept=kept.promised["asset"], job=kept.promised["job"]))
            assert cursor.rowcount >= 1, statement
    _plant_in_the_journal(run, other.tenant, other.promised)
    found = run.checks.all()
    assert [name for name in CHECKS if not found[name].wrong] == []
    told = "\n".join(one for checked in found.values() for one in checked.wrong)
    assert f"operation {kept.id} (upload of {kept.tenant}" in told
    assert "faults near it: " in told


def _plant_in_the_journal(run: Run, tenant: str, promised: dict[str, str]) -> None:
    """What was never done, and a message that came again as another one."""
    for kind, more in (
        ("erase", promised),
        ("import", {"numbers": "900001 900002", "job": promised["job"]}),
        ("decide", {"review": promised["asset"]}),
    ):
        run.journal.acknowledge(run.journal.begin(kind, tenant), **more)
    run.journal.begin("audit", tenant)
    bodies = next(iter(run.world.receiver.messages.values()))
    bodies.append(b"another body")
    for path in (run.world.app.data_dir / "blobs").glob(f"*/original/*/{promised['sha256']}"):
        path.chmod(0o600)
        path.write_bytes(b"other bytes")
