"""From a stream of items to batches: shuffled in a bounded buffer, cut by process, put together in a thread beside."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Batches that lie ready.
AHEAD = 4


@dataclass(frozen=True)
class Batch:
    """``content`` is what the objective made of ``keys``; ``seen`` counts the epoch's items up to its end."""

    content: Any
    keys: tuple[str, ...]
    seen: int
    size: int  #: items in all processes together


@dataclass(frozen=True)
class Order:
    """How an epoch runs: everything that decides which items stand in which batch."""

    seed: tuple[int, ...]  #: of the run, the phase and the epoch
    batch: int
    start: int = 0  #: items of the epoch that were seen before
    buffer: int = 4_096
    rank: int = 0
    world: int = 1


def shuffled(items: Iterable[Any], random: np.random.Generator, buffer: int) -> Iterator[Any]:
    """All items once; each changes places with those at most about ``buffer`` away (as WebDataset shuffles).

    The first comes when an eighth of the buffer is full; until it is full two are read for each that comes.
    """
    held: list[Any] = []
    wait = False
    for item in items:
        held.append(item)
        wait = not wait
        if len(held) <= buffer // 8 or (wait and len(held) < buffer):
            continue
        place = int(random.integers(len(held)))
        held[place], held[-1] = held[-1], held[place]
        yield held.pop()
    random.shuffle(held)
    yield from held


def batches(items: Iterable[Any], order: Order) -> Iterator[tuple[Sequence[Any], int, int]]:
    """This process's items of each batch, items seen up to its end, and the batch's size in all processes.

    A batch is cut to a multiple of the processes; one of a single item is left away, as nothing contrasts with it.
    """
    mixed = shuffled(items, np.random.default_rng(order.seed), order.buffer)
    rest = itertools.islice(mixed, order.start, None)
    seen = order.start
    while whole := list(itertools.islice(rest, order.batch)):
        seen += len(whole)
        share = len(whole) // order.world
        if share * order.world > 1:
            yield whole[order.rank * share :][:share], seen, share * order.world


def prefetched(
    items: Iterable[Any], order: Order, collate: Callable[[Sequence[Any], np.random.Generator], Any]
) -> Iterator[Batch]:
    """Batches, put together in a thread while the last one is computed. The thread's errors come out here."""

    def made() -> Iterator[Batch]:
        for mine, seen, size in batches(items, order):
            random = np.random.default_rng((*order.seed, order.rank, seen))
            yield Batch(collate(mine, random), tuple(item.key for item in mine), seen, size)

    return _in_thread(made())


def _in_thread(source: Iterator[Batch]) -> Iterator[Batch]:
    ready: queue.Queue[Any] = queue.Queue(AHEAD)
    stop = threading.Event()

    def put(value: Any) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(value, timeout=0.1)
                return

    def work() -> None:
        try:
            for value in source:
                put(value)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (value := ready.get()) is not None:
            if isinstance(value, BaseException):
                raise value
            yield value
    finally:
        stop.set()
        thread.join()
