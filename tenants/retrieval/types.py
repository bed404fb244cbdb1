"""What a tenant's index is made of at one moment, and what a search of it asks and answers."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ml.indexes.exact import FlatIndex
from ml.indexes.live_postings import LivePostings
from ml.indexes.postings import Postings
from tenants.datasets.metadata import GENERATED
from tenants.errors import IndexRebuilding
from tenants.retrieval.filters import Plan as Plan

# Results that can be paged through.
MAX_DEPTH = 1_000
# What results can be sorted by beside their relevance.
NEWEST, OLDEST, NAME = "newest", "oldest", "name"
SORTS = (NEWEST, OLDEST, NAME)
MODALITIES = ("text", "image", "audio", "video")

# What an asset is filed under: its dataset, and the number of its modality.
Partition = tuple[uuid.UUID, int]

# What was made here from words: left out of a search, found as everything else is, or the only thing that is found.
Generated = Literal["exclude", "include", "only"]


class IdMap:
    """A dense number for each id, in order of appearance; only ever grows.

    Ids are held as their 16 bytes: UUID objects take three times the memory, and Python's collector looks at each of
    them whenever it runs, which bytes and dictionaries of bytes are spared.
    """

    def __init__(self) -> None:
        self._ids: list[bytes] = []
        self._numbers: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def number(self, key: uuid.UUID) -> int:
        """The id's number, a new one if it has none."""
        raw = key.bytes
        number = self._numbers.get(raw)
        if number is None:
            number = self._numbers[raw] = len(self._ids)
            self._ids.append(raw)
        return number

    def find(self, key: uuid.UUID) -> int | None:
        """The id's number; None where it has none."""
        return self._numbers.get(key.bytes)

    def id(self, number: int) -> uuid.UUID:
        return uuid.UUID(bytes=self._ids[number])

    def ids(self, numbers: Iterable[int]) -> list[uuid.UUID]:
        return [self.id(number) for number in numbers]

    def known(self, keys: Iterable[uuid.UUID]) -> np.ndarray:
        """int64 numbers of those ids that have one."""
        found = (self._numbers.get(key.bytes) for key in keys)
        return np.array([number for number in found if number is not None], dtype=np.int64)


@dataclass(frozen=True)
class Rows:
    """What is known of each row of the array, in parallel arrays; assets and datasets by their number."""

    assets: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    datasets: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    kinds: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))
    parts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))
    seqs: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    alive: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def appended(self, **columns: list) -> Rows:
        """With the columns' values at the end; the old arrays stay valid for the searches that use them."""
        return Rows(
            **{n: np.concatenate([old, np.asarray(columns[n], old.dtype)]) for n, old in vars(self).items()}
        )

    def without_deleted(self, tombstones: dict[int, int]) -> Rows:
        """Without the rows of each asset number whose sequence number is below its tombstone's."""
        limit = np.zeros(int(self.assets.max(initial=-1)) + 1, np.int64)
        for asset, seq in tombstones.items():
            limit[asset] = max(limit[asset], seq)
        return replace(self, alive=self.alive & (self.seqs >= limit[self.assets]))


# Bytes of what is known of an asset: by number, and by id.
SLOT_BYTES, OTHER_BYTES = 4, 250


@dataclass(frozen=True)
class Known:
    """Facets under some keys as of a sequence number, or newer. Immutable and shared by all searches.

    A slot is an asset as it was read: `slots` int32 by the state's asset number; `base_slots` beside `base_numbers`,
    assets of the state's base that have changed since; `others`, assets without vectors.
    """

    seq: int = 0
    keys: frozenset[str] = frozenset()
    postings: LivePostings = field(default_factory=LivePostings)
    count: int = 0
    slots: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    base_numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    base_slots: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    others: Mapping[uuid.UUID, int] = field(default_factory=dict)

    def covers(self, state: State, keys: frozenset[str]) -> bool:
        return self.seq >= state.seq and len(self.slots) >= len(state.assets) and self.keys >= keys

    @property
    def bytes(self) -> int:
        used = len(self.slots) + 3 * len(self.base_slots)
        return self.postings.bytes + SLOT_BYTES * used + OTHER_BYTES * len(self.others)

    @property
    def dead(self) -> int:
        return self.count - len(self.slots) - len(self.base_slots) - len(self.others)


class Facets(ABC):
    """What is known beside one line of states, each of which came from the one before."""

    @property
    @abstractmethod
    def bytes(self) -> int: ...

    @abstractmethod
    def known(self, state: State, keys: Collection[str]) -> Known | None:
        """The facets under these keys of the state's newer and changed assets, as of the state or newer.

        In the tenant's scope; asks nothing of the database where nothing is new. None where they are too many.
        """


@dataclass(frozen=True)
class Tombstones:
    """Assets of a segment that count no more, and how many there are of each partition."""

    ids: frozenset[uuid.UUID] = frozenset()
    partitions: Mapping[Partition, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def and_also(self, filed: Mapping[uuid.UUID, Partition]) -> Tombstones:
        new = {asset_id: partition for asset_id, partition in filed.items() if asset_id not in self.ids}
        partitions = Counter(self.partitions) + Counter(new.values())
        return Tombstones(self.ids | new.keys(), partitions) if new else self


@dataclass(frozen=True)
class Prefetched:
    """Rows of a segment that were found before, for the same vector and without any restriction."""

    generation_id: uuid.UUID
    scores: np.ndarray
    rows: np.ndarray


class SegmentGone(IndexRebuilding):
    """The segment was let go of while it was searched; the next search finds another index."""


class SegmentSearch(ABC):
    """A search of a state's segment under a restriction. `total` assets may be found; `recall` is set by `best`."""

    total: int
    recall: float = 1.0

    @abstractmethod
    def best(self, query: np.ndarray, count: int, prefetched: Prefetched | None) -> list[Hit]:
        """The best `count` assets, the best first; `query` float32 [d] of norm 1."""


class Segment(ABC):
    """The older part of an index: every vector of a model up to a sequence number, published by the pointer and never
    changed. Newer vectors, tombstones and changed metadata are kept beside it (`State`).

    `is_local`: in this process, which then also has the metadata of its assets (`postings`) and numbers them. Another
    one (`tenants.retrieval.engines`) has neither, knows metadata as it is now, and costs a trip a search.
    """

    id: uuid.UUID
    seq: int
    is_local: ClassVar[bool]

    @property
    @abstractmethod
    def kind(self) -> str: ...

    @property
    @abstractmethod
    def asset_count(self) -> int: ...

    @property
    @abstractmethod
    def row_count(self) -> int: ...

    @property
    @abstractmethod
    def cost_ms(self) -> float:
        """Of a search without restrictions, as measured when it was built."""

    @property
    def mapped_bytes(self) -> int:
        """Of files that this process has mapped."""
        return 0

    @property
    def postings(self) -> Postings | None:
        """The metadata of its assets as it was at `seq`; None where it does not hold them."""
        return None

    @property
    def one_row_each(self) -> bool:
        return self.asset_count == self.row_count

    @abstractmethod
    def search(self, state: State, only: Restriction, *, exact: bool) -> SegmentSearch: ...

    @abstractmethod
    def candidates(self, query: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Its best rows without restriction, for the cache: scores float32 [m] and rows (uint32's range) [m]."""

    @abstractmethod
    def without(self, state: State, asset_ids: list[uuid.UUID]) -> State:
        """The state with these assets of the segment counting no more: a tombstone is newer than all of it."""

    def rows_left(self, state: State) -> int:
        """Its rows of assets that count. Where it is not known how many each has, as if all had the average."""
        return round(self.row_count * (1 - state.dead_count / max(1, self.asset_count)))

    @abstractmethod
    def filtered(
        self,
        planned: Plan,
        only: Restriction,
        changed: tuple[np.ndarray, np.ndarray],
        newer: Callable[[], list[uuid.UUID]],
    ) -> Restriction:
        """The restriction with a filter for its assets. `changed`: numbers of those whose metadata is newer, and
        whether each meets the filter now; `newer` names the assets that are newer and meet it."""

    def numbers(self, asset_ids: Iterable[uuid.UUID]) -> np.ndarray:
        """int64 numbers of those assets whose metadata it holds, in the order of their ids."""
        return np.zeros(0, np.int64)

    def ids(self, numbers: np.ndarray) -> list[uuid.UUID]:
        """The assets that have these numbers."""
        return []

    def allowed(self, state: State, only: Restriction) -> np.ndarray | None:
        """A mask of its assets by number that may be found, `only.without` not looked at; None: all of them."""
        return None


@dataclass(frozen=True)
class State:
    """All that one search needs; replaced as a whole, so that a search never sees half a refresh.

    `index` and what follows describe the newer vectors, or all of them where there is no `base`. `dead`: which assets
    of the base count no more, as a mask of a local one (`gone` of another); `changed`: those whose metadata is newer
    than a local base.
    """

    facets: Facets
    seq: int = 0
    base: Segment | None = None
    dead: np.ndarray | None = None
    gone: Tombstones = field(default_factory=Tombstones)
    changed: frozenset[uuid.UUID] = frozenset()
    index: FlatIndex = field(default_factory=FlatIndex)
    rows: Rows = field(default_factory=Rows)
    assets: IdMap = field(default_factory=IdMap)
    datasets: IdMap = field(default_factory=IdMap)
    # By row number; only rows that stand for a part of their asset have one.
    segments: dict[int, dict] = field(default_factory=dict)
    # Assets that were made here from words, also such as have no vectors (None: not asked yet); and the same state as
    # if they were gone, None where there are none.
    generated: frozenset[uuid.UUID] | None = None
    without_generated: State | None = None

    def searched_for(self, generated: str) -> State:
        """The state as it is searched: without what was made here, unless that is wanted."""
        return (self.without_generated or self) if generated == "exclude" else self

    @property
    def delta(self) -> int:
        """Rows of the array that count."""
        return int(self.rows.alive.sum())

    @property
    def dead_count(self) -> int:
        return len(self.gone) if self.dead is None else int(self.dead.sum())

    @property
    def size(self) -> int:
        """Vectors that can be found."""
        return self.delta if self.base is None else self.delta + self.base.rows_left(self)


@dataclass(frozen=True)
class PartMatch:
    """Which vector of an asset answers one part of a query of several: its cosine, and what it stands for."""

    score: float
    modality: str
    segment: dict | None = None


@dataclass(frozen=True)
class Hit:
    """An asset by the best of its vectors. `by`: what of the query named it ("name", "phrase" or "words"); "" where it
    is found as it is alike. `relevance`: the chance that it is right, None where nobody can say.

    `parts`: of a query of several parts, what answers each, in their order.
    """

    asset_id: uuid.UUID
    score: float
    modality: str
    segment: dict | None = None
    by: str = ""
    relevance: float | None = None
    parts: tuple[PartMatch, ...] | None = None


@dataclass(frozen=True)
class Restriction:
    """Which assets a search may return; None means no restriction of this kind.

    A filter names none: `numbers` is a mask of the base's assets as of now, `planned` what another engine is
    asked; `newer` is a mask by the state's number of an asset, for the array, and `bare` are assets that have no
    vectors. Or `assets` are the newer ones. `until`: only what was there at that sequence number.
    """

    datasets: list[uuid.UUID] | None = None
    modalities: list[str] | None = None
    assets: list[uuid.UUID] | None = None
    hidden_datasets: list[uuid.UUID] = field(default_factory=list)
    numbers: np.ndarray | None = None
    planned: Plan = ()
    newer: np.ndarray | None = None
    bare: Collection[uuid.UUID] = ()
    without: frozenset[uuid.UUID] = frozenset()
    until: int | None = None


@dataclass(frozen=True)
class QueryPart:
    """One part of a query of several: `text`, or `vector` float32 [d] of norm 1, or a kept picture (`image_file`), or
    the `kind` of content (image, audio, video) of an `asset`. `weight` above 0. `unwanted`: the less of it the better.
    """

    text: str = ""
    vector: np.ndarray | None = None
    image_file: uuid.UUID | None = None
    asset: uuid.UUID | None = None
    kind: str = ""
    weight: float = 1.0
    unwanted: bool = False


@dataclass
class Query:
    """A validated search. Files are paths on disk; `vector` is float32 [d] of norm 1. `image_file` is a picture that
    was kept of an earlier search (`query_pictures`).

    `like` and `unlike` are assets that stand for their stored vectors; they are left out of the results. `generated`,
    where nothing is said: `exclude`, and `include` where a condition is about it. `hybrid`: fused with a ranking by
    words, or not compared with words at all; None: what the words name comes first (`query.names`).
    `sort`: "" by relevance or score, or one of SORTS, over the best MAX_DEPTH.
    `min_relevance`: only what is at least as likely to be right, the likeliest first. `worth_showing`: the same from
    the line on that the space states, where the query is one whose relevance is known.
    """

    text: str = ""
    image: Path | None = None
    image_file: uuid.UUID | None = None
    image_asset: uuid.UUID | None = None
    audio: Path | None = None
    audio_asset: uuid.UUID | None = None
    video_asset: uuid.UUID | None = None
    vector: np.ndarray | None = None
    like: list[uuid.UUID] = field(default_factory=list)
    unlike: list[uuid.UUID] = field(default_factory=list)
    unlike_text: str = ""
    datasets: list[uuid.UUID] | None = None
    modalities: list[str] | None = None
    conditions: list[tuple[str, str, Any]] = field(default_factory=list)
    task: str = "general"
    weights: dict[str, float] = field(default_factory=dict)
    hybrid: bool | None = None
    generated: Generated | Literal[""] = ""
    top_k: int = 10
    cursor: str = ""
    explain: bool = False
    exact: bool = False
    highlight: bool = False
    group_duplicates: bool = False
    facets: list[str] = field(default_factory=list)
    min_relevance: float | None = None
    worth_showing: bool = False
    sort: str = ""
    parts: list[QueryPart] = field(default_factory=list)
    in_order: bool = False
    within_s: float | None = None

    def __post_init__(self) -> None:
        if not self.generated:
            # A filter by the same says itself what is wanted.
            asks = any(key == GENERATED for key, _operator, _value in self.conditions)
            self.generated = "include" if asks else "exclude"

    @property
    def depth(self) -> int:
        """How many of the best assets the first page needs: what is grouped or sorted has to be known as a whole."""
        return MAX_DEPTH if self.group_duplicates or self.sort else self.top_k

    @property
    def has_other_parts(self) -> bool:
        """Whether more is asked for than words."""
        pictures = (self.image, self.image_file, self.image_asset)
        parts = (*pictures, self.audio, self.audio_asset, self.video_asset, self.vector)
        return any(part is not None for part in parts) or bool(self.like or self.parts)

    @property
    def named_assets(self) -> list[uuid.UUID]:
        """Assets that the query itself names; each must be there."""
        single = (self.image_asset, self.audio_asset, self.video_asset)
        of_parts = [part.asset for part in self.parts if part.asset is not None]
        return [*(one for one in single if one is not None), *self.like, *self.unlike, *of_parts]


@dataclass(frozen=True)
class Current:
    """The published generation: all vectors up to `seq`; `recall` is recall@10 as measured when it was built."""

    id: uuid.UUID
    seq: int
    kind: str
    recall: float | None


@dataclass(frozen=True)
class IndexStatus:
    """The tenant's clock (`last`, `pruned`), its datasets that are being deleted, and which index answers for a model.

    `engine` is where the index lies (tenants.retrieval.engines), or lay in an earlier release: then, and where search
    is exact in memory, `current` is None. `live` is the model that answers searches: who asked for another one has to
    ask again.
    """

    last: int
    pruned: int
    hidden: tuple[uuid.UUID, ...]
    engine: str
    current: Current | None
    live: str = ""


@dataclass(frozen=True)
class Ranking:
    """The best assets, how many could have been found, and the recall@10 to expect of it (1.0: exact)."""

    hits: list[Hit]
    total: int
    recall: float
