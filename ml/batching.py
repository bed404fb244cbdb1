"""Fill batches from concurrent callers: one waits, all share the run of the model."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Closed(RuntimeError):
    """The batcher was closed before the item was taken."""


class Batcher(Generic[Item, Result]):
    """Calls ``function(items) -> results`` (same length, same order) from ``threads`` threads of its own.

    One thread fills the largest batches, for devices that gain by that; more of them use more cores, and the function
    must be safe to call beside itself. While all run, the next batch fills by itself. Only after a batch of several
    does the next wait up to ``max_wait_s`` for company: a lone caller never waits. When a batch raises, its items are
    tried one by one, so that one bad item does not fail the others.
    """

    def __init__(
        self,
        function: Callable[[list[Item]], Sequence[Result]],
        max_batch: int = 16,
        max_wait_s: float = 0.005,
        threads: int = 1,
    ) -> None:
        self._function, self._max_batch, self._max_wait_s = function, max_batch, max_wait_s
        self._queue: queue.SimpleQueue[tuple[Item, Future[Result]] | None] = queue.SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._serve, name="batcher", daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, item: Item, timeout_s: float | None = None) -> Result:
        """The result for ``item``, after waiting for it; raises what the function raised for this item.

        Raises Closed after ``close`` and TimeoutError after ``timeout_s`` (the item may still be run).
        """
        future: Future[Result] = Future()
        with self._lock:
            if self._closed:
                raise Closed("the batcher is closed")
            self._queue.put((item, future))
        return future.result(timeout_s)

    def close(self) -> None:
        """Finish what was submitted, then end the threads. Safe to call twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._queue.put(None)
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
                entry = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
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
