"""Writes to Valkey that nobody waits for: gathered for some milliseconds, sent in one round trip.

For what may be lost without harm (candidates, cursors, samples of queries). A value counts for this process at once,
and for other ones within WAIT_S and a round trip. With Valkey away nothing is gathered for a while.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from tenants.valkey import Unavailable, client

log = logging.getLogger(__name__)

WAIT_S = 0.02
# After a failure.
REST_S = 1.0
# What waits at most; beyond it the caller writes himself, which slows him down to what Valkey can take.
MOST = 1_000

Command = Callable[[Any], Any]


class AsyncWriter:
    """See `put` and `do`. One for the process; thread-safe."""

    def __init__(self, connection: Callable[[], Any] = client) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._commands: list[Command] = []
        self._values: dict[str, bytes] = {}
        self._something = threading.Event()
        self._thread: threading.Thread | None = None
        self._resting_until = 0.0

    def put(self, key: str, value: bytes, seconds: int) -> bool:
        """Set a key for so long. False if Valkey has just failed: then nothing is kept."""
        return self._add(lambda pipe: pipe.set(key, value, ex=seconds), {key: value})

    def do(self, command: Command) -> bool:
        """Any command of a pipeline."""
        return self._add(command, {})

    def get(self, key: str) -> bytes | None:
        """A value that was put here and may not have been sent yet."""
        return self._values.get(key)

    def flush(self) -> None:
        """Send what waits. Logs a failure, and loses what could not be sent."""
        with self._lock:
            commands, self._commands = self._commands, []
            values = dict(self._values)
        if not commands:
            return
        try:
            pipe = self._connection().pipeline(transaction=False)
            for command in commands:
                command(pipe)
            pipe.execute(raise_on_error=False)
            self._resting_until = 0.0
        except Unavailable:
            self._resting_until = time.monotonic() + REST_S
            log.warning("Valkey is away: %d writes of searches are lost", len(commands))
        with self._lock:
            for key, value in values.items():
                if self._values.get(key) is value:
                    del self._values[key]

    def _add(self, command: Command, values: dict[str, bytes]) -> bool:
        if self._resting_until and time.monotonic() < self._resting_until:
            return False
        with self._lock:
            self._commands.append(command)
            self._values |= values
            full = len(self._commands) > MOST
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._send_for_ever, name="later", daemon=True)
                self._thread.start()
        if not self._something.is_set():
            self._something.set()
        if full:
            self.flush()
        return True

    def _send_for_ever(self) -> None:
        while True:
            self._something.wait()
            time.sleep(WAIT_S)
            self._something.clear()
            try:
                self.flush()
            except Exception:
                log.exception("writes of searches could not be sent")


async_writer = AsyncWriter()
atexit.register(async_writer.flush)
