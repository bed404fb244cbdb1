"""What of an item stands on hash lists: by its bytes, its look, its frames or its sound."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.hashing import looks, pdq, points, sounds
from ml.hashing.films import enough
from ml.hashing.fingerprints import Fingerprints, split_vector
from tenants.moderation.known_memory import Column, Listed, Loaded, memory
from tenants.moderation.models import HashEntry, HashList, SharedHashEntry, SharedHashList
from tenants.moderation.models.known import Algorithm

MAX_MATCHES = 50
# Of all lists together, how many pictures that look alike are compared point by point.
CANDIDATES = 16
_NEAR = int(looks.LIMIT * looks.FEATURES)

Match = dict[str, Any]


@dataclass(frozen=True)
class _Found:
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

    listed: Listed
    item: uuid.UUID
    entry: uuid.UUID
    distance: float


def lists() -> list[Listed]:
    """The lists of the active tenant, and the shared ones."""
    own = HashList.objects.values_list("id", "name", "stance", "revision")
    shared = SharedHashList.objects.values_list("id", "name", "stance", "revision")
    return [
        *(Listed(pk, name, stance, False, revision) for pk, name, stance, revision in own),
        *(Listed(pk, name, stance, True, revision) for pk, name, stance, revision in shared),
    ]


def match(prints: Fingerprints) -> list[Match]:
    """Listed items that these fingerprints are of, nearest first, at most ``MAX_MATCHES``. In a tenant's scope."""
    if prints.empty:
        return []
    found: list[tuple[Listed, _Found]] = []
    candidates: list[_Candidate] = []
    for listed in lists():
        loaded = memory.of(listed)
        found += ((listed, one) for one in _certain(prints, loaded))
        candidates += _alike(prints, listed, loaded)
    found += _verified(prints, candidates)
    return [_shape(listed, one) for listed, one in _best(found)]


def copies_of(prints: Fingerprints, listed: Listed, loaded: Loaded) -> bool:
    """Whether the item stands among these few entries, as `match` would say."""
    if next(iter(_certain(prints, loaded)), None) is not None:
        return True
    return bool(_verified(prints, list(_alike(prints, listed, loaded))))


def _best(found: Sequence[tuple[Listed, _Found]]) -> list[tuple[Listed, _Found]]:
    """One of each list, item and algorithm, nearest first."""
    kept: dict[tuple[uuid.UUID, uuid.UUID, str], tuple[Listed, _Found]] = {}
    for listed, one in sorted(found, key=lambda pair: pair[1].relative):
        kept.setdefault((listed.id, one.item, one.algorithm), (listed, one))
    return list(kept.values())[:MAX_MATCHES]


def _shape(listed: Listed, found: _Found) -> Match:
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


def _certain(prints: Fingerprints, loaded: Loaded) -> Iterator[_Found]:
    if prints.sha256:
        yield from _same_bytes(bytes.fromhex(prints.sha256), loaded.sha256)
    if prints.pdq:
        yield from _same_picture((prints.pdq, *prints.turned), loaded.pdq)
    if prints.frames:
        yield from _same_frames(prints, loaded.pdq)
    if prints.sound:
        for owner, heard in loaded.sounds.heard_in(prints.sound):
            at_s = max(0.0, -heard.shift / sounds.PER_SECOND)
            yield _Found(
                Algorithm.SOUND.value, uuid.UUID(bytes=owner), heard.differing, sounds.LIMIT, round(at_s, 1)
            )


def _same_bytes(digest: bytes, column: Column) -> Iterator[_Found]:
    if not len(column.rows):
        return
    heads, rows = column.sorted_heads
    head = np.frombuffer(digest[:8], np.uint64)
    begin, end = np.searchsorted(heads, head, "left")[0], np.searchsorted(heads, head, "right")[0]
    for row in rows[begin:end]:
        if column.rows[row].tobytes() == digest:
            yield _Found(Algorithm.SHA256.value, column.item(row), 0.0, 0.0)


def _same_picture(hashes: Iterable[bytes], column: Column) -> Iterator[_Found]:
    """Of a picture turned and mirrored in eight ways."""
    for hashed in hashes:
        for row, distance in zip(*column.bits.within(hashed, pdq.LIMIT), strict=True):
            yield _Found(Algorithm.PDQ.value, column.item(row), float(distance), float(pdq.LIMIT))


def _same_frames(prints: Fingerprints, column: Column) -> Iterator[_Found]:
    """Of a film: items of which enough frames are near to frames of the film."""
    agreeing: dict[int, dict[int, tuple[int, int]]] = {}
    for number, frame in enumerate(prints.frames):
        for hashed in filter(None, (frame.pdq, frame.mirrored)):
            for row, distance in zip(*column.bits.within(hashed, pdq.LIMIT), strict=True):
                frames = agreeing.setdefault(int(column.numbers[row]), {})
                frames[number] = min(frames.get(number, (pdq.BITS, 0)), (int(distance), int(row)))
    for item, frames in agreeing.items():
        if enough(frames, len(prints.frames), int(column.sizes[item])):
            distance, row = min(frames.values())
            at_s = prints.frames[min(frames)].at_s
            yield _Found(Algorithm.PDQ.value, column.item(row), float(distance), float(pdq.LIMIT), at_s)


# --- What only points can tell ---


def _alike(prints: Fingerprints, listed: Listed, loaded: Loaded) -> Iterator[_Candidate]:
    """The pictures of a list that look most alike."""
    column = loaded.looks
    if not prints.code or not prints.points or not len(column.rows):
        return
    differing = column.bits.differing(prints.code)
    count = min(CANDIDATES, len(differing))
    for row in np.argpartition(differing, count - 1)[:count]:
        if differing[row] <= _NEAR:
            share = round(float(differing[row]) / looks.FEATURES, 4)
            yield _Candidate(listed, column.item(row), column.entry(row), share)


def _verified(prints: Fingerprints, candidates: Sequence[_Candidate]) -> list[tuple[Listed, _Found]]:
    nearest = sorted(candidates, key=lambda one: one.distance)[:CANDIDATES]
    contents = _contents(nearest)
    mine, found = points.Points(prints.points), []
    for one in nearest:
        theirs = _points_of(contents.get(one.entry, b""))
        if theirs is not None and points.agreement(mine, theirs).copy:
            found.append((one.listed, _Found(Algorithm.VECTOR.value, one.item, one.distance, looks.LIMIT)))
    return found


def _points_of(content: bytes) -> points.Points | None:
    try:
        return points.Points(split_vector(content)[1])
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
