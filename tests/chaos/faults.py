"""What is done to the stack: one fault after the other, of kinds, targets and lengths that a seed chooses."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from standalone.stack import Stack
from tests.chaos.journal import Fault, Journal
from tests.chaos.population import Shelf
from tests.chaos.receiver import FAILURES
from tests.chaos.world import FAKETIME, SERVERS, Disk, World
from tests.waiting import pause

PROCESSES = (
    *("web", "postgres", "valkey", "worker-embed", "worker-bulk", "worker-audit", "worker-generate"),
    *("worker-hooks", "worker-general", "beat"),
)
OF_SERVICES = ("postgres", "valkey")
#: Seconds by which clocks are moved. What waits by the database's clock waits longer by as much as that went ahead.
JUMPS = {"app": (-3600, -600, -60, -5, 5, 60, 600, 3600), "services": (-3600, -60, -5, 5, 60)}
ANSWER_S = 60.0


@dataclass
class Faults:
    world: World
    journal: Journal
    shelves: Sequence[Shelf]
    seed: int
    #: Seconds of the longest stop, cut or full disk.
    longest_s: float
    found: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(f"faults/{self.seed}")
        kinds: dict[str, Callable[[], Fault | None]] = {
            "kill": self._kill,
            "stop": self._stop,
            "child": self._kill_child,
            "cut": self._cut,
            "hold": self._hold,
            "index": self._spoil_index,
            "stored": self._spoil_stored,
            "endpoint": self._fail_endpoint,
        }
        if FAKETIME:
            kinds["clock"] = self._move_clock
        if all(disk.bounded for disk in self.world.disks.values()):
            kinds["disk"] = self._fill_disk
        self._kinds = kinds
        # Each kind comes as often as the others, in an order of the seed.
        self._queue: list[str] = []

    @property
    def kinds(self) -> list[str]:
        return list(self._kinds)

    def one(self) -> Fault:
        """Do the next fault to its end; one that finds nothing to act on leaves its turn to another kind."""
        while True:
            if not self._queue:
                self._queue = sorted(self._kinds)
                self.random.shuffle(self._queue)
            if fault := self._kinds[self._queue.pop()]():
                self.journal.end(fault)
                return fault

    def _length(self) -> float:
        return self.random.uniform(0.3, 1.0) * self.longest_s

    def _stack_of(self, name: str) -> Stack:
        return self.world.services if name in OF_SERVICES else self.world.app

    # --- Processes ---------------------------------------------------------------------------------------

    def _process(self) -> tuple[str, psutil.Process | None]:
        name = self.random.choice(PROCESSES)
        pid = self._stack_of(name).pid(name)
        with suppress(psutil.NoSuchProcess):
            return name, psutil.Process(pid) if pid else None
        return name, None

    def _kill(self) -> Fault | None:
        name, process = self._process()
        if process is None:
            return None
        fault = self.journal.fault("kill", name)
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
        return fault

    def _kill_child(self) -> Fault | None:
        """A decoder, a trainer, a web worker, a session of the database."""
        families: list[tuple[str, list[psutil.Process]]] = []
        for name in PROCESSES:
            with suppress(psutil.NoSuchProcess):
                if pid := self._stack_of(name).pid(name):
                    families.append((name, psutil.Process(pid).children(recursive=True)))
        if not (families := [family for family in families if family[1]]):
            return None
        name, children = self.random.choice(families)
        fault = self.journal.fault("child", f"of {name}")
        with suppress(psutil.NoSuchProcess):
            self.random.choice(children).send_signal(signal.SIGKILL)
        return fault

    def _stop(self) -> Fault | None:
        name, process = self._process()
        if process is None:
            return None
        fault, seconds = self.journal.fault("stop", name), self._length()
        fault.told = f"for {seconds:.1f} s"
        with suppress(psutil.NoSuchProcess):
            family = [process, *process.children(recursive=True)]
            self._signal(family, signal.SIGSTOP)
            pause(seconds, "it stands still")
            self._signal(family, signal.SIGCONT)
        return fault

    def _signal(self, family: Sequence[psutil.Process], number: signal.Signals) -> None:
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    # --- Around them -------------------------------------------------------------------------------------

    def _cut(self) -> Fault:
        name = self.random.choice(SERVERS)
        fault, link = self.journal.fault("cut", name), self.world.links[name]
        if self.random.random() < 0.5:
            fault.told = f"{link.cut()} ends"
            return fault
        seconds = self._length()
        fault.told = f"and refused for {seconds:.1f} s"
        link.refuse()
        pause(seconds, "nobody can connect")
        link.heal()
        return fault

    def _hold(self) -> Fault:
        name = self.random.choice(SERVERS)
        fault, link, seconds = self.journal.fault("hold", name), self.world.links[name], self._length()
        fault.told = f"for {seconds:.1f} s"
        link.hold()
        pause(seconds, "nothing goes through")
        link.heal()
        return fault

    def _fail_endpoint(self) -> Fault:
        """Of all webhooks: what is sent meanwhile has to come again, once, under the same id."""
        how, receiver, seconds = self.random.choice(FAILURES), self.world.receiver, self._length()
        fault = self.journal.fault("endpoint", "of webhooks")
        fault.told = f"{how} for {seconds:.1f} s"
        receiver.failing = how
        pause(seconds, "messages are sent meanwhile")
        receiver.failing = ""
        return fault

    def _fill_disk(self) -> Fault:
        name = self.random.choice(sorted(self.world.disks))
        disk: Disk = self.world.disks[name]
        fault, seconds = self.journal.fault("disk", f"of {name}"), self._length()
        fault.told = f"full for {seconds:.1f} s"
        disk.fill()
        pause(seconds, "nothing can be written")
        disk.heal()
        return fault

    def _move_clock(self) -> Fault:
        name = self.random.choice(sorted(self.world.clocks))
        jump = self.random.choice(JUMPS[name])
        fault, clock = self.journal.fault("clock", f"of {name}"), self.world.clocks[name]
        fault.told = f"{jump:+d} s"
        clock.move(jump)
        pause(1.5 + self._length(), "processes look at their clock each second")
        clock.move(0)
        return fault

    # --- Files -------------------------------------------------------------------------------------------

    def _spoil_index(self) -> Fault | None:
        """A file of an index on this host: a byte flipped, cut in half, or gone. It is derived, and made again."""
        files = sorted(path for path in (self.world.app.data_dir / "indexes").glob("*/*/*") if path.is_file())
        if not files:
            return None
        path = self.random.choice(files)
        how = self.random.choice(("flipped", "cut", "gone"))
        fault = self.journal.fault("index", path.name)
        fault.told = how
        with suppress(FileNotFoundError):
            if how == "gone":
                path.unlink()
            elif how == "cut":
                os.truncate(path, path.stat().st_size // 2)
            else:
                write_over(path, flipped(path.read_bytes()))
        return fault

    def _spoil_stored(self) -> Fault | None:
        """A byte of an uploaded file, which must be answered with an error, and never be served."""
        shelf = self.random.choice(self.shelves)
        with shelf.lock:
            kept = [op for op in shelf.kept.values() if op.kind == "upload"]
        if not kept:
            return None
        operation = self.random.choice(kept)
        # Whoever embeds it would give up after three tries.
        status = self._ask(shelf, f"/assets/{operation.promised['asset']}")
        if status is None or status.status_code != 200 or status.json()["status"] != "ready":
            return None
        path = stored_file(self.world, shelf, operation.promised["sha256"])
        fault = self.journal.fault("stored", operation.promised["asset"])
        with suppress(FileNotFoundError):
            original = path.read_bytes()
            write_over(path, flipped(original))
            try:
                self._read_damaged(shelf, operation.promised["asset"], fault)
            finally:
                write_over(path, original)
        return fault

    def _read_damaged(self, shelf: Shelf, asset: str, fault: Fault) -> None:
        answer = self._ask(shelf, f"/assets/{asset}/content")
        fault.told = "no answer" if answer is None else f"answered with {answer.status_code}"
        if answer is not None and answer.status_code == 200:
            self.journal.say_wrong(f"a damaged file was served: {asset}")
        self.found += answer is not None and "file-damaged" in answer.text

    def _ask(self, shelf: Shelf, path: str) -> requests.Response | None:
        """The first answer that is not about something that is away; None where there is none for long."""
        client, deadline = self.world.client(shelf.tenant), time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            try:
                answer = client.request("GET", path)
            except requests.RequestException:
                client.session.close()
            else:
                if answer.status_code not in (429, 503) or "file-damaged" in answer.text:
                    return answer
            pause(0.2, "what is away needs time to come back")
        return None


def stored_file(world: World, shelf: Shelf, sha256: str) -> Path:
    return world.app.data_dir / "blobs" / shelf.tenant.id / "original" / sha256[:2] / sha256


def flipped(content: bytes) -> bytes:
    """The last byte in another state."""
    return content[:-1] + bytes([content[-1] ^ 1])


def write_over(path: Path, content: bytes) -> None:
    """In place, as a disk does that has forgotten."""
    if path.exists():
        path.chmod(0o600)
        path.write_bytes(content)
