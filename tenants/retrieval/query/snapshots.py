"""A ranking as a few kilobytes: what the cursors of a search refer to for five minutes."""

from __future__ import annotations

import json
import uuid
import zlib
from typing import Any

import numpy as np

from tenants.retrieval.types import MODALITIES, Hit

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
