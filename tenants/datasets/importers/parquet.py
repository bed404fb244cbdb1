"""Parquet, read in a limited child process (``parquet_child.py``) that streams rows back."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from ml import sandbox
from tenants.datasets.importers import limits
from tenants.datasets.importers.content import CHUNK, Content
from tenants.datasets.importers.entries import format_size
from tenants.datasets.importers.records import FileCell, Record, unreadable
from tenants.errors import Invalid, Unavailable

_CHILD = Path(__file__).with_name("parquet_child.py")
# Arrow's own pools and each thread's malloc arena reserve address space, which is limited.
LEAN = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
LEAN |= {"ARROW_DEFAULT_MEMORY_POOL": "system"}
_LIMITS = {
    "memory": limits.PARQUET_MEMORY,
    "cpu_s": limits.PARQUET_CPU_S,
    "batch": limits.PARQUET_BATCH,
    "batch_rows": limits.PARQUET_BATCH_ROWS,
    "slice": limits.PARQUET_SLICE,
    "cell": limits.CELL,
    "row": limits.PARQUET_ROW,
    "file": limits.PARQUET_FILE,
}


class Unreadable(Exception):
    """The child said why it cannot go on, or died of the file."""


class Parquet:
    """A table. Raises Invalid where the footer cannot be read; damage further on is a record that says so."""

    def __init__(self, content: Content, options: dict[str, Any]) -> None:
        self._content = content
        self.options: dict[str, Any] = {}
        self.warnings: list[str] = []
        self._children: list[_ReaderProcess] = []
        # It serves one reading after another; while it is at one, or once one was broken off, others get their own.
        self._idle: _ReaderProcess | None = self._start()
        try:
            described = self._idle.message()
        except Unreadable as error:
            self.close()
            raise Invalid(
                _("The Parquet file is damaged or hostile. %(error)s") % {"error": error}, pointer="/file"
            ) from None
        self.names = [str(name) for name in described["columns"]]
        if any(map(unreadable, self.names)):
            self.close()
            raise Invalid(_("A column's name holds a NUL character."), pointer="/file")
        self.total: int | None = sum(described["groups"])

    def close(self) -> None:
        self._idle = None
        while self._children:
            self._children.pop().stop()

    def records(self, file: str | None = None, after: int = 0, most: int | None = None) -> Iterator[Record]:
        row, child = after, self._borrow()
        try:
            child.ask({"file": file, "after": after, "most": most})
            while "end" not in (message := child.message()):
                row = int(message["row"])
                yield _record(message, child.content(message.get("size", 0)), file)
            self._idle = child
        except Unreadable as error:
            yield Record(row + 1, f"row {row + 1:,} and all after it", error=str(error))

    def _start(self) -> _ReaderProcess:
        self._children.append(child := _ReaderProcess(self._content))
        return child

    def _borrow(self) -> _ReaderProcess:
        child, self._idle = self._idle, None
        if child is None:
            child = self._start()
            child.message()
        return child


def _record(message: dict[str, Any], content: bytes, file: str | None) -> Record:
    row, last = message["row"], message.get("last")
    name = f"row {row}" if last in (None, row) else f"rows {row} to {last}"
    if error := message.get("error"):
        return Record(row, name, error=f"This part of the file cannot be read: {error}" if last else error)
    values = message["values"]
    for column, path in message["files"].items():
        values[column] = FileCell(content if column == file else b"", path)
    return Record(row, name, values)


class _ReaderProcess:
    """A running child and its answers. Nothing that it says is believed beyond its form and limits."""

    def __init__(self, content: Content) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD), str(content.descriptor), json.dumps(_LIMITS)],
            cwd="/",
            env=sandbox.environment(**LEAN),
            pass_fds=[content.descriptor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the child has no pipes")
        self._input, self._output = self._process.stdin, self._process.stdout.fileno()
        self._early, self._at = bytearray(), 0

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def ask(self, request: dict[str, object]) -> None:
        with contextlib.suppress(OSError):  # a dead child is noticed when its answer is read
            self._input.write(json.dumps(request).encode() + b"\n")

    def message(self) -> dict[str, Any]:
        """The next line. Raises Unreadable, or Unavailable where somebody else ended the child."""
        searched = self._at
        while (end := self._early.find(b"\n", searched)) < 0:
            if len(self._early) - self._at > limits.PARQUET_ROW:
                raise Unreadable(f"A row is larger than {format_size(limits.PARQUET_ROW)}.")
            searched = self._more()
        line, self._at = self._early[self._at : end], end + 1
        message = _checked(line)
        if "fatal" in message:
            raise Unreadable(str(message["fatal"])[:300])
        return message

    def content(self, size: int) -> bytes:
        while len(self._early) - self._at < size:
            self._more()
        start, self._at = self._at, self._at + size
        return bytes(self._early[start : self._at])

    def _more(self) -> int:
        """Read on, forgetting what was used; where the new bytes begin."""
        poller = select.poll()  # not select(): it fails on descriptors above 1023
        poller.register(self._output, select.POLLIN)
        if not poller.poll(limits.PARQUET_WAIT_S * 1000):
            raise Unreadable(f"No row came for {limits.PARQUET_WAIT_S} seconds.")
        del self._early[: self._at]
        self._at, new = 0, len(self._early)
        self._early += os.read(self._output, CHUNK) or self._died()
        return new

    def _died(self) -> bytes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        if self._process.returncode in (None, -signal.SIGKILL, -signal.SIGTERM):
            raise Unavailable(_("The process that reads Parquet was ended from outside; try again."))
        if self._process.returncode == -signal.SIGXCPU:
            raise Unreadable("Reading it takes too long.")
        raise Unreadable("Reading it ended the reading process.")


def _checked(line: bytearray) -> dict[str, object]:
    """The form of a message, so that a compromised child can mislead but not confuse."""
    try:
        message = json.loads(line)
        fits = (
            (isinstance(message.get("columns"), list) and isinstance(message.get("groups"), list))
            or "end" in message
            or "fatal" in message
            or _is_row(message)
        )
    except (ValueError, AttributeError, RecursionError):
        fits = False
    if not fits:
        raise Unreadable("The reading process gave no proper answer.")
    return dict(message)


def _is_row(message: dict[str, Any]) -> bool:
    numbers = message.get("row"), message.get("size", 0), message.get("last", 0)
    if not all(isinstance(number, int) and 0 <= number < 2**63 for number in numbers):
        return False
    if isinstance(message.get("error"), str):
        return True
    parts = message.get("values"), message.get("files")
    return all(isinstance(part, dict) for part in parts) and numbers[1] <= limits.PARQUET_FILE
