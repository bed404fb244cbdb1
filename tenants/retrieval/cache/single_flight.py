"""Callers who want the same at the same moment share one computation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")

WAIT_S = 5.0


class _Flight(Generic[Value]):
    """One computation under way. Once `done` is set it holds a value or an error, or neither if it was broken off."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.value: list[Value] = []
        self.error: Exception | None = None


class SingleFlight(Generic[Value]):
    """Of concurrent callers with one key the first computes and the others wait for its result.

    Nothing is kept: a key is known only while its computation runs. For plain threads.
    """

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._flights: dict[Hashable, _Flight[Value]] = {}
        self._lock = threading.Lock()

    def do(self, key: Hashable, compute: Callable[[], Value]) -> tuple[Value, bool]:
        """What `compute` returns, and whether another caller computed it.

        An exception is raised to everyone who waits for this computation, and is not kept. Who has waited for `wait_s`
        seconds computes for itself and frees the key, so that a leader which hangs holds nobody up for longer. The
        same happens when the leader's thread is ended (KeyboardInterrupt, SystemExit).

        Call it outside of any transaction. A leader that computes inside of one keeps it open for as long as that
        takes, and a waiter that holds a lock which the leader needs would wait until its time is up. `compute` must
        not ask for its own key.
        """
        with self._lock:
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        if leads:
            return self._lead(key, flight, compute), False
        if flight.done.wait(self._wait_s):
            if flight.error is not None:
                raise flight.error
            if flight.value:
                return flight.value[0], True
        self._forget(key, flight)
        return compute(), False

    def _lead(self, key: Hashable, flight: _Flight[Value], compute: Callable[[], Value]) -> Value:
        try:
            value = compute()
            flight.value.append(value)
            return value
        except Exception as error:
            flight.error = error
            raise
        finally:
            # First the key, then the news: whoever comes after the news starts a computation of its own.
            self._forget(key, flight)
            flight.done.set()

    def _forget(self, key: Hashable, flight: _Flight[Value]) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]

    def __len__(self) -> int:
        """How many computations are under way."""
        return len(self._flights)
