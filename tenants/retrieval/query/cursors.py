"""Cursors: what a search kept for its further pages, for five minutes.

After the first page that is the seed: the query as a vector with its restrictions, the sequence number up to which it
saw, and what it showed. Only who asks for the second page pays for a deep ranking, which then takes the seed's place.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
import uuid
import zlib
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from django.utils.translation import gettext

from tenants.errors import CursorExpired, Invalid
from tenants.retrieval.cache.async_writer import WAIT_S, async_writer
from tenants.retrieval.types import MAX_DEPTH, MODALITIES, Hit
from tenants.valkey import client, tenant_key

# Up to so many hits are not worth compressing.
SHORT = 50
ROW = np.dtype([("asset", "V16"), ("score", "<f4"), ("part", "u1")])


def pack(hits: list[Hit], meta: dict[str, Any]) -> bytes:
    """21 bytes a hit, and beside them the answer's other fields and the segments."""
    rows = np.array([(hit.asset_id.bytes, hit.score, MODALITIES.index(hit.modality)) for hit in hits], ROW)
    segments = {number: hit.segment for number, hit in enumerate(hits) if hit.segment}
    beside = zlib.compress(
        json.dumps({"meta": meta, "segments": segments}).encode(), 1 if len(hits) > SHORT else 0
    )
    return len(rows).to_bytes(4, "little") + rows.tobytes() + beside


def unpack(raw: bytes) -> tuple[list[Hit], dict[str, Any]]:
    count = int.from_bytes(raw[:4], "little")
    rows = np.frombuffer(raw, ROW, count, offset=4)
    beside = json.loads(zlib.decompress(raw[4 + rows.nbytes :]))
    return [_hit(row, beside["segments"].get(str(n))) for n, row in enumerate(rows)], beside["meta"]


def _hit(row: np.void, segment: dict | None) -> Hit:
    asset_id = uuid.UUID(bytes=row["asset"].tobytes())
    return Hit(asset_id, float(row["score"]), MODALITIES[int(row["part"])], segment)


KEEP_S = 300
# Waits for a cursor that is not there: together many times what another process takes to write one.
LATE_S = (2 * WAIT_S, 8 * WAIT_S)
_SEED, _RANKING = b"s", b"r"


@dataclass
class Seed:
    """A search after its first page. `hits` were shown; `seq`: it saw nothing newer; `vector` float32 [256]."""

    vector: np.ndarray
    seq: int
    query: dict[str, Any]
    hits: list[Hit]
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass
class Ranking:
    """All hits that the pages of a search show, the best first.

    `wanted`: the words to highlight, None for none. `sizes`: of groups of duplicates, whose hits follow each other;
    None: each hit stands alone.
    """

    hits: list[Hit]
    meta: dict[str, Any]
    wanted: list[str] | None = None
    sizes: list[int] | None = None

    def groups(self) -> list[list[Hit]]:
        if self.sizes is None:
            return [[hit] for hit in self.hits]
        hits = iter(self.hits)
        return [list(islice(hits, size)) for size in self.sizes]


def keep(tenant_id: uuid.UUID, search_id: str, what: Seed | Ranking) -> bool:
    """False if it could not be kept: then there is no next page."""
    if isinstance(what, Seed):
        beside = {"meta": what.meta, "query": what.query, "seq": what.seq}
        body = _SEED + what.vector.astype("<f4").tobytes() + pack(what.hits, beside)
    else:
        beside = {"meta": what.meta, "wanted": what.wanted, "sizes": what.sizes}
        body = _RANKING + pack(what.hits, beside)
    return async_writer.put(_key(tenant_id, search_id), body, KEEP_S)


def kept(tenant_id: uuid.UUID, search_id: str) -> Seed | Ranking:
    """Raises CursorExpired, and Valkey's errors."""
    raw = _read(_key(tenant_id, search_id))
    if raw is None:
        raise CursorExpired(gettext("Cursors are kept for five minutes. Send the search again without one."))
    if raw[:1] == _RANKING:
        hits, beside = unpack(raw[1:])
        return Ranking(hits, **beside)
    hits, beside = unpack(raw[1 + 1024 :])
    vector = np.frombuffer(raw, "<f4", 256, offset=1)
    return Seed(vector, beside["seq"], beside["query"], hits, beside["meta"])


def _read(key: str) -> bytes | None:
    """Another process may be about to write it: its answer can reach a client before Valkey."""
    for pause in (*LATE_S, None):
        raw = async_writer.get(key) or client().get(key)
        if raw is not None or pause is None:
            return raw
        time.sleep(pause)
    return None


def _key(tenant_id: uuid.UUID, search_id: str) -> str:
    return tenant_key(tenant_id, "search", search_id)


def encode(search_id: str, offset: int) -> str:
    return base64.urlsafe_b64encode(f"{search_id}.{offset}".encode()).decode().rstrip("=")


def decode(cursor: str) -> tuple[str, int]:
    """Raises Invalid for anything that `encode` did not make."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        search_id, _, offset = raw.partition(".")
        number = int(offset)
        if not 0 < number < MAX_DEPTH:
            raise ValueError(offset)
        return str(uuid.UUID(search_id)), number
    except (ValueError, binascii.Error) as error:
        raise Invalid(gettext("This is not a cursor from an earlier answer."), pointer="/cursor") from error
