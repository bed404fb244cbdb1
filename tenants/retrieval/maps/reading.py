"""A model's vectors, one an asset, of at most so many assets."""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenants.datasets.models import Asset
from tenants.datasets.selectors import visible_assets
from tenants.retrieval.index.building import copy_rows
from tenants.retrieval.models import Vector
from tenants.retrieval.types import DIMENSION

# Films have hundreds of vectors: of so many rows an asset, on average, the assets are taken fewer.
ROWS_AN_ASSET = 2
# The last two bytes of an id are random: assets whose number lies below a threshold are a fair sample, and always the
# same ones.
NUMBERS = 1 << 16
_NUMBER = "get_byte(uuid_send(asset_id), 14) * 256 + get_byte(uuid_send(asset_id), 15)"


@dataclass(frozen=True)
class Wanted:
    """Which vectors: of a model, of these datasets (none: of all), of assets of this modality (empty: of all)."""

    model: str
    dataset_ids: tuple[uuid.UUID, ...] = ()
    modality: str = ""
    most: int = 100_000


@dataclass(frozen=True)
class Read:
    """`ids` bytes [n, 16] in ascending order, `vectors` float32 [n, 256] of norm 1; `total` assets there are."""

    ids: np.ndarray
    vectors: np.ndarray
    total: int


def read(wanted: Wanted) -> Read:
    """In the tenant's scope; one statement sees one moment."""
    total = _assets(wanted).count()
    condition, parameters = _condition(wanted)
    rows = _vectors(wanted).count()
    share = min(1.0, wanted.most / max(total, 1), ROWS_AN_ASSET * wanted.most / max(rows, 1))
    if share < 1:
        condition += f" AND {_NUMBER} < %s"
        parameters.append(int(share * NUMBERS))
    sink = io.BytesIO()
    beside = copy_rows(sink, condition, parameters)
    values = np.frombuffer(sink.getbuffer(), "<f4").reshape(-1, DIMENSION)
    ids, vectors = _of_assets(beside, values)
    return Read(ids[: wanted.most], vectors[: wanted.most], total)


def _assets(wanted: Wanted) -> Any:
    found = visible_assets().filter(status=Asset.State.READY).exclude(moderation__in=Asset.HIDDEN)
    if wanted.dataset_ids:
        found = found.filter(dataset_id__in=wanted.dataset_ids)
    return found.filter(modality=wanted.modality) if wanted.modality else found


def _vectors(wanted: Wanted) -> Any:
    found = Vector.objects.filter(model=wanted.model)
    if wanted.dataset_ids:
        found = found.filter(dataset_id__in=wanted.dataset_ids)
    return found.filter(asset_modality=wanted.modality) if wanted.modality else found


def _condition(wanted: Wanted) -> tuple[str, list[Any]]:
    condition = "model = %s"
    parameters: list[Any] = [wanted.model]
    if wanted.dataset_ids:
        condition += " AND dataset_id = ANY(%s::uuid[])"
        parameters.append([str(one) for one in wanted.dataset_ids])
    if wanted.modality:
        condition += " AND asset_modality = %s"
        parameters.append(wanted.modality)
    return condition, parameters


def _of_assets(beside: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of what an asset itself is: its picture and not its caption, unless it has nothing but words."""
    if not len(beside):
        return np.zeros((0, 16), np.uint8), np.zeros((0, DIMENSION), np.float32)
    ids = np.frombuffer(np.ascontiguousarray(beside["asset"]).tobytes(), np.uint8).reshape(-1, 16)
    first = np.ones(len(ids), bool)
    first[1:] = (ids[1:] != ids[:-1]).any(axis=1)
    starts = np.flatnonzero(first)
    owner = np.cumsum(first) - 1
    own = beside["kind"] == beside["part"]
    has_own = np.zeros(len(starts), bool)
    has_own[owner[own]] = True
    if own.all() and first.all():
        return ids, values
    taken = own | ~has_own[owner]
    rows, owners = values[taken], owner[taken]
    places = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
    sums = np.add.reduceat(rows, places, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return ids[starts], (sums / np.maximum(lengths, 1e-9)).astype(np.float32)
