"""Hash lists in memory, and what of an item stands on them: by its bytes, its look, its frames or its sound."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from django.conf import settings
from django.db import connection
from numpy.typing import NDArray

from ml.hashing import image_codes, pdq, points, sounds
from ml.hashing.fingerprints import Fingerprints, split_vector
from ml.hashing.pdq import HammingIndex, enough_frames_match
from ml.hashing.sounds import SoundIndex
from tenants.moderation.models import Algorithm, HashEntry, HashList, SharedHashEntry, SharedHashList

Ids = NDArray[np.uint8]

# Id of the entry, id of the item, algorithm, content (of a vector only its code).
Row = tuple[uuid.UUID, uuid.UUID, str, bytes]


FETCH = 5_000

_NOTHING = uuid.UUID(int=0)

_CONTENT = (
    f"CASE algorithm WHEN 'vector' THEN substring(content FROM 1 FOR {image_codes.BYTES}) ELSE content END"
)

_OWN = f"""
SELECT id, item, algorithm, {_CONTENT} FROM hash_entry
WHERE tenant_id = current_setting('app.tenant')::uuid AND hash_list_id = %s AND id > %s
"""  # noqa: S608 (no value from outside)

_SHARED = f"""
SELECT id, item, algorithm, {_CONTENT} FROM shared_hash_entry
WHERE hash_list_id = %s AND id > %s
"""  # noqa: S608 (no value from outside)

_OWN_COUNT = """
SELECT count(*) FROM hash_entry WHERE tenant_id = current_setting('app.tenant')::uuid AND hash_list_id = %s
"""

_SHARED_COUNT = "SELECT count(*) FROM shared_hash_entry WHERE hash_list_id = %s"


@dataclass(frozen=True)
class ListState:
    """What identifies a list and its state: all that is known of it without its entries."""

    id: uuid.UUID
    name: str
    stance: str
    shared: bool
    revision: int


@dataclass(frozen=True)
class HashColumn:
    """The hashes of one algorithm: rows of equal length, with the ids of entry and item of each."""

    rows: NDArray[np.uint8]
    entries: Ids
    items: Ids

    @classmethod
    def of(cls, rows: Iterable[Row], width: int) -> HashColumn:
        kept = [(entry, item, content) for entry, item, _, content in rows if len(content) == width]
        return cls(
            np.frombuffer(b"".join(content for _, _, content in kept), np.uint8).reshape(-1, width),
            _ids(entry for entry, _, _ in kept),
            _ids(item for _, item, _ in kept),
        )

    def grown(self, other: HashColumn) -> HashColumn:
        return HashColumn(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.entries, other.entries]),
            np.concatenate([self.items, other.items]),
        )

    def item(self, row: int) -> uuid.UUID:
        return uuid.UUID(bytes=self.items[row].tobytes())

    def entry(self, row: int) -> uuid.UUID:
        return uuid.UUID(bytes=self.entries[row].tobytes())

    @cached_property
    def bits(self) -> HammingIndex:
        return HammingIndex(self.rows)

    @cached_property
    def numbers(self) -> NDArray[np.intp]:
        """For each row the number of its item, the same for rows of the same item."""
        keys = np.ascontiguousarray(self.items).view("V16").ravel()
        return np.unique(keys, return_inverse=True)[1]

    @cached_property
    def sizes(self) -> NDArray[np.intp]:
        """How many rows the item of each number has."""
        return np.bincount(self.numbers)

    @cached_property
    def sorted_heads(self) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        """The first eight bytes of all rows in order, and which rows they are."""
        heads = np.ascontiguousarray(self.rows[:, :8]).view(np.uint64).ravel()
        order = np.argsort(heads, kind="stable")
        return heads[order], order

    @property
    def size(self) -> int:
        # Twice: word by word beside the rows; ids, numbers and heads.
        return 2 * self.rows.nbytes + 32 * len(self.rows) + 24 * len(self.rows)


@dataclass(frozen=True)
class LoadedList:
    """One list at one moment. ``last``: the greatest id of an entry in it."""

    count: int
    last: uuid.UUID
    sha256: HashColumn
    pdq: HashColumn
    looks: HashColumn
    sounds: SoundIndex

    @classmethod
    def of(cls, rows: list[Row]) -> LoadedList:
        def only(algorithm: Algorithm) -> Iterator[Row]:
            return (row for row in rows if row[2] == algorithm)

        return cls(
            count=len(rows),
            last=max((row[0] for row in rows), default=_NOTHING),
            sha256=HashColumn.of(only(Algorithm.SHA256), 32),
            pdq=HashColumn.of(only(Algorithm.PDQ), pdq.BYTES),
            looks=HashColumn.of(only(Algorithm.VECTOR), image_codes.BYTES),
            sounds=SoundIndex.of((item.bytes, content) for _, item, _, content in only(Algorithm.SOUND)),
        )

    def grown(self, other: LoadedList) -> LoadedList:
        return LoadedList(
            self.count + other.count,
            max(self.last, other.last),
            self.sha256.grown(other.sha256),
            self.pdq.grown(other.pdq),
            self.looks.grown(other.looks),
            self.sounds.grown(other.sounds),
        )

    @property
    def size(self) -> int:
        return sum(part.size for part in (self.sha256, self.pdq, self.looks, self.sounds))


def _ids(ids: Iterable[uuid.UUID]) -> Ids:
    return np.frombuffer(b"".join(one.bytes for one in ids), np.uint8).reshape(-1, 16)


class ListCache:
    """The lists that were asked for last, up to so many bytes. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[uuid.UUID, tuple[int, LoadedList]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, listed: ListState) -> LoadedList:
        """The list's hashes at this revision or a newer one. In the scope of the list's tenant."""
        with self._lock:
            revision, loaded = self._kept.get(listed.id, (-1, None))
            if loaded is not None and revision == listed.revision:
                self._kept.move_to_end(listed.id)
                return loaded
        loaded = _read(listed, loaded)
        with self._lock:
            self._kept[listed.id] = (listed.revision, loaded)
            self._kept.move_to_end(listed.id)
            while len(self._kept) > 1 and self.size > settings.HASH_LISTS_BYTES:
                self._kept.popitem(last=False)
        return loaded

    @property
    def size(self) -> int:
        return sum(loaded.size for _, loaded in self._kept.values())

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


list_cache = ListCache()


def _read(listed: ListState, before: LoadedList | None) -> LoadedList:
    """What was added since, or all of it where something is gone or was committed late."""
    if before is not None:
        grown = before.grown(LoadedList.of(list(_rows(listed, before.last))))
        if grown.count == _count(listed):
            return grown
    return LoadedList.of(list(_rows(listed, _NOTHING)))


def _rows(listed: ListState, after: uuid.UUID) -> Iterator[Row]:
    # A cursor on the server: rows come as they lie, and no more than one chunk of them is here twice.
    with connection.chunked_cursor() as cursor:
        cursor.execute(_SHARED if listed.shared else _OWN, [listed.id, after])
        while rows := cursor.fetchmany(FETCH):
            for entry, item, algorithm, content in rows:
                yield entry, item, algorithm, bytes(content)


def _count(listed: ListState) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_SHARED_COUNT if listed.shared else _OWN_COUNT, [listed.id])
        return int(cursor.fetchone()[0])


MAX_MATCHES = 50

# Of all lists together, how many pictures that look alike are compared point by point.
CANDIDATES = 16

_NEAR = int(image_codes.LIMIT * image_codes.FEATURES)


Match = dict[str, Any]


@dataclass(frozen=True)
class _HashMatch:
    algorithm: str
    item: uuid.UUID
    distance: float
    limit: float
    at_s: float | None = None

    @property
    def relative(self) -> float:
        return self.distance / self.limit if self.limit else 0.0


@dataclass(frozen=True)
class _Candidate:
    """A picture that looks alike, and whose points are to be compared."""

    listed: ListState
    item: uuid.UUID
    entry: uuid.UUID
    distance: float


def lists() -> list[ListState]:
    """The lists of the active tenant, and the shared ones."""
    own = HashList.objects.values_list("id", "name", "stance", "revision")
    shared = SharedHashList.objects.values_list("id", "name", "stance", "revision")
    return [
        *(ListState(pk, name, stance, False, revision) for pk, name, stance, revision in own),
        *(ListState(pk, name, stance, True, revision) for pk, name, stance, revision in shared),
    ]


def match(prints: Fingerprints) -> list[Match]:
    """Listed items that these fingerprints are of, nearest first, at most ``MAX_MATCHES``. In a tenant's scope."""
    if prints.empty:
        return []
    found: list[tuple[ListState, _HashMatch]] = []
    candidates: list[_Candidate] = []
    for listed in lists():
        loaded = list_cache.of(listed)
        found += ((listed, one) for one in _certain(prints, loaded))
        candidates += _alike(prints, listed, loaded)
    found += _verified(prints, candidates)
    return [_shape(listed, one) for listed, one in _best(found)]


def copies_of(prints: Fingerprints, listed: ListState, loaded: LoadedList) -> bool:
    """Whether the item stands among these few entries, as `match` would say."""
    if next(iter(_certain(prints, loaded)), None) is not None:
        return True
    return bool(_verified(prints, list(_alike(prints, listed, loaded))))


def _best(found: Sequence[tuple[ListState, _HashMatch]]) -> list[tuple[ListState, _HashMatch]]:
    """One of each list, item and algorithm, nearest first."""
    kept: dict[tuple[uuid.UUID, uuid.UUID, str], tuple[ListState, _HashMatch]] = {}
    for listed, one in sorted(found, key=lambda pair: pair[1].relative):
        kept.setdefault((listed.id, one.item, one.algorithm), (listed, one))
    return list(kept.values())[:MAX_MATCHES]


def _shape(listed: ListState, found: _HashMatch) -> Match:
    shape = {
        "list": str(listed.id),
        "name": listed.name,
        "stance": listed.stance,
        "shared": listed.shared,
        "algorithm": found.algorithm,
        "distance": found.distance,
        "limit": found.limit,
        "entry": str(found.item),
    }
    return shape if found.at_s is None else shape | {"at_s": found.at_s}


# --- What a hash says by itself ---


def _certain(prints: Fingerprints, loaded: LoadedList) -> Iterator[_HashMatch]:
    if prints.sha256:
        yield from _same_bytes(bytes.fromhex(prints.sha256), loaded.sha256)
    if prints.pdq:
        yield from _same_picture((prints.pdq, *prints.turned), loaded.pdq)
    if prints.frames:
        yield from _same_frames(prints, loaded.pdq)
    if prints.sound:
        for owner, heard in loaded.sounds.heard_in(prints.sound):
            at_s = max(0.0, -heard.shift / sounds.PER_SECOND)
            yield _HashMatch(
                Algorithm.SOUND.value, uuid.UUID(bytes=owner), heard.differing, sounds.LIMIT, round(at_s, 1)
            )


def _same_bytes(digest: bytes, column: HashColumn) -> Iterator[_HashMatch]:
    if not len(column.rows):
        return
    heads, rows = column.sorted_heads
    head = np.frombuffer(digest[:8], np.uint64)
    begin, end = np.searchsorted(heads, head, "left")[0], np.searchsorted(heads, head, "right")[0]
    for row in rows[begin:end]:
        if column.rows[row].tobytes() == digest:
            yield _HashMatch(Algorithm.SHA256.value, column.item(row), 0.0, 0.0)


def _same_picture(hashes: Iterable[bytes], column: HashColumn) -> Iterator[_HashMatch]:
    """Of a picture turned and mirrored in eight ways."""
    for hashed in hashes:
        for row, distance in zip(*column.bits.within(hashed, pdq.LIMIT), strict=True):
            yield _HashMatch(Algorithm.PDQ.value, column.item(row), float(distance), float(pdq.LIMIT))


def _same_frames(prints: Fingerprints, column: HashColumn) -> Iterator[_HashMatch]:
    """Of a film: items of which enough frames are near to frames of the film."""
    agreeing: dict[int, dict[int, tuple[int, int]]] = {}
    for number, frame in enumerate(prints.frames):
        for hashed in filter(None, (frame.pdq, frame.mirrored)):
            for row, distance in zip(*column.bits.within(hashed, pdq.LIMIT), strict=True):
                frames = agreeing.setdefault(int(column.numbers[row]), {})
                frames[number] = min(frames.get(number, (pdq.BITS, 0)), (int(distance), int(row)))
    for item, frames in agreeing.items():
        if enough_frames_match(frames, len(prints.frames), int(column.sizes[item])):
            distance, row = min(frames.values())
            at_s = prints.frames[min(frames)].at_s
            yield _HashMatch(Algorithm.PDQ.value, column.item(row), float(distance), float(pdq.LIMIT), at_s)


# --- What only points can tell ---


def _alike(prints: Fingerprints, listed: ListState, loaded: LoadedList) -> Iterator[_Candidate]:
    """The pictures of a list that look most alike."""
    column = loaded.looks
    if not prints.code or not prints.points or not len(column.rows):
        return
    differing = column.bits.differing(prints.code)
    count = min(CANDIDATES, len(differing))
    for row in np.argpartition(differing, count - 1)[:count]:
        if differing[row] <= _NEAR:
            share = round(float(differing[row]) / image_codes.FEATURES, 4)
            yield _Candidate(listed, column.item(row), column.entry(row), share)


def _verified(prints: Fingerprints, candidates: Sequence[_Candidate]) -> list[tuple[ListState, _HashMatch]]:
    nearest = sorted(candidates, key=lambda one: one.distance)[:CANDIDATES]
    contents = _contents(nearest)
    mine, found = points.Keypoints(prints.points), []
    for one in nearest:
        theirs = _points_of(contents.get(one.entry, b""))
        if theirs is not None and points.match_keypoints(mine, theirs).copy:
            found.append(
                (one.listed, _HashMatch(Algorithm.VECTOR.value, one.item, one.distance, image_codes.LIMIT))
            )
    return found


def _points_of(content: bytes) -> points.Keypoints | None:
    try:
        return points.Keypoints(split_vector(content)[1])
    except ValueError:
        return None


def _contents(candidates: Iterable[_Candidate]) -> dict[uuid.UUID, bytes]:
    """The whole hashes of some entries, which are not kept in memory."""
    found: dict[uuid.UUID, bytes] = {}
    for shared, model in ((False, HashEntry), (True, SharedHashEntry)):
        wanted = [one.entry for one in candidates if one.listed.shared == shared]
        if wanted:
            rows = model.objects.filter(pk__in=wanted).values_list("id", "content")
            found |= {pk: bytes(content) for pk, content in rows}
    return found
