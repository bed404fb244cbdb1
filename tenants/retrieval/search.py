"""The query path: parts to one unit vector, one exact search in memory, hydration, paging by snapshot.

The query is the normalised weighted sum of its parts' vectors; an asset's score is the greatest cosine over its
vectors. A search first catches up with the database, so it sees every asset whose job has succeeded; hydration
reads live rows, so a deleted asset cannot come back.
"""

from __future__ import annotations

import base64
import binascii
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from uuid_utils.compat import uuid7

from tenants.accounts import metering
from tenants.datasets import selectors
from tenants.datasets.models import Dataset
from tenants.errors import CursorExpired, Invalid, NotFound
from tenants.retrieval import encoding, filters, lexical, memory, snapshots
from tenants.retrieval.models import Vector
from tenants.scope import tenant_scope
from tenants.valkey import Unavailable, client, tenant_key

MAX_DEPTH = 1_000
SNAPSHOT_S = 300

# Fixed weights by task; a learnt gate will propose them per query, with these as its prior.
TASKS: dict[str, dict[str, float]] = {
    "general": {"text": 1.0, "image": 1.0, "audio": 1.0, "vector": 1.0},
    "ecommerce": {"text": 0.3, "image": 0.6, "audio": 0.1, "vector": 1.0},
    "medical": {"text": 0.2, "image": 0.8, "audio": 0.1, "vector": 1.0},
    "support": {"text": 0.6, "image": 0.2, "audio": 0.6, "vector": 1.0},
}

Read = Callable[[list[uuid.UUID]], Mapping[uuid.UUID, Any]]


@dataclass
class Query:
    """A validated search. Files are paths on disk; `vector` is float32 [256]."""

    text: str = ""
    image: Path | None = None
    image_asset: uuid.UUID | None = None
    audio: Path | None = None
    vector: np.ndarray | None = None
    datasets: list[uuid.UUID] | None = None
    modalities: list[str] | None = None
    conditions: list[tuple[str, str, Any]] = field(default_factory=list)
    task: str = "general"
    weights: dict[str, float] = field(default_factory=dict)
    hybrid: bool = False
    top_k: int = 10
    cursor: str = ""
    explain: bool = False


@dataclass
class Answer:
    """What a search found: assets as `read` gives them, with scores; `timings` are milliseconds by step."""

    search_id: str
    results: list[tuple[Any, memory.Hit]]
    next: str | None
    meta: dict[str, Any]
    timings: dict[str, float]


class Stopwatch:
    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.timings: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.timings[name] = self.timings.get(name, 0) + (time.perf_counter() - begin) * 1000

    def total_ms(self) -> float:
        return (time.perf_counter() - self.start) * 1000


def search(*, tenant_id: uuid.UUID, query: Query, read: Read = selectors.get_assets) -> Answer:
    """Answer a search of one tenant, in short scopes of its own; `read` gets the assets of a page by their ids.

    Raises Invalid, NotFound, CursorExpired, and MediaError for a file that cannot be decoded.
    """
    watch = Stopwatch()
    page = _next_page if query.cursor else _first_page
    answer = page(tenant_id, query, read, watch)
    metering.note(tenant_id=tenant_id, amounts={"searches": 1})
    answer.meta["took_ms"] = round(watch.total_ms(), 3)
    return answer


# --- First page ------------------------------------------------------------------------------------------


def _first_page(tenant_id: uuid.UUID, query: Query, read: Read, watch: Stopwatch) -> Answer:
    if query.datasets is not None or query.image_asset is not None:
        # Before the costly part: what is not there answers 404 whatever else is wrong.
        with tenant_scope(tenant_id):
            _check_datasets(query.datasets)
            if query.image_asset is not None:
                selectors.get_asset(query.image_asset)
    with watch.step("encode"):
        parts, extra = _encode(tenant_id, query)
    vector, weights = _combine(parts, query)
    with tenant_scope(tenant_id):
        words = " ".join(filter(None, [query.text, extra.get("transcript", "")]))
        hits, total, state = _find(query, vector, words, watch)
        with watch.step("hydrate"):
            results = _hydrate(hits[: query.top_k], read)
    meta = {
        "total_candidates": total,
        "weights": weights,
        "model": {"id": encoding.space().id, "version": encoding.space().version},
        "index": {"generation": str(state.seq), "kind": "flat", "size": state.size, "recall_estimate": 1.0},
        **extra,
    }
    search_id = str(uuid7())
    following = (
        _keep_snapshot(tenant_id, search_id, hits, meta, query.top_k) if len(hits) > query.top_k else None
    )
    return Answer(search_id, results, following, meta, watch.timings)


def _check_datasets(dataset_ids: list[uuid.UUID] | None) -> None:
    if dataset_ids is None:
        return
    known = set(Dataset.objects.filter(pk__in=dataset_ids, deleted_at=None).values_list("pk", flat=True))
    if missing := [d for d in dataset_ids if d not in known]:
        raise NotFound(f"There is no dataset {missing[0]}.")


def _encode(tenant_id: uuid.UUID, query: Query) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The vector of each part, and what the answer says about them (cache, transcript)."""
    parts: dict[str, np.ndarray] = {}
    extra: dict[str, Any] = {"cache": "bypass"}
    if query.text:
        parts["text"], cached = encoding.queries.get(tenant_id, query.text)
        extra["cache"] = "hit" if cached else "miss"
    if query.audio is not None:
        transcript = encoding.transcribe(query.audio)
        extra["transcript"] = transcript.text
        if transcript.text.strip():
            parts["audio"], _ = encoding.queries.get(tenant_id, transcript.text)
        elif not (query.text or query.image or query.image_asset or query.vector is not None):
            raise Invalid("No words were heard in this recording. Speak closer or longer.", pointer="/audio")
    if query.image is not None:
        parts["image"] = encoding.query_image(query.image)
    elif query.image_asset is not None:
        parts["image"] = _stored_image(tenant_id, query.image_asset)
    if query.vector is not None:
        parts["vector"] = query.vector
    if query.hybrid and not (query.text or extra.get("transcript")):
        raise Invalid("Hybrid search compares words: send a text or speech.", pointer="/hybrid")
    return parts, extra


def _stored_image(tenant_id: uuid.UUID, asset_id: uuid.UUID) -> np.ndarray:
    """The stored vector of an asset's picture, as a query. Raises Invalid if it has none (yet)."""
    with tenant_scope(tenant_id):
        found = Vector.objects.filter(asset_id=asset_id, model=encoding.model_id(), modality="image").first()
    if found is None:
        raise Invalid("This asset has no picture that is ready.", pointer="/image/asset")
    return encoding.space().as_query(np.frombuffer(bytes(found.data), dtype="<f4")[None])[0]


def _combine(parts: dict[str, np.ndarray], query: Query) -> tuple[np.ndarray, dict[str, float]]:
    """The normalised weighted sum, and the weights used, which sum to 1."""
    chosen = {m: query.weights.get(m, TASKS[query.task][m]) for m in parts}
    total = sum(chosen.values())
    if total <= 0:
        raise Invalid("At least one part of the query needs a weight above 0.", pointer="/weights")
    weights = {m: w / total for m, w in chosen.items()}
    mixed = np.sum([weights[m] * parts[m] for m in parts], axis=0)
    norm = float(np.linalg.norm(mixed))
    if norm < 1e-6:
        raise Invalid("The parts of this query cancel each other out.", pointer="")
    return (mixed / norm).astype(np.float32), {m: round(w, 4) for m, w in weights.items()}


def _find(
    query: Query, vector: np.ndarray, words: str, watch: Stopwatch
) -> tuple[list[memory.Hit], int, memory.State]:
    vectors = memory.cache.of_current_tenant(encoding.model_id())
    with watch.step("refresh"):
        state = vectors.refresh()
    with watch.step("filter"):
        allowed = filters.matching_ids(query.conditions, query.datasets) if query.conditions else None
        hidden = list(Dataset.objects.exclude(deleted_at=None).values_list("pk", flat=True))
    only = memory.Restriction(query.datasets, query.modalities, allowed, hidden)
    with watch.step("search"):
        hits, total = vectors.search(state, vector, MAX_DEPTH, only)
    if query.hybrid:
        with watch.step("lexical"):
            hits = _with_words(hits, lexical.matching(words, MAX_DEPTH, only))
    return hits, max(total, len(hits)), state


def _with_words(hits: list[memory.Hit], found: list[tuple[uuid.UUID, float]]) -> list[memory.Hit]:
    """Both rankings in one by reciprocal rank, which is then the score: cosines and word weights do not compare."""
    known = {hit.asset_id: hit for hit in hits}
    fused = lexical.fuse([hit.asset_id for hit in hits], [asset_id for asset_id, _ in found])[:MAX_DEPTH]
    return [
        replace(known.get(asset_id) or memory.Hit(asset_id, 0.0, "text"), score=score)
        for asset_id, score in fused
    ]


def _hydrate(hits: list[memory.Hit], read: Read) -> list[tuple[Any, memory.Hit]]:
    assets = read([hit.asset_id for hit in hits])
    return [(assets[hit.asset_id], hit) for hit in hits if hit.asset_id in assets]


# --- Further pages: a snapshot of the ranking, live rows -------------------------------------------------


def _keep_snapshot(
    tenant_id: uuid.UUID, search_id: str, hits: list[memory.Hit], meta: dict[str, Any], offset: int
) -> str | None:
    body = snapshots.pack(hits, meta)
    try:
        client().set(tenant_key(tenant_id, "search", search_id), body, ex=SNAPSHOT_S)
    except Unavailable:
        return None
    return encode_cursor(search_id, offset)


def encode_cursor(search_id: str, offset: int) -> str:
    return base64.urlsafe_b64encode(f"{search_id}.{offset}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[str, int]:
    """Raises Invalid for anything that encode_cursor did not make."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        search_id, _, offset = raw.partition(".")
        number = int(offset)
        if not 0 < number < MAX_DEPTH:
            raise ValueError(offset)
        return str(uuid.UUID(search_id)), number
    except (ValueError, binascii.Error) as error:
        raise Invalid("This is not a cursor from an earlier answer.", pointer="/cursor") from error


def _next_page(tenant_id: uuid.UUID, query: Query, read: Read, watch: Stopwatch) -> Answer:
    search_id, offset = decode_cursor(query.cursor)
    with watch.step("snapshot"):
        raw = client().get(tenant_key(tenant_id, "search", search_id))
    if raw is None:
        raise CursorExpired("Cursors are kept for five minutes. Send the search again without one.")
    ranking, meta = snapshots.unpack(raw)
    page = ranking[offset : offset + query.top_k]
    with tenant_scope(tenant_id), watch.step("hydrate"):
        results = _hydrate(page, read)
    end = offset + len(page)
    following = encode_cursor(search_id, end) if end < len(ranking) else None
    return Answer(search_id, results, following, meta, watch.timings)
