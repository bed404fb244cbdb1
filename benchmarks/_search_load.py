"""Tenants with many assets, written as rows: what imports of days would leave, in minutes.

Tenants and the first asset of each are made by the product's own services; Postgres multiplies that one, as the
embedded superuser, for COPY is refused under row-level security. Words for hybrid search are left out.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import psycopg2
from _report import TOY
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


def create_tenant(slug: str, scopes: Sequence[str] = SCOPES) -> Tenant:
    """A tenant without limits, its key and one dataset, by the product's services. With Django set up."""
    from tenants.accounts import keys, services
    from tenants.accounts.models import Plan
    from tenants.datasets.services import create_dataset
    from tenants.scope import tenant_scope

    Plan.objects.get_or_create(slug=PLAN, defaults={"name": "Bench"})
    tenant = services.create_tenant(slug=slug, name=slug, plan=PLAN)
    with tenant_scope(tenant.id):
        _, token = keys.create_key(name="bench", scopes=list(scopes))
        dataset = create_dataset(name="rows", metadata_schema={"group": {"type": "text"}})
    return Tenant(slug, tenant.id, token, dataset.id, 0)


def load(
    stack: Stack, wanted: Mapping[str, tuple[int, int]], vectors: Vectors, names: np.ndarray
) -> list[Tenant]:
    """Tenants by slug, each with `count` of the vectors from `first` on. With Django set up.

    Their external ids are numbers from 0 on; `names` are their groups.
    """
    made = []
    for slug, (count, first) in wanted.items():
        tenant = create_tenant(slug)
        made.append(Tenant(tenant.slug, tenant.id, tenant.key, tenant.dataset, count))
        fill(stack, made[-1], vectors[first : first + count], names[:count])
    settle(stack)
    return made


def fill(stack: Stack, tenant: Tenant, vectors: Vectors, names: np.ndarray) -> None:
    """So many assets like one that the product stored, each with a blob, a vector and a facet of its own.

    Postgres copies the rows of that one, column by column, except for what differs: a column that is added later has a
    value in each. The pattern is deleted in the end, as a tenant would. Blobs have no files, for searches open none.
    """
    from tenants.datasets.models import Asset, Blob, Facet
    from tenants.pipeline.assets.services import delete_asset
    from tenants.retrieval.models import Vector
    from tenants.scope import tenant_scope

    pattern = _pattern(tenant, vectors.shape[1])
    with database(stack) as cursor:
        # No checks of foreign keys, row by row, where all rows are written here.
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("SELECT last FROM vector_clock WHERE tenant_id = %s FOR UPDATE", [str(tenant.id)])
        last = cursor.fetchone()[0]
        cursor.execute(
            "CREATE TEMP TABLE bench_rows (n int, name text, sha256 text, asset uuid, blob uuid, facet uuid, "
            "vector uuid, data bytea) ON COMMIT DROP"
        )
        for start in range(0, len(vectors), CHUNK):
            some = slice(start, start + CHUNK)
            _stage(cursor, tenant, start, vectors[some], names[some])
            _like(
                cursor, Blob, f"id = '{pattern['blob']}'",
                id="r.blob", sha256="r.sha256", references="1", created_at="now()",
            )  # fmt: skip
            _like(
                cursor, Asset, f"id = '{pattern['asset']}'",
                id="r.asset", blob_id="r.blob", external_id="r.n::text", excerpt="'Article ' || r.n",
                metadata="jsonb_build_object('group', r.name)", created_at="now()",
            )  # fmt: skip
            mine = f"asset_id = '{pattern['asset']}'"
            _like(cursor, Facet, f"{mine} AND key = 'group'", id="r.facet", asset_id="r.asset", text="r.name")
            _like(
                cursor,
                Vector,
                mine,
                id="r.vector",
                asset_id="r.asset",
                seq=f"{last} + 1 + r.n",
                data="r.data",
            )
            cursor.execute("TRUNCATE bench_rows")
        count = len(vectors)
        cursor.execute(
            "UPDATE vector_clock SET last = last + %s WHERE tenant_id = %s", [count, str(tenant.id)]
        )
        cursor.execute(
            "UPDATE quota_counter SET used = used + %s WHERE tenant_id = %s AND resource IN ('assets', 'vectors')",
            [count, str(tenant.id)],
        )
    with tenant_scope(tenant.id):
        delete_asset(asset_id=pattern["asset"])


def _pattern(tenant: Tenant, dimension: int) -> dict[str, uuid.UUID]:
    """An asset as an import leaves it, by the product's bulk path."""
    from tenants.datasets.models import Asset
    from tenants.pipeline.assets import bulk
    from tenants.pipeline.assets.prepared import Prepared
    from tenants.pipeline.assets.uploads import check_upload
    from tenants.retrieval import model_routing
    from tenants.retrieval.index.vectors import NewVector
    from tenants.scope import tenant_scope

    prepared = Prepared(model_routing.opened_spaces(tenant.id), parts=1)
    prepared.vectors = [
        NewVector("text", np.eye(1, dimension, dtype=np.float32)[0], None, model_routing.default_model())
    ]
    upload = check_upload(None, f"The pattern of {tenant.slug}")
    entry = bulk.Entry(row=0, name="pattern", upload=upload, values={"group": "pattern"}, prepared=prepared)
    with tenant_scope(tenant.id):
        bulk.store(dataset_id=tenant.dataset, entries=[entry])
        asset = Asset.objects.get(pk=entry.asset_id)
    return {"asset": asset.id, "blob": asset.blob_id}


def _stage(cursor: Any, tenant: Tenant, first: int, vectors: Vectors, names: np.ndarray) -> None:
    count = len(vectors)
    ids = [[str(uuid.UUID(bytes=bytes(row))) for row in _ids(count)] for _ in range(4)]
    data = np.ascontiguousarray(vectors, "<f4").tobytes()
    size = len(data) // count
    rows = (
        f"{first + n}\t{names[n]}\t{hashlib.sha256(f'{tenant.id} {first + n}'.encode()).hexdigest()}\t"
        f"{ids[0][n]}\t{ids[1][n]}\t{ids[2][n]}\t{ids[3][n]}\t\\\\x{data[n * size : (n + 1) * size].hex()}\n"
        for n in range(count)
    )
    cursor.copy_expert("COPY bench_rows FROM STDIN", io.StringIO("".join(rows)))


def _like(cursor: Any, model: Any, which: str, **columns: str) -> None:
    """A row for each of bench_rows `r`, a copy of the one of these, but for these columns' expressions."""
    table = f'"{model._meta.db_table}"'
    names = [field.column for field in model._meta.concrete_fields]
    values = {name: columns.get(name, f'old."{name}"') for name in names}
    into = ", ".join(f'"{name}"' for name in names)
    cursor.execute(
        f"INSERT INTO {table} ({into}) SELECT {', '.join(values.values())} "
        f"FROM bench_rows r, (SELECT * FROM {table} WHERE {which} LIMIT 1) AS old"
    )


def settle(stack: Stack) -> None:
    """Statistics and visibility as they are once autovacuum has passed, and everything on the disk."""
    if TOY:
        return
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


def demo_vectors(stack: Stack) -> Vectors:
    """What the demo tenants have of pictures and texts by the model that answers them: float32 [n, d]."""
    with database(stack) as cursor:
        slugs = [tenant["slug"] for tenant in stack.demo["tenants"]]
        cursor.execute(
            "SELECT data FROM vector JOIN tenant ON tenant.id = tenant_id JOIN vector_clock c USING (tenant_id) "
            "WHERE slug = ANY(%s) AND model = c.live ORDER BY slug, seq",
            [slugs],
        )
        return np.array([np.frombuffer(row[0], "<f4") for row in cursor.fetchall()], np.float32)
