"""Fill batches from concurrent callers, in turns: one waits, all share the run of the model."""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Closed(RuntimeError):
    """The batcher was closed before the item was taken."""


class _Turns(Generic[Item]):
    """A queue that takes one item of each caller in turn, so that one with thousands does not go before the others."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Hashable, deque[Item]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, caller: Hashable, item: Item) -> None:
        """Raises Closed after ``close``."""
        with self._changed:
            if self._closed:
                raise Closed("the batcher is closed")
            self._waiting.setdefault(caller, deque()).append(item)
            self._changed.notify()

    def get(self, timeout_s: float | None = None) -> Item | None:
        """The next item, None once it is closed and empty. Raises queue.Empty after ``timeout_s``."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s):
                raise queue.Empty
            if not self._waiting:
                return None
            caller, items = self._waiting.popitem(last=False)
            item = items.popleft()
            if items:
                self._waiting[caller] = items  # behind all others
            return item

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Batcher(Generic[Item, Result]):
    """Calls ``function(items) -> results`` (same length, same order) from ``threads`` threads of its own.

    One thread fills the largest batches, for devices that gain by that; more of them use more cores, and the function
    must be safe to call beside itself. While all run, the next batch fills by itself. Only after a batch of several
    does the next wait up to ``max_wait_s`` for company: a lone caller never waits. Where more wait than a batch holds,
    callers (tenants) take turns, item by item. When a batch raises, its items are tried one by one, so that one bad
    item does not fail the others.
    """

    def __init__(
        self,
        function: Callable[[list[Item]], Sequence[Result]],
        max_batch: int = 16,
        max_wait_s: float = 0.005,
        threads: int = 1,
    ) -> None:
        self._function, self._max_batch, self._max_wait_s = function, max_batch, max_wait_s
        self._queue: _Turns[tuple[Item, Future[Result]]] = _Turns()
        self._threads = [
            threading.Thread(target=self._serve, name="batcher", daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, item: Item, timeout_s: float | None = None, caller: Hashable = None) -> Result:
        """The result for ``item``, after waiting for it; raises what the function raised for this item.

        Those with the same ``caller`` share one turn.

        Raises Closed after ``close`` and TimeoutError after ``timeout_s`` (the item may still be run).
        """
        future: Future[Result] = Future()
        self._queue.put(caller, (item, future))
        return future.result(timeout_s)

    def close(self) -> None:
        """Finish what was submitted, then end the threads. Safe to call twice."""
        self._queue.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def __enter__(self) -> Batcher[Item, Result]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _serve(self) -> None:
        crowded = False
        while (first := self._queue.get()) is not None:
            batch = [first]
            ended = self._gather(batch, self._max_wait_s if crowded else 0.0)
            self._run(batch)
            crowded = len(batch) > 1
            if ended:
                return

    def _gather(self, batch: list[tuple[Item, Future[Result]]], wait_s: float) -> bool:
        """Add waiting items up to ``max_batch``; True when the end was among them."""
        deadline = time.monotonic() + wait_s
        while len(batch) < self._max_batch:
            try:
                entry = self._queue.get(max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return False
            if entry is None:
                return True
            batch.append(entry)
        return False

    def _run(self, batch: list[tuple[Item, Future[Result]]]) -> None:
        try:
            results = self._call([item for item, _ in batch])
        except Exception as error:
            self._run_singly(batch, error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)

    def _run_singly(self, batch: list[tuple[Item, Future[Result]]], error: Exception) -> None:
        if len(batch) == 1:
            batch[0][1].set_exception(error)
            return
        for entry in batch:
            self._run([entry])

    def _call(self, items: list[Item]) -> Sequence[Result]:
        results = self._function(items)
        if len(results) != len(items):
            raise RuntimeError(f"the function gave {len(results)} results for {len(items)} items")
        return results
