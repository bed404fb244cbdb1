"""What every index promises: row numbers that are never reused, and safe reads while one thread writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Index(ABC):
    """Rows of float32 vectors, searched by inner product.

    ``add`` numbers rows 0, 1, 2, … in order; a removed row's number is not given out again, so a caller may
    keep its own list of what each row stands for. One writer at a time, any number of readers.
    """

    dimension: int | None

    @abstractmethod
    def __len__(self) -> int:
        """How many rows can be found (added and not removed)."""

    @abstractmethod
    def add(self, vectors: Vectors) -> Rows:
        """Store [n, dimension] vectors; their row numbers int64 [n]. Raises ValueError on shape or NaN."""

    @abstractmethod
    def remove(self, rows: Rows) -> None:
        """Never return these rows again. Rows already removed are fine; unknown ones raise IndexError."""

    @abstractmethod
    def search(self, query: Vectors, k: int, rows_mask: Mask | None = None) -> tuple[Vectors, Rows]:
        """The best ``k`` rows of ``query`` [dimension]: scores descending, and rows, both at most k long.

        ``rows_mask`` [rows added] allows rows by number; one shorter than the index allows none of the rest.
        """


def checked(vectors: Vectors, shape: tuple[int, ...]) -> Vectors:
    """Contiguous float32 of that shape (-1: any), all finite; ValueError otherwise."""
    array = np.ascontiguousarray(vectors, np.float32)
    fits = array.ndim == len(shape) and all(
        want in (-1, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"vectors of shape {list(array.shape)} where {list(shape)} is expected")
    if not np.isfinite(array).all():
        raise ValueError("vectors hold NaN or infinity")
    return array


def as_matrix(stored: Sequence[bytes | memoryview]) -> Vectors:
    """Stored vectors of one model as float32 [n, d]; [0, 0] of none. Raises ValueError where their lengths differ."""
    lengths = {len(one) for one in stored}
    if len(lengths) > 1:
        raise ValueError(f"vectors of one model have {sorted(length // 4 for length in lengths)} numbers")
    width = lengths.pop() // 4 if lengths else 0
    return np.frombuffer(b"".join(stored), "<f4").reshape(len(stored), width)
