"""What a search leaves behind for a day, so that feedback on it can be learnt from: its parts, and what it showed.

Kept in Valkey by the writer that nobody waits for; lost without harm. No words of the query are in it, and vectors
only where there are several parts to weigh. Each further page adds what it showed.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from ml.alignment.gating import PARTS, Part, inputs_of
from tenants.retrieval.cache.async_writer import async_writer
from tenants.retrieval.query.fusion_weights import Weighed
from tenants.valkey import client, tenant_key

KEEP_S = 24 * 3600
_HALF, _SINGLE = "<f2", "<f4"


class Trace(msgspec.Struct, array_like=True):
    """`parts` in half precision by name; `inputs` and `prior` as the gate read them. All three are empty where nothing
    could be weighed. `end`: where the next page begins."""

    task: str
    model: str
    shown: bytes
    end: int
    weights: dict[str, float] = {}
    parts: dict[str, bytes] = {}
    inputs: bytes = b""
    prior: dict[str, float] = {}


class Page(msgspec.Struct, array_like=True):
    shown: bytes
    end: int


@dataclass(frozen=True)
class Traced:
    """A search as feedback needs it: the assets that it showed, in their order, and what was weighed."""

    task: str
    model: str
    shown: list[uuid.UUID]
    weights: dict[str, float] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: np.ndarray | None = None
    prior: dict[str, float] = field(default_factory=dict)


def keep(
    tenant_id: uuid.UUID,
    search_id: str,
    *,
    model: str,
    weighed: Weighed,
    parts: dict[str, Part],
    shown: Iterable[uuid.UUID],
    end: int,
) -> None:
    """Keep a search with its first page."""
    trace = Trace(weighed.task.slug, model, _packed(shown), end)
    # What the gate cannot weigh leaves no trace of how it was weighed.
    if len(parts) > 1 and all(part in PARTS for part in parts):
        trace.weights, trace.prior = weighed.weights, weighed.prior
        trace.parts = {name: part.vector.astype(_HALF).tobytes() for name, part in parts.items()}
        trace.inputs = inputs_of(parts).astype(_SINGLE).tobytes()
    async_writer.put(_key(tenant_id, search_id), msgspec.msgpack.encode(trace), KEEP_S)


def keep_page(
    tenant_id: uuid.UUID, search_id: str, *, start: int, shown: Iterable[uuid.UUID], end: int
) -> None:
    """Keep what a further page showed."""
    async_writer.put(
        f"{_key(tenant_id, search_id)}:{start}", msgspec.msgpack.encode(Page(_packed(shown), end)), KEEP_S
    )


def find(tenant_id: uuid.UUID, search_id: uuid.UUID) -> Traced | None:
    """A search of this tenant of the last day, or None. Raises Valkey's errors."""
    raw = _read(_key(tenant_id, str(search_id)))
    if raw is None:
        return None
    trace = msgspec.msgpack.decode(raw, type=Trace)
    shown, end = _unpacked(trace.shown), trace.end
    while (raw := _read(f"{_key(tenant_id, str(search_id))}:{end}")) is not None:
        page = msgspec.msgpack.decode(raw, type=Page)
        if page.end <= end:
            break
        shown, end = [*shown, *_unpacked(page.shown)], page.end
    vectors = {name: np.frombuffer(half, _HALF).astype(np.float32) for name, half in trace.parts.items()}
    inputs = np.frombuffer(trace.inputs, _SINGLE) if trace.inputs else None
    return Traced(trace.task, trace.model, shown, trace.weights, vectors, inputs, trace.prior)


def _read(key: str) -> bytes | None:
    found: bytes | None = async_writer.get(key) or client().get(key)
    return found


def _packed(ids: Iterable[uuid.UUID]) -> bytes:
    return b"".join(one.bytes for one in ids)


def _unpacked(raw: bytes) -> list[uuid.UUID]:
    return [uuid.UUID(bytes=raw[start : start + 16]) for start in range(0, len(raw), 16)]


def _key(tenant_id: uuid.UUID, search_id: str) -> str:
    # Under "search", so that erasing what searches showed forgets these as well.
    return tenant_key(tenant_id, "search", "trace", search_id)
