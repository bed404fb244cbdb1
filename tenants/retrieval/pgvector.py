"""pgvector as an engine: a copy is a table of its own with an HNSW index, in the schema `copies` (migration 0004).

Vectors are stored in half precision and found by it; what was found is scored again by the stored vectors, so scores
are those of any other engine. Filters are part of the statement, and see metadata as it is now.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec
import numpy as np
from django.conf import settings
from django.db import ProgrammingError, connection
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from tenants.datasets.models import Asset
from tenants.retrieval import engines
from tenants.retrieval.engines import Copy, CopyGone, Engine, EngineMissing, NewRow, Shelf
from tenants.retrieval.filters import assets_of, facets_of
from tenants.retrieval.state import MODALITIES, Hit, Restriction
from tenants.retrieval.vectors import DIMENSION
from tenants.scope import current_tenant_id, tenant_scope

KIND = "pgvector-hnsw"
# Links of a node and the breadth of the search for them while the index is built.
LINKS, BREADTH = 32, 128
# Bytes of a row while it is built in memory; in less memory building takes many times as long.
BUILD_BYTES = 2_400
# A restriction that leaves at most so many assets is answered by looking at each of them.
EXACT_ASSETS = 10_000
# Rows more than wanted, as half precision may put two neighbours the other way round.
OVER = 8
# Where a filter leaves too little of what is near, the search goes on to farther rows: up to so many.
MAX_SCANNED = 40_000
# Where the extension must be, as its type `vector` has the name of a table of ours.
EXTENSION_SCHEMA = "pgvector"
# The greatest hnsw.ef_search.
MOST_BREADTH = 1_000
UNDEFINED_TABLE = "42P01"

# Together with the statement that they are for: one trip.
_PREPARED = """
SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.max_scan_tuples', %s, true), set_config('hnsw.scan_mem_multiplier', '4', true),
    set_config('jit', 'off', true), set_config('enable_sort', %s, true);
"""
DISTANCE = "c.embedding OPERATOR(pgvector.<#>) %s::pgvector.halfvec"

Parameters = list[Any]


@dataclass(frozen=True)
class Part:
    """Some SQL and its parameters in order."""

    sql: str
    parameters: Parameters

    def __bool__(self) -> bool:
        return bool(self.sql)


class PgvectorCopy(Copy):
    """See `tenants.retrieval.engines.Copy`."""

    exact_assets = EXACT_ASSETS

    def count(self, only: Restriction) -> int:
        if only.planned:
            return max(0, _matching(only).count() - len(only.assets or ()))
        where = self._where(only)
        statement = f"SELECT count(DISTINCT c.asset_id) FROM {_table(self.id)} c {where.sql}"  # noqa: S608
        return int(_rows_of(self.tenant_id, statement, where.parameters)[0][0])

    def find(
        self, query: np.ndarray, depth: int, only: Restriction, *, share: float, exact: bool
    ) -> tuple[list[Hit], float]:
        depth, where = min(depth, self.row_count), self._where(only)
        restricted = bool(where) or bool(only.planned)
        if exact or (restricted and share * self.asset_count <= self.exact_assets):
            return self._hits(query, self._exactly(query, depth + OVER, only))[:depth], 1.0
        found = self._hits(query, self._near(query, depth + OVER, only, self.effort_of(share)))
        if len(found) < depth:
            # It went as far as it may.
            return self._hits(query, self._exactly(query, depth + OVER, only))[:depth], 1.0
        return found[:depth], self.recall_of(share)

    def measured(self, query: np.ndarray, depth: int, effort: int, every: int) -> np.ndarray:
        """Scores float32 of the best rows at that effort, of those whose number `every` divides."""
        more = f"c.seq %% {every} = 0" if every > 1 else ""
        found = self._near(query, depth + OVER, Restriction(), effort, more)
        return np.array([hit.score for hit in self._hits(query, found)[:depth]], np.float32)

    def ahead(self, query: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        statement = f"""
            {_PREPARED} SELECT c.seq, -({DISTANCE}) FROM {_table(self.id)} c ORDER BY {DISTANCE} LIMIT %s
        """  # noqa: S608
        effort, text = self.effort_of(1.0), _text(query)
        given = [*_settings(effort), text, text, _looked(depth, effort)]
        found = sorted(_rows_of(self.tenant_id, statement, given), key=lambda row: -row[1])[:depth]
        return np.array([row[1] for row in found], np.float32), np.array([row[0] for row in found], np.int64)

    def read(self, query: np.ndarray, scores: np.ndarray, rows: np.ndarray, only: Restriction) -> list[Hit]:
        where = self._where(only, "c.seq = ANY(%s)", [rows.tolist()])
        statement = f"""
            SELECT c.seq, c.asset_id, c.part, 0, v.segment::text, v.data
            FROM {_table(self.id)} c LEFT JOIN vector v ON v.tenant_id = %s AND v.seq = c.seq {where.sql}
        """  # noqa: S608
        found = _rows_of(self.tenant_id, statement, [str(self.tenant_id), *where.parameters])
        known = dict(zip(rows.tolist(), scores.tolist(), strict=True))
        return self._hits(query, [(*row[:3], known[row[0]], *row[4:]) for row in found])

    def places(self, asset_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Shelf]:
        wanted = [str(one) for one in asset_ids]
        if not wanted:
            return {}
        statement = (
            f"SELECT asset_id, dataset_id, kind FROM {_table(self.id)} WHERE asset_id = ANY(%s::uuid[])"  # noqa: S608
        )
        found = _rows_of(self.tenant_id, statement, [wanted])
        return {asset_id: (dataset_id, kind) for asset_id, dataset_id, kind in found}

    # --- Statements --------------------------------------------------------------------------------------

    def _near(
        self, query: np.ndarray, limit: int, only: Restriction, effort: int, more: str = ""
    ) -> list[tuple]:
        """By the index. Filters are asked row by row, so that no plan begins with them."""
        where = self._where(only, more, [], _clauses(only))
        return self._scored(query, limit, Part("", []), where, DISTANCE, effort)

    def _exactly(self, query: np.ndarray, limit: int, only: Restriction) -> list[tuple]:
        """By all rows that the restriction leaves. The order is by an expression that the index does not know."""
        allowed = Part("", [])
        if only.planned:
            sql, parameters = _matching(only).values_list("pk").query.sql_with_params()
            allowed = Part(f"allowed (id) AS MATERIALIZED ({sql}),", list(parameters))
        return self._scored(query, limit, allowed, self._where(only), f"({DISTANCE}) + 0", 0)

    def _scored(
        self, query: np.ndarray, limit: int, allowed: Part, where: Part, order: str, effort: int
    ) -> list[tuple]:
        """Rows: number, asset, part, score in half precision; and from the stored vector: segment, data."""
        join = "JOIN allowed ON allowed.id = c.asset_id" if allowed else ""
        statement = f"""
            {_PREPARED}
            WITH {allowed.sql} near AS MATERIALIZED (
                SELECT c.seq, c.asset_id, c.part, -({DISTANCE}) AS score
                FROM {_table(self.id)} c {join} {where.sql} ORDER BY {order} LIMIT %s
            )
            SELECT best.*, v.segment::text, v.data
            FROM (SELECT * FROM near ORDER BY score DESC LIMIT %s) AS best
            LEFT JOIN vector v ON v.tenant_id = %s AND v.seq = best.seq
        """  # noqa: S608
        text = _text(query)
        looked = _looked(limit, effort)
        given = [*allowed.parameters, text, *where.parameters, text, looked, limit, str(self.tenant_id)]
        return _rows_of(self.tenant_id, statement, [*_settings(effort), *given])

    def _where(
        self, only: Restriction, more: str = "", parameters: Sequence[Any] = (), clauses: Part | None = None
    ) -> Part:
        conditions: list[tuple[str, Parameters]] = [(more, list(parameters))] if more else []
        if only.datasets is not None:
            conditions.append(("c.dataset_id = ANY(%s::uuid[])", [_ids(only.datasets)]))
        if only.hidden_datasets:
            conditions.append(("c.dataset_id <> ALL(%s::uuid[])", [_ids(only.hidden_datasets)]))
        if only.modalities is not None:
            conditions.append(
                ("c.kind = ANY(%s::smallint[])", [[MODALITIES.index(m) for m in only.modalities]])
            )
        if only.assets is not None and not only.planned:
            conditions.append(("c.asset_id = ANY(%s::uuid[])", [_ids(only.assets)]))
        if only.until is not None and only.until < self.seq:
            conditions.append(("c.seq <= %s", [only.until]))
        if clauses:
            conditions.append((clauses.sql, clauses.parameters))
        if not conditions:
            return Part("", [])
        joined = " AND ".join(sql for sql, _ in conditions)
        return Part(f"WHERE {joined}", [value for _, values in conditions for value in values])

    def _hits(self, query: np.ndarray, found: Sequence[tuple]) -> list[Hit]:
        """With exact scores, the best first. A vector that was replaced a moment ago keeps what was found."""
        scores = np.array([row[3] for row in found], np.float32)
        stored = np.array([row[5] is not None for row in found], bool)
        if stored.any():
            raw = b"".join(bytes(row[5]) for row in found if row[5] is not None)
            scores[stored] = np.frombuffer(raw, "<f4").reshape(-1, DIMENSION) @ query
        order = np.argsort(-scores, kind="stable").tolist()
        return [_hit(found[place], float(scores[place])) for place in order]


class Pgvector(Engine):
    """See `tenants.retrieval.engines.Engine`."""

    kind = KIND
    # Of hnsw.ef_search, which ends at 1,000; and of rows to look at, for which the search goes on from there.
    efforts = (40, 64, 100, 160, 250, 320, 400, 500, 640, 800, 1_000, 1_500, 2_500, 4_000, 8_000)

    def require(self) -> None:
        statement = """
            SELECT EXISTS (
                SELECT FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                WHERE e.extname = 'vector' AND n.nspname = %s)
        """
        if not _rows(statement, [EXTENSION_SCHEMA])[0][0]:
            raise EngineMissing(
                _(
                    "The database has no pgvector in its schema `pgvector`. Install pgvector 0.8 on its server, run "
                    "platform/standalone/provision.sql as a superuser, and try again; nothing has changed."
                )
            )

    def begin(self, copy_id: uuid.UUID) -> None:
        _rows("SELECT copies.create_copy(%s)", [str(copy_id)])

    def add(self, copy_id: uuid.UUID, rows: Sequence[NewRow], vectors: np.ndarray) -> None:
        columns = [[getattr(row, name) for row in rows] for name in NewRow._fields]
        given = [columns[0], _ids(columns[1]), _ids(columns[2]), *columns[3:], _texts(vectors)]
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {_table(copy_id)} SELECT * FROM unnest(%s::bigint[], %s::uuid[], %s::uuid[], "  # noqa: S608
                "%s::smallint[], %s::smallint[], %s::text[]::pgvector.halfvec[])",
                given,
            )

    def finish(self, copy_id: uuid.UUID, rows: int) -> None:
        megabytes = max(64, min(settings.PGVECTOR_BUILD_MB, rows * BUILD_BYTES >> 20))
        given = [str(copy_id), LINKS, BREADTH, megabytes, settings.INDEX_BUILD_THREADS]
        _rows("SELECT copies.index_copy(%s, %s, %s, %s, %s)", given)

    def open(self, copy_id: uuid.UUID, *, seq: int, details: Mapping[str, Any]) -> Copy | None:
        if not self.is_there(copy_id):
            return None
        shelves = engines.read_shelves(details)
        efforts, rows = engines.read_efforts(details), int(details["rows"])
        tenant_id = current_tenant_id()
        return PgvectorCopy(tenant_id, copy_id, seq, KIND, rows, sum(shelves.values()), efforts, shelves)

    def is_there(self, copy_id: uuid.UUID) -> bool:
        return bool(_rows("SELECT to_regclass(%s) IS NOT NULL", [_table(copy_id)])[0][0])

    def shelves(self, copy_id: uuid.UUID) -> dict[Shelf, int]:
        statement = f"""
            SELECT dataset_id, kind, count(DISTINCT asset_id) FROM {_table(copy_id)} GROUP BY dataset_id, kind
        """  # noqa: S608
        return {(dataset_id, kind): count for dataset_id, kind, count in _rows(statement, [])}

    def copies(self) -> Iterator[tuple[uuid.UUID, int]]:
        yield from _rows("SELECT generation, bytes FROM copies.list_copies()", [])

    def drop(self, copy_id: uuid.UUID) -> bool:
        return bool(_rows("SELECT copies.drop_copy(%s)", [str(copy_id)])[0][0])


def _table(copy_id: uuid.UUID) -> str:
    return f"copies.copy_{copy_id.hex}"


def _rows(statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, list(parameters))
            return cursor.fetchall()
    except ProgrammingError as error:
        _refuse(error)


def _rows_of(tenant_id: uuid.UUID, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """As this tenant: in the scope that is open, else in one round trip, as `Prepared.rows_of`."""
    if connection.in_atomic_block:
        with tenant_scope(tenant_id):
            found = _rows(statement, parameters)
            if statement.lstrip().startswith(_PREPARED.lstrip()):
                # For what follows in this transaction.
                _rows("SELECT set_config('enable_sort', 'on', true)", [])
            return found
    return _rows(f"SELECT set_config('app.tenant', %s, true); {statement}", [str(tenant_id), *parameters])


def _refuse(error: ProgrammingError) -> NoReturn:
    if getattr(error.__cause__, "pgcode", "") == UNDEFINED_TABLE:
        raise CopyGone from error
    raise error


def _settings(effort: int) -> Parameters:
    """Of `_PREPARED`; effort 0: not by the index."""
    # Without sorting only the index is left, which Postgres takes for dearer than reading the whole table.
    return [str(min(effort, MOST_BREADTH) or 40), str(MAX_SCANNED), "off" if effort else "on"]


def _looked(limit: int, effort: int) -> int:
    """How many rows to take from the index: beyond its own breadth it goes on for as long as more are asked for."""
    return max(limit, effort) if effort > MOST_BREADTH else limit


def _matching(only: Restriction) -> QuerySet[Asset]:
    """The assets that a filter means now, in the datasets and of the modalities that are asked for."""
    assets = assets_of(only.planned)
    if only.datasets is not None:
        assets = assets.filter(dataset_id__in=only.datasets)
    if only.modalities is not None:
        assets = assets.filter(modality__in=only.modalities)
    return assets


def _clauses(only: Restriction) -> Part | None:
    """A filter as conditions on `c`. `OFFSET 0` keeps Postgres from turning them into joins."""
    if not only.planned:
        return None
    parts: list[str] = []
    given: Parameters = []
    for clause in only.planned:
        facets = facets_of(clause).extra(where=["facet.asset_id = c.asset_id"]).values_list("asset_id")
        sql, parameters = facets.query.sql_with_params()
        parts.append(f"{'NOT ' if clause.negative else ''}EXISTS ({sql} OFFSET 0)")
        given += parameters
    return Part(" AND ".join(parts), given)


def _hit(row: tuple, score: float) -> Hit:
    return Hit(row[1], score, MODALITIES[row[2]], json.loads(row[4]) if row[4] else None)


def _ids(given: Iterable[uuid.UUID]) -> list[str]:
    return [str(one) for one in given]


def _text(vector: np.ndarray) -> str:
    return msgspec.json.encode(vector.tolist()).decode()


def _texts(vectors: np.ndarray) -> list[str]:
    # As many digits as half precision can tell apart.
    return [msgspec.json.encode(row).decode() for row in np.round(vectors.astype(np.float64), 6).tolist()]
