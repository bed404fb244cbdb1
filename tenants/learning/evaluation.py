"""How well a space answers over the tenant's real corpus: golden queries, and captions that no training saw.

Exact search over the stored vectors of a space, read from the database as a stream: what counts is the space, not the
index in front of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from django.db import connection
from numpy.typing import NDArray

from ml.indexes.base import as_matrix
from ml.training import metrics
from tenants.datasets.models import Asset
from tenants.learning import selectors
from tenants.learning.models import GoldenQuery
from tenants.retrieval import model_routing
from tenants.retrieval.index import sampled
from tenants.scope import current_tenant_id, tenant_scope

Vectors = NDArray[np.float32]

#: How deep ranks are followed; what stands deeper counts as not found.
DEPTH = 100
#: Vectors kept for each query, as an asset may have many.
KEPT = 4 * DEPTH
CHUNK = 8_192
TOP = 10
# The rank of what was not found.
NOWHERE = 10**9
# Of each kind, the newest: what an evaluation may cost is bounded.
MAX_GOLDEN, MAX_HELD_OUT = 1_000, 300
# Of all the pictures that were held out together: each caption is a query.
MAX_CAPTIONS = 5 * MAX_HELD_OUT

_CHUNK = """
SELECT seq, asset_id, modality = asset_modality, data FROM vector
WHERE tenant_id = %s AND model = %s AND seq > %s ORDER BY seq LIMIT %s
"""


@dataclass(frozen=True)
class Question:
    """A query with known answers. `own`: only vectors of what assets are count, not those of their captions."""

    text: str
    asset_id: uuid.UUID | None
    relevant: frozenset[uuid.UUID]
    own: bool = False


Ranking = list[uuid.UUID]


def golden_questions() -> list[Question]:
    """The tenant's golden queries that still have an answer, in its scope."""
    rows = list(selectors.list_golden()[:MAX_GOLDEN])
    answers = selectors.answers_of(row.id for row in rows)
    return [_golden(row, answers[row.id]) for row in rows if answers[row.id]]


def _golden(row: GoldenQuery, answers: list[uuid.UUID]) -> Question:
    return Question(row.text, row.asset_id, frozenset(answers))


def held_out_questions(asset_ids: Sequence[str]) -> list[Question]:
    """The captions of these pictures, each of which has to find its picture. In the tenant's scope."""
    wanted = [uuid.UUID(one) for one in asset_ids[:MAX_HELD_OUT]]
    rows = Asset.objects.filter(pk__in=wanted, status=Asset.State.READY).exclude(caption="")
    rows = rows.exclude(moderation__in=Asset.HIDDEN).order_by("id")
    return [
        Question(caption, None, frozenset([row.id]), own=True)
        for row in rows.only("id", "caption", "more_captions")
        for caption in row.captions
    ][:MAX_CAPTIONS]


def some_captioned() -> list[str]:
    """Pictures with captions, the newest, without those that were made here. In the tenant's scope."""
    rows = Asset.objects.filter(modality=Asset.Modality.IMAGE, status=Asset.State.READY, generation_id=None)
    rows = rows.exclude(caption="")
    return [str(one) for one in rows.order_by("-id").values_list("id", flat=True)[:MAX_HELD_OUT]]


def rankings(tenant_id: uuid.UUID, model: str, questions: Sequence[Question]) -> list[Ranking]:
    """The best DEPTH assets for each question in a space, best first. Opens scopes of its own."""
    if not questions:
        return []
    queries = _queries(tenant_id, model, questions)
    best = _Best(queries, np.array([question.own for question in questions]))
    for assets, own, vectors in _stored(tenant_id, model):
        best.add(assets, own, vectors)
    return [best.ranking(row, question.asset_id) for row, question in enumerate(questions)]


def _queries(tenant_id: uuid.UUID, model: str, questions: Sequence[Question]) -> Vectors:
    """float32 [n, d]; zeros for a picture that has no vector in this space."""
    space = model_routing.space(model, tenant_id)
    queries = np.zeros((len(questions), space.dimension), np.float32)
    texts = [row for row, question in enumerate(questions) if question.asset_id is None]
    if texts:
        queries[texts] = space.query_texts([questions[row].text for row in texts])
    pictures = {question.asset_id for question in questions if question.asset_id}
    with tenant_scope(tenant_id):
        stored = sampled(list(pictures), model=model, most=1, own=True) if pictures else []
    known = {one.asset_id: one.values for one in stored}
    for row, question in enumerate(questions):
        if question.asset_id in known:
            queries[row] = space.as_query(known[question.asset_id][None])[0]
    return queries


def _stored(tenant_id: uuid.UUID, model: str) -> Iterator[tuple[list[uuid.UUID], NDArray[np.bool_], Vectors]]:
    after = 0
    while True:
        with tenant_scope(tenant_id), connection.cursor() as cursor:
            cursor.execute(_CHUNK, [current_tenant_id(), model, after, CHUNK])
            rows = cursor.fetchall()
        if not rows:
            return
        after = rows[-1][0]
        vectors = as_matrix([row[3] for row in rows])
        yield [row[1] for row in rows], np.array([row[2] for row in rows]), vectors


class _Best:
    """The best scores of each query so far, with the assets that they are of."""

    def __init__(self, queries: Vectors, own: NDArray[np.bool_]) -> None:
        self.queries, self.own = queries, own
        self.scores = np.full((len(queries), 0), -np.inf, np.float32)
        self.assets = np.zeros((len(queries), 0), np.intp)
        self.ids: list[uuid.UUID] = []
        self.numbers: dict[uuid.UUID, int] = {}

    def add(self, assets: Sequence[uuid.UUID], own: NDArray[np.bool_], vectors: Vectors) -> None:
        scores = self.queries @ vectors.T
        scores[np.ix_(self.own, ~own)] = -np.inf
        numbers = np.broadcast_to([self._number(asset) for asset in assets], scores.shape)
        scores = np.hstack([self.scores, scores])
        numbers = np.hstack([self.assets, numbers])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :KEPT]
        self.scores = np.take_along_axis(scores, order, axis=1)
        self.assets = np.take_along_axis(numbers, order, axis=1)

    def _number(self, asset: uuid.UUID) -> int:
        number = self.numbers.setdefault(asset, len(self.ids))
        if number == len(self.ids):
            self.ids.append(asset)
        return number

    def ranking(self, row: int, without: uuid.UUID | None) -> Ranking:
        kept = self.assets[row][np.isfinite(self.scores[row])]
        named = [self.ids[number] for number in dict.fromkeys(kept.tolist())]
        return [asset for asset in named if asset != without][:DEPTH]


# --- Figures ---------------------------------------------------------------------------------------------


def ranking_of(questions: Sequence[Question], rankings: Sequence[Ranking]) -> metrics.Ranking:
    """What the metrics of training are counted from; an answer that is not among the best DEPTH has no rank."""
    places = [_ranks(*pair) for pair in zip(questions, rankings, strict=True)]
    pool = max((len(ranking) for ranking in rankings), default=0)
    ranks = np.array([row[0] if row else NOWHERE for row in places], np.int64)
    precision = [_precision(row, len(q.relevant)) for row, q in zip(places, questions, strict=True)]
    return metrics.Ranking(ranks, np.array(precision), _groups(questions), pool)


def _groups(questions: Sequence[Question]) -> np.ndarray:
    """The captions of one picture are resampled together: what one of them finds, the others find more likely."""
    numbers: dict[frozenset[uuid.UUID] | int, int] = {}
    return np.array([numbers.setdefault(q.relevant if q.own else n, n) for n, q in enumerate(questions)], int)


def _ranks(question: Question, ranking: Ranking) -> list[int]:
    """The ranks of right answers, 0 is the first."""
    return [place for place, asset in enumerate(ranking) if asset in question.relevant]


def _precision(places: list[int], relevant: int) -> float:
    return sum((n + 1) / (place + 1) for n, place in enumerate(places)) / relevant


def overlap(before: Sequence[Ranking], after: Sequence[Ranking]) -> float | None:
    """The share of the ten best that stay among the ten best; None where nothing was found."""
    pairs = [(set(old[:TOP]), set(new[:TOP])) for old, new in zip(before, after, strict=True) if old]
    return round(float(np.mean([len(old & new) / len(old) for old, new in pairs])), 4) if pairs else None
