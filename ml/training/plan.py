"""Which item of a stream is for training, which to stop early, which to judge, and which for nothing.

One byte an item, by its place in the stream: the stream itself is never held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST, LEFT_OUT = range(4)

#: Shares of the groups that are held out where the data do not say.
VAL_SHARE = TEST_SHARE = 0.1
#: Up to so many groups the shares are met exactly; above, chance meets them and a group never changes sides.
EXACT_GROUPS = 2_000


@dataclass(frozen=True)
class Plan:
    """``codes`` uint8 [n]: TRAIN, VAL, TEST or LEFT_OUT for each item of the stream."""

    codes: NDArray[np.uint8]

    def count(self, code: int) -> int:
        return int((self.codes == code).sum())

    @property
    def digest(self) -> str:
        """The same for the same data: a checkpoint of other data is not gone on with."""
        return hashlib.sha256(self.codes.tobytes()).hexdigest()[:16]


class Selection:
    """The items of one split; iterating streams them anew each time.

    Not more than ``keep`` items, as many as the shuffle's buffer holds anyway, are read once and kept.
    """

    def __init__(self, items: Iterable[Any], plan: Plan, code: int, keep: int = 0) -> None:
        self.items, self.plan, self.code, self.keep = items, plan, code, keep
        self._kept: list[Any] | None = None

    def __len__(self) -> int:
        return self.plan.count(self.code)

    def __iter__(self) -> Iterator[Any]:
        if len(self) > self.keep:
            return self._stream()
        if self._kept is None:
            self._kept = list(self._stream())
        return iter(self._kept)

    def _stream(self) -> Iterator[Any]:
        # Not strict: a shard that grew since it was planned brings nothing that was not looked at.
        for item, code in zip(self.items, self.plan.codes, strict=False):
            if code == self.code:
                yield item


def hashed(text: str | bytes) -> int:
    """Sixty-four bits that are the same everywhere and always."""
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big")


def assign(groups: NDArray[np.uint64], declared: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes [n] from the groups' hashes and the declared split of each item (LEFT_OUT where none is declared).

    Declared val and test stay; what is missing of them is drawn by the group's hash from the rest.
    """
    codes = declared.copy()
    free = (declared == LEFT_OUT) | (declared == TRAIN)
    shares = [
        0.0 if (declared == code).any() else share for code, share in ((VAL, VAL_SHARE), (TEST, TEST_SHARE))
    ]
    below_val, below_test = _bounds(groups[free], shares)
    codes[free] = TRAIN
    codes[free & (groups < below_test)] = TEST
    codes[free & (groups < below_val)] = VAL
    return codes


def _bounds(groups: NDArray[np.uint64], shares: list[float]) -> tuple[np.uint64, np.uint64]:
    """Hashes below which a group is val, and below which it is at most test."""
    different = np.unique(groups)
    if len(different) > EXACT_GROUPS:
        ends = np.cumsum(shares) * 2.0**64
        return np.uint64(ends[0]), np.uint64(ends[1])
    counts = np.cumsum([int(np.ceil(share * len(different))) for share in shares])
    padded = np.append(different, np.uint64(2**64 - 1))
    return padded[counts[0]], padded[min(counts[1], len(different))]


# --- A run -----------------------------------------------------------------------------------------------
# What a run is made of and where it stands: its data, its limits, its progress.


PATIENCE = 6
CHECKPOINT_S = 20.0


class TrainingError(RuntimeError):
    """Why training stops; ``code`` is stable (``no_pairs``, ``not_finite``, …), the message is for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True)
class Data:
    """One phase's items."""

    train: Selection
    val: Selection
    test: Selection


@dataclass(frozen=True)
class Limits:
    """``wall_s``: stop with the best so far after so many seconds; None is no limit."""

    wall_s: float | None = None
    patience: int = PATIENCE
    checkpoint_s: float = CHECKPOINT_S


@dataclass
class Progress:
    """Where a run stands: the JSON part of a checkpoint."""

    batch: int
    phase: int = 0
    epoch: int = 0
    seen: int = 0
    best: float | None = None
    waited: int = 0
    steps: int = 0
    loss_sum: float = 0.0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = "epochs"
