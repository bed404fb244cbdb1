"""The points of a map, what is known of their assets now, and the same assets as two models place them.

PCA's points are computed when they are asked for and remembered for a while; UMAP's come from their file.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import threading
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _

from ml.projection import comparison, pca, topics
from ml.projection.comparison import cosines, kept_neighbours, order_of
from ml.projection.embed import KINDS, VECTORS
from ml.projection.topics import GROUP
from tenants.datasets import storage
from tenants.datasets.models import Asset, Facet
from tenants.datasets.selectors import is_any, require_assets, visible_assets
from tenants.datasets.services import may_remove_files
from tenants.errors import Invalid, NotReady, room_on_disk
from tenants.retrieval import model_routing
from tenants.retrieval.cache import SingleFlight
from tenants.retrieval.index.building import HEADER, TRAILER, copy_rows
from tenants.retrieval.models import EmbeddingMap, Vector, VectorClock
from tenants.retrieval.query import encoding
from tenants.retrieval.types import MODALITIES
from tenants.scope import current_tenant_id, tenant_scope

# --- Vectors of a sample of assets ----------------------------------------------------------------------

# One an asset, of at most so many assets.

# Films have hundreds of vectors: of so many rows an asset, on average, the assets are taken fewer.
ROWS_AN_ASSET = 2
# The last two bytes of an id are random: assets whose number lies below a threshold are a fair sample, and always the
# same ones.
NUMBERS = 1 << 16
# Assets whose means are taken at once.
BLOCK = 8_192
# In a folder: vectors as they came, those of assets, and those of them that are finite.
ROWS_FILE, MEANS_FILE, SOME_FILE = "rows.f32", "means.f32", "some.f32"
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
    """`ids` bytes [n, 16] in ascending order, `vectors` float32 [n, d] of norm 1, `kinds` uint8 [n], a number for each
    modality; `total` assets there are. Assets with a vector that is not finite are left out. `file`: where these
    vectors and nothing else lie; None of none, and where there are some beside them."""

    ids: np.ndarray
    vectors: np.ndarray
    kinds: np.ndarray
    total: int
    file: Path | None = None


def read_vectors(wanted: Wanted, folder: Path | None = None) -> Read:
    """In the tenant's scope; one statement sees one moment. With a folder the vectors lie in files there, and take no
    memory of this process."""
    total = _assets(wanted).count()
    condition, parameters = _condition(wanted)
    rows = _vectors(wanted).count()
    share = min(1.0, wanted.most / max(total, 1), ROWS_AN_ASSET * wanted.most / max(rows, 1))
    if share < 1:
        condition += f" AND {_NUMBER} < %s"
        parameters.append(int(share * NUMBERS))
    beside, values = _copied(wanted.model, condition, parameters, folder)
    ids, vectors, kinds = _of_assets(beside, values, folder)
    name = ROWS_FILE if vectors is values else MEANS_FILE
    # Of rows of norm 1 the sum is finite where they are.
    if not (sound := np.isfinite(vectors.sum(axis=1))).all():
        ids, vectors, kinds, name = ids[sound], _only(vectors, sound, folder), kinds[sound], SOME_FILE
    file = None
    if folder:
        # What is still read through a mapping stays until that goes.
        for other in {ROWS_FILE, MEANS_FILE, SOME_FILE} - {name}:
            (folder / other).unlink(missing_ok=True)
        file = folder / name if 0 < len(vectors) <= wanted.most else None
    return Read(ids[: wanted.most], vectors[: wanted.most], kinds[: wanted.most], total, file)


def read_into(folder: Path, tenant_id: uuid.UUID, wanted: Wanted) -> Read:
    """In no scope: vectors and kinds as `ml.projection.embed` reads them from a folder. A million vectors are on the
    disk once, as an asset has one. Raises StorageFull."""
    with room_on_disk():
        with tenant_scope(tenant_id):
            taken = read_vectors(wanted, folder)
        if taken.file:
            taken.file.rename(folder / VECTORS)
        else:
            taken.vectors.tofile(folder / VECTORS)
        taken.kinds.tofile(folder / KINDS)
    return taken


def _copied(
    model: str, condition: str, parameters: list[Any], folder: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    if folder is None:
        sink = io.BytesIO()
        beside, dimension = copy_rows(sink, model, condition, parameters)
        return beside, np.frombuffer(sink.getbuffer(), "<f4").reshape(len(beside), dimension)
    path = folder / ROWS_FILE
    with path.open("wb") as file:
        beside, dimension = copy_rows(file, model, condition, parameters)
    shape = (len(beside), dimension)
    return beside, np.memmap(path, "<f4", "r", shape=shape) if len(beside) else np.zeros(shape, np.float32)


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


def _of_assets(
    beside: np.ndarray, values: np.ndarray, folder: Path | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean of what an asset itself is: its picture and not its caption, unless it has nothing but words."""
    if not len(beside):
        return np.zeros((0, 16), np.uint8), values, np.zeros(0, np.uint8)
    ids = np.frombuffer(np.ascontiguousarray(beside["asset"]).tobytes(), np.uint8).reshape(-1, 16)
    first = np.ones(len(ids), bool)
    first[1:] = (ids[1:] != ids[:-1]).any(axis=1)
    starts = np.flatnonzero(first)
    owner = np.cumsum(first) - 1
    kinds = np.ascontiguousarray(beside["kind"])[starts]
    own = beside["kind"] == beside["part"]
    has_own = np.zeros(len(starts), bool)
    has_own[owner[own]] = True
    if own.all() and first.all():
        return ids, values, kinds
    taken = own | ~has_own[owner]
    found = _room(len(starts), values.shape[1], folder and folder / MEANS_FILE)
    ends = np.append(starts[1:], len(ids))
    for begun in range(0, len(starts), BLOCK):
        until = min(begun + BLOCK, len(starts))
        some = slice(starts[begun], ends[until - 1])
        owners = owner[some][taken[some]]
        places = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
        sums = np.add.reduceat(values[some][taken[some]], places, axis=0)
        found[begun:until] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return ids[starts], found, kinds


def _only(vectors: np.ndarray, which: np.ndarray, folder: Path | None) -> np.ndarray:
    """Some of the rows: `which` bool [n]."""
    found = _room(int(which.sum()), vectors.shape[1], folder and folder / SOME_FILE)
    done = 0
    for start in range(0, len(vectors), BLOCK):
        some = vectors[start : start + BLOCK][which[start : start + BLOCK]]
        found[done : done + len(some)] = some
        done += len(some)
    return found


def _room(count: int, dimension: int, path: Path | None) -> np.ndarray:
    if path is None or not count:
        return np.empty((count, dimension), np.float32)
    return np.memmap(path, np.float32, "w+", shape=(count, dimension))


# --- Points ---------------------------------------------------------------------------------------------

KIND = "map"
POINT = np.dtype([("asset", "V16"), ("x", "<f4"), ("y", "<f4")])
# Beside the points, row by row, in a file of its own: maps of 0.2 have none.
GROUPS = ".groups"
# While assets come in, a picture that is so old does; deleted ones are never shown, however old it is.
FRESH_S = 30.0
MOST_REMEMBERED = 8
# Of a model of PCA the neighbourhoods are judged on so many points: the search is exact, and somebody waits.
JUDGED = 20_000
# Of a map by PCA so many points: somebody waits, and the vectors are in memory.
MOST_AT_ONCE = 100_000
# Of a map by PCA topics are found while somebody waits: of more points only a map by UMAP has some, from its job.
MOST_GROUPED = 20_000


@dataclass(frozen=True)
class Points:
    """`ids` bytes [n, 16], `places` float32 [n, 2]. `total` assets fitted; fewer points are a fair sample of them.
    `groups`: GROUP [n], None where nobody looked for topics. `stamp` changes with any of these."""

    ids: np.ndarray
    places: np.ndarray
    total: int
    method: str
    model: str
    details: dict[str, Any] = field(default_factory=dict)
    groups: np.ndarray | None = None

    @cached_property
    def stamp(self) -> str:
        found = hashlib.sha256(self.ids.tobytes())
        found.update(np.ascontiguousarray(self.places).tobytes())
        found.update(b"" if self.groups is None else self.groups.tobytes())
        return found.hexdigest()[:16]


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
    groups = _stored_groups(f"{path_of(tenant_id, row.id)}{GROUPS}", len(places))
    return Points(_bytes(found["asset"]), places, row.total, row.method, row.model, row.details, groups)


def _stored_groups(path: str, count: int) -> np.ndarray | None:
    try:
        with storage.open_blob(path) as stream:
            held = stream.read()
    except FileNotFoundError:
        return None
    return np.frombuffer(held, GROUP) if len(held) == count * GROUP.itemsize else None


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
    wanted = replace(wanted, most=min(wanted.most, MOST_AT_ONCE))
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
        groups = None
        if len(taken.ids) <= MOST_GROUPED:
            groups = topics.grouped(taken.vectors, taken.kinds)
    details = {"explained": [round(one, 4) for one in made.explained], "kept_neighbours": round(kept, 4)}
    return Points(taken.ids, made.points, taken.total, "pca", wanted.model, details, groups)


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
    maps = {str(pk) for pk in EmbeddingMap.objects.values_list("pk", flat=True)}
    known = maps | {f"{one}{GROUPS}" for one in maps}
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
OUTLIER = "outlier"

# Of a key of metadata the values of so many are read.
MOST_FIELDS = 100_000
# Assets that are asked for at once; as one text they are 1.8 MB.
ASKED = 50_000
_STATES = tuple(Asset.State.values)
_VERDICTS = ("", "allow", "label", "review")


def _byte(column: str, values: Sequence[str]) -> str:
    names = " ".join(f"WHEN '{name}' THEN '\\x{number:02x}'::bytea" for number, name in enumerate(values))
    return f"CASE {column} {names} ELSE '\\xff'::bytea END"


_LIVE = f"""
COPY (
    SELECT uuid_send(a.id) || uuid_send(a.dataset_id) || {_byte("a.modality", MODALITIES)}
        || {_byte("a.status", _STATES)} || {_byte("a.moderation", _VERDICTS)}
    FROM unnest(%s::uuid[]) AS wanted (id)
    JOIN asset a ON a.tenant_id = %s AND a.id = wanted.id
    JOIN dataset d ON d.tenant_id = %s AND d.id = a.dataset_id
    WHERE d.deleted_at IS NULL AND a.moderation NOT IN ('block', 'quarantined')
    ORDER BY a.id
) TO STDOUT (FORMAT BINARY)
"""  # noqa: S608 - constants only
# As PostgreSQL sends it: a header, rows of one field of 35 bytes, and a trailer.
_ROW = np.dtype(
    [
        ("values", ">i2"),
        ("width", ">i4"),
        ("asset", "S16"),
        ("dataset", "S16"),
        ("modality", "u1"),
        ("status", "u1"),
        ("verdict", "u1"),
    ]
)


@dataclass(frozen=True)
class Shown:
    """The points of assets that are there: `keys` bytes [n, 16] in ascending order, places, and columns of codes into
    their values, all of one length."""

    keys: np.ndarray
    places: np.ndarray
    columns: dict[str, dict[str, Any]]
    kept: np.ndarray

    @cached_property
    def ids(self) -> list[str]:
        return ids_of(self.keys)


def shown(points: Points, *, key: str = "", most: int | None = None) -> Shown:
    """In the tenant's scope. `key` names a key of metadata, which becomes the column `field`. Of more points than
    `most` every second, third … is shown. Raises Invalid."""
    step = max(1, -(-len(points.ids) // most)) if most else 1
    wanted = points.ids[::step]
    rows = np.concatenate(
        [_live(wanted[at : at + ASKED]) for at in range(0, len(wanted), ASKED)] or [_NO_ROWS]
    )
    known = np.frombuffer(np.ascontiguousarray(points.ids).tobytes(), "S16")
    kept = np.searchsorted(known, rows["asset"])
    columns = {
        "dataset": _by_dataset(rows["dataset"]),
        "modality": _by_number(rows["modality"], MODALITIES),
        "status": _by_number(rows["status"], _STATES),
        "verdict": _by_number(rows["verdict"], _VERDICTS),
    }
    found = Shown(_bytes(rows["asset"]), points.places[kept], columns, kept)
    if key:
        if len(found.keys) > MOST_FIELDS:
            raise Invalid(
                _("Fields of metadata colour up to %(most)s points: show one dataset or one kind.")
                % {"most": f"{MOST_FIELDS:,}"},
                pointer="/key",
            )
        columns["field"] = _field(key, found.ids)
    if points.groups is not None:
        columns |= _of_groups(points.groups[kept])
    return found


_NO_ROWS = np.empty(0, _ROW)


def _live(ids: np.ndarray) -> np.ndarray:
    """What is known of those of these assets that may be seen: _ROW [at most n]."""
    sink, tenant = io.BytesIO(), str(current_tenant_id())
    with connection.cursor() as cursor:
        given = ["{" + ",".join(ids_of(ids)) + "}", tenant, tenant]
        cursor.copy_expert(cursor.mogrify(_LIVE, given), sink)
    held = sink.getbuffer()[HEADER:]
    rows = np.frombuffer(held[: -len(TRAILER)], _ROW)
    if bytes(held[-len(TRAILER) :]) != TRAILER or (rows["width"] != _ROW.itemsize - 6).any():
        raise ValueError("the database sent assets in an unknown form")
    return rows


def _by_dataset(datasets: np.ndarray) -> dict[str, Any]:
    values, numbers = np.unique(datasets, return_inverse=True)
    names = ids_of(_bytes(values)) if len(values) else []
    return _ranked(numbers, names)


def _by_number(numbers: np.ndarray, values: Sequence[str]) -> dict[str, Any]:
    """Empty names, and what has none, are NONE."""
    unnamed = [place for place, name in enumerate(values) if not name]
    numbers = numbers.astype(np.int64)
    numbers[np.isin(numbers, unnamed) | (numbers >= len(values))] = NONE
    return _ranked(numbers, values)


def _ranked(numbers: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """As `coded`, of values that are numbers of names already; -1 for none."""
    counts = np.bincount(numbers[numbers >= 0], minlength=len(names))
    listed = sorted((at for at in range(len(names)) if counts[at]), key=lambda at: (-counts[at], names[at]))
    code = np.full(len(names) + 1, OTHER)
    code[-1] = NONE
    code[listed[:MOST_VALUES]] = np.arange(len(listed[:MOST_VALUES]))
    values = [names[at] for at in listed[:MOST_VALUES]]
    return {"kind": "category", "values": values, "codes": code[numbers].tolist()}


def _of_groups(groups: np.ndarray) -> dict[str, dict[str, Any]]:
    """Topics by their number, and which points are outliers. Topics keep their place, though other assets are gone."""
    count = int(groups["topic"].max(initial=NONE)) + 1
    outliers = np.where(groups["outlier"] > 0, 0, NONE)
    return {
        "topic": {
            "kind": "category",
            "values": [str(number) for number in range(count)],
            "codes": groups["topic"].tolist(),
        },
        "outlier": {"kind": "category", "values": [OUTLIER], "codes": outliers.tolist()},
    }


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


# As bytes: a header of JSON that names the arrays behind it, each where a number of its size may lie. What is drawn
# comes first, the ids last.
WIDE = 65_535


def as_packed(points: Points, found: Shown, more: Mapping[str, Any] | None = None) -> bytes:
    """A map with its points for the page: four bytes that say how long the header is, the header, the arrays.

    Of many points places are sixteen bits each, a share of the map's extent; `more` has further arrays and values.
    """
    arrays: list[tuple[str, np.ndarray]] = []
    least, most = (
        (found.places.min(axis=0), found.places.max(axis=0))
        if len(found.places)
        else (np.zeros(2), np.zeros(2))
    )
    for axis, name in enumerate("xy"):
        values = found.places[:, axis]
        if len(values) > MOST_AT_ONCE:
            extent = max(float(most[axis] - least[axis]), 1e-9)
            values = ((values - least[axis]) / extent * WIDE).round().astype("<u2")
        arrays.append((name, values.astype("<f4") if values.dtype != np.dtype("<u2") else values))
    columns: dict[str, Any] = {}
    # At most MOST_VALUES and a topic's number: a byte each.
    for name, column in found.columns.items():
        kept = {one: value for one, value in column.items() if one not in ("codes", "numbers")}
        if "codes" in column:
            arrays.append((f"{name}.codes", np.array(column["codes"], np.int8)))
        else:
            numbers = [np.nan if one is None else one for one in column["numbers"]]
            arrays.append((f"{name}.numbers", np.array(numbers, "<f4")))
        columns[name] = kept
    values_too = {}
    for name, value in (more or {}).items():
        if isinstance(value, np.ndarray):
            arrays.append((name, value.astype("<f4")))
        else:
            values_too[name] = value
    arrays.append(("ids", found.keys))
    head = {
        "method": points.method,
        "model": points.model,
        "total": points.total,
        "stamp": points.stamp,
        "details": points.details,
        "count": len(found.keys),
        "extent": [least.astype(float).tolist(), most.astype(float).tolist()],
        "columns": columns,
        **values_too,
        "arrays": [[name, one.dtype.str[1:], one.size] for name, one in arrays],
    }
    said = json.dumps(head).encode()
    said += b" " * (-len(said) % 4)
    parts = [struct.pack("<I", len(said)), said]
    for _name, one in arrays:
        held = np.ascontiguousarray(one).tobytes()
        parts += [held, b"\0" * (-len(held) % 4)]
    return b"".join(parts)


def as_columns(points: Points, found: Shown) -> dict[str, Any]:
    """A map with its points, in the shape of the API and of the page."""
    # Four digits behind the point are a hundredth of a pixel on any screen.
    places = np.round(found.places.astype(np.float64), 4)
    return {
        "method": points.method,
        "model": points.model,
        "total": points.total,
        "stamp": points.stamp,
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
    groups = None if first.groups is None else first.groups[left]
    before = replace(first, ids=first.ids[left], places=first.places[left], groups=groups)
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
