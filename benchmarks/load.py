"""A mixed population for a quarter of an hour, a greedy tenant, slow clients, and an overload (`make load`).

A stack of its own with five tenants. Programs search, read, upload and ask for audits, people look at pages of the
console (benchmarks/_load_population.py, by locust); meanwhile memory, open files, connections and working files of each
process are read every five seconds. Growth is told from the second half, when caches are full. `MINUTES=60` lasts
longer; `SECTIONS=steady,greedy,slow,overload` chooses.

The machine is shared between stack and clients: ratios within one run hold, times do not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
import requests
from _report import OUT, Line, Report, at_least, at_most, sized
from _search_load import create_tenant, database
from _slow import slow_senders
from _stack import stack_in, start_django

from standalone.stack import Stack

MINUTES = float(os.environ.get("MINUTES", sized(15.0, 0.1)))
USERS, GREEDY_USERS, OVERLOAD_USERS, SENDERS = sized(20, 4), sized(64, 4), sized(400, 8), sized(200, 10)
PHASE_S, TEXTS, SAMPLE_S = sized(60, 2), sized(400, 10), sized(5.0, 0.5)
EMBED_S = 600
PASSWORD = "a-quiet-harbour-at-dawn"  # of tenants that end with the stack
#: What may be more at the end than in the middle: caches that are not full yet, an allocator's fragments.
GROWTH = 1.05
FACTOR, AT_ONCE_MS = 2.0, 100.0


@dataclass
class Answer:
    name: str
    ms: float
    status: int
    retry_after: str
    failed: str


@dataclass
class World:
    stack: Stack
    tenants: list[dict[str, Any]]
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="load-")))

    def population(self, users: int, seconds: float, *, greedy: bool = False) -> list[Answer]:
        """What so many users were answered in so long."""
        world, out = self.folder / "world.json", self.folder / f"told-{time.monotonic_ns()}"
        world.write_text(json.dumps({"tenants": self.tenants}))
        env = {
            **os.environ,
            "LOAD_WORLD": str(world),
            "LOAD_OUT": str(out),
            "LOAD_GREEDY": "1" if greedy else "",
        }
        command = [
            *(
                sys.executable,
                "-P",
                "-m",
                "locust",
                "--headless",
                "--only-summary",
                "--exit-code-on-error",
                "0",
            ),
            *("-f", str(Path(__file__).with_name("_load_population.py")), "--host", self.stack.base_url),
            *(
                "--users",
                str(users),
                "--spawn-rate",
                str(max(1, users // 2)),
                "--run-time",
                f"{seconds:.0f}s",
            ),
        ]
        done = subprocess.run(
            command,
            env=env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds + 120,
            check=False,
        )
        if not out.exists():
            raise RuntimeError(f"locust ended with {done.returncode}: {done.stderr[-2000:]}")
        return [Answer(*json.loads(line)) for line in out.read_text().splitlines()]


@contextmanager
def world() -> Iterator[World]:
    with stack_in(OUT / "load", demo=False) as stack:
        start_django(stack)
        tenants = [_tenant(stack, number) for number in range(5)]
        # What is embedded beside the first section would be taken for its own work.
        for tenant in tenants:
            _wait_until_embedded(stack, tenant)
        yield World(stack, tenants)


def _tenant(stack: Stack, number: int) -> dict[str, Any]:
    from tenants.accounts.models import Tenant, User
    from tenants.accounts.services import set_role
    from tenants.datasets.services import update_dataset
    from tenants.scope import tenant_scope

    name = f"load-{number}-{time.time_ns() % 10**9}"
    made = create_tenant(name, ["read", "write", "search", "moderate"])
    owner = User.objects.create_user(f"owner@{name}.example", PASSWORD)
    with tenant_scope(made.id):
        set_role(tenant=Tenant.objects.get(pk=made.id), user=owner, role="owner")
        update_dataset(dataset_id=made.dataset, metadata_schema={"shelf": {"type": "number"}})
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {made.key}"
    url, ids = f"{stack.base_url}/api/v1/datasets/{made.dataset}/assets", []
    for text in range(TEXTS):
        body = {"text": f"thing {text} of the shelf {text % 5}", "metadata": {"shelf": text % 5}}
        answer = session.post(url, json=body, timeout=60)
        answer.raise_for_status()
        ids.append(answer.json()["asset"]["id"])
    return {
        "key": made.key, "dataset": str(made.dataset), "assets": ids, "email": owner.email, "password": PASSWORD,
    }  # fmt: skip


def _wait_until_embedded(stack: Stack, tenant: dict[str, Any]) -> None:
    url = f"{stack.base_url}/api/v1/datasets/{tenant['dataset']}/assets?status=pending&limit=1"
    headers, deadline = {"Authorization": f"Bearer {tenant['key']}"}, time.monotonic() + EMBED_S
    while requests.get(url, headers=headers, timeout=60).json()["results"]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the texts are not embedded within {EMBED_S} s")
        time.sleep(1)


# --- What the processes hold -----------------------------------------------------------------------------


class Holdings:
    """Of every process of the stack, by name: memory, open files, threads; and connections and working files in all."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.samples: dict[str, list[float]] = defaultdict(list)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            for what, value in self._read().items():
                self.samples[what].append(value)

    def _read(self) -> dict[str, float]:
        found: dict[str, float] = {}
        known = json.loads((self._stack.data_dir / "run" / "processes.json").read_text())
        for name, one in known.items():
            try:
                first = psutil.Process(int(one["pid"]))
                family = [first, *first.children(recursive=True)]
                found[f"MB of {name}"] = sum(_private(process) for process in family) / 2**20
                found[f"files of {name}"] = sum(process.num_fds() for process in family)
            except psutil.Error:
                # It ended between two looks.
                continue
        with database(self._stack) as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            found["connections to Postgres"] = float(cursor.fetchone()[0])
        spool = self._stack.data_dir / "spool"
        found["files in spool"] = (
            float(sum(1 for path in spool.rglob("*") if path.is_file())) if spool.is_dir() else 0.0
        )
        return found

    def growth(self) -> dict[str, tuple[float, float]]:
        """Of each the medians of the third and the fourth quarter."""
        told = {}
        for what, values in self.samples.items():
            if len(values) >= 4:
                half, last = len(values) // 2, len(values) * 3 // 4
                told[what] = float(np.median(values[half:last])), float(np.median(values[last:]))
        return told


def _private(process: psutil.Process) -> float:
    """Bytes of a process that it shares with nobody."""
    return float(process.memory_full_info().uss)


# --- Sections --------------------------------------------------------------------------------------------


def steady(world: World) -> list[Line]:
    with Holdings(world.stack) as held:
        told = world.population(USERS, MINUTES * 60)
    lines = [
        Line("answers", float(len(told))),
        at_most(
            "… that are server errors or none",
            _share(told, lambda a: a.status >= 500 or a.status == 0),
            0.001,
            "",
            noise=0,
        ),
        Line("… searches, p50", _percentile(told, 50), "ms"),
        Line("… searches, p99", _percentile(told, 99), "ms"),
    ]
    for what, (middle, end) in sorted(held.growth().items()):
        told_of = f"{what}: {middle:.0f} in the third quarter, in the last"
        room = 4.0 if what.startswith(("files", "connections")) else 8.0
        # Of Postgres they follow the tables that each connection has touched so far, up to a bound.
        bounded = what == "files of postgres"
        limit = middle * GROWTH + room
        lines.append(Line(told_of, end) if bounded else at_most(told_of, end, limit, "", noise=0))
    return lines


def greedy(world: World) -> list[Line]:
    """Searches of four tenants alone, and beside one that sends as much as it can."""
    alone = _percentile(world.population(USERS, PHASE_S), 99)
    taken: list[list[Answer]] = []
    other = threading.Thread(
        target=lambda: taken.append(world.population(GREEDY_USERS, PHASE_S + 10, greedy=True))
    )
    other.start()
    time.sleep(sized(5.0, 0.5))
    beside = _percentile(world.population(USERS, PHASE_S), 99)
    other.join()
    return [
        Line("searches of others, p99, alone", alone, "ms"),
        Line(f"answers to {GREEDY_USERS} clients of one tenant beside them", float(len(taken[0]))),
        at_most("searches of others, p99, beside them, times that alone", beside / alone, FACTOR, "x"),
    ]


def slow(world: World) -> list[Line]:
    alone = _percentile(world.population(USERS, PHASE_S), 99)
    sender = world.tenants[0]
    with slow_senders(world.stack.base_url, sender["key"], sender["dataset"], SENDERS):
        beside = _percentile(world.population(USERS, PHASE_S), 99)
    return [
        at_most(
            f"searches, p99, beside {SENDERS} slow senders, times that alone", beside / alone, FACTOR, "x"
        )
    ]


def overload(world: World) -> list[Line]:
    """More at once than can be done: who is refused learns it at once, and afterwards all is as before."""
    before = _percentile(world.population(USERS, PHASE_S / 2), 99)
    told = world.population(OVERLOAD_USERS, PHASE_S / 2, greedy=True)
    after = _percentile(world.population(USERS, PHASE_S / 2), 99)
    refused = [answer for answer in told if answer.status in (429, 503)]
    lines = [
        Line(f"answers to {OVERLOAD_USERS} clients that never pause", float(len(told))),
        Line("… of them refused (429, 503)", _share(told, lambda a: a.status in (429, 503))),
        at_most(
            "… neither answered nor refused",
            _share(told, lambda a: a.status in (0, 500)),
            0.0,
            "",
            noise=0,
        ),
        at_most("searches afterwards, p99, times that before", after / before, FACTOR, "x"),
    ]
    if refused:
        lines += [
            at_least(
                "… of the refused with Retry-After",
                sum(bool(a.retry_after) for a in refused) / len(refused),
                1.0,
            ),
            at_most("… refused after, median", float(np.median([a.ms for a in refused])), AT_ONCE_MS),
        ]
    return lines


def _percentile(told: list[Answer], which: float) -> float:
    """Of searches that were answered, in ms."""
    took = [answer.ms for answer in told if answer.name.startswith("search") and answer.status == 200]
    if not took:
        raise RuntimeError(f"no search was answered: {told[:3]}")
    return float(np.percentile(took, which))


def _share(told: list[Answer], which: Callable[[Answer], bool]) -> float:
    return sum(map(which, told)) / max(1, len(told))


SECTIONS = {"steady": steady, "greedy": greedy, "slow": slow, "overload": overload}


def main() -> int:
    report = Report("load")
    wanted = os.environ.get("SECTIONS", "").replace(",", " ").split() or list(SECTIONS)
    if unknown := set(wanted) - set(SECTIONS):
        sys.exit(f"error: no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    figures: dict[str, Any] = {}
    with world() as made:
        for name in wanted:
            lines = report.run(name, lambda name=name: SECTIONS[name](made))
            if lines is None:
                continue
            print(f"\n{name}")
            for line in lines:
                print(line.shown())
            report.judge(name, lines)
            figures[name] = {line.what: line.value for line in lines}
    return report.finish({"users": USERS, "minutes": MINUTES, **figures})


if __name__ == "__main__":
    sys.exit(main())
