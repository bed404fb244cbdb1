"""What an index finds beside exact search and beside another index, on the same queries."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ml.indexes import exact, tuning
from ml.indexes.manifest import Effort
from tenants.errors import IndexRebuilding
from tenants.retrieval import memory, samples
from tenants.retrieval.engines import Copy
from tenants.retrieval.models import Vector
from tenants.retrieval.opening import Opening, opening
from tenants.retrieval.ranking import rank
from tenants.retrieval.state import Restriction, State
from tenants.retrieval.vectors import DIMENSION
from tenants.scope import tenant_scope

TOP = tuning.TOP
QUERIES = 256
# Stored vectors that made queries are drawn from.
DRAWN = 2_048
# Queries of one scope.
STEP = 16
# Scores this close are one.
TOLERANCE = 1e-5


def queries_of(tenant_id: uuid.UUID, model: str, seq: int) -> np.ndarray:
    """float32 [q, 256] of norm 1: what people asked, filled up with stored vectors that were moved a little."""
    with tenant_scope(tenant_id):
        stored = _drawn(model, seq)
    given = samples.read(tenant_id, model)
    if not len(stored):
        return given[:QUERIES]
    return tuning.sample_queries(stored, given if len(given) else None)[:QUERIES]


def _drawn(model: str, seq: int) -> np.ndarray:
    """Some of the stored vectors up to `seq`: at random numbers, filled up with the first ones where many are gone."""
    numbers = np.random.default_rng(seq).integers(1, max(2, seq + 1), 2 * DRAWN).tolist()
    vectors = Vector.objects.filter(model=model, seq__lte=seq)
    found = list(vectors.filter(seq__in=numbers).values_list("data", flat=True)[:DRAWN])
    if len(found) < DRAWN // 4:
        found = list(vectors.order_by("seq").values_list("data", flat=True)[:DRAWN])
    return np.frombuffer(b"".join(bytes(data) for data in found), "<f4").reshape(-1, DIMENSION)


class Truth:
    """The best scores of all rows for each query, found while rows come by; also of every 4th and every 16th row."""

    def __init__(self, queries: np.ndarray) -> None:
        self.queries = queries
        self.best = {every: np.full((len(queries), TOP), -np.inf, np.float32) for every in (1, 4, 16)}

    def add(self, seqs: np.ndarray, vectors: np.ndarray) -> None:
        for every, known in self.best.items():
            some = vectors if every == 1 else vectors[seqs % every == 0]
            if len(some):
                scores, _ = exact.nearest(np.ascontiguousarray(some), self.queries, TOP)
                self.best[every] = -np.sort(-np.hstack([known, scores]), axis=1)[:, :TOP]


def efforts_of(copy: Copy, truth: Truth, efforts: Sequence[int], target: float) -> tuple[Effort, ...]:
    """The cheapest effort that meets the target for each share that is not searched exactly; else the greatest.

    In no scope, as it takes a while.
    """
    found = []
    for every in truth.best:
        if every == 1 or copy.asset_count / every > copy.exact_assets:
            found.append(_cheapest(copy, truth, every, efforts, target))
    return tuple(found)


def _cheapest(copy: Copy, truth: Truth, every: int, efforts: Sequence[int], target: float) -> Effort:
    low, high, best = 0, len(efforts) - 1, None
    wanted = target + tuning.MARGIN * (1 - target)
    while low < high:
        middle = (low + high) // 2
        tried = _measured(copy, truth, every, efforts[middle])
        if tried.recall >= wanted:
            high, best = middle, tried
        else:
            low = middle + 1
    return best if best and best.effort == efforts[low] else _measured(copy, truth, every, efforts[low])


def _measured(copy: Copy, truth: Truth, every: int, effort: int) -> Effort:
    """Rows are judged by their score, so that any of several equal ones is right. The cost is time on the clock."""
    hits, possible, started = 0, 0, time.perf_counter()
    for query, best in zip(truth.queries, truth.best[every], strict=True):
        wanted = best[np.isfinite(best)]
        found = copy.measured(query, len(wanted), effort, every)
        hits += int(np.count_nonzero(found >= wanted[-1] - TOLERANCE)) if len(wanted) else 0
        possible += len(wanted)
    spent = 1000 * (time.perf_counter() - started) / max(1, len(truth.queries))
    return Effort(1 / every, effort, hits / max(1, possible), spent)


# --- Two indexes -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """Overlap@10 of two indexes; None where the old one does not answer at the moment."""

    overlap: float | None
    queries: int


def overlap_of(tenant_id: uuid.UUID, model: str, new: Opening, queries: np.ndarray) -> Compared:
    """How much of the ten best that the tenant's index finds the one of `new` finds too, through the product's ranking.

    An asset that scores as the other's last one does counts as found: which of several equals is named is chance.
    """
    ours, theirs = memory.TenantVectors(model), memory.TenantVectors(model)
    shares = []
    try:
        for some in _steps(queries):
            with tenant_scope(tenant_id):
                before = opening(tenant_id, model)
                now = replace(before, engine=new.engine, current=new.current)
                states = ours.refresh(before), theirs.refresh(now)
                shares += [_shared(*states, query, list(before.hidden)) for query in some]
    except IndexRebuilding:
        return Compared(None, 0)
    known = [share for share in shares if share is not None]
    return Compared(float(np.mean(known)) if known else 1.0, len(known))


def _steps(queries: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(queries), STEP):
        yield queries[start : start + STEP]


def _shared(before: State, after: State, query: np.ndarray, hidden: list[uuid.UUID]) -> float | None:
    only = Restriction(hidden_datasets=hidden)
    old, new = rank(before, query, TOP, only).hits, rank(after, query, TOP, only).hits
    if not old:
        return None
    named, last = {hit.asset_id for hit in old}, old[-1].score - TOLERANCE
    found = sum(hit.asset_id in named or hit.score >= last for hit in new[: len(old)])
    return found / len(old)
