"""The lexical index: which assets hold the words of a query, ranked.

An entry is a tsvector of what an asset says (weight A) and of its metadata (weight B); Chinese characters stand beside
the words that hold them (weight C), so that one character finds them too. Every lexeme begins with eight characters
that stand for the tenant: the shared GIN index then never reads another tenant's postings, whose number would show in
the time that a query takes. Row-level security keeps Postgres from using that index (`@@` is not leakproof); the
function `lexical_matches` (migration 0002) reads it for the tenant that is set, and for no other.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection

from tenants.datasets import filenames
from tenants.datasets.models import Asset
from tenants.retrieval.models import LexicalEntry
from tenants.retrieval.query.tokenizer import is_han, tokens
from tenants.retrieval.types import Restriction
from tenants.scope import current_tenant_id

MAX_QUERY_WORDS = 16
# Documents compared in one query, shared by its words: what its rarer words find is always among them.
CANDIDATES = 2_000
# Longer lists of assets cost more to send than to look through afterwards.
MAX_ALLOWED = 20_000


@dataclass(frozen=True)
class Entry:
    """What an asset is found by: its name, text, captions or transcript, and the words of its metadata."""

    asset_id: uuid.UUID
    dataset_id: uuid.UUID
    modality: str
    content: str
    fields: str = ""


def entry_of(asset: Asset, schema: Mapping[str, Any], said: Iterable[str]) -> Entry:
    """The entry of an asset that says this. Its name comes first: what is long is not indexed to its end."""
    content = "\n".join([filenames.words_of(asset.filename), *said])
    return Entry(asset.id, asset.dataset_id, asset.modality, content, words_of(asset.metadata, schema))


def words_of(metadata: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The values of the text and tag fields, to be indexed."""
    kept = []
    for key, value in metadata.items():
        if schema.get(key, {"type": "text"})["type"] in {"text", "tags"}:
            items = value if isinstance(value, list) else [value]
            kept += [item for item in items if isinstance(item, str)]
    return "\n".join(kept)


def index_texts(entries: Iterable[Entry]) -> None:
    """Make these the only entries of their assets, which the caller holds locked or has just made."""
    prefix = _prefix()
    rows = {
        entry.asset_id: LexicalEntry(
            asset_id=entry.asset_id,
            dataset_id=entry.dataset_id,
            modality=entry.modality,
            words=" ".join(
                [
                    f"{_place(prefix, entry.dataset_id)}:1A",
                    _vector(prefix, entry.content, "A"),
                    _vector(prefix, entry.fields, "B"),
                ]
            ),
        )
        for entry in entries
    }
    LexicalEntry.objects.bulk_create(
        rows.values(),
        update_conflicts=True,
        unique_fields=["tenant", "asset"],
        update_fields=["dataset_id", "modality", "words"],
    )


def index_fields(rows: Sequence[tuple[uuid.UUID, str]]) -> list[uuid.UUID]:
    """Replace the words of metadata and keep the rest; returns the assets that had an entry."""
    if not rows:
        return []
    prefix = _prefix()
    statement = """
        UPDATE lexical_entry AS entry SET words = ts_filter(entry.words, '{a,c}') || given.words
        FROM unnest(%s::uuid[], %s::tsvector[]) AS given (asset_id, words)
        WHERE entry.tenant_id = %s AND entry.asset_id = given.asset_id RETURNING entry.asset_id
    """
    ids, vectors = [str(asset_id) for asset_id, _ in rows], [_vector(prefix, text, "B") for _, text in rows]
    with connection.cursor() as cursor:
        cursor.execute(statement, [ids, vectors, str(current_tenant_id())])
        return [asset_id for (asset_id,) in cursor.fetchall()]


def remove(asset_ids: Sequence[uuid.UUID]) -> None:
    """Forget these assets; before their rows go, as entries refer to them."""
    LexicalEntry.objects.filter(asset_id__in=asset_ids).delete()


def matching(query: str, limit: int, only: Restriction | None = None) -> list[tuple[uuid.UUID, float]]:
    """At most `limit` assets that hold a word of the query, the best first, each with its rank above 0.

    The rank is BM25's with the documents that were compared as its collection. Of a word that more than
    CANDIDATES / words documents hold, only some of those are compared.
    """
    words = list(dict.fromkeys(tokens(query)))[:MAX_QUERY_WORDS]
    if not words:
        return []
    only = only or Restriction()
    if only.datasets == []:
        return []
    if only.assets is not None and len(only.assets) > MAX_ALLOWED:
        allowed = set(only.assets)
        found = _matching(words, 2 * CANDIDATES, replace(only, assets=None))
        return [(asset_id, rank) for asset_id, rank in found if asset_id in allowed][:limit]
    return _matching(words, limit, only)


def _matching(words: list[str], limit: int, only: Restriction) -> list[tuple[uuid.UUID, float]]:
    prefix = _prefix()
    queries = [f"'{prefix}{word}'" for word in words]
    if len(words) > 1:
        queries.append(" & ".join(queries))
    places = None if only.datasets is None else " | ".join(_place(prefix, one) for one in only.datasets)
    statement = """
        SELECT asset_id, rank FROM lexical_matches(
            %s::tsquery[], %s, %s::tsquery, %s, %s, %s::uuid[], %s::text[], %s::uuid[])
    """
    chosen = [_ids(only.hidden_datasets), only.modalities, _ids(only.assets)]
    with connection.cursor() as cursor:
        cursor.execute(statement, [queries, len(words), places, CANDIDATES // len(words), limit, *chosen])
        return cursor.fetchall()


def _ids(given: Iterable[uuid.UUID] | None) -> list[str] | None:
    return None if given is None else [str(one) for one in given]


def fuse(*rankings: Sequence[uuid.UUID], k: int = 60) -> list[tuple[uuid.UUID, float]]:
    """Reciprocal rank fusion (Cormack, Clarke, Büttcher: SIGIR 2009): best first, each with the sum of 1 / (k + rank).

    Ranks count from 1. Equal sums keep the order in which the rankings, one after the other, name the items.
    """
    sums: dict[uuid.UUID, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            sums[item] = sums.get(item, 0.0) + 1 / (k + rank)
    return sorted(sums.items(), key=lambda pair: -pair[1])


def _prefix() -> str:
    digest = hashlib.blake2b(current_tenant_id().bytes, digest_size=5).digest()
    return base64.b32encode(digest).decode().lower()


def _place(prefix: str, dataset_id: uuid.UUID) -> str:
    """The lexeme that says in which dataset an asset is, so that the index itself narrows to it."""
    return f"'{prefix}:{dataset_id.hex}'"


def _vector(prefix: str, text: str, weight: str) -> str:
    """The text as a tsvector literal. Words hold letters, digits and their signs only, so nothing needs escaping."""
    places: dict[str, list[str]] = {}
    for at, word in enumerate(tokens(text), start=1):
        places.setdefault(word, []).append(f"{at}{weight}")
        if len(word) > 1 and is_han(word):
            for character in word:
                places.setdefault(character, []).append(f"{at}C" if weight == "A" else f"{at}{weight}")
    return " ".join(f"'{prefix}{word}':{','.join(at)}" for word, at in places.items())
