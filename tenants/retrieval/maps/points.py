"""The points of a map: PCA's, computed when they are asked for and remembered for a while; UMAP's, from their file."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.conf import settings
from django.utils.translation import gettext as _

from ml.projection import pca
from ml.projection.comparison import kept_neighbours
from tenants.datasets import storage
from tenants.datasets.services import may_remove_files
from tenants.errors import NotReady
from tenants.retrieval.cache.cache_layers import SingleFlight
from tenants.retrieval.maps.reading import Wanted, read
from tenants.retrieval.models import EmbeddingMap, VectorClock
from tenants.scope import current_tenant_id, tenant_scope

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
            taken = read(wanted)
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


def forget() -> None:
    """Drop what this process remembers."""
    _remembered.clear()


def tidy() -> int:
    """Remove files of maps that are gone, of the active tenant; how many there were. In its scope."""
    folder = f"{current_tenant_id()}/{KIND}"
    stored = {path.rsplit("/", 1)[1] for path in storage.files_below(folder)}
    known = {str(pk) for pk in EmbeddingMap.objects.values_list("pk", flat=True)}
    if not stored - known or not may_remove_files():
        return 0
    for name in sorted(stored - known):
        storage.drop(f"{folder}/{name}")
    return len(stored - known)
