"""Concurrent callers share batches; one bad item fails alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ml.batching import Batcher, Closed
from tests.waiting import PATIENCE_S, until


def test_every_caller_gets_the_own_result() -> None:
    with Batcher(lambda items: [item * 2 for item in items]) as batcher, ThreadPoolExecutor(16) as pool:
        assert list(pool.map(batcher.submit, range(500))) == [item * 2 for item in range(500)]


def waiting(batcher: Batcher) -> int:
    """How many items nobody has taken yet."""
    with batcher._queue._changed:
        return sum(map(len, batcher._queue._waiting.values()))


def test_batches_fill_while_one_runs() -> None:
    sizes: list[int] = []
    gate = threading.Event()

    def run(items: list[int]) -> list[int]:
        sizes.append(len(items))
        gate.wait(PATIENCE_S)
        return items

    with Batcher(run, max_batch=8) as batcher, ThreadPoolExecutor(20) as pool:
        results = [pool.submit(batcher.submit, item) for item in range(20)]
        until(lambda: sum(sizes) + waiting(batcher) == 20)
        gate.set()
        assert [result.result() for result in results] == list(range(20))
    assert max(sizes) == 8
    assert sum(sizes) == 20
    assert len(sizes) <= 4


def test_a_lone_caller_does_not_wait() -> None:
    with Batcher(lambda items: items, max_wait_s=1000) as batcher:
        for item in range(3):
            assert batcher.submit(item) == item


def test_one_bad_item_fails_alone() -> None:
    gate = threading.Event()

    taken: list[int] = []

    def run(items: list[int]) -> list[float]:
        taken.extend(items)
        gate.wait(PATIENCE_S)
        return [1 / item for item in items]

    with Batcher(run) as batcher, ThreadPoolExecutor(8) as pool:
        results = [pool.submit(batcher.submit, item) for item in (1, 2, 0, 4)]
        until(lambda: len(taken) + waiting(batcher) == 4)
        gate.set()
        with pytest.raises(ZeroDivisionError):
            results[2].result()
        assert [results[at].result() for at in (0, 1, 3)] == [1, 0.5, 0.25]
        assert batcher.submit(8) == 0.125


def test_a_wrong_number_of_results_is_an_error() -> None:
    with Batcher(lambda items: [*items, 0]) as batcher, pytest.raises(RuntimeError, match="2 results for 1"):
        batcher.submit(1)


def test_batches_run_beside_each_other_in_as_many_threads() -> None:
    both = threading.Barrier(2)

    def run(items: list[int]) -> list[int]:
        both.wait(PATIENCE_S)  # broken, and so an error, unless another batch runs at the same time
        return items

    with Batcher(run, max_batch=1, threads=2) as batcher, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(batcher.submit, range(4))) == [0, 1, 2, 3]
    with pytest.raises(Closed):
        batcher.submit(1)


def test_close_finishes_what_was_submitted_and_refuses_more() -> None:
    gate, taken = threading.Event(), list[int]()

    def slow(items: list[int]) -> list[int]:
        taken.extend(items)
        gate.wait(PATIENCE_S)
        return items

    batcher = Batcher(slow, max_batch=2)
    with ThreadPoolExecutor(6) as pool:
        results = [pool.submit(batcher.submit, item) for item in range(6)]
        until(lambda: len(taken) + waiting(batcher) == 6)
        threading.Timer(0.05, gate.set).start()
        batcher.close()
        assert [result.result() for result in results] == list(range(6))
    batcher.close()
    with pytest.raises(Closed):
        batcher.submit(1)


def test_timeout() -> None:
    gate = threading.Event()

    def stuck(items: list[int]) -> list[int]:
        gate.wait(PATIENCE_S)
        return items

    with Batcher(stuck) as batcher:
        with pytest.raises(TimeoutError):
            batcher.submit(1, timeout_s=0.05)
        gate.set()


def test_callers_take_turns_when_more_wait_than_a_batch_holds() -> None:
    batches: list[list[str]] = []
    gate, begun = threading.Event(), threading.Event()

    def run(items: list[str]) -> list[str]:
        batches.append(items)
        begun.set()
        gate.wait(PATIENCE_S)
        return items

    with Batcher(run, max_batch=4) as batcher, ThreadPoolExecutor(16) as pool:
        first = pool.submit(batcher.submit, "first")
        assert begun.wait(PATIENCE_S)
        many = [pool.submit(batcher.submit, f"a{at}", None, "a") for at in range(10)]
        until(lambda: waiting(batcher) == 10)
        few = [pool.submit(batcher.submit, f"{name}0", None, name) for name in "bc"]
        until(lambda: waiting(batcher) == 12)
        gate.set()
        assert [one.result() for one in (first, *many, *few)] == [
            "first",
            *[f"a{at}" for at in range(10)],
            "b0",
            "c0",
        ]
    # The caller with ten has two in the first batch, since the others have one each.
    assert sorted(one[0] for one in batches[1]) == ["a", "a", "b", "c"]
    assert sum(map(len, batches)) == 13
