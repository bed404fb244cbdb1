"""A sample of the query vectors that people really send: what an index's recall is measured on.

Kept in Valkey only, as vectors, a thousand a tenant and model, for a month; a loss costs nothing but realism.
"""

from __future__ import annotations

import random
import uuid
from typing import Any

import numpy as np

from tenants.retrieval.cache.async_writer import async_writer
from tenants.valkey import Unavailable, client, tenant_key

KEPT = 1_000
KEEP_S = 30 * 24 * 3600
SHARE = 1 / 8


def note(tenant_id: uuid.UUID, model: str, vector: np.ndarray) -> None:
    """Remember one query in eight. `vector`: float32 [256]."""
    if random.random() >= SHARE:  # noqa: S311 - a sample, not a secret
        return
    key, raw = _key(tenant_id, model), vector.astype("<f4").tobytes()

    def write(pipe: Any) -> None:
        pipe.lpush(key, raw)
        pipe.ltrim(key, 0, KEPT - 1)
        pipe.expire(key, KEEP_S)

    async_writer.do(write)


def read(tenant_id: uuid.UUID, model: str) -> np.ndarray:
    """float32 [n, 256], distinct; empty without Valkey."""
    try:
        raw = client().lrange(_key(tenant_id, model), 0, -1)
    except Unavailable:
        raw = []
    whole = sorted({one for one in raw if len(one) == 1024})
    return np.frombuffer(b"".join(whole), "<f4").reshape(-1, 256)


def _key(tenant_id: uuid.UUID, model: str) -> str:
    return tenant_key(tenant_id, "queries", model)
