"""The best rows of an index generation for a query vector, kept in the process and in Valkey.

A generation never changes, so what was found in it once is true for as long as it exists. Whatever does change
(newer vectors, deleted assets, filters) is applied to every answer afterwards: nothing stale is served, and no write
has to remove anything here. A new generation has another id and starts empty; the old lists expire.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from django.conf import settings

from tenants.retrieval.cache.async_writer import async_writer
from tenants.retrieval.cache.cache_layers import (
    MISS,
    PROCESS,
    SHARED,
    VALKEY,
    LookupCounts,
    ProcessStore,
    SingleFlight,
    ValkeyStore,
    counts,
    valkey,
)
from tenants.valkey import tenant_key

NAME = "candidates"
# Rows of the shortest list. Longer ones have four times as many, and so on: finding 256 takes twice as long as 64.
DEPTH = 64
# Deeper lists than this are found and not kept.
MAX_DEPTH = 4_096
KEEP_S = 3_600

# Number of rows and checksum of what follows: scores float32, then rows uint32.
HEADER = struct.Struct("<II")
# In the key: values that another version wrote are not seen.
VERSION = "1"

Lists = tuple[np.ndarray, np.ndarray]
# Tenant, generation, digest of the vector, depth class.
Key = tuple[uuid.UUID, uuid.UUID, bytes, int]


@dataclass(frozen=True)
class CandidateList:
    """Scores float32 [m] and rows int64 [m] as `compute` returned them, read-only, and which layer had them."""

    scores: np.ndarray
    rows: np.ndarray
    layer: str

    @property
    def hit(self) -> bool:
        """Whether this caller was spared the computation."""
        return self.layer != MISS


def depth_class(depth: int) -> int:
    """How many rows to find for a caller who needs `depth`: few different numbers, so that lists are shared."""
    kept = DEPTH
    while kept < depth:
        kept *= 4
    return kept


class CandidateCache:
    """See `get`. One for the process; thread-safe."""

    def __init__(
        self,
        budget_bytes: int,
        shared: Callable[[], ValkeyStore] = valkey,
        counted: LookupCounts = counts,
        keep: Callable[[str, bytes, int], object] | None = None,
    ) -> None:
        self.local = ProcessStore(budget_bytes)
        self._shared, self._counts = shared, counted
        # How to write to Valkey where that is not to be waited for.
        self._keep = keep or (lambda *entry: shared().put(*entry))
        self._flights: SingleFlight[tuple[bytes, str]] = SingleFlight()

    def get(
        self,
        tenant_id: uuid.UUID,
        generation_id: uuid.UUID,
        vector: np.ndarray,
        depth: int,
        compute: Callable[[], Lists],
        *,
        quick: bool = False,
    ) -> CandidateList:
        """The generation's best rows for a query vector float32 [256], at least `depth` where there are so many.

        `compute() -> (scores float32 [m], rows int64 [m])` searches the generation, without any filter, for
        `depth_class(depth)` rows; it runs once for all who ask at the same moment, and what it raises goes to all of
        them. Call this outside of a transaction: it may wait for Valkey or for another caller. `quick`: it computes
        faster than Valkey answers, which then is not asked.
        """
        raw, layer = self._found(tenant_id, generation_id, vector, depth_class(depth), compute, quick)
        self._counts.add(NAME, tenant_id, layer)
        return CandidateList(*_unpacked(raw), layer)

    def _found(
        self,
        tenant_id: uuid.UUID,
        generation_id: uuid.UUID,
        vector: np.ndarray,
        kept: int,
        compute: Callable[[], Lists],
        quick: bool,
    ) -> tuple[bytes, str]:
        if kept > MAX_DEPTH:
            return _packed(*compute()), MISS
        digest = hashlib.blake2b(np.ascontiguousarray(vector, dtype="<f4").data, digest_size=16).digest()
        key = (tenant_id, generation_id, digest, kept)
        if (raw := self.local.get(key)) is not None:
            return raw, PROCESS
        (raw, layer), was_shared = self._flights.do(key, lambda: self._fetched(key, compute, quick))
        return raw, SHARED if was_shared else layer

    def _fetched(self, key: Key, compute: Callable[[], Lists], quick: bool) -> tuple[bytes, str]:
        if (raw := self.local.get(key)) is not None:
            # Somebody's computation ended between this caller's look and its flight.
            return raw, PROCESS
        if quick:
            raw = _packed(*compute())
            self.local.put(key, raw)
            return raw, MISS
        tenant_id, generation_id, digest, kept = key
        name = tenant_key(tenant_id, "candidates", VERSION, generation_id.hex, f"{digest.hex()}.{kept}")
        raw, layer = self._shared().get(name), VALKEY
        if raw is None or not _is_whole(raw):
            raw, layer = _packed(*compute()), MISS
            self._keep(name, raw, KEEP_S)
        self.local.put(key, raw)
        return raw, layer


def _packed(scores: np.ndarray, rows: np.ndarray) -> bytes:
    """Eight bytes a row and a header. Raises ValueError for what is no list of rows."""
    if scores.shape != rows.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and rows {rows.shape} do not belong together")
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < 1 << 32:
        raise ValueError("row numbers are outside of what 32 bits hold")
    body = scores.astype("<f4").tobytes() + rows.astype("<u4").tobytes()
    return HEADER.pack(len(rows), zlib.crc32(body)) + body


def _is_whole(raw: bytes) -> bool:
    if len(raw) < HEADER.size:
        return False
    count, checksum = HEADER.unpack_from(raw)
    return len(raw) == HEADER.size + 8 * count and zlib.crc32(memoryview(raw)[HEADER.size :]) == checksum


def _unpacked(raw: bytes) -> Lists:
    count = HEADER.unpack_from(raw)[0]
    scores = np.frombuffer(raw, "<f4", count, HEADER.size)
    rows = np.frombuffer(raw, "<u4", count, HEADER.size + 4 * count).astype(np.int64)
    rows.flags.writeable = False
    return scores, rows


cache = CandidateCache(settings.CANDIDATE_MEMORY_BYTES, keep=async_writer.put)
get = cache.get
