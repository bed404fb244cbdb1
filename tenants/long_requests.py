"""Requests that keep a thread of the web process for seconds: bounded by kind, and all kinds together.

Each kind alone may have its share, but never may they take the threads that pages and searches need: at least half of
WEB_THREADS stays free of them, whatever the kinds add up to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings

#: Called in the thread of a request that begins to be a long one, by whoever shares threads out.
listener: Callable[[], object] = bool


class Threads:
    """So many threads at a time. `within` has to have room, too."""

    def __init__(self, most: int, within: Threads | None = None) -> None:
        self._free = threading.BoundedSemaphore(max(1, most))
        self._within = within

    def take(self) -> bool:
        """A thread, or False at once where none is left."""
        if not self._free.acquire(blocking=False):
            return False
        if self._within is not None and not self._within.take():
            self._free.release()
            return False
        if self._within is None:
            listener()
        return True

    def give_back(self) -> None:
        if self._within is not None:
            self._within.give_back()
        self._free.release()

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """Whether there is a thread; given back at the end."""
        there = self.take()
        try:
            yield there
        finally:
            if there:
                self.give_back()


ALL = Threads(settings.WEB_THREADS // 2)
# Answers that wait for a job (`Prefer: wait`), uploads in parts, previews of imports, files compared with lists, files
# that anybody has checked for our marks.
WAITING = Threads(settings.WEB_THREADS // 3, ALL)
UPLOADING = Threads(settings.WEB_THREADS // 2, ALL)
PREVIEWING = Threads(settings.WEB_THREADS // 3, ALL)
FINGERPRINTING = Threads(4, ALL)
CHECKING = Threads(2, ALL)
