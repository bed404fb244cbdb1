"""Copies in Milvus: the distributed engine behind the contract of `tenants.retrieval.engines`.

A copy is one collection, named by tenant and generation, written once and dropped as a whole. It holds numbers, ids,
where assets are filed, and vectors; what a filter means and what a score is are asked of Postgres at every search,
under row-level security. So no answer is staler than the database, and nothing that Milvus returns becomes a hit of a
tenant that could not read it anyway.

Written for the API of Milvus 2.6; what it uses is there since 2.3. `pymilvus` is an extra and imported at the first
call. Not used, for what they did to others: ranges beside an approximate search (milvus-io/milvus#44854: what was there
at an earlier number is told apart afterwards), partitions (#28919), deletes and upserts.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import numpy as np
from django.conf import settings
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from ml.indexes.base import as_matrix
from tenants.datasets.models import Asset
from tenants.datasets.selectors import is_any
from tenants.errors import Unavailable
from tenants.retrieval import filters
from tenants.retrieval.engines import (
    ENGINES,
    MORE,
    Engine,
    EngineMissing,
    ExternalSegment,
    NewRow,
    allows,
    read_efforts,
    read_partitions,
)
from tenants.retrieval.index.vectors import dimension_of
from tenants.retrieval.models import IndexGeneration, Vector
from tenants.retrieval.types import MODALITIES, Hit, Partition, Restriction, SegmentGone
from tenants.scope import current_tenant_id, tenant_scope

log = logging.getLogger(__name__)

NAME = "milvus"
# --- What is stored, and how it is asked for -------------------------------------------------------------

PREFIX = "crosslight"
# An id is two numbers of 64 bits, less this: so that the lower half of every id that this product makes, whose
# uppermost bit is set, is not negative.
_HALF = 1 << 63
# Rows of one query, of one search, and names in one expression. Milvus returns 16,384 at most.
PAGE, MOST_FOUND, MOST_NAMED = 10_000, 8_192, 5_000
# Classes of rows by their number, for an exhaustive search in a graph: so small a share is compared one by one. An IVF
# index looks into every list.
CLASSES = 16


def collection_name(tenant_id: uuid.UUID, segment_id: uuid.UUID) -> str:
    return f"{PREFIX}_{tenant_id.hex}_{segment_id.hex}"


def read_name(name: str) -> tuple[uuid.UUID, uuid.UUID] | None:
    """Tenant and generation of a collection; None for one that is not of this product."""
    prefix, _sep, rest = name.partition("_")
    tenant, _sep, segment = rest.partition("_")
    try:
        found = uuid.UUID(hex=tenant), uuid.UUID(hex=segment)
    except ValueError:
        return None
    return found if prefix == PREFIX and collection_name(*found) == name else None


def halves(one: uuid.UUID) -> tuple[int, int]:
    high, low = divmod(one.int, 1 << 64)
    return high - _HALF, low - _HALF


def from_halves(high: int, low: int) -> uuid.UUID:
    return uuid.UUID(int=((high + _HALF) << 64) + low + _HALF)


def expression(only: Restriction) -> str:
    """What Milvus is asked of a restriction: datasets and modalities. Empty for all rows."""
    parts = []
    if only.datasets is not None:
        parts.append(_among("dataset_low", [halves(one)[1] for one in only.datasets]))
    if only.hidden_datasets:
        parts.append(f"not ({_among('dataset_low', [halves(one)[1] for one in only.hidden_datasets])})")
    if only.modalities is not None:
        parts.append(_among("kind", [MODALITIES.index(one) for one in only.modalities]))
    return both(*parts)


def both(*parts: str) -> str:
    return " and ".join(filter(None, parts))


def class_of(number: int, classes: int) -> str:
    """Rows whose number leaves this remainder; empty where there is one class."""
    return f"seq % {classes} == {number}" if classes > 1 else ""


def _among(name: str, numbers: Collection[int]) -> str:
    # -2^63 is no number to the parser.
    known = sorted(number for number in set(numbers) if number > -_HALF)
    # An empty list is refused.
    return f"{name} in {known}" if known else "seq < 0"


class Found(NamedTuple):
    """A row as Milvus tells it, with the score by its own, less precise vector."""

    seq: int
    score: float
    asset_id: uuid.UUID


# --- The server ------------------------------------------------------------------------------------------

# After a server did not answer, nobody waits for it for so long.
AWAY_S = 1.0
# Of calls that nobody waits for at a screen.
BUILD_TIMEOUT_S = 60.0
_NOT_FOUND, _NOT_LOADED = 100, 101


class Server:
    """The connection of this process, made at the first call and anew after a fork.

    Raises SegmentGone for a collection that is not there, and Unavailable for all else that goes wrong.
    """

    def __init__(self) -> None:
        self._client: Any = None
        self._process = 0
        self._away_until = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def client(self) -> Iterator[Any]:
        try:
            module = _pymilvus()
        except EngineMissing as error:
            # Who searches cannot do anything about it.
            raise Unavailable(error.detail) from error
        if time.monotonic() < self._away_until:
            raise _away()
        try:
            yield self._connected(module)
        except module.MilvusException as error:
            raise self._told(error) from error
        except Exception as error:
            if not type(error).__module__.startswith(("grpc", "pymilvus")):
                raise
            raise self._told(error) from error

    def _connected(self, module: Any) -> Any:
        with self._lock:
            if self._client is None or self._process != os.getpid():
                self._client = module.MilvusClient(
                    uri=settings.MILVUS_URL,
                    token=settings.MILVUS_TOKEN,
                    db_name=settings.MILVUS_DATABASE,
                    timeout=settings.MILVUS_TIMEOUT_S,
                )
                self._process = os.getpid()
            return self._client

    def _told(self, error: Exception) -> Exception:
        code, said = getattr(error, "code", None), str(getattr(error, "message", error))
        if code == _NOT_FOUND or "can't find collection" in said:
            return SegmentGone()
        if not isinstance(code, int) or code < 0 or "UNAVAILABLE" in said or "timeout" in said.lower():
            self._away_until = time.monotonic() + AWAY_S
        log.warning("Milvus: %s", said[:500])
        return _away()


def _pymilvus() -> Any:
    """Raises EngineMissing."""
    try:
        import pymilvus
    except ImportError:
        raise EngineMissing(
            _("MILVUS_URL is set, but the package pymilvus is missing: pip install 'crosslight[milvus]'.")
        ) from None
    # What is wrong is told once, by this module.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return pymilvus


def _away() -> Unavailable:
    return Unavailable(_("Milvus, which holds this workspace's index, does not answer. Try again soon."))


# --- A copy as one search uses it -----------------------------------------------------------------------


@dataclass(frozen=True)
class MilvusSegment(ExternalSegment):
    """`model` whose vectors it holds; `lists` of an IVF index, 0 for a graph."""

    model: str
    lists: int
    server: Server = field(compare=False, repr=False)

    exact_assets: ClassVar[int] = 2_000

    @property
    def collection(self) -> str:
        return collection_name(self.tenant_id, self.id)

    # --- How many ---

    def count(self, only: Restriction) -> int:
        if only.planned:
            with tenant_scope(self.tenant_id):
                return max(0, self._matching(only).count() - len(only.assets or ()))
        if only.until is not None and only.until < self.seq:
            with tenant_scope(self.tenant_id):
                return self._stored(only).values("asset_id").distinct().count()
        filed = self.partitions_of(only.assets or ())
        return sum(1 for partition in filed.values() if allows(only, partition))

    def _matching(self, only: Restriction) -> QuerySet[Asset]:
        """The tenant's assets that meet a restriction's filter now; in the tenant's scope."""
        assets = filters.assets_of(only.planned).exclude(dataset_id__in=only.hidden_datasets)
        if only.datasets is not None:
            assets = assets.filter(dataset_id__in=only.datasets)
        return assets if only.modalities is None else assets.filter(modality__in=only.modalities)

    def _stored(self, only: Restriction) -> QuerySet[Vector]:
        """Its rows as they stand in Postgres, less those that have gone since; a filter is not looked at."""
        last = self.seq if only.until is None else min(self.seq, only.until)
        rows = Vector.objects.filter(model=self.model, seq__lte=last)
        rows = rows.exclude(dataset_id__in=only.hidden_datasets)
        if only.datasets is not None:
            rows = rows.filter(dataset_id__in=only.datasets)
        if only.assets is not None and not only.planned:
            rows = rows.filter(is_any("asset_id", only.assets))
        return rows if only.modalities is None else rows.filter(asset_modality__in=only.modalities)

    # --- The best ---

    def find(
        self, query: np.ndarray, depth: int, only: Restriction, *, share: float, exact: bool
    ) -> tuple[list[Hit], float]:
        total = round(share * self.asset_count)
        if total <= self.exact_assets:
            return self._exactly(query, depth, only, few=True), 1.0
        try:
            return _Nearest(self, query, depth, only, total, exhaustive=exact).found()
        except Unavailable:
            if total * self._rows_each > settings.INDEX_EXACT_MAX:
                raise
            return self._exactly(query, depth, only), 1.0

    @property
    def _rows_each(self) -> float:
        return self.rows / max(1, self.asset_count)

    def _exactly(self, query: np.ndarray, depth: int, only: Restriction, *, few: bool = False) -> list[Hit]:
        """By every vector that may be found, from Postgres; `few`: assets, which are then named."""
        with tenant_scope(self.tenant_id):
            rows = self._stored(only)
            if only.planned or (few and only.assets is None):
                rows = rows.filter(
                    is_any("asset_id", list(self._matching(only).values_list("pk", flat=True)))
                )
            best: list[tuple[int, float]] = []
            found = rows.values_list("seq", "data").iterator(chunk_size=PAGE)
            while page := list(islice(found, PAGE)):
                scores = as_matrix([data for _seq, data in page]) @ query
                best += zip((seq for seq, _data in page), scores.tolist(), strict=True)
                best = sorted(best, key=lambda pair: -pair[1])[:depth]
            return list(self.scored(query, [seq for seq, _score in best]).values())

    def scored(
        self, query: np.ndarray, seqs: Sequence[int], rows: QuerySet[Vector] | None = None
    ) -> dict[int, Hit]:
        """By number those rows that are still there, by their stored vectors, the best first."""
        with tenant_scope(self.tenant_id):
            rows = Vector.objects.filter(model=self.model, seq__lte=self.seq) if rows is None else rows
            known = list(
                rows.filter(seq__in=seqs).values_list("seq", "asset_id", "modality", "segment", "data")
            )
        if not known:
            return {}
        scores = (as_matrix([row[4] for row in known]) @ query).tolist()
        hits = [
            (row[0], Hit(row[1], score, row[2], row[3])) for row, score in zip(known, scores, strict=True)
        ]
        return dict(sorted(hits, key=lambda pair: -pair[1].score))

    def hits_of(
        self, query: np.ndarray, scores: np.ndarray, rows: np.ndarray, only: Restriction
    ) -> list[Hit]:
        with tenant_scope(self.tenant_id):
            hits = list(self.scored(query, rows.tolist(), self._stored(only)).values())
            if not only.planned:
                return hits
            meeting = filters.live_of(only.planned, {hit.asset_id for hit in hits})
            return [hit for hit in hits if hit.asset_id in meeting]

    def candidates(self, query: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            found = self.nearest(query, depth, "", self.effort_of(1.0))
        except Unavailable:
            # Who is small is answered without, by `find`.
            if self.rows > settings.INDEX_EXACT_MAX:
                raise
            found = []
        return np.array([one.score for one in found], np.float32), np.array(
            [one.seq for one in found], np.uint32
        )

    def measured(self, query: np.ndarray, depth: int, effort: int, every: int) -> np.ndarray:
        """As `find` does it: some more, scored again. Rows that have gone since count by Milvus's own score."""
        rows = self.nearest(query, depth + MORE, class_of(0, every), effort)
        hits = self.scored(query, [one.seq for one in rows])
        scores = [hits[one.seq].score if one.seq in hits else one.score for one in rows]
        return -np.sort(-np.array(scores, np.float32))[:depth]

    def nearest(self, query: np.ndarray, limit: int, where: str, effort: int) -> list[Found]:
        """The best rows by Milvus. Raises SegmentGone and Unavailable."""
        with self.server.client() as client:
            (rows,) = client.search(
                self.collection,
                data=[np.ascontiguousarray(query, np.float32)],
                anns_field="vector",
                limit=limit,
                filter=where,
                output_fields=["asset_high", "asset_low"],
                search_params={"metric_type": "IP", "params": self._effort(effort, limit)},
                timeout=settings.MILVUS_TIMEOUT_S,
            )
            # A chunk that was sent twice, as its answer got lost, is there twice.
            found: dict[int, Found] = {}
            for row in rows:
                asset_id = from_halves(row["entity"]["asset_high"], row["entity"]["asset_low"])
                found.setdefault(row["id"], Found(row["id"], row["distance"], asset_id))
            return list(found.values())

    def _effort(self, effort: int, limit: int) -> dict[str, int]:
        """More than was measured for the best ten where more are wanted."""
        if self.lists:
            deeper = math.ceil(effort * math.sqrt(max(1.0, limit / 64)))
            # Lists that hold many times as many rows as are wanted.
            least = math.ceil(SCANNED * limit * self.lists / max(1, self.rows))
            return {"nprobe": min(self.lists, max(deeper, least))}
        return {"ef": max(effort, 2 * limit)}

    # --- What is where ---

    def partitions_of(self, asset_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Partition]:
        wanted = sorted(set(asset_ids))
        found: dict[uuid.UUID, Partition] = {}
        for at in range(0, len(wanted), MOST_NAMED):
            named = _among("asset_low", [halves(one)[1] for one in wanted[at : at + MOST_NAMED]])
            found |= dict(_filed(self.server, self.collection, named))
        return {asset_id: found[asset_id] for asset_id in wanted if asset_id in found}


def _filed(server: Server, collection: str, where: str) -> Iterator[tuple[uuid.UUID, Partition]]:
    """The assets of the rows that an expression means, with where they are filed; once for each row."""
    names = ["asset_high", "asset_low", "dataset_high", "dataset_low", "kind"]
    with server.client() as client:
        rows = client.query(collection, filter=where, output_fields=names, timeout=BUILD_TIMEOUT_S)
    for row in rows:
        high, low, dataset_high, dataset_low, kind = (row[name] for name in names)
        yield from_halves(high, low), (from_halves(dataset_high, dataset_low), kind)


class _Nearest:
    """The best rows of a copy under a restriction that Milvus knows in part.

    Datasets and modalities go along as an expression. Of a filter, and of an earlier number, as many of the nearest
    rows are fetched as should make up for what it refuses, and Postgres says which of them meet it now; where too few
    do, more. They come by classes of their number (`seq % n`), as Milvus returns only so many at once; or, where that
    takes fewer calls, among rows that are named.
    """

    def __init__(
        self,
        segment: MilvusSegment,
        query: np.ndarray,
        depth: int,
        only: Restriction,
        total: int,
        *,
        exhaustive: bool,
    ) -> None:
        self._segment, self._query, self._depth, self._only = segment, query, depth, only
        self._total, self._exhaustive = total, exhaustive
        self._where = expression(only)
        held = sum(count for partition, count in segment.partitions.items() if allows(only, partition))
        self._held = max(1, min(held, segment.asset_count))
        self._recall = 1.0

    def found(self) -> tuple[list[Hit], float]:
        wanted = self._depth
        if self._is_sifted:
            wanted = self._wanted_of(self._depth) + MORE
        while True:
            rows, ended = self._rows(wanted)
            hits = self._verified(rows)
            if len(hits) >= self._depth or (ended and self._has_all(hits)):
                return hits[: self._depth], self._recall
            # A graph may end before it has seen all.
            self._exhaustive = self._exhaustive or ended
            wanted *= 4

    def _wanted_of(self, count: int) -> int:
        """Rows that should have so many among them that may be found: half as many more, as those do not lie evenly."""
        return math.ceil(1.5 * count * self._held / max(1, self._total))

    @property
    def _is_sifted(self) -> bool:
        only = self._only
        return bool(only.planned) or only.assets is not None or self._is_earlier

    @property
    def _is_earlier(self) -> bool:
        return self._only.until is not None and self._only.until < self._segment.seq

    def _has_all(self, hits: list[Hit]) -> bool:
        return self._exhaustive or len({hit.asset_id for hit in hits}) >= self._total

    def _rows(self, wanted: int) -> tuple[list[Found], bool]:
        """The nearest rows, the best first, and whether there are no more."""
        least = CLASSES if self._exhaustive and not self._segment.lists else 1
        classes = max(least, math.ceil(wanted / MOST_FOUND))
        named = math.ceil(self._total * self._segment._rows_each / MOST_NAMED)
        if (self._only.planned or self._only.assets is not None) and named < classes:
            return self._named()
        limit = min(MOST_FOUND, math.ceil(wanted / classes) + (MORE if classes > 1 else 0))
        share = self._held / max(1, self._segment.asset_count) / classes
        self._recall = self._segment.recall_of(share)
        found = [
            self._segment.nearest(
                self._query, limit, both(self._where, class_of(number, classes)), self._effort(share)
            )
            for number in range(classes)
        ]
        ended = all(len(rows) < limit for rows in found)
        return sorted((row for rows in found for row in rows), key=lambda row: -row.score), ended

    def _effort(self, share: float) -> int:
        return (
            self._segment.lists
            if self._exhaustive and self._segment.lists
            else self._segment.effort_of(share)
        )

    def _named(self) -> tuple[list[Found], bool]:
        """Among the rows of the assets that meet it now, as Postgres names them."""
        segment = self._segment
        with tenant_scope(segment.tenant_id):
            stored = segment._stored(self._only)
            if self._only.planned:
                matching = list(segment._matching(self._only).values_list("pk", flat=True))
                stored = stored.filter(is_any("asset_id", matching))
            seqs = list(stored.values_list("seq", flat=True))
        self._recall = segment.recall_of(MOST_NAMED / max(1, segment.rows))
        effort = segment.lists or segment.effort_of(MOST_NAMED / max(1, segment.rows))
        # All of those that are named at once, if as many are wanted.
        step = min(MOST_NAMED, MOST_FOUND)
        limit = min(step, self._depth + MORE)
        found: list[Found] = []
        for at in range(0, len(seqs), step):
            found += segment.nearest(self._query, limit, _among("seq", seqs[at : at + step]), effort)
        self._exhaustive = True
        return sorted(found, key=lambda row: -row.score), True

    def _verified(self, rows: list[Found]) -> list[Hit]:
        """Those that may be found now, scored by their stored vectors: as many as are wanted, if there are."""
        hits: dict[int, Hit] = {}
        step = self._depth + MORE
        # As many at a time as should have enough among them: a statement or two.
        page = min(MOST_NAMED, self._wanted_of(step)) if self._is_sifted else step
        for at in range(0, len(rows), page):
            some = rows[at : at + page]
            some = self._allowed(some) if self._is_sifted else some
            for start in range(0, len(some), step):
                hits |= self._segment.scored(self._query, [row.seq for row in some[start : start + step]])
                if len(hits) >= self._depth:
                    return sorted(hits.values(), key=lambda hit: -hit.score)
        return sorted(hits.values(), key=lambda hit: -hit.score)

    def _allowed(self, rows: list[Found]) -> list[Found]:
        only = self._only
        if self._is_earlier:
            rows = [row for row in rows if row.seq <= (only.until or 0)]
        if only.planned:
            with tenant_scope(self._segment.tenant_id):
                meeting = filters.live_of(only.planned, {row.asset_id for row in rows})
            return [row for row in rows if row.asset_id in meeting]
        if only.assets is not None:
            named = frozenset(only.assets)
            return [row for row in rows if row.asset_id in named]
        return rows


# --- Making and dropping copies --------------------------------------------------------------------------

# By MILVUS_INDEX: how it is built, and the efforts to try (lists to look into, or candidates to keep).
LISTS = 1_024
# Rows of the lists that are looked into, for each that is wanted.
SCANNED = 16
INDEXES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "ivf-sq8": (
        {"index_type": "IVF_SQ8", "params": {}},
        (8, 16, 32, 64, 128, 256, 512, LISTS),
    ),
    "hnsw": (
        {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}},
        (32, 64, 128, 256, 512, 1_024),
    ),
}
# Of a row beside its vector: five numbers of 8 bytes, one of 1, and what Milvus keeps with each.
BESIDE_BYTES = 41 + 16


def lists_of(rows: int) -> int:
    """Of an IVF index over so many rows: 4 √rows as a power of two, where Milvus indexes 500,000 or so at once."""
    return min(LISTS, 1 << max(4, round(math.log2(4 * math.sqrt(max(1, rows))))))


class MilvusEngine(Engine):
    """Which collections there are is asked by names that begin with the active tenant's id, and only those are told."""

    def __init__(self) -> None:
        self.server = Server()
        self.index = settings.MILVUS_INDEX
        self.kind = f"{NAME}:{self.index}"
        self.efforts = INDEXES[self.index][1]

    @property
    def above(self) -> int:
        return int(settings.ENGINE_ABOVE)

    def describe(self) -> str:
        _pymilvus()
        with self.server.client() as client:
            version = client.get_server_version(timeout=settings.MILVUS_TIMEOUT_S)
        return f"Milvus {version}"

    def require(self) -> None:
        self.describe()

    def everything(self) -> Iterator[tuple[uuid.UUID, uuid.UUID]]:
        with self.server.client() as client:
            names = client.list_collections(timeout=BUILD_TIMEOUT_S)
        yield from filter(None, map(read_name, names))

    def begin(self, segment_id: uuid.UUID) -> None:
        name = self._name(segment_id)
        dimension = dimension_of(IndexGeneration.objects.values_list("model", flat=True).get(pk=segment_id))
        module = _pymilvus()
        with self.server.client() as client:
            if client.has_collection(name, timeout=BUILD_TIMEOUT_S):
                raise ValueError(f"the collection {name} already exists")
            numbers = module.DataType
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("seq", numbers.INT64, is_primary=True)
            for column in ("asset_high", "asset_low", "dataset_high", "dataset_low"):
                schema.add_field(column, numbers.INT64)
            schema.add_field("kind", numbers.INT8)
            # Of a model without vectors nothing is copied.
            schema.add_field("vector", numbers.FLOAT_VECTOR, dim=dimension or 2)
            client.create_collection(
                name, schema=schema, num_shards=1, consistency_level="Bounded", timeout=BUILD_TIMEOUT_S
            )

    def add(self, segment_id: uuid.UUID, rows: Sequence[NewRow], vectors: np.ndarray) -> None:
        sent = []
        for row, vector in zip(rows, np.asarray(vectors, np.float32), strict=True):
            asset_high, asset_low = halves(row.asset_id)
            dataset_high, dataset_low = halves(row.dataset_id)
            sent.append(
                {
                    "seq": row.seq,
                    "asset_high": asset_high,
                    "asset_low": asset_low,
                    "dataset_high": dataset_high,
                    "dataset_low": dataset_low,
                    "kind": row.kind,
                    "vector": vector,
                }
            )
        with self.server.client() as client:
            client.insert(self._name(segment_id), sent, timeout=BUILD_TIMEOUT_S)

    def finish(self, segment_id: uuid.UUID, rows: int) -> float:
        """Each call goes one step on: written out and counted, indexed, loaded."""
        name = self._name(segment_id)
        with self.server.client() as client:
            if not client.list_indexes(name):
                self._index(client, name, rows)
                return 0.0
            told = client.describe_index(name, "vector", timeout=BUILD_TIMEOUT_S)
            if told["state"] == "Failed":
                raise RuntimeError(
                    f"Milvus could not index {name}: {told.get('index_state_fail_reason', '')}"
                )
            if told["state"] != "Finished" or told.get("pending_index_rows", 0):
                return 0.9 * told["indexed_rows"] / max(1, told["total_rows"])
            state = client.get_load_state(name, timeout=BUILD_TIMEOUT_S)["state"]
            if state.name == "NotLoad":
                client.load_collection(name, timeout=BUILD_TIMEOUT_S, _async=True)
            return 1.0 if state.name == "Loaded" and self._count(client, name) >= rows else 0.95

    def _index(self, client: Any, name: str, rows: int) -> None:
        client.flush(name, timeout=10 * BUILD_TIMEOUT_S)
        stored = client.get_collection_stats(name, timeout=BUILD_TIMEOUT_S)["row_count"]
        if int(stored) < rows:
            raise RuntimeError(f"Milvus has {stored} rows in {name}, of {rows} that were sent")
        asked = client.prepare_index_params()
        how = INDEXES[self.index][0]
        if self.index != "hnsw":
            how = {**how, "params": {"nlist": lists_of(rows)}}
        asked.add_index("vector", index_name="vector", metric_type="IP", **how)
        for column in ("asset_low", "dataset_low"):
            asked.add_index(column, index_name=column, index_type="STL_SORT")
        client.create_index(name, asked, timeout=BUILD_TIMEOUT_S, sync=False)

    def _count(self, client: Any, name: str) -> int:
        (row,) = client.query(
            name, output_fields=["count(*)"], consistency_level="Strong", timeout=BUILD_TIMEOUT_S
        )
        return int(row["count(*)"])

    def open(self, segment_id: uuid.UUID, *, seq: int, details: Mapping[str, Any]) -> ExternalSegment | None:
        kind, model = IndexGeneration.objects.values_list("kind", "model").get(pk=segment_id)
        try:
            if not self.is_there(segment_id):
                return None
        except Unavailable:
            # Who is small is answered nevertheless; the others learn it by their search.
            log.warning("Milvus does not say whether it has %s", segment_id)
        return MilvusSegment(
            current_tenant_id(),
            segment_id,
            seq,
            kind,
            int(details["rows"]),
            read_efforts(details),
            read_partitions(details),
            model,
            0 if kind.endswith("hnsw") else lists_of(int(details["rows"])),
            self.server,
        )

    def is_there(self, segment_id: uuid.UUID) -> bool:
        name = self._name(segment_id)
        with self.server.client() as client:
            if not client.has_collection(name, timeout=settings.MILVUS_TIMEOUT_S):
                return False
            if not client.list_indexes(name):
                return False
            if client.get_load_state(name, timeout=settings.MILVUS_TIMEOUT_S)["state"].name == "NotLoad":
                # Somebody released it.
                client.load_collection(name, timeout=BUILD_TIMEOUT_S, _async=True)
            return True

    def partitions(self, segment_id: uuid.UUID) -> dict[Partition, int]:
        """Read page by page, by ranges of numbers: the ids of all assets are in memory meanwhile, 100 bytes each."""
        last = IndexGeneration.objects.values_list("seq", flat=True).get(pk=segment_id)
        filed: dict[uuid.UUID, Partition] = {}
        for after in range(0, last, PAGE):
            where = f"seq > {after} and seq <= {after + PAGE}"
            filed |= dict(_filed(self.server, self._name(segment_id), where))
        counts: dict[Partition, int] = {}
        for partition in filed.values():
            counts[partition] = counts.get(partition, 0) + 1
        return counts

    def segments(self) -> Iterator[tuple[uuid.UUID, int]]:
        mine = [segment_id for tenant_id, segment_id in self.everything() if tenant_id == current_tenant_id()]
        for segment_id in mine:
            with self.server.client() as client:
                told = client.get_collection_stats(self._name(segment_id), timeout=BUILD_TIMEOUT_S)
                fields = client.describe_collection(self._name(segment_id), timeout=BUILD_TIMEOUT_S)["fields"]
            width = next(one["params"]["dim"] for one in fields if one["name"] == "vector")
            yield segment_id, int(told["row_count"]) * (4 * int(width) + BESIDE_BYTES)

    def drop(self, segment_id: uuid.UUID) -> bool:
        name = self._name(segment_id)
        with self.server.client() as client:
            if not client.has_collection(name, timeout=BUILD_TIMEOUT_S):
                return False
            client.drop_collection(name, timeout=BUILD_TIMEOUT_S)
            return True

    def _name(self, segment_id: uuid.UUID) -> str:
        """Of the active tenant: nobody can name another's."""
        return collection_name(current_tenant_id(), segment_id)


def register() -> None:
    """Where MILVUS_URL is set, in every process."""
    ENGINES[NAME] = MilvusEngine()
