"""On what the encoders of this process run, and batches in halves where its memory does not suffice."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

log = logging.getLogger(__name__)

Item = TypeVar("Item")

#: Sessions of ONNX Runtime that were opened, by ``cuda`` and ``cpu``, for metrics.
opened: Counter[str] = Counter()
#: Batches that were halved because memory did not suffice, for metrics.
halved = 0

#: What ONNX Runtime's arena, CUDA, cuDNN, cuBLAS, torch and the C++ runtime say; no error code is left in Python.
PHRASES = (
    "failed to allocate memory for requested buffer",
    "out of memory",
    "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed",
    "available memory of",  # the arena at its gpu_mem_limit
    "std::bad_alloc",
    "can't allocate memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less at a time may succeed."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(phrase in words for phrase in PHRASES)


def in_halves(run: Callable[[Sequence[Item]], Any], items: Sequence[Item]) -> Any:
    """``run(items)``, an array [n, …] or a tuple of such; in halves, over and over, where memory does not suffice.

    Raises what ``run`` raises for other reasons, and for a single item that does not fit.
    """
    global halved
    try:
        return run(items)
    except Exception as error:
        if len(items) < 2 or not is_out_of_memory(error):
            raise
        halved += 1
        log.warning("a batch of %d does not fit the memory; going on by halves", len(items))
    # Outside of the handler, whose traceback would keep what was allocated.
    middle = len(items) // 2
    one, other = in_halves(run, items[:middle]), in_halves(run, items[middle:])
    if isinstance(one, tuple):
        return tuple(np.concatenate(pair) for pair in zip(one, other, strict=True))
    return np.concatenate([one, other])
