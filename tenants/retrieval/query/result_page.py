"""A page of results: live rows, folded duplicates, the query's words in what was found; and what later pages need."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
import uuid
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from django.db.models import Q
from django.utils.translation import gettext

from tenants.datasets import documents, selectors, shapes, storage
from tenants.datasets.encrypted_files import FileDamaged
from tenants.datasets.metadata import stored_bytes
from tenants.datasets.models import Asset, TranscriptSegment
from tenants.datasets.selectors import shape_of_columns, visible_assets
from tenants.errors import CursorExpired, Invalid
from tenants.prepared import Prepared
from tenants.retrieval import model_store
from tenants.retrieval.cache import GATHER_S, async_writer
from tenants.retrieval.index import memory
from tenants.retrieval.index.vectors import sampled
from tenants.retrieval.query.lexical import (
    MAX_CHARACTERS,
    Highlight,
    fields_of_metadata,
    highlight,
    query_words,
)
from tenants.retrieval.types import MAX_DEPTH, MODALITIES, Hit, IndexStatus, PartMatch
from tenants.scope import current_tenant_id, narrowing, tenant_scope
from tenants.valkey import client, tenant_key

# --- A page ---------------------------------------------------------------------------------------------

# Measured on the demo data (docs/experiments.md): above every pair of different pictures there. Of pictures a space may
# state another.
THRESHOLD = 0.985
SEEN = ("image", "video")
# Frames or passages that stand for a film, a recording or a long text.
MOST_GROUPED = 8


def group(hits: Sequence[Hit], *, model: str) -> list[list[Hit]]:
    """The hits, the best first, as groups in the order of their leaders, each with its leader first, by `model`.

    In the tenant's scope. Of hits whose asset is gone nothing is known: each is a group of its own.
    """
    ids = [hit.asset_id for hit in hits]
    same = _alike(ids, model) | _same_files(ids)
    free, groups = np.ones(len(hits), bool), []
    for at in range(len(hits)):
        if free[at]:
            members = np.flatnonzero(same[at] & free)
            free[members] = False
            free[at] = False
            groups.append([hits[at], *(hits[other] for other in members.tolist() if other != at)])
    return groups


def alive(groups: Iterable[Sequence[Hit]]) -> list[list[Hit]]:
    """The groups without what was deleted meanwhile; the next member leads where the leader is gone."""
    kept = list(groups)
    ids = [hit.asset_id for members in kept for hit in members]
    there = set(visible_assets().filter(pk__in=ids).values_list("pk", flat=True))
    left = [[hit for hit in members if hit.asset_id in there] for members in kept]
    return [members for members in left if members]


def _alike(ids: Sequence[uuid.UUID], model: str) -> np.ndarray:
    """Which pairs point in nearly the same direction: bool [n, n]."""
    place = {asset_id: at for at, asset_id in enumerate(ids)}
    stored = sampled(ids, model=model, most=MOST_GROUPED, own=True)
    if not stored:
        return np.zeros((len(ids), len(ids)), bool)
    space = model_store.spaces.opened(model, current_tenant_id())
    values, modalities = np.stack([one.values for one in stored]), np.array([one.modality for one in stored])
    texts = ~np.isin(modalities, SEEN)
    if space:
        # Without what all stored texts share, which says nothing of any.
        values[texts] = space.text_query(values[texts])
    places = [place[one.asset_id] for one in stored]
    sums, kinds = np.zeros((len(ids), values.shape[1]), np.float32), np.zeros(len(ids), "U5")
    np.add.at(sums, places, values)
    kinds[places] = modalities
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    least = np.where(np.isin(kinds, SEEN), (space and space.near_duplicate) or THRESHOLD, THRESHOLD)
    return (sums @ sums.T >= least[:, None]) & (kinds[:, None] == kinds[None, :])


def _same_files(ids: Sequence[uuid.UUID]) -> np.ndarray:
    """Which pairs share their bytes: bool [n, n]."""
    blobs = dict(Asset.objects.filter(pk__in=ids).values_list("pk", "blob_id"))
    numbers: dict[uuid.UUID, int] = {}
    # What is gone is like nothing, not even like itself.
    codes = np.array(
        [numbers.setdefault(blobs[one], len(numbers)) if one in blobs else -1 for one in ids], np.int64
    )
    return (codes[:, None] == codes[None, :]) & (codes >= 0)[:, None]


# Texts of a page that are read from storage, which may be a bucket far away.
MAX_READ = 50
# Of a page of results: what is over goes to the next one. An asset without metadata and caption takes about so much.
MAX_BYTES = 4 * 1024 * 1024
USUAL_BYTES = 1024
# A character of UTF-8 has at most four bytes.
CHARACTER_BYTES = 4

# A row or its shape: what the API shows.
Shown = Asset | shapes.Asset
# By tenant and ids, in a scope or without one.
Read = Callable[[uuid.UUID, list[uuid.UUID]], Mapping[uuid.UUID, Shown]]


@dataclass(frozen=True)
class Reader:
    """How assets of a page are read; `together` (tenant, model, ids) in one trip with the opening of a search."""

    read: Read
    together: (
        Callable[[uuid.UUID, str, list[uuid.UUID]], tuple[IndexStatus, Mapping[uuid.UUID, Shown]]] | None
    ) = None


@dataclass
class Page:
    """Assets as `read` gave them, each with its hit. `duplicates` of each where they were grouped, else None."""

    results: list[tuple[Any, Hit]]
    # How many of the groups this page has dealt with: all, unless their assets were too large for one page.
    end: int
    duplicates: dict[uuid.UUID, list[Hit]] | None = None
    spoken: dict[uuid.UUID, str] = field(default_factory=dict)
    # Of documents the words of the passage that was found (`add_passages`).
    passages: dict[uuid.UUID, str] = field(default_factory=dict)


def read_page(
    tenant_id: uuid.UUID, groups: Sequence[Sequence[Hit]], read: Read, *, grouped: bool, quoted: bool
) -> Page:
    """The groups of hits that are to be shown, as they are now. In the tenant's scope if grouped or quoted.

    `quoted`: with the words spoken at the moments that were found.
    """
    kept = alive(groups) if grouped else groups
    assets = read(tenant_id, [members[0].asset_id for members in kept])
    there = [members for members in kept if members[0].asset_id in assets]
    fits = _fitting([assets[members[0].asset_id] for members in there])
    end = len(groups) if fits == len(there) else _place_of(there[fits][0], groups)
    there = there[:fits]
    page = Page([(assets[members[0].asset_id], members[0]) for members in there], end)
    if grouped:
        page.duplicates = {members[0].asset_id: list(members[1:]) for members in there}
    if quoted:
        page.spoken = _spoken([hit for _, hit in page.results])
    return page


def _fitting(assets: Sequence[Shown]) -> int:
    """How many of them make a page of at most about MAX_BYTES, one at least."""
    size = 0
    for index, asset in enumerate(assets):
        if size >= MAX_BYTES:
            return index
        size += stored_bytes(asset.metadata) + CHARACTER_BYTES * len(asset.caption) + USUAL_BYTES
    return len(assets)


def _place_of(hit: Hit, groups: Sequence[Sequence[Hit]]) -> int:
    return next(
        place
        for place, members in enumerate(groups)
        if any(other.asset_id == hit.asset_id for other in members)
    )


# By the asset that they stand in.
Highlights = dict[uuid.UUID, list[Highlight]]


def wanted_words(words: str) -> list[str]:
    """The words of a query that are looked for in what was found."""
    return sorted(query_words(words))


def add_passages(tenant_id: uuid.UUID, page: Page) -> None:
    """The words of the passages that were found in documents. Reads storage: in no scope."""
    left = MAX_READ
    for asset, hit in page.results:
        shape = selectors.asset_shape(asset) if isinstance(asset, Asset) else asset
        if left > 0 and hit.segment and "page" in hit.segment and documents.is_document(shape.media_type):
            left -= 1
            if words := _written(tenant_id, shape, hit):
                page.passages[hit.asset_id] = words


def highlights(tenant_id: uuid.UUID, page: Page, wanted: Collection[str]) -> Highlights:
    """Where the query's words stand in each result. Reads storage: in no scope."""
    found, left = {}, MAX_READ
    for asset, hit in page.results:
        shape = selectors.asset_shape(asset) if isinstance(asset, Asset) else asset
        written = page.passages.get(hit.asset_id, "")
        in_storage = wanted and left > 0 and not written and _is_longer(shape)
        left -= bool(in_storage)
        written = _written(tenant_id, shape, hit) if in_storage else written
        said = page.spoken.get(hit.asset_id, "")
        found[hit.asset_id] = highlight(wanted, _fields(shape, hit, written, said)) if wanted else []
    return found


def _fields(asset: shapes.Asset, hit: Hit, written: str, said: str) -> Iterator[tuple[str, str]]:
    """What may be quoted of an asset, the part that was found first."""
    if written:
        yield "passage", written
    elif said:
        yield "transcript", said
    elif asset.excerpt:
        yield "excerpt", asset.excerpt
    if captions := asset.captions:
        yield from (("caption", words) for words in _captions(captions, hit))
    if asset.filename:
        yield "filename", asset.filename
    yield from fields_of_metadata(asset.metadata)


def _captions(captions: Sequence[str], hit: Hit) -> Iterator[str]:
    """The caption that was found, if one was, cut to the passage that was found in it; then the others."""
    found = (hit.segment or {}).get("caption", 0)
    # They may have changed since they were embedded.
    found = found if found < len(captions) else 0
    start, end = _characters(hit)
    yield captions[found][start:end]
    yield from (caption for number, caption in enumerate(captions) if number != found)


def _characters(hit: Hit) -> tuple[int, int | None]:
    """The range of the passage that was found in a text or caption; all of it where it has no passages."""
    segment = hit.segment or {}
    return segment.get("start_char", 0), segment.get("end_char")


# --- Long texts ------------------------------------------------------------------------------------------


def _is_longer(asset: shapes.Asset) -> bool:
    """Whether the excerpt holds only the beginning of a text."""
    return asset.modality == Asset.Modality.TEXT and asset.bytes > len(asset.excerpt.encode())


def _written(tenant_id: uuid.UUID, asset: shapes.Asset, hit: Hit) -> str:
    """The passage that was found, or the first MAX_CHARACTERS of the text; "" if it has just been deleted. What else
    was found is shown although this one's file was damaged."""
    start, end = _characters(hit)
    end = MAX_CHARACTERS if end is None else end
    if documents.is_document(asset.media_type):
        return documents.words_at(tenant_id, asset.sha256, start, min(end, start + MAX_CHARACTERS))
    try:
        with storage.open_blob(storage.path_of(tenant_id, asset.sha256)) as stream:
            return stream.read(end * CHARACTER_BYTES).decode("utf-8", errors="ignore")[start:end]
    except (FileNotFoundError, FileDamaged):
        return ""


def passages(tenant_id: uuid.UUID, found: Sequence[tuple[Asset, Hit]]) -> list[str]:
    """Of each, what was found in it: a passage within a text, what is said at the moment of sound or film; "" where
    neither is known, and for a text's beginning. Reads storage: in no scope."""
    with tenant_scope(tenant_id):
        rows = TranscriptSegment.objects.filter(_during([hit for _, hit in found])).order_by("start_s", "id")
        spoken = list(rows.values_list("asset_id", "start_s", "end_s", "text"))
    return [_passage(tenant_id, asset, hit, spoken) for asset, hit in found]


def _passage(
    tenant_id: uuid.UUID, asset: Asset, hit: Hit, spoken: Sequence[tuple[uuid.UUID, float, float, str]]
) -> str:
    segment = hit.segment or {}
    if "start_s" in segment:
        return " ".join(
            text
            for asset_id, start, end, text in spoken
            if asset_id == asset.id and start < segment["end_s"] and end > segment["start_s"]
        )
    if asset.modality != Asset.Modality.TEXT or hit.modality != "text" or "caption" in segment:
        return ""
    start, end = _characters(hit)
    shape = selectors.asset_shape(asset)
    if not start:
        return ""
    return (_written(tenant_id, shape, hit) if _is_longer(shape) else asset.excerpt[start:end]).strip()


# --- Sound and film --------------------------------------------------------------------------------------


def _spoken(hits: Sequence[Hit]) -> dict[uuid.UUID, str]:
    """What is said during the moment that was found in a recording or film."""
    found: dict[uuid.UUID, list[str]] = {}
    rows = TranscriptSegment.objects.filter(_during(hits)).order_by("asset_id", "start_s", "id")
    for asset_id, text in rows.values_list("asset_id", "text"):
        found.setdefault(asset_id, []).append(text)
    return {asset_id: " ".join(texts) for asset_id, texts in found.items()}


def _during(hits: Sequence[Hit]) -> Q:
    """What is said at the moments that were found; without any it costs no statement."""
    wanted = Q(pk__in=[])
    for hit in hits:
        if hit.segment and "start_s" in hit.segment:
            within = {"start_s__lt": hit.segment["end_s"], "end_s__gt": hit.segment["start_s"]}
            wanted |= Q(asset_id=hit.asset_id, **within)
    return wanted


# --- Assets as the API shows them -----------------------------------------------------------------------

# In one statement: the ORM takes twice as long to make objects of rows. The columns are those of
# `tenants.datasets.selectors.shape_of_columns`, in their order.

# Of a recording's details only what is shown: its waveform is as large as all the rest of a page.
#
# Each asset is looked up by its id, and what belongs to it afterwards (`OFFSET 0` keeps these steps apart). The plan
# is one for all tenants: left the choice, Postgres takes all assets of a dataset, as the average tenant has few.
# $1: tenant, IDS: the parameter with the ids.
_SQL = """
SELECT a.id::text, a.dataset_id::text, a.modality, a.status, a.external_id,
    b.sha256, b.bytes, b.media_type, b.width, b.height,
    a.filename, a.caption, a.more_captions, a.excerpt, a.metadata, b.scan, a.created_at,
    b.details - 'peaks' AS details, b.document, a.error, a.moderation, a.labels,
    a.generation_id IS NOT NULL AS generated, a.prompt
FROM unnest(IDS) AS wanted (id)
CROSS JOIN LATERAL (SELECT * FROM asset WHERE tenant_id = $1 AND asset.id = wanted.id OFFSET 0) a
CROSS JOIN LATERAL (SELECT * FROM blob WHERE tenant_id = $1 AND blob.id = a.blob_id OFFSET 0) b
CROSS JOIN LATERAL (SELECT deleted_at FROM dataset WHERE tenant_id = $1 AND dataset.id = a.dataset_id OFFSET 0) d
WHERE d.deleted_at IS NULL AND a.moderation NOT IN ('block', 'quarantined')
"""
_ASSETS = Prepared("hydrate", ("uuid", "uuid[]"), _SQL.replace("IDS", "$2"))
_TOGETHER = Prepared(
    "opening_and_hydrate",
    ("uuid", "text", "uuid[]"),
    f"SELECT * FROM ({memory.INDEX_STATUS_SQL}) AS o LEFT JOIN LATERAL ({_SQL.replace('IDS', '$3')}) AS h ON true",  # noqa: S608
)


def hydrate(tenant_id: uuid.UUID, asset_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, shapes.Asset]:
    """Assets of this tenant by id, in the shape of the API, read now. Needs no scope: alone it is one round trip.

    What is gone is absent, and so is what belongs to a dataset that is being deleted, or was blocked or held back.
    """
    if not asset_ids:
        return {}
    # Ids come as text, which the shape wants: psycopg2 makes a UUID of one in as long as Postgres finds a row.
    known = {str(asset_id): asset_id for asset_id in asset_ids}
    return {known[row[0]]: _shape(row) for row in _ASSETS.rows_of(tenant_id, tenant_id, list(asset_ids))}


def hydrate_with_index_status(
    tenant_id: uuid.UUID, model: str, asset_ids: Sequence[uuid.UUID]
) -> tuple[IndexStatus, dict[uuid.UUID, shapes.Asset]]:
    """`opening` and `hydrate` in one round trip, of one moment."""
    known = {str(asset_id): asset_id for asset_id in asset_ids}
    rows = _TOGETHER.rows_of(tenant_id, tenant_id, model, list(asset_ids))
    now = memory.parse_index_status(tenant_id, model, rows[0][: memory.INDEX_STATUS_COLUMNS])
    assets = [row[memory.INDEX_STATUS_COLUMNS :] for row in rows]
    return now, {known[row[0]]: _shape(row) for row in assets if row[0] is not None}


def _shape(row: tuple[Any, ...]) -> shapes.Asset:
    (
        *plain,
        others,
        excerpt,
        metadata,
        scan,
        created_at,
        details,
        document,
        error,
        moderation,
        labels,
        generated,
        prompt,
    ) = row
    columns: list[Any] = [
        *plain, _json(others), excerpt, _json(metadata), _json(scan), created_at, _json(details), _json(document),
        _json(error), moderation, _json(labels), generated, prompt,
    ]  # fmt: skip
    return shape_of_columns(*columns)


def _json(text: str | None) -> Any:
    """Django leaves JSON to its fields: a cursor gives its text. Reading it is most of what a row costs."""
    return None if text is None else msgspec.json.decode(text)


# As the API shows them.
HYDRATED = Reader(hydrate, hydrate_with_index_status)


# --- Cursors --------------------------------------------------------------------------------------------

# What a search kept for its further pages, for five minutes. After the first page that is the seed: the query as a
# vector with its restrictions, the sequence number up to which it saw, and what it showed. Only who asks for the
# second page pays for a deep ranking, which then takes the seed's place.

# Up to so many hits are not worth compressing.
SHORT = 50
HIT_ROW = np.dtype([("asset", "V16"), ("score", "<f4"), ("part", "u1")])


def pack_hits(hits: list[Hit], meta: dict[str, Any]) -> bytes:
    """21 bytes a hit, and beside them the answer's other fields, the segments, and relevances where they are known."""
    rows = np.array(
        [(hit.asset_id.bytes, hit.score, MODALITIES.index(hit.modality)) for hit in hits], HIT_ROW
    )
    segments = {number: hit.segment for number, hit in enumerate(hits) if hit.segment}
    named = {number: hit.by for number, hit in enumerate(hits) if hit.by}
    told: dict[str, Any] = {"meta": meta, "segments": segments, "by": named}
    if any(hit.parts for hit in hits):
        told["parts"] = [[(one.score, one.modality, one.segment) for one in hit.parts or ()] for hit in hits]
    if any(hit.relevance is not None for hit in hits):
        told["relevance"] = [hit.relevance for hit in hits]
    beside = zlib.compress(json.dumps(told).encode(), 1 if len(hits) > SHORT else 0)
    return len(rows).to_bytes(4, "little") + rows.tobytes() + beside


def unpack_hits(raw: bytes) -> tuple[list[Hit], dict[str, Any]]:
    count = int.from_bytes(raw[:4], "little")
    rows = np.frombuffer(raw, HIT_ROW, count, offset=4)
    beside = json.loads(zlib.decompress(raw[4 + rows.nbytes :]))
    # An earlier release kept nothing of names, nor of relevance.
    segments, named = beside["segments"], beside.get("by", {})
    relevance = beside.get("relevance") or [None] * count
    hits = [
        _hit(row, segments.get(str(n)), named.get(str(n), ""), relevance[n]) for n, row in enumerate(rows)
    ]
    if parts := beside.get("parts"):
        hits = [
            replace(hit, parts=tuple(PartMatch(*one) for one in told))
            for hit, told in zip(hits, parts, strict=True)
        ]
    return hits, beside["meta"]


def _hit(row: np.void, segment: dict | None, by: str, relevance: float | None) -> Hit:
    asset_id = uuid.UUID(bytes=row["asset"].tobytes())
    return Hit(asset_id, float(row["score"]), MODALITIES[int(row["part"])], segment, by, relevance)


CURSOR_KEEP_S = 300
# Waits for a cursor that is not there: together many times what another process takes to write one.
LATE_S = (2 * GATHER_S, 8 * GATHER_S)
# What a cursor keeps. A seed of an earlier release has no length before its vector: it had 256 numbers.
_SEED, _RANKING, _OLD_SEED = b"v", b"r", b"s"
_OLD_DIMENSION = 256


@dataclass
class Seed:
    """A search after its first page. `hits` were shown; `seq`: it saw nothing newer; `vector` float32 [d]."""

    vector: np.ndarray
    seq: int
    query: dict[str, Any]
    hits: list[Hit]
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass
class KeptRanking:
    """All hits that the pages of a search show, the best first.

    `wanted`: the words to highlight, None for none. `sizes`: of groups of duplicates, whose hits follow each other;
    None: each hit stands alone.
    """

    hits: list[Hit]
    meta: dict[str, Any]
    wanted: list[str] | None = None
    sizes: list[int] | None = None

    def groups(self) -> list[list[Hit]]:
        if self.sizes is None:
            return [[hit] for hit in self.hits]
        hits = iter(self.hits)
        return [list(islice(hits, size)) for size in self.sizes]


def keep_ranking(tenant_id: uuid.UUID, search_id: str, what: Seed | KeptRanking) -> bool:
    """False if it could not be kept: then there is no next page."""
    if isinstance(what, Seed):
        beside = {"meta": what.meta, "query": what.query, "seq": what.seq}
        length = len(what.vector).to_bytes(4, "little")
        body = _SEED + length + what.vector.astype("<f4").tobytes() + pack_hits(what.hits, beside)
    else:
        beside = {"meta": what.meta, "wanted": what.wanted, "sizes": what.sizes}
        body = _RANKING + pack_hits(what.hits, beside)
    return async_writer.put(_cursor_key(tenant_id, search_id), body, CURSOR_KEEP_S)


def _unpack(raw: bytes) -> tuple[list[Hit], dict[str, Any]]:
    hits, beside = unpack_hits(raw)
    # An earlier release did not tell the dimension: there was but one.
    beside["meta"].get("model", {}).setdefault("dimension", _OLD_DIMENSION)
    return hits, beside


def kept_ranking(tenant_id: uuid.UUID, search_id: str) -> Seed | KeptRanking:
    """Raises CursorExpired, and Valkey's errors."""
    raw = _read_kept(_cursor_key(tenant_id, search_id))
    if raw is None:
        raise CursorExpired(gettext("Cursors are kept for five minutes. Send the search again without one."))
    if raw[:1] == _RANKING:
        hits, beside = _unpack(raw[1:])
        return KeptRanking(hits, **beside)
    old = raw[:1] == _OLD_SEED
    start, dimension = (1, _OLD_DIMENSION) if old else (5, int.from_bytes(raw[1:5], "little"))
    vector = np.frombuffer(raw, "<f4", dimension, offset=start)
    hits, beside = _unpack(raw[start + vector.nbytes :])
    return Seed(vector, beside["seq"], beside["query"], hits, beside["meta"])


def _read_kept(key: str) -> bytes | None:
    """Another process may be about to write it: its answer can reach a client before Valkey."""
    for pause in (*LATE_S, None):
        raw = async_writer.get(key) or client().get(key)
        if raw is not None or pause is None:
            return raw
        time.sleep(pause)
    return None


def _cursor_key(tenant_id: uuid.UUID, search_id: str) -> str:
    """By what whoever asks may see: a cursor of somebody who sees more, or less, has expired."""
    return tenant_key(tenant_id, "search", search_id, *_seen_by())


def _seen_by() -> tuple[str, ...]:
    to = narrowing()
    if to is None or to.datasets is None:
        return ()
    return (hashlib.sha256(",".join(sorted(map(str, to.datasets))).encode()).hexdigest()[:32],)


def encode_cursor(search_id: str, offset: int) -> str:
    return base64.urlsafe_b64encode(f"{search_id}.{offset}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[str, int]:
    """Raises Invalid for anything that `encode` did not make."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        search_id, _, offset = raw.partition(".")
        number = int(offset)
        if not 0 < number < MAX_DEPTH:
            raise ValueError(offset)
        return str(uuid.UUID(search_id)), number
    except (ValueError, binascii.Error) as error:
        raise Invalid(gettext("This is not a cursor from an earlier answer."), pointer="/cursor") from error
