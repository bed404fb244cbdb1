"""Whose turn it is: places at a scarce resource, shared between owners instead of first come, first served.

An owner is a tenant. The next free place goes to the owner who waits and holds fewest; among equals to whoever was
served longest ago. Where there are several places nobody holds all of them, so that one is left for whoever comes next.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class QueueFull(Exception):
    """Too many wait already, or it was not this one's turn in time; try again in ``retry_s`` seconds."""

    def __init__(self, retry_s: float) -> None:
        super().__init__(f"too many wait; try again in {retry_s:g} s")
        self.retry_s = retry_s


class FairQueue:
    """``places`` that are taken at the same time, at most ``each`` of them by one owner. Thread-safe.

    ``waiting``: how many of one owner may wait, ``crowd``: how many of all together; an owner of whom nobody waits is
    always let in. ``patience_s``: how long one waits. None: without limit.
    """

    def __init__(
        self,
        places: int,
        *,
        each: int | None = None,
        waiting: int | None = None,
        crowd: int | None = None,
        patience_s: float | None = None,
    ) -> None:
        self._free, self._each = places, each or places
        self._waiting_each, self._crowd, self._patience_s = waiting, crowd, patience_s
        self._lock = threading.Lock()
        self._held: Counter[Hashable] = Counter()
        self._queues: dict[Hashable, deque[threading.Event]] = {}
        # Owners in the order of their last turn, the longest ago first.
        self._served: dict[Hashable, None] = {}

    @contextmanager
    def of(self, owner: Hashable) -> Iterator[None]:
        """A place, once it is the owner's turn. Raises Crowded."""
        self._take(owner)
        try:
            yield
        finally:
            self._give_back(owner)

    def _take(self, owner: Hashable) -> None:
        turn = threading.Event()
        with self._lock:
            queue = self._queues.setdefault(owner, deque())
            if queue and self._is_crowded(len(queue)):
                raise QueueFull(self._retry_s)
            queue.append(turn)
            self._grant()
        start = time.monotonic()
        if turn.wait(self._patience_s):
            return
        with self._lock:
            if turn.is_set():
                return
            self._forget(owner, turn)
        raise QueueFull(self._retry_s or time.monotonic() - start)

    def _give_back(self, owner: Hashable) -> None:
        with self._lock:
            self._free += 1
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]
            self._grant()
            if not self._queues:
                self._served.clear()

    def _grant(self) -> None:
        """Give free places to those whose turn it is."""
        while self._free:
            able = [owner for owner in self._queues if self._held[owner] < self._each]
            if not able:
                return
            order = {owner: place for place, owner in enumerate(self._served)}
            owner = min(able, key=lambda one: (self._held[one], order.get(one, -1)))
            self._served.pop(owner, None)
            self._served[owner] = None
            self._free -= 1
            self._held[owner] += 1
            turn = self._queues[owner][0]
            self._forget(owner, turn)
            turn.set()

    def _forget(self, owner: Hashable, turn: threading.Event) -> None:
        queue = self._queues[owner]
        queue.remove(turn)
        if not queue:
            del self._queues[owner]

    def _is_crowded(self, mine: int) -> bool:
        if self._waiting_each is not None and mine >= self._waiting_each:
            return True
        return self._crowd is not None and sum(map(len, self._queues.values())) >= self._crowd

    @property
    def _retry_s(self) -> float:
        return self._patience_s or 1.0
