"""How tests wait: for something that becomes true, or, where only real time will do, for a while, with the reason said.

No other file of tests sleeps, and none asserts that little time has passed: on shared cores that says how busy they are
(tests/test_time.py). What depends on the time of day or on an expiry is given a clock.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

#: By how much waits are longer than is written, where a machine is slow or busy: .ci/run says 3.
FACTOR = float(os.environ.get("CROSSLIGHT_PATIENCE") or 1)
#: Until it is believed that something never comes: longer than a busy machine takes for anything that is waited for.
PATIENCE_S = 60.0 * FACTOR

T = TypeVar("T")


def until(
    condition: Callable[[], T],
    seconds: float = 60.0,
    message: Callable[[], object] | str = "it did not come to that",
    every_s: float = 0.02,
) -> T:
    """What the condition answers, once that is true. Raises AssertionError with the message after so many seconds, of
    which FACTOR makes more."""
    seconds *= FACTOR
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            told = message() if callable(message) else message
            raise AssertionError(f"{told}\n(gave up after {seconds:.0f} s)")
        time.sleep(every_s)
    return answer


def answers(call: Callable[[], object], *failures: type[BaseException]) -> Callable[[], bool]:
    """For `until`: whether a call comes back without one of these failures."""

    def condition() -> bool:
        try:
            call()
        except failures:
            return False
        return True

    return condition


def pause(seconds: float, why: str) -> None:
    """Let real time pass, at least so much; `why`: what has to be slow, or must not happen meanwhile."""
    assert why
    time.sleep(seconds)


async def pause_async(seconds: float, why: str) -> None:
    """As `pause`, while other tasks go on; 0 lets each of them take one step."""
    assert why
    await asyncio.sleep(seconds)


class Clock:
    """A clock that stands still until it is moved, in place of `time.monotonic` or `time.time`."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds
