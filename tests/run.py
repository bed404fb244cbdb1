"""Runs the tests of one tier (tests/tiers.toml) as CI does: `python -m tests.run required [options of pytest]`.

Two processes, each with services of its own, in a folder for temporary files that is gone afterwards. Of required
tests that fail, at most five are run again, each by itself in a new process: what passes then is told as FLAKY and
written to var/flaky.json, and a guard gets no second run. Ends by itself: after the tier's minutes every process says
where it is, and what has come so far is summed up. The last line is `tests: N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests import room
from tests.tiers import (
    COLLECTED,
    LOG,
    REQUIRED,
    ROOT,
    Collection,
    Tier,
    agreed_guards,
    chained,
    function_of,
    tiers,
)

VAR = ROOT / "var"
FLAKY = VAR / "flaky.json"
#: More than so many failures have one cause, which a second run would hide.
AGAIN_AT_MOST = 5
AGAIN_S = 7 * 60
#: After so long a required test that hears no signal ends with its process: longer than pytest-timeout gives any.
HANGS_S = 7 * 60
#: How long a run that is over its time gets to sum up.
GRACE_S = 60
#: How pytest ends where some tests failed, or all passed.
COMPLETE = (0, 1)


@dataclass
class Outcomes:
    """How each test ended, of what one run of pytest wrote down."""

    ended: dict[str, str] = field(default_factory=dict)
    #: Files that could not be collected.
    broken: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Outcomes:
        read = cls()
        for line in path.read_text().splitlines() if path.exists() else []:
            read.add(**json.loads(line))
        return read

    def add(self, id: str, when: str, outcome: str) -> None:
        """A test has failed if any of its phases has, and passed once it was called."""
        if when == "collect":
            self.broken.append(id)
        elif outcome != "passed" and self.ended.get(id) != "failed":
            self.ended[id] = outcome
        elif when == "call":
            self.ended.setdefault(id, outcome)

    @property
    def failed(self) -> list[str]:
        return [test for test, outcome in self.ended.items() if outcome == "failed"]

    def counts(self) -> Counter[str]:
        return Counter(self.ended.values())


@dataclass
class Run:
    """One run of pytest: its exit status, whether its time was up, what it collected, and how the tests ended."""

    status: int
    late: bool
    found: Collection | None
    outcomes: Outcomes

    @property
    def missing(self) -> list[str]:
        """Tests that were chosen and never ended."""
        return [
            test for test in (self.found.selected if self.found else []) if test not in self.outcomes.ended
        ]

    @property
    def is_whole(self) -> bool:
        return (
            self.status in COMPLETE
            and self.found is not None
            and not (self.late or self.outcomes.broken or self.missing)
            and (self.status == 0) == (not self.outcomes.failed)
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.run", description=__doc__)
    parser.add_argument(
        "tier", choices=[REQUIRED, *(name for name, tier in tiers().items() if not tier.command)]
    )
    parser.add_argument("--processes", type=int)
    options, rest = parser.parse_known_args(arguments)
    tier = tiers().get(options.tier) or Tier(REQUIRED, "")
    room.check()
    clear_leftovers()
    started = time.monotonic()
    deadline = started + tier.minutes * 60
    with temporary_files() as folder:
        run = pytest(tier, options.processes or tier.processes, rest, folder, deadline)
        flaky = look_again(run, folder, deadline) if tier.name == REQUIRED else []
        passed = run.is_whole and set(flaky) == set(run.outcomes.failed)
        if passed:
            shutil.rmtree(folder)
    clear_leftovers()
    return summed_up(tier, run, flaky, passed, time.monotonic() - started)


def pytest(tier: Tier, processes: int, rest: Sequence[str], folder: Path, deadline: float) -> Run:
    """Run the tests of a tier, in several processes by whole files."""
    spread = ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"] if processes > 1 else []
    hangs = HANGS_S if tier.name == REQUIRED else tier.minutes * 60
    limits = ["-o", f"faulthandler_timeout={hangs}"]
    chosen = [f"--tier={tier.name}", "--durations", "20", *limits, *spread, *rest]
    return one_run(chosen, folder / "main", deadline)


def one_run(arguments: Sequence[str], folder: Path, deadline: float) -> Run:
    folder.mkdir()
    log, collected = folder / "outcomes", folder / "collected"
    env = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "TMPDIR": str(folder),
        LOG: str(log),
        COLLECTED: str(collected),
    }
    command = [sys.executable, "-m", "pytest", f"--basetemp={folder / 't'}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
    late = False
    try:
        status = process.wait(max(deadline - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
        late, status = True, end_late(process)
    except BaseException:
        end(process)
        raise
    end_session(process.pid)
    found = Collection(**json.loads(collected.read_text())) if collected.exists() else None
    return Run(status, late, found, Outcomes.read(log))


def end_late(process: subprocess.Popen[bytes]) -> int:
    """Every process of pytest prints where it is, then pytest sums up what it has."""
    print("\nout of time: the stacks of pytest's processes, then what it has", flush=True)
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children()]:
        if "pytest" in (line := " ".join(one.cmdline())) or "exec(eval(" in line:
            one.send_signal(signal.SIGUSR1)
            time.sleep(1)
    return end(process)


def end(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def end_session(leader: int) -> None:
    """What a run that was killed has left running."""
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader:
                process.kill()
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue


def look_again(
    run: Run, folder: Path, deadline: float, start: Callable[[list[str], Path, float], Run] | None = None
) -> list[str]:
    """Failed tests that pass by themselves, each in a new process with data of its own; one that does not ends it."""
    start = start or one_run
    failed, flaky = run.outcomes.failed, list[str]()
    if not failed or not run.is_whole or len(failed) > AGAIN_AT_MOST:
        return []
    if guards := [test for test in failed if function_of(test) in agreed_guards()]:
        print(f"\nno second run, as guards failed: {', '.join(guards)}", flush=True)
        return []
    for number, test in enumerate(failed):
        what = test.partition("::")[0] if chained(test) else test
        print(f"\na second run of {what}", flush=True)
        again = start([what], folder / str(number), min(time.monotonic() + AGAIN_S, deadline))
        if again.status != 0 or again.outcomes.ended.get(test) != "passed":
            return flaky
        flaky.append(test)
    return flaky


@contextmanager
def temporary_files() -> Iterator[Path]:
    """A folder for all that tests leave; after a run that failed it stays until the next one.

    Its name is short, as paths of sockets lie in it, of 107 bytes at most.
    """
    place = Path(tempfile.gettempdir())
    for left in place.glob("ct-*"):
        process = left.name.removeprefix("ct-")
        ours = left.stat(follow_symlinks=False).st_uid == os.getuid()
        if ours and process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    folder = place / f"ct-{os.getpid()}"
    folder.mkdir(mode=0o755)
    yield folder


def clear_leftovers() -> None:
    """Data directories of test processes that are gone (standalone.testing names them by process)."""
    for left in (VAR / "test").glob("*"):
        if not (left.name.isdigit() and psutil.pid_exists(int(left.name))):
            shutil.rmtree(left, ignore_errors=True)


def summed_up(tier: Tier, run: Run, flaky: Sequence[str], passed: bool, seconds: float) -> int:
    counts = run.outcomes.counts()
    counts["failed"] += len(run.outcomes.broken) + len(run.missing) - len(flaky)
    counts["passed"] += len(flaky)
    if not passed and not counts["failed"]:
        counts["failed"] = 1  # pytest itself
    print()
    for test in run.outcomes.failed:
        print(f"{'FLAKY' if test in flaky else 'FAILED'} {test}")
    for path in run.outcomes.broken:
        print(f"ERROR {path} could not be collected")
    if run.late:
        print(f"ERROR not within {tier.minutes} minutes")
    if run.missing:
        print(f"ERROR {len(run.missing)} tests did not end, among them {run.missing[0]}")
    write_flaky(flaky)
    if run.found:
        tell_tiers(tier, run.found, seconds)
    print(
        f"tests: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped",
        flush=True,
    )
    return 0 if passed else 1


def write_flaky(flaky: Sequence[str]) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    VAR.mkdir(exist_ok=True)
    FLAKY.write_text(json.dumps({"at": now, "tests": list(flaky)}, indent=2) + "\n")


def tell_tiers(ran: Tier, found: Collection, seconds: float) -> None:
    """How many tests each tier has, and by which command it runs."""
    counts = Counter(found.tiers.values())
    for name in (REQUIRED, *tiers()):
        command = "make test" if name == REQUIRED else tiers()[name].command or f"make test-{name}"
        took = f"  ran, {seconds // 60:.0f} min {seconds % 60:02.0f} s" if name == ran.name else ""
        print(f"{name:9}{counts[name]:6} tests  {command}{took}")
    print(f"{'guards':9}{sum(found.guards.values()):6} tests, all of them required")


if __name__ == "__main__":
    sys.exit(main())
