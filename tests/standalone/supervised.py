"""Supervise the programs that a JSON file describes; run by test_supervise.py.

A process of its own, because the supervisor adopts and kills strangers among its process's children.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from standalone.errors import StackError
from standalone.liveness import ProbeTiming, touches
from standalone.processes import Command, Spawner
from standalone.supervise import Program, Supervisor


def program(folder: Path, entry: dict) -> Program:
    name = entry.pop("name")
    arguments = [sys.executable, "-c", entry.pop("code")]
    command = Command(arguments, os.environ, folder, folder / f"{name}.log")
    if number := entry.pop("hung_signal", None):
        entry["hung_signal"] = signal.Signals(number)
    probe = touches(folder / f"{name}.alive") if entry.pop("touches", False) else None
    return Program(name=name, command=command, probe=probe, **{"stage": 0, "retry_s": 0.1, **entry})


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    folder = Path(sys.argv[1])
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    misses = int(os.environ.get("MISSES", "3"))
    patience = ProbeTiming(interval_s=0.2, timeout_s=0.4, misses=misses, busy_s=2.0, start_s=4.0)
    supervisor = Supervisor(Spawner(), folder / "processes.json", say, patience)
    for entry in json.loads((folder / "programs.json").read_text()):
        supervisor.start(program(folder, entry))
    names = [entry["name"] for entry in json.loads((folder / "programs.json").read_text())]

    def given_up() -> bool:
        try:
            for name in names:
                supervisor.check(name)
        except StackError as error:
            say(str(error))
            return True
        return False

    supervisor.loop(until=lambda: stopped.is_set() or given_up())
    supervisor.stop()
    return 0 if stopped.is_set() else 1


if __name__ == "__main__":
    sys.exit(main())
