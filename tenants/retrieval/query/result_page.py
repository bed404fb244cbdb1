"""A page of results: live rows, folded duplicates, and the query's words in what was found."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.db.models import Q

from tenants.datasets import selectors, shapes, storage
from tenants.datasets.metadata import stored_bytes
from tenants.datasets.models import Asset, TranscriptSegment
from tenants.datasets.selectors import visible_assets
from tenants.retrieval.index.vectors import sampled
from tenants.retrieval.query.highlighting import Highlight, fields_of_metadata, highlight
from tenants.retrieval.query.tokenizer import MAX_CHARACTERS
from tenants.retrieval.types import DIMENSION, Hit, IndexStatus

# Measured on the demo data (docs/experiments.md): above every pair of different pictures there.
THRESHOLD = 0.985
# Frames or passages that stand for a film, a recording or a long text.
MOST = 8


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
    sums, kinds = np.zeros((len(ids), DIMENSION), np.float32), np.zeros(len(ids), "U5")
    for one in sampled(ids, model=model, most=MOST, own=True):
        sums[place[one.asset_id]] += one.values
        kinds[place[one.asset_id]] = one.modality
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return (sums @ sums.T >= THRESHOLD) & (kinds[:, None] == kinds[None, :])


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


def highlights(tenant_id: uuid.UUID, page: Page, wanted: Collection[str]) -> dict[uuid.UUID, list[Highlight]]:
    """Where the query's words stand in each result. Reads storage: in no scope."""
    found, left = {}, MAX_READ
    for asset, hit in page.results:
        shape = selectors.asset_shape(asset) if isinstance(asset, Asset) else asset
        in_storage = wanted and left > 0 and _is_longer(shape)
        left -= bool(in_storage)
        written = _written(tenant_id, shape, hit) if in_storage else ""
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
    """The passage that was found, or the first MAX_CHARACTERS of the text; "" if it has just been deleted."""
    start, end = _characters(hit)
    end = MAX_CHARACTERS if end is None else end
    try:
        with storage.open_blob(storage.path_of(tenant_id, asset.sha256)) as stream:
            return stream.read(end * CHARACTER_BYTES).decode("utf-8", errors="ignore")[start:end]
    except FileNotFoundError:
        return ""


# --- Sound and film --------------------------------------------------------------------------------------


def _spoken(hits: Sequence[Hit]) -> dict[uuid.UUID, str]:
    """What is said during the moment that was found in a recording or film."""
    moments = {hit.asset_id: hit.segment for hit in hits if hit.segment and "start_s" in hit.segment}
    if not moments:
        return {}
    wanted = Q()
    for asset_id, moment in moments.items():
        wanted |= Q(asset_id=asset_id, start_s__lt=moment["end_s"], end_s__gt=moment["start_s"])
    found: dict[uuid.UUID, list[str]] = {}
    rows = TranscriptSegment.objects.filter(wanted).order_by("asset_id", "start_s", "id")
    for asset_id, text in rows.values_list("asset_id", "text"):
        found.setdefault(asset_id, []).append(text)
    return {asset_id: " ".join(texts) for asset_id, texts in found.items()}
