"""How many jobs of a queue run at a time in this process (`QUEUE_PLACES`), where it serves several queues.

Threads are shared by all its queues: without a bound, four builds of indexes would keep the sweeper waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from django.conf import settings


class Places:
    """`most` by queue; a queue that it does not name has no bound."""

    def __init__(self, most: Mapping[str, int]) -> None:
        self._free = {queue: threading.BoundedSemaphore(count) for queue, count in most.items()}

    def are_bounded(self, queue: str) -> bool:
        return queue in self._free

    @contextmanager
    def taken(self, queue: str) -> Iterator[bool]:
        """A place of this queue while the block runs; False where none is free. Nobody waits."""
        free = self._free.get(queue)
        if free is not None and not free.acquire(blocking=False):
            yield False
            return
        try:
            yield True
        finally:
            if free is not None:
                free.release()


places = Places(settings.QUEUE_PLACES)
