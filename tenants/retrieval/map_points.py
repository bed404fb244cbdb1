"""The points of a map, what is known of their assets now, and the same assets as two models place them.

PCA's points are computed when they are asked for and remembered for a while; UMAP's come from their file.
"""

from __future__ import annotations

import io
import threading
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _

from ml.projection import comparison, pca
from ml.projection.comparison import cosines, kept_neighbours, order_of
from tenants.datasets import storage
from tenants.datasets.models import Asset, Facet
from tenants.datasets.selectors import is_any, require_assets, visible_assets
from tenants.datasets.services import may_remove_files
from tenants.errors import Invalid, NotReady
from tenants.retrieval import model_routing
from tenants.retrieval.cache import SingleFlight
from tenants.retrieval.index.building import copy_rows
from tenants.retrieval.models import EmbeddingMap, Vector, VectorClock
from tenants.retrieval.query import encoding
from tenants.scope import current_tenant_id, tenant_scope

# --- Vectors of a sample of assets ----------------------------------------------------------------------

# One an asset, of at most so many assets.

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
    """`ids` bytes [n, 16] in ascending order, `vectors` float32 [n, d] of norm 1; `total` assets there are."""

    ids: np.ndarray
    vectors: np.ndarray
    total: int


def read_vectors(wanted: Wanted) -> Read:
    """In the tenant's scope; one statement sees one moment."""
    total = _assets(wanted).count()
    condition, parameters = _condition(wanted)
    rows = _vectors(wanted).count()
    share = min(1.0, wanted.most / max(total, 1), ROWS_AN_ASSET * wanted.most / max(rows, 1))
    if share < 1:
        condition += f" AND {_NUMBER} < %s"
        parameters.append(int(share * NUMBERS))
    sink = io.BytesIO()
    beside, dimension = copy_rows(sink, wanted.model, condition, parameters)
    values = np.frombuffer(sink.getbuffer(), "<f4").reshape(len(beside), dimension)
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
    condition = "true"
    parameters: list[Any] = []
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
        return np.zeros((0, 16), np.uint8), values
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


# --- Points ---------------------------------------------------------------------------------------------

KIND = "map"
POINT = np.dtype([("asset", "V16"), ("x", "<f4"), ("y", "<f4")])
# While assets come in, a picture that is so old does; deleted ones are never shown, however old it is.
FRESH_S = 30.0
MOST_REMEMBERED = 8
# Of a model of PCA the neighbourhoods are judged on so many points: the search is exact, and somebody waits.
JUDGED = 20_000


@dataclass(frozen=True)
class Points:
    """`ids` bytes [n, 16], `places` float32 [n, 2]. `total` assets fitted; fewer points are a fair sample of them."""

    ids: np.ndarray
    places: np.ndarray
    total: int
    method: str
    model: str
    details: dict[str, Any] = field(default_factory=dict)


def wanted_of(row: EmbeddingMap) -> Wanted:
    datasets = tuple(uuid.UUID(one) for one in row.dataset_ids)
    return Wanted(row.model, datasets, row.modality, int(row.params.get("most", settings.MAP_MAX_POINTS)))


def points_of(tenant_id: uuid.UUID, row: EmbeddingMap) -> Points:
    """In no scope, as it reads files and computes. Raises NotReady."""
    if row.method == EmbeddingMap.Method.PCA:
        return placed(tenant_id, wanted_of(row))
    if row.state != EmbeddingMap.State.READY:
        raise NotReady(_("This map is not drawn yet; its job says how far it is."))
    try:
        with storage.open_blob(path_of(tenant_id, row.id)) as stream:
            found = np.frombuffer(stream.read(), POINT)
    except FileNotFoundError:
        raise NotReady(
            _("The points of this map are gone from the storage. Delete it and draw it again.")
        ) from None
    places = np.stack([found["x"], found["y"]], axis=1)
    return Points(_bytes(found["asset"]), places, row.total, row.method, row.model, row.details)


def _bytes(ids: np.ndarray) -> np.ndarray:
    return np.frombuffer(np.ascontiguousarray(ids).tobytes(), np.uint8).reshape(-1, 16)


def path_of(tenant_id: uuid.UUID, map_id: uuid.UUID) -> str:
    return f"{tenant_id}/{KIND}/{map_id}"


def packed(ids: np.ndarray, places: np.ndarray) -> bytes:
    """As they lie in their file."""
    rows = np.empty(len(ids), POINT)
    rows["asset"] = np.frombuffer(np.ascontiguousarray(ids).tobytes(), "V16")
    rows["x"], rows["y"] = places[:, 0], places[:, 1]
    return rows.tobytes()


# --- PCA, at once ----------------------------------------------------------------------------------------


def placed(tenant_id: uuid.UUID, wanted: Wanted) -> Points:
    """PCA of these vectors. In no scope; callers who want the same share one computation."""
    with tenant_scope(tenant_id):
        clock = VectorClock.objects.first()
    last = clock.last if clock else 0
    key = (tenant_id, wanted)
    if (known := _remembered.get(key, last)) is not None:
        return known
    found, _ = _flights.do((key, last), lambda: _placed(tenant_id, wanted))
    _remembered.put(key, last, found)
    return found


def _placed(tenant_id: uuid.UUID, wanted: Wanted) -> Points:
    # One at a time: each holds all its vectors for a moment.
    with _ONE:
        with tenant_scope(tenant_id):
            taken = read_vectors(wanted)
        made = pca.project(taken.vectors)
        judged = slice(None, None, max(1, len(taken.vectors) // JUDGED))
        kept = kept_neighbours(taken.vectors[judged], made.points[judged], sample=100)
    details = {"explained": [round(one, 4) for one in made.explained], "kept_neighbours": round(kept, 4)}
    return Points(taken.ids, made.points, taken.total, "pca", wanted.model, details)


class _Remembered:
    """The newest few, least recently used first out."""

    def __init__(self) -> None:
        self._known: OrderedDict[Any, tuple[int, float, Points]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, last: int) -> Points | None:
        with self._lock:
            seq, at, found = self._known.get(key, (-1, 0.0, None))
            if found is None or (seq != last and time.monotonic() - at > FRESH_S):
                return None
            self._known.move_to_end(key)
            return found

    def put(self, key: Any, last: int, found: Points) -> None:
        with self._lock:
            self._known[key] = (last, time.monotonic(), found)
            self._known.move_to_end(key)
            while len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._known.clear()


_remembered = _Remembered()
_flights: SingleFlight[Points] = SingleFlight(wait_s=30.0)
_ONE = threading.Lock()


def forget_points() -> None:
    """Drop what this process remembers."""
    _remembered.clear()


def tidy_points() -> int:
    """Remove files of maps that are gone, of the active tenant; how many there were. In its scope."""
    folder = f"{current_tenant_id()}/{KIND}"
    stored = {path.rsplit("/", 1)[1] for path in storage.files_below(folder)}
    known = {str(pk) for pk in EmbeddingMap.objects.values_list("pk", flat=True)}
    if not stored - known or not may_remove_files():
        return 0
    for name in sorted(stored - known):
        storage.drop(f"{folder}/{name}")
    return len(stored - known)


# --- What is known of them now --------------------------------------------------------------------------

# Datasets, modalities, states, verdicts, a key of metadata, models. Read at every look, so that what was deleted,
# blocked or held back is not shown, however old the map is.

# More values than these are told as one: nobody tells so many colours apart.
MOST_VALUES = 100
OTHER, NONE = -2, -1

_LIVE = """
SELECT a.id::text, a.dataset_id::text, a.modality, a.status, a.moderation
FROM unnest(%(ids)s::uuid[]) AS wanted (id)
JOIN asset a ON a.tenant_id = %(tenant)s AND a.id = wanted.id
JOIN dataset d ON d.tenant_id = %(tenant)s AND d.id = a.dataset_id
WHERE d.deleted_at IS NULL AND a.moderation NOT IN ('block', 'quarantined')
ORDER BY a.id
"""


@dataclass(frozen=True)
class Shown:
    """The points of assets that are there: ids, places, and columns of codes into their values, all of one length."""

    ids: list[str]
    places: np.ndarray
    columns: dict[str, dict[str, Any]]


def shown(points: Points, *, key: str = "") -> Shown:
    """In the tenant's scope. `key` names a key of metadata, which becomes the column `field`."""
    known = ids_of(points.ids)
    with connection.cursor() as cursor:
        cursor.execute(_LIVE, {"ids": known, "tenant": current_tenant_id()})
        rows = cursor.fetchall()
    place = {asset_id: number for number, asset_id in enumerate(known)}
    ids = [row[0] for row in rows]
    columns = {
        name: coded([row[at] or None for row in rows])
        for at, name in enumerate(("dataset", "modality", "status", "verdict"), 1)
    }
    if key:
        columns["field"] = _field(key, ids)
    return Shown(ids, points.places[[place[one] for one in ids]], columns)


def ids_of(ids: np.ndarray) -> list[str]:
    """Bytes [n, 16] as the canonical text of ids."""
    text = ids.tobytes().hex()
    parts = (text[at : at + 32] for at in range(0, len(text), 32))
    return [f"{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}" for one in parts]


def coded(values: Sequence[Any]) -> dict[str, Any]:
    """Values as numbers of a list of them, the most frequent first; those beyond the list are OTHER, None is NONE."""
    counted = Counter(value for value in values if value is not None)
    listed = [value for value, _ in sorted(counted.items(), key=lambda one: (-one[1], str(one[0])))]
    number = {value: code for code, value in enumerate(listed[:MOST_VALUES])}
    codes = [NONE if value is None else number.get(value, OTHER) for value in values]
    return {"kind": "category", "values": listed[:MOST_VALUES], "codes": codes}


def _field(key: str, ids: Sequence[str]) -> dict[str, Any]:
    """Numbers where most assets have one under this key, else values; of a list the first."""
    texts, numbers = _facets(key, ids)
    if len(numbers) > len(texts):
        return {"kind": "number", "numbers": [numbers.get(one) for one in ids]}
    return coded([texts.get(one, _as_text(numbers.get(one))) for one in ids])


def _as_text(number: float | None) -> str | None:
    return None if number is None else f"{number:g}"


def _facets(key: str, ids: Sequence[str]) -> tuple[dict[str, str], dict[str, float]]:
    rows = Facet.objects.filter(is_any("asset_id", ids), key=key)
    texts: dict[str, str] = {}
    numbers: dict[str, float] = {}
    for asset_id, text, number in rows.order_by("-id").values_list("asset_id", "text", "number"):
        if text is not None:
            texts[str(asset_id)] = text
        elif number is not None:
            numbers[str(asset_id)] = number
    return texts, numbers


def as_columns(points: Points, found: Shown) -> dict[str, Any]:
    """A map with its points, in the shape of the API and of the page."""
    # Four digits behind the point are a hundredth of a pixel on any screen.
    places = np.round(found.places.astype(np.float64), 4)
    return {
        "method": points.method,
        "model": points.model,
        "total": points.total,
        "details": points.details,
        "ids": found.ids,
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "columns": found.columns,
    }


# --- Two models compared --------------------------------------------------------------------------------

# The same assets as two models place them, one laid over the other, and which of them moved most.


@dataclass(frozen=True)
class Compared:
    """`before` holds the places of the first model, `after` float32 [n, 2] those of the second laid over them, `moved`
    [n] how far each went, in units of the map's extent."""

    before: Points
    after: np.ndarray
    moved: np.ndarray


def compared(tenant_id: uuid.UUID, wanted: Wanted, other: str) -> Compared:
    """By PCA of each model's own vectors, of the assets that both have. In no scope."""
    first, second = placed(tenant_id, wanted), placed(tenant_id, replace(wanted, model=other))
    places = {bytes(one): place for place, one in enumerate(second.ids)}
    both = [(at, places[bytes(one)]) for at, one in enumerate(first.ids) if bytes(one) in places]
    left = np.array([one for one, _ in both], int)
    right = np.array([one for _, one in both], int)
    before = replace(first, ids=first.ids[left], places=first.places[left])
    after = comparison.align(before.places, second.places[right])
    return Compared(before, after, comparison.displacements(before.places, after))


# --- How alike some chosen assets are, each with each other one ---------------------------------------


MOST_COMPARED = 200


def matrix_of(tenant_id: uuid.UUID, asset_ids: Sequence[uuid.UUID], model: str = "") -> dict[str, Any]:
    """Cosines as "more like this" would find them, and the order that puts like beside like. In no scope.

    `model` is a space, empty for the live one. Raises NotFound, Invalid, ModelUnavailable.
    """
    wanted = list(dict.fromkeys(asset_ids))
    if not 2 <= len(wanted) <= MOST_COMPARED:
        raise Invalid(_("2 to %(most)s assets can be compared.") % {"most": MOST_COMPARED}, pointer="/assets")
    model = model or model_routing.written(tenant_id).live
    space = model_routing.space(model, tenant_id)
    with tenant_scope(tenant_id):
        require_assets(wanted)
        vectors = encoding.each_of(asset_ids, "/assets", space=space)
    matrix = cosines(vectors)
    order = order_of(matrix)
    return {
        "model": model,
        "assets": [str(wanted[place]) for place in order],
        "matrix": [[round(float(value), 4) for value in row] for row in matrix[order][:, order]],
    }
