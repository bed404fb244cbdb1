"""Embeddings of text queries by tenant, model and text, kept in the process and in Valkey."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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
from tenants.retrieval.types import DIMENSION
from tenants.valkey import tenant_key

NAME = "embedding"
KEEP_S = 3_600
LOCAL_BYTES = 4 << 20


@dataclass(frozen=True)
class Embedded:
    """A query's vector float32 [256], read-only, and which layer had it."""

    vector: np.ndarray
    layer: str

    @property
    def hit(self) -> bool:
        """Whether this caller was spared the encoder."""
        return self.layer != MISS


class QueryCache:
    """The vector of a text, encoded once for all of a tenant's people who ask the same within the hour.

    Vectors depend on nothing that a tenant owns, yet keys name the tenant: whether somebody else asked the same must
    not be measurable. The text is in them as a digest. `canonical` gives one spelling to texts that the encoder cannot
    tell apart.
    """

    def __init__(
        self,
        embed: Callable[[uuid.UUID, str, str], np.ndarray],
        canonical: Callable[[uuid.UUID, str, str], str],
        shared: Callable[[], ValkeyStore] = valkey,
        counted: LookupCounts = counts,
    ) -> None:
        self.local = ProcessStore(LOCAL_BYTES)
        # Both of a tenant, a model and a text.
        self._embed, self._canonical = embed, canonical
        self._shared, self._counts = shared, counted
        self._flights: SingleFlight[tuple[bytes, str]] = SingleFlight()

    def find(self, tenant_id: uuid.UUID, text: str, model: str) -> Embedded:
        """The vector of a text in the space of a model. Raises what the encoder raises. Call it in no transaction."""
        text = self._canonical(tenant_id, model, text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        key = tenant_key(tenant_id, "query", model, digest)
        raw, layer = self.local.get(key), PROCESS
        if raw is None:
            (raw, layer), was_shared = self._flights.do(
                key, lambda: self._fetched(key, lambda: self._embed(tenant_id, model, text))
            )
            layer = SHARED if was_shared else layer
        self._counts.add(NAME, tenant_id, layer)
        return Embedded(np.frombuffer(raw, "<f4"), layer)

    def _fetched(self, key: str, embed: Callable[[], np.ndarray]) -> tuple[bytes, str]:
        if (raw := self.local.get(key)) is not None:
            # Somebody's encoding ended between this caller's look and its flight.
            return raw, PROCESS
        raw, layer = self._shared().get(key), VALKEY
        if raw is None or not _is_unit(raw):
            raw, layer = embed().astype("<f4").tobytes(), MISS
            self._shared().put(key, raw, KEEP_S)
        self.local.put(key, raw)
        return raw, layer


def _is_unit(raw: bytes) -> bool:
    """Whether these are the bytes of a vector of norm 1, as all of the space's are: damage shows in the norm."""
    if len(raw) != 4 * DIMENSION:
        return False
    vector = np.frombuffer(raw, "<f4").astype(np.float64)
    return bool(abs(vector @ vector - 1) < 1e-4)
