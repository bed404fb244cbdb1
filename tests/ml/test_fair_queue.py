"""Places are shared between owners: turns, never first come, first served."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
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


class Granting(FairQueue):
    """Keeps who was given a place, and who was waiting just before."""

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self.granted: list[tuple[Hashable, frozenset[Hashable]]] = []

    def _grant(self) -> None:
        waiting, held = frozenset(self._queues), Counter(self._held)
        super()._grant()
        self.granted += [(owner, waiting) for owner in (Counter(self._held) - held)]


@pytest.mark.slow
def test_hostile_pictures_of_one_leave_anothers_waiting_for_one_at_most(tmp_path: Path) -> None:
    """Read from the queue's own turns, as the machine may be busy: whom it served while the other waited."""
    Image.new("RGB", (30, 20)).save(tmp_path / "small.png")
    Image.new("RGB", (7_000, 7_000)).save(tmp_path / "hostile.png")
    turns, enough = Granting(1), threading.Event()
    # Far below what any machine needs for so many pixels.
    with Decoder(timeout_s=0.1, turns=lambda: turns) as decoder, ThreadPoolExecutor(6) as pool:
        hostile, mine = decoder.of("hostile"), decoder.of("mine")

        def attack() -> list[str]:
            codes = []
            while not enough.is_set():
                with pytest.raises(MediaError) as caught:
                    hostile.image(tmp_path / "hostile.png")
                codes.append(caught.value.code)
            return codes

        attacks = [pool.submit(attack) for _ in range(6)]
        try:
            # All are at it, and whoever is done comes again: there are always some who wait.
            until(lambda: len(turns._queues.get("hostile", ())) >= 4)
            mine.timeout_s = 20
            assert mine.image(tmp_path / "small.png").width == 30
        finally:
            enough.set()
        codes = [code for one in attacks for code in one.result()]
    assert set(codes) == {"timeout"}
    assert "mine" in {owner for owner, _ in turns.granted}
    assert [owner for owner, waiting in turns.granted if "mine" in waiting] == ["mine"]
