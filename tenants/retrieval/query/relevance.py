"""How likely each result is right: by the curves that the space that answers states, and by the words of the query."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ml.alignment.relevance import Correction
from tenants.prepared import Prepared
from tenants.retrieval.query import lexical
from tenants.retrieval.types import Hit, Query

if TYPE_CHECKING:
    from ml.alignment.relevance import Relevance
    from ml.alignment.space import JointSpace, Vectors
    from tenants.retrieval.query.encoding import Encoded

#: Parts of a query that ask as one kind does: speech by its words. Several kinds together, likeness and bare vectors
#: have scores that nobody has calibrated, and so have queries that say what is not wanted.
ASKS_AS = {frozenset({"text"}): "text", frozenset({"audio"}): "text", frozenset({"image"}): "image"}
#: Results whose words are looked at.
MOST_READ = 1_000


@dataclass(frozen=True)
class Judge:
    """Of one query: what asks, its words where they are text, and whether texts that hold all of them count as such."""

    relevance: Relevance
    asked: str
    words: str = ""
    reads: bool = False
    # Whether the tenant's labels had a say.
    is_corrected: bool = False

    @property
    def line(self) -> float:
        """From which relevance on a result is worth showing."""
        return self.relevance.line

    def least_score(self, chance: float) -> float:
        """Below it nothing is so likely, but by its words."""
        return self.relevance.least_score(self.asked, min(max(chance, 1e-6), 1 - 1e-6))

    def judged(self, hits: Iterable[Hit]) -> list[Hit]:
        """The hits with the relevance of their scores, in their order."""
        of, asked = self.relevance.of, self.asked
        return [replace(hit, relevance=of(asked, hit.modality, hit.score)) for hit in hits]

    def named(self, hits: list[Hit]) -> list[Hit]:
        """The same, where those that the query names are at least as relevant as words make them."""
        return [self._worded(hit) if hit.by else hit for hit in hits]

    def read(self, hits: list[Hit]) -> list[Hit]:
        """The same of those that hold all words of the query. In the tenant's scope; asks the database."""
        if not (self.words and self.reads):
            return hits
        doubtful = [hit for hit in hits[:MOST_READ] if (hit.relevance or 0.0) < self.relevance.words]
        holding = lexical.holding_all(self.words, [hit.asset_id for hit in doubtful])
        return [self._worded(hit) if hit.asset_id in holding else hit for hit in hits]

    def _worded(self, hit: Hit) -> Hit:
        return replace(hit, relevance=max(hit.relevance or 0.0, self.relevance.words))


def judge_of(space: JointSpace, vector: Vectors, query: Query, encoded: Encoded) -> Judge | None:
    """None where scores of such a query say nothing that was calibrated. `vector` [dimension] is what asks."""
    asked = ASKS_AS.get(frozenset(encoded.parts))
    if asked is None or query.unlike or query.unlike_text:
        return None
    words = encoded.words if asked == "text" else ""
    relevance = space.relevance_of(vector, words)
    if relevance is None or not relevance.asked_by(asked):
        return None
    # Where words are not to be compared they say nothing here, either.
    return Judge(relevance, asked, words, reads=query.hybrid is not False)


# --- What a tenant's labels say of the curves ------------------------------------------------------------

KEEP_S = 10.0
MOST_KEPT = 10_000

_LIVE = Prepared(
    "live_correction",
    ("uuid",),
    "SELECT model, steepness, shift FROM relevance_correction WHERE tenant_id = $1 AND live",
)
_memo: dict[uuid.UUID, tuple[float, tuple[str, Correction] | None]] = {}


def corrected(judge: Judge | None, tenant_id: uuid.UUID, model: str) -> Judge | None:
    """With what the tenant's labels say of searches by words in this model. In no scope, or the tenant's."""
    if judge is None or judge.asked != "text":
        return judge
    found = _serving(tenant_id)
    if found is None or found[0] != model:
        return judge
    return replace(judge, relevance=judge.relevance.corrected(found[1]), is_corrected=True)


def _serving(tenant_id: uuid.UUID) -> tuple[str, Correction] | None:
    until, found = _memo.get(tenant_id, (0.0, None))
    if time.monotonic() < until:
        return found
    rows = _LIVE.rows_of(tenant_id, tenant_id)
    found = (rows[0][0], Correction.within(rows[0][1], rows[0][2])) if rows else None
    if len(_memo) >= MOST_KEPT:
        _memo.clear()
    _memo[tenant_id] = (time.monotonic() + KEEP_S, found)
    return found


def forget_correction(tenant_id: uuid.UUID) -> None:
    """Read anew which one serves: for the process that has just changed it."""
    _memo.pop(tenant_id, None)


def reaching(hits: list[Hit], least: float, *, ordered: bool) -> list[Hit]:
    """Those whose relevance is `least` at least; `ordered` by it, the best first, behind what is named."""
    kept = [hit for hit in hits if least <= 0 or (hit.relevance or 0.0) >= least]
    if not ordered:
        return kept
    return sorted(kept, key=lambda hit: (hit.by not in ("name", "phrase"), -(hit.relevance or 0.0)))


def as_kept(judge: Judge | None) -> Mapping[str, Any] | None:
    """What a cursor keeps of it."""
    return None if judge is None else {"asked": judge.asked, "words": judge.words, "reads": judge.reads}


def of_kept(kept: Mapping[str, Any], space: JointSpace, vector: Vectors) -> Judge | None:
    """The reverse, in the space that answered, for the same vector."""
    relevance = space.relevance_of(vector, kept["words"])
    return None if relevance is None else Judge(relevance, kept["asked"], kept["words"], kept["reads"])
