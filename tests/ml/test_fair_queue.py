"""Places are shared between owners: turns, never first come, first served."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from ml.media import Decoder, MediaError
from ml.media.fair_queue import FairQueue, QueueFull
from tests.waiting import PATIENCE_S, until


class Waiting:
    """Owners that ask for a place, in threads, and keep it until they are told to go on."""

    def __init__(self, turns: FairQueue) -> None:
        self.turns = turns
        self.order: list[str] = []
        self.refused: list[str] = []
        self._leave: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def ask(self, name: str) -> None:
        """`name`: its owner's letter and a number."""
        self._leave[name] = threading.Event()
        self._threads.append(thread := threading.Thread(target=self._hold, args=(name,)))
        before = self._asked
        thread.start()
        until(lambda: self._asked > before or not thread.is_alive())

    def leave(self, name: str) -> None:
        self._leave[name].set()

    def end(self) -> None:
        for event in self._leave.values():
            event.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    @property
    def _asked(self) -> int:
        return len(self.order) + len(self.refused) + sum(map(len, self.turns._queues.values()))

    def _hold(self, name: str) -> None:
        try:
            with self.turns.of(name[0]):
                self.order.append(name)
                self._leave[name].wait(PATIENCE_S)
        except QueueFull:
            self.refused.append(name)


@pytest.fixture
def waiting() -> Iterator[Callable[..., Waiting]]:
    made: list[Waiting] = []

    def make(*given: int, **limits: float) -> Waiting:
        made.append(Waiting(FairQueue(*given, **limits)))
        return made[-1]

    yield make
    for one in made:
        one.end()


def run(waiting: Waiting, *leaving: str) -> list[str]:
    for name in leaving:
        until(lambda name=name: name in waiting.order)
        waiting.leave(name)
    until(lambda: not waiting.turns._queues)
    return waiting.order


def test_with_one_place_owners_take_turns(waiting: Callable[..., Waiting]) -> None:
    some = waiting(1)
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        some.ask(name)
    assert run(some, "a1", "b1", "c1", "a2", "b2") == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_of_several_places_nobody_holds_all(waiting: Callable[..., Waiting]) -> None:
    some = waiting(3, each=2)
    for name in ("a1", "a2", "a3"):
        some.ask(name)
    assert some.order == ["a1", "a2"]
    some.ask("b1")
    assert some.order == ["a1", "a2", "b1"]
    assert run(some, "b1", "a1") == ["a1", "a2", "b1", "a3"]


def test_who_holds_fewest_is_next(waiting: Callable[..., Waiting]) -> None:
    some = waiting(2)
    for name in ("a1", "a2", "a3", "b1"):
        some.ask(name)
    assert run(some, "a1", "b1") == ["a1", "a2", "b1", "a3"]


def test_few_of_an_owner_wait_and_others_are_let_in(waiting: Callable[..., Waiting]) -> None:
    some = waiting(1, waiting=2, crowd=3)
    for name in ("a1", "a2", "a3", "a4"):
        some.ask(name)
    assert some.refused == ["a4"]
    for name in ("b1", "b2", "c1"):
        some.ask(name)
    # Three wait, which is all: more of those who wait are refused, one of somebody else is not.
    assert some.refused == ["a4", "b2"]
    assert run(some, "a1", "b1", "c1", "a2") == ["a1", "b1", "c1", "a2", "a3"]


def test_nobody_waits_for_ever(waiting: Callable[..., Waiting]) -> None:
    turns = FairQueue(1, patience_s=0.05)
    with turns.of("a"):
        with pytest.raises(QueueFull) as caught, turns.of("b"):
            pass
        assert caught.value.retry_s == 0.05
    with ExitStack() as stack:
        # What gave up left nothing behind.
        stack.enter_context(turns.of("b"))


@pytest.mark.slow
def test_hostile_pictures_of_one_leave_anothers_waiting_for_one_at_most(tmp_path: Path) -> None:
    """Counted, as the machine may be busy: how many of the one were done when the other was served."""
    Image.new("RGB", (30, 20)).save(tmp_path / "small.png")
    Image.new("RGB", (7_000, 7_000)).save(tmp_path / "hostile.png")
    # Far below what any machine needs for so many pixels.
    with Decoder(timeout_s=0.1, turns=lambda: FairQueue(1)) as decoder, ThreadPoolExecutor(8) as pool:
        hostile, mine = decoder.of("hostile"), decoder.of("mine")
        done: list[str] = []

        def attack() -> None:
            with pytest.raises(MediaError) as caught:
                hostile.image(tmp_path / "hostile.png")
            done.append(caught.value.code)

        attacks = [pool.submit(attack) for _ in range(6)]
        until(lambda: sum(map(len, decoder.pool._turns._queues.values())) == 5)
        before = len(done)
        mine.timeout_s = 20
        assert mine.image(tmp_path / "small.png").width == 30
        assert len(done) - before <= 1
        for one in attacks:
            one.result()
    assert done == ["timeout"] * 6
