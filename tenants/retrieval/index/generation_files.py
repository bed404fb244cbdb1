"""Writing what a generation is built from: a tenant's vectors and what is known of them, streamed from the database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from django.db import connection

from tenants.retrieval.filters import facet_postings
from tenants.retrieval.index import samples
from tenants.retrieval.models import Vector
from tenants.retrieval.types import MODALITIES
from tenants.scope import current_tenant_id

FETCHED = 10_000
# One value a row, fixed in width: ids, number, modalities and the vector as they lie in the file.
ROW = np.dtype(
    [("asset", "S16"), ("dataset", "S16"), ("seq", ">i8"), ("kind", "u1"), ("part", "u1"), ("data", "V1024")]
)
WIRE = np.dtype([("values", ">i2"), ("width", ">i4"), *((name, ROW[name]) for name in ROW.names or ())])
BESIDE = np.dtype([(name, ROW[name]) for name in ROW.names or () if name != "data"])
HEADER, TRAILER = 19, b"\xff\xff"


@dataclass(frozen=True)
class Written:
    """How much a folder holds now."""

    vectors: int
    assets: int


def write(folder: Path, model: str, seq: int) -> Written:
    """Everything that `ml.indexes.generation.build` reads, into an empty folder. In the tenant's scope.

    The vectors up to `seq`, in the order of their assets. One statement sees one moment, which may be later than `seq`:
    what has been replaced or removed since is missing, and has a grave above `seq` that says so.
    """
    known = _write_vectors(folder / "vectors.f32", model, seq)
    kept = folder / "columns"
    kept.mkdir()
    found = _columns(known) | _segments(model, seq, known["seq"])
    for name, values in found.items():
        np.save(kept / f"{name}.npy", values, allow_pickle=False)
    facet_postings.export_facets(found["asset_ids"], folder)
    samples.read(current_tenant_id(), model).tofile(folder / "queries.f32")
    return Written(len(known), len(found["asset_ids"]))


def _write_vectors(path: Path, model: str, seq: int) -> np.ndarray:
    """Write the vectors; returns all else of the rows."""
    with path.open("wb") as file:
        return copy_rows(file, "model = %s AND seq <= %s", [model, seq])


def copy_rows(sink: IO[bytes], condition: str, parameters: list[Any]) -> np.ndarray:
    """The active tenant's vectors for which an SQL condition holds go to `sink`, in the order of their assets; returns
    all else of the rows, as BESIDE."""
    names = " ".join(f"WHEN '{name}' THEN '\\x{number:02x}'::bytea" for number, name in enumerate(MODALITIES))
    statement = f"""
        COPY (
            SELECT uuid_send(asset_id) || uuid_send(dataset_id) || int8send(seq)
                || CASE asset_modality {names} END || CASE modality {names} END || data
            FROM {Vector._meta.db_table}
            WHERE tenant_id = %s AND {condition} AND octet_length(data) = 1024
            ORDER BY asset_id, seq
        ) TO STDOUT (FORMAT BINARY)
    """  # noqa: S608 - constants only
    with connection.cursor() as cursor:
        received = _Received(sink)
        query = cursor.mogrify(statement, [str(current_tenant_id()), *parameters])
        cursor.copy_expert(query, received)
        return received.end()


class _Received:
    """Takes PostgreSQL's binary COPY format, whose rows are as wide as each other here, and writes the vectors out."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, bytearray()
        self._known = [np.empty(0, BESIDE)]

    def write(self, data: bytes) -> int:
        self._left += data
        if len(self._left) > HEADER + FETCHED * WIRE.itemsize:
            self._take()
        return len(data)

    def end(self) -> np.ndarray:
        """All but the vectors of what came."""
        self._take()
        if self._left[HEADER:] != TRAILER:
            raise ValueError("the database sent vectors in an unknown form")
        return np.concatenate(self._known)

    def _take(self) -> None:
        """The whole rows at the beginning; the header stays for the next time to skip."""
        end = len(self._left) - (len(self._left) - HEADER) % WIRE.itemsize
        rows = np.frombuffer(bytes(self._left[HEADER:end]), WIRE)
        if (rows["width"] != ROW.itemsize).any():
            raise ValueError("the database sent vectors in an unknown form")
        del self._left[HEADER:end]
        self._file.write(rows["data"].tobytes())
        beside = np.empty(len(rows), BESIDE)
        for name in BESIDE.names or ():
            beside[name] = rows[name]
        self._known.append(beside)


def _columns(known: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays that `tenants.retrieval.index.segments.FileSegment` reads."""
    assets = known["asset"]
    first = np.ones(len(known), bool)
    first[1:] = assets[1:] != assets[:-1]
    dataset_ids, datasets = np.unique(known["dataset"][first], return_inverse=True)
    return {
        "asset_ids": assets[first],
        "asset_datasets": datasets.astype(np.int32),
        "asset_kinds": known["kind"][first],
        "dataset_ids": dataset_ids,
        "starts": np.append(np.flatnonzero(first), len(known)).astype(np.int64),
        "owners": (np.cumsum(first) - 1).astype(np.int32),
        "parts": known["part"].copy(),
        "seqs": known["seq"].astype(np.int64),
    }


def _segments(model: str, seq: int, seqs: np.ndarray) -> dict[str, np.ndarray]:
    """Which part of their asset some rows stand for, as JSON one after the other."""
    statement = f"""
        SELECT seq, segment::text FROM {Vector._meta.db_table}
        WHERE tenant_id = %s AND model = %s AND seq <= %s AND segment IS NOT NULL
    """  # noqa: S608 - constants only
    order = np.argsort(seqs)
    found: list[tuple[int, bytes]] = []
    with connection.chunked_cursor() as cursor:
        cursor.execute(statement, [str(current_tenant_id()), model, seq])
        for number, text in cursor:
            place = int(np.searchsorted(seqs, number, sorter=order))
            # One that came and went between the two statements is in the first one only, or in neither.
            if place < len(seqs) and seqs[order[place]] == number:
                found.append((int(order[place]), text.encode()))
    found.sort(key=lambda pair: pair[0])
    body = b"".join(text for _, text in found)
    return {
        "segment_rows": np.array([row for row, _ in found], np.int64),
        "segment_ends": np.cumsum([len(text) for _, text in found], dtype=np.int64),
        "segment_bytes": np.frombuffer(body, np.uint8),
    }
