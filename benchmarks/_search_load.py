"""Tenants with many assets, written as rows: what imports of days would leave, in minutes.

COPY as the embedded superuser, for COPY is refused under row-level security. Every asset has its own blob, one vector
and one facet; blobs have no files, for searches open none. Words for hybrid search are left out.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import psycopg2
from _search_real import Vectors

from standalone.files import read_json
from standalone.stack import Stack

PLAN = "bench"
#: A filter `{"group": name}` and the share of assets that it leaves; the rest are in a hundred other groups.
SHARES = {"tenth": 0.1, "hundredth": 0.01, "thousandth": 0.001}
OTHERS = 100
CHUNK = 50_000
SUPERUSER = "crosslight_admin"
SCOPES = ["read", "write", "search"]


@dataclass(frozen=True)
class Tenant:
    slug: str
    id: uuid.UUID
    key: str
    dataset: uuid.UUID
    count: int


@contextmanager
def database(stack: Stack) -> Iterator[Any]:
    """A cursor of the embedded superuser; commits at the end."""
    connection = connect(stack)
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def connect(stack: Stack, database_name: str = "") -> Any:
    return psycopg2.connect(superuser_url(stack, database_name))


def superuser_url(stack: Stack, database_name: str = "") -> str:
    password = read_json(stack.data_dir / "secrets.json", {})["superuser_password"]
    where = urlsplit(stack.env["MIGRATION_DATABASE_URL"])
    where = where._replace(netloc=f"{SUPERUSER}:{password}@{where.hostname}:{where.port}")
    return urlunsplit(where._replace(path=f"/{database_name}") if database_name else where)


def groups(count: int) -> np.ndarray:
    """The group of each row: names of `SHARES`, or `other-<n>`."""
    chance = np.random.default_rng(7)
    at = chance.random(count)
    names = np.array([f"other-{n}" for n in chance.integers(0, OTHERS, count)], "U16")
    low = 0.0
    for name, share in SHARES.items():
        names[(at >= low) & (at < low + share)] = name
        low += share
    return names


def create_tenant(cursor: Any, slug: str, count: int) -> Tenant:
    """A tenant without limits, its key and one dataset; rows as the services write them."""
    tenant, dataset, key_id = (uuid.UUID(bytes=bytes(row)) for row in _ids(3))
    prefix, secret = f"cl{secrets.token_hex(5)}", secrets.token_urlsafe(32)
    cursor.execute(
        "INSERT INTO plan (slug, name, limits, rate_per_minute) VALUES (%s, 'Bench', '{}', NULL) "
        "ON CONFLICT DO NOTHING", [PLAN],
    )  # fmt: skip
    cursor.execute(
        "INSERT INTO tenant (id, slug, name, plan_id, state, requires_second_factor, created_at) "
        "VALUES (%s, %s, %s, %s, 'active', false, now())", [str(tenant), slug, slug, PLAN],
    )  # fmt: skip
    cursor.execute(
        "INSERT INTO api_key (id, tenant_id, name, prefix, created_at) VALUES (%s, %s, 'bench', %s, now())",
        [str(key_id), str(tenant), prefix],
    )
    cursor.execute(
        "INSERT INTO key_digest (prefix, digest, tenant_id, key_id, scopes) VALUES (%s, %s, %s, %s, %s)",
        [prefix, hashlib.sha256(secret.encode()).digest(), str(tenant), str(key_id), json.dumps(SCOPES)],
    )
    cursor.execute(
        "INSERT INTO dataset (id, tenant_id, name, description, metadata_schema, created_at) "
        "VALUES (%s, %s, 'rows', '', %s, now())",
        [str(dataset), str(tenant), json.dumps({"group": {"type": "text"}})],
    )
    return Tenant(slug, tenant, f"{prefix}.{secret}", dataset, count)


def load(stack: Stack, tenant: Tenant, vectors: Vectors, facets: np.ndarray, model: str) -> float:
    """Assets, blobs, vectors and facets of a new tenant; returns seconds. The rows' numbers are external ids."""
    start = time.perf_counter()
    with database(stack) as cursor:
        fill(cursor, tenant, vectors, facets, model)
    settle(stack)
    return time.perf_counter() - start


def fill(cursor: Any, tenant: Tenant, vectors: Vectors, facets: np.ndarray, model: str) -> None:
    # No checks of foreign keys, row by row, where all rows are written here.
    cursor.execute("SET LOCAL session_replication_role = replica")
    for start in range(0, len(vectors), CHUNK):
        _chunk(cursor, tenant, start, vectors[start : start + CHUNK], facets[start : start + CHUNK], model)
    clock, count = uuid.UUID(bytes=bytes(_ids(1)[0])), len(vectors)
    cursor.execute(
        "INSERT INTO vector_clock (id, tenant_id, last, pruned) VALUES (%s, %s, %s, 0)",
        [str(clock), str(tenant.id), count],
    )
    for resource, used in {"assets": count, "vectors": count, "bytes": 20 * count}.items():
        cursor.execute(
            "INSERT INTO quota_counter (id, tenant_id, resource, period, used, reserved) "
            "VALUES (gen_random_uuid(), %s, %s, '', %s, 0)", [str(tenant.id), resource, used],
        )  # fmt: skip


def settle(stack: Stack) -> None:
    """Statistics and visibility as they are once autovacuum has passed, and everything on the disk."""
    connection = connect(stack)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE) asset, blob, vector, facet, dataset")
        cursor.execute("CHECKPOINT")
    connection.close()


def _ids(count: int) -> np.ndarray:
    """UUIDs of version 7 in order: uint8 [count, 16]."""
    at = int(time.time() * 1000) - 60_000 + np.arange(count) // 4096
    out = np.frombuffer(secrets.token_bytes(16 * count), np.uint8).reshape(count, 16).copy()
    out[:, :6] = at.astype(">u8").view(np.uint8).reshape(count, 8)[:, 2:]
    out[:, 6:8] = (0x7000 | np.arange(count) % 4096).astype(">u2").view(np.uint8).reshape(count, 2)
    out[:, 8] = 0x80 | out[:, 8] & 0x3F
    return out


def _chunk(cursor: Any, tenant: Tenant, first: int, vectors: Vectors, facets: np.ndarray, model: str) -> None:
    count = len(vectors)
    assets, blobs, others = _ids(count), _ids(count), _ids(count)
    names = [str(uuid.UUID(bytes=bytes(row))) for row in assets]
    kept = [str(uuid.UUID(bytes=bytes(row))) for row in blobs]
    hashes = [hashlib.sha256(f"{tenant.id} {first + n}".encode()).hexdigest() for n in range(count)]
    t, d = str(tenant.id), str(tenant.dataset)
    _copy(
        cursor, 'blob (id, tenant_id, sha256, bytes, media_type, "references", clean_type, has_thumbnail, created_at)',
        lambda n: f"{kept[n]}\t{t}\t{hashes[n]}\t20\ttext/plain\t1\t\tf\tnow\n", count,
    )  # fmt: skip
    _copy(
        cursor, "asset (id, tenant_id, dataset_id, blob_id, modality, status, external_id, caption, excerpt, metadata, "
        "revision, created_at)",
        lambda n: f"{names[n]}\t{t}\t{d}\t{kept[n]}\ttext\tready\t{first + n}\t\tArticle {first + n}\t"
        f'{{"group": "{facets[n]}"}}\t1\tnow\n', count,
    )  # fmt: skip
    ids = [str(uuid.UUID(bytes=bytes(row))) for row in others]
    _copy(
        cursor, "facet (id, tenant_id, asset_id, key, text)",
        lambda n: f"{ids[n]}\t{t}\t{names[n]}\tgroup\t{facets[n]}\n", count,
    )  # fmt: skip
    _copy_vectors(cursor, tenant, first, vectors, assets, model)


def _copy(cursor: Any, table: str, row: Callable[[int], str], count: int) -> None:
    cursor.copy_expert(f"COPY {table} FROM STDIN", io.StringIO("".join(map(row, range(count)))))


def _copy_vectors(
    cursor: Any, tenant: Tenant, first: int, vectors: Vectors, assets: np.ndarray, model: str
) -> None:
    """Binary COPY: rows of one length, made by NumPy."""
    fields: list[tuple[str, Any]] = [("count", ">i2")]
    name = model.encode()
    columns = {"id": 16, "tenant": 16, "asset": 16, "dataset": 16, "kind": 4, "model": len(name), "part": 4,
               "seq": 8, "data": vectors.shape[1] * 4}  # fmt: skip
    for column, size in columns.items():
        fields += [(f"{column}_size", ">i4"), (column, (np.uint8, (size,)))]
    rows = np.zeros(len(vectors), np.dtype(fields))
    rows["count"] = len(columns)
    for column, size in columns.items():
        rows[f"{column}_size"] = size
    rows["id"], rows["asset"] = _ids(len(vectors)), assets
    rows["tenant"], rows["dataset"] = _bytes(tenant.id.bytes), _bytes(tenant.dataset.bytes)
    rows["kind"] = rows["part"] = _bytes(b"text")
    rows["model"] = _bytes(name)
    seqs = np.arange(first + 1, first + 1 + len(vectors)).astype(">i8")
    rows["seq"] = seqs.view(np.uint8).reshape(-1, 8)
    rows["data"] = np.ascontiguousarray(vectors, "<f4").view(np.uint8).reshape(len(vectors), -1)
    stream = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0) + rows.tobytes() + struct.pack(">h", -1)
    cursor.copy_expert(
        "COPY vector (id, tenant_id, asset_id, dataset_id, asset_modality, model, modality, seq, data) "
        "FROM STDIN (FORMAT binary)", io.BytesIO(stream),
    )  # fmt: skip


def _bytes(value: bytes) -> np.ndarray:
    return np.frombuffer(value, np.uint8)


def demo_vectors(stack: Stack) -> Vectors:
    """What the demo tenants have of pictures and texts: float32 [n, 256]."""
    with database(stack) as cursor:
        slugs = [tenant["slug"] for tenant in stack.demo["tenants"]]
        cursor.execute(
            "SELECT data FROM vector JOIN tenant ON tenant.id = tenant_id WHERE slug = ANY(%s) ORDER BY slug, seq",
            [slugs],
        )
        return np.array([np.frombuffer(row[0], "<f4") for row in cursor.fetchall()], np.float32)
