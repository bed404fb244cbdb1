"""What clients asked for and were promised, and the faults meanwhile: on the disk before it is acted upon.

A line of JSON for each beginning and end of an operation. One whose answer was lost may have happened or not; it is
sent again under the same Idempotency-Key until it is answered, so that at the end each is known.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

#: Faults that began or ended so many seconds around an operation are told with it.
NEAR_S = 15.0


@dataclass
class Operation:
    """`promised` holds ids, hashes and numbers by which it is judged; times are of the monotonic clock."""

    id: int
    kind: str
    tenant: str
    key: str
    began: float
    state: str = "open"
    ended: float = 0.0
    lost: int = 0
    refused: int = 0
    promised: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"operation {self.id} ({self.kind} of {self.tenant}, key {self.key}, {self.promised})"


@dataclass
class Fault:
    kind: str
    target: str
    began: float
    ended: float = 0.0
    told: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.target} {self.told}".strip()


class Journal:
    def __init__(self, path: Path) -> None:
        self.operations: list[Operation] = []
        self.faults: list[Fault] = []
        #: Answers that nothing explains: server errors, refusals without a reason.
        self.wrong: list[str] = []
        self.searches: Counter[str] = Counter()
        self._ids, self._lock = itertools.count(1), threading.Lock()
        self._file = path.open("a")

    def begin(self, kind: str, tenant: str) -> Operation:
        number = next(self._ids)
        operation = Operation(number, kind, tenant, f"chaos-{tenant}-{number}", time.monotonic())
        with self._lock:
            self.operations.append(operation)
        self._write(operation)
        return operation

    def acknowledge(self, operation: Operation, **promised: str) -> None:
        operation.promised |= promised
        self._end(operation, "acknowledged")

    def refuse(self, operation: Operation, why: str) -> None:
        operation.promised["refused"] = why
        self._end(operation, "refused")

    def _end(self, operation: Operation, state: str) -> None:
        operation.state, operation.ended = state, time.monotonic()
        self._write(operation)

    def _write(self, row: Operation | Fault) -> None:
        with self._lock:
            self._file.write(json.dumps(asdict(row)) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def fault(self, kind: str, target: str) -> Fault:
        fault = Fault(kind, target, time.monotonic())
        with self._lock:
            self.faults.append(fault)
        self._write(fault)
        return fault

    def end(self, fault: Fault) -> None:
        fault.ended = time.monotonic()
        self._write(fault)

    def say_wrong(self, told: str) -> None:
        with self._lock:
            self.wrong.append(f"{told}; {self.near(time.monotonic(), time.monotonic())}")

    def acknowledged(self, *kinds: str, tenant: str = "") -> list[Operation]:
        return [
            one
            for one in list(self.operations)
            if one.state == "acknowledged" and one.kind in kinds and tenant in ("", one.tenant)
        ]

    def near(self, began: float, ended: float) -> str:
        """The faults around these moments."""
        found = [
            str(fault)
            for fault in self.faults
            if fault.began < ended + NEAR_S and (fault.ended or fault.began) > began - NEAR_S
        ]
        return f"faults near it: {'; '.join(found) or 'none'}"
