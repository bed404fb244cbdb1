"""Bounds on CPU time, as ratios: what a call takes beside another one, measured in turns on the same machine.

Seconds say which processor it was, and who else was there. Only tests of the tier `speed` measure (tests/test_time.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: Below this a clock and the collector of garbage say more than what was measured.
FLOOR_S = 0.005
#: At so many times the size, time that grows as the size does is as many times as long; with its square it is 16.
TIMES = 4
LINEAR = 9.0


def ratio(call: Callable[[], object], beside: Callable[[], object], rounds: int = 5) -> float:
    """CPU time of one call over that of another: of each the least of several, taken in turns."""
    spent = [(cpu_s(call), cpu_s(beside)) for _ in range(rounds)]
    return min(first for first, _ in spent) / max(min(second for _, second in spent), FLOOR_S)


def growth(call: Callable[[int], object], size: int) -> float:
    """How many times as long a call takes at TIMES the size. Compare with LINEAR."""
    return ratio(lambda: call(TIMES * size), lambda: call(size), 3)


def cpu_s(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
