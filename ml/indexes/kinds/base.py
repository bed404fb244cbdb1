"""What a kind of approximate index promises: one file, built once, mapped and searched by many threads."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import faiss
import numpy as np

from ml.catalog import Catalog
from ml.indexes.base import Mask, Rows, Vectors

CATALOG = Catalog("ml.indexes.kinds")

#: Numbers only, so that they go into a manifest as they are.
Settings = Mapping[str, int]

#: Called with the share done, 0 to 1.
Progress = Callable[[float], None]

#: Rows a call of faiss's ``add``: small enough for progress to move.
BLOCK = 10_000


class Kind(ABC):
    """An approximate index over float32 [n, d] rows, which it reads from the caller's own mapping.

    Scores are inner products of the float32 rows, whatever the file keeps. A search uses the caller's thread
    alone and may run in any number of threads at once. ``effort`` is the kind's own measure of how hard to
    look; more never finds less, and ``efforts`` are the values worth measuring, from cheap to strong.
    """

    efforts: ClassVar[Sequence[int]]

    @classmethod
    @abstractmethod
    def ladder(cls, count: int) -> list[Settings]:
        """Settings for ``count`` rows, from cheap to build to strong. Never empty."""

    @classmethod
    @abstractmethod
    def build(
        cls, path: Path, vectors: Vectors, settings: Settings, *, threads: int = 1, progress: Progress
    ) -> None:
        """Write the index of ``vectors`` [n >= 1, d] into the one file ``path``."""

    @classmethod
    @abstractmethod
    def open(cls, path: Path, vectors: Vectors, settings: Settings) -> Self:
        """Map what ``build`` wrote beside the same ``vectors``. Raises ValueError when they do not fit."""

    @abstractmethod
    def search(
        self, query: Vectors, k: int, effort: int, allowed: Mask | None = None
    ) -> tuple[Vectors, Rows]:
        """About the best ``k`` of the rows that ``allowed`` [n] allows: scores descending, and rows.

        May find fewer than there are. ``query`` is contiguous float32 [d].
        """


def load_kind(kind_id: str) -> type[Kind]:
    """The class of ``ml/indexes/kinds/<id>.py``. Raises UnknownPlugin."""
    module = CATALOG.load(kind_id)
    classes = [
        found
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Kind) and found.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise TypeError(f"{module.__name__} should define one Kind, not {len(classes)}")
    return classes[0]


def selector(allowed: Mask) -> Any:
    """faiss's selector of the rows that a mask allows. Keep it for as long as the search runs."""
    return faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))  # type: ignore[call-arg,arg-type]


def found(scores: Vectors, rows: Rows) -> tuple[Vectors, Rows]:
    """One query's answer [1, k] without the places that faiss left empty."""
    kept = rows[0] >= 0
    return scores[0][kept], rows[0][kept]


def map_index(path: Path, count: int, dimension: int) -> Any:
    """faiss's index in a file, mapped without copying. Raises ValueError when it is not of that shape."""
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise ValueError(f"{path.name} cannot be read") from error
    if (index.ntotal, index.d) != (count, dimension):
        raise ValueError(f"{path.name} is of {index.ntotal} x {index.d}, not of {count} x {dimension}")
    return index
