"""Stopping work in this process that somebody cancelled, or that another worker has taken over.

Cancelling is cooperative: work looks whether to go on at each step. Where a step can take long, as a process of its own
does it, `on_stop` says how to end that; the heartbeat of the job looks every POLL_S and calls it.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

# A job, and which attempt at it: the fence.
Key = tuple[uuid.UUID, int]

POLL_S = 1.0
_lock = threading.Lock()
_acts: dict[Key, list[Callable[[], None]]] = {}


@contextmanager
def on_stop(key: Key, act: Callable[[], None]) -> Iterator[threading.Event]:
    """Call `act` from another thread, once, if the job has to stop while the block runs; the event says so."""
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        act()

    with _lock:
        _acts.setdefault(key, []).append(stop)
    try:
        yield stopped
    finally:
        with _lock:
            left = [one for one in _acts.get(key, ()) if one is not stop]
            _acts.pop(key, None)
            if left:
                _acts[key] = left


def stop(key: Key) -> None:
    """End what this process does in an attempt right now."""
    with _lock:
        acts = _acts.pop(key, [])
    for act in acts:
        try:
            act()
        except Exception:
            log.warning("a job could not be stopped at once", exc_info=True)
