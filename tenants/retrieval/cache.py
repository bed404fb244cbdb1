"""Caches that stay true, and what is written to Valkey without anybody waiting for it."""

from __future__ import annotations

import atexit
import hashlib
import logging
import random
import struct
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

import numpy as np
import redis
from cachetools import LRUCache
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenants.valkey import Unavailable, client, tenant_key

# --- Writes to Valkey that nobody waits for -------------------------------------------------------------

# Gathered for some milliseconds, sent in one round trip: for what may be lost without harm (candidates, cursors,
# samples of queries). A value counts for this process at once, and for other ones within GATHER_S and a round trip.
# With Valkey away nothing is gathered for a while.

log = logging.getLogger(__name__)

GATHER_S = 0.02
# After a failure.
REST_S = 1.0
# What waits at most; beyond it the caller writes himself, which slows him down to what Valkey can take.
MOST_GATHERED = 1_000

Command = Callable[[Any], Any]


class AsyncWriter:
    """See `put` and `do`. One for the process; thread-safe."""

    def __init__(self, connection: Callable[[], Any] = client) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._commands: list[Command] = []
        self._values: dict[str, bytes] = {}
        self._something = threading.Event()
        self._thread: threading.Thread | None = None
        self._resting_until = 0.0

    def put(self, key: str, value: bytes, seconds: int) -> bool:
        """Set a key for so long. False if Valkey has just failed: then nothing is kept."""
        return self._add(lambda pipe: pipe.set(key, value, ex=seconds), {key: value})

    def do(self, command: Command) -> bool:
        """Any command of a pipeline."""
        return self._add(command, {})

    def get(self, key: str) -> bytes | None:
        """A value that was put here and may not have been sent yet."""
        return self._values.get(key)

    def flush(self) -> None:
        """Send what waits. Logs a failure, and loses what could not be sent."""
        with self._lock:
            commands, self._commands = self._commands, []
            values = dict(self._values)
        if not commands:
            return
        try:
            pipe = self._connection().pipeline(transaction=False)
            for command in commands:
                command(pipe)
            pipe.execute(raise_on_error=False)
            self._resting_until = 0.0
        except Unavailable:
            self._resting_until = time.monotonic() + REST_S
            log.warning("Valkey is away: %d writes of searches are lost", len(commands))
        with self._lock:
            for key, value in values.items():
                if self._values.get(key) is value:
                    del self._values[key]

    def _add(self, command: Command, values: dict[str, bytes]) -> bool:
        if self._resting_until and time.monotonic() < self._resting_until:
            return False
        with self._lock:
            self._commands.append(command)
            self._values |= values
            full = len(self._commands) > MOST_GATHERED
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._send_for_ever, name="later", daemon=True)
                self._thread.start()
        if not self._something.is_set():
            self._something.set()
        if full:
            self.flush()
        return True

    def _send_for_ever(self) -> None:
        while True:
            self._something.wait()
            time.sleep(GATHER_S)
            self._something.clear()
            try:
                self.flush()
            except Exception:
                log.exception("writes of searches could not be sent")


async_writer = AsyncWriter()
atexit.register(async_writer.flush)


# --- A store in the process, one in Valkey --------------------------------------------------------------

# What both caches of searches are made of: a store in the process, one in Valkey, and a count of who answered.

# Who answered: this process, Valkey, another caller's computation that was waited for, or nobody.
PROCESS, VALKEY, SHARED, MISS = "process", "valkey", "shared", "miss"

# Of an entry beside its value: the key, the node of the ordered dict, the header of the bytes.
ENTRY_BYTES = 400


class ProcessStore:
    """Bytes by key, least recently used first out, within a budget of bytes. Thread-safe."""

    def __init__(self, budget_bytes: int) -> None:
        self._entries: LRUCache[Hashable, bytes] = LRUCache(
            budget_bytes, lambda value: len(value) + ENTRY_BYTES
        )
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return int(self._entries.currsize)

    def get(self, key: Hashable) -> bytes | None:
        with self._lock:
            return self._entries.get(key)

    def put(self, key: Hashable, value: bytes) -> None:
        """Keep it; what is larger than the whole budget is not kept."""
        with self._lock:
            # A value that does not fit raises, and would leave an older one there.
            self._entries.pop(key, None)
            with suppress(ValueError):
                self._entries[key] = value

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


class ValkeyStore:
    """Bytes by key in Valkey, which may be away: then nothing is found and nothing is kept.

    A failure costs a caller the time-out at most. Then nobody tries for `rest_s` seconds, and after that one caller
    tries for all.
    """

    def __init__(
        self, connection: Any, rest_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._rest_s, self._clock = rest_s, clock
        self._resting_until = 0.0

    def get(self, key: str) -> bytes | None:
        return self._try(lambda: self._connection.get(key))

    def put(self, key: str, value: bytes, seconds: int) -> None:
        self._try(lambda: self._connection.set(key, value, ex=seconds))

    def _try(self, command: Callable[[], Any]) -> Any:
        if self._resting_until:
            now = self._clock()
            if now < self._resting_until:
                return None
            self._resting_until = now + self._rest_s
        try:
            answer = command()
        except redis.ResponseError:
            # A server that is well and refuses, as when it is full.
            answer = None
        except Unavailable:
            self._resting_until = self._clock() + self._rest_s
            return None
        self._resting_until = 0.0
        return answer


@cache
def valkey() -> ValkeyStore:
    """With connections of its own: what a cache may wait for is less than what a job or a session may."""
    return ValkeyStore(
        redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=0.05, socket_connect_timeout=0.05, retry=Retry(NoBackoff(), 0)
        )
    )


# --- How often the caches answered, by tenant and layer --------------------------------------------------


NAMED = 50
OTHER = "other"
# Who is busiest is decided anew so often, by the look-ups since the last time.
WINDOW_S = 300.0
# Tenants whose look-ups are told apart within a window; more than that are not worth their memory.
WATCHED = 10_000

# Which cache, and who answered.
Outcome = tuple[str, str]


class LookupCounts:
    """Thread-safe; a count takes about a microsecond."""

    def __init__(
        self, named: int = NAMED, window_s: float = WINDOW_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._slots, self._window_s, self._clock = named, window_s, clock
        self._named: dict[uuid.UUID, Counter[Outcome]] = {}
        self._other: Counter[Outcome] = Counter()
        self._recent: Counter[uuid.UUID] = Counter()
        self._ends = clock() + window_s
        self._lock = threading.Lock()

    def add(self, cache: str, tenant_id: uuid.UUID, layer: str) -> None:
        with self._lock:
            if self._clock() >= self._ends:
                self._choose()
            if tenant_id in self._recent or len(self._recent) < WATCHED:
                self._recent[tenant_id] += 1
            self._counter(tenant_id)[cache, layer] += 1

    def _counter(self, tenant_id: uuid.UUID) -> Counter[Outcome]:
        if (counter := self._named.get(tenant_id)) is not None:
            return counter
        if len(self._named) < self._slots:
            return self._named.setdefault(tenant_id, Counter())
        return self._other

    def _choose(self) -> None:
        """Name the busiest of this window; of equals those who have a name, so that an idle hour changes nothing."""
        known = self._recent.keys() | self._named.keys()
        ranked = sorted(known, key=lambda t: (self._recent[t], t in self._named), reverse=True)
        self._named = {t: self._named.get(t, Counter()) for t in ranked[: self._slots]}
        self._recent.clear()
        self._ends = self._clock() + self._window_s

    def read(self) -> dict[tuple[str, str, str], int]:
        """Count by cache, layer and tenant's id, where `other` stands for all who are not among the busiest."""
        with self._lock:
            named = [(str(tenant), dict(counter)) for tenant, counter in self._named.items()]
            named.append((OTHER, dict(self._other)))
        return {
            (*outcome, tenant): count
            for tenant, counter in named
            for outcome, count in sorted(counter.items())
        }


lookup_counts = LookupCounts()


# --- Callers who want the same at the same moment share one computation -------------------------------


Value = TypeVar("Value")

FLIGHT_WAIT_S = 5.0


class _Flight(Generic[Value]):
    """One computation under way. Once `done` is set it holds a value or an error, or neither if it was broken off."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.value: list[Value] = []
        self.error: Exception | None = None


class SingleFlight(Generic[Value]):
    """Of concurrent callers with one key the first computes and the others wait for its result.

    Nothing is kept: a key is known only while its computation runs. For plain threads.
    """

    def __init__(self, wait_s: float = FLIGHT_WAIT_S) -> None:
        self._wait_s = wait_s
        self._flights: dict[Hashable, _Flight[Value]] = {}
        self._lock = threading.Lock()

    def do(self, key: Hashable, compute: Callable[[], Value]) -> tuple[Value, bool]:
        """What `compute` returns, and whether another caller computed it.

        An exception is raised to everyone who waits for this computation, and is not kept. Who has waited for `wait_s`
        seconds computes for itself and frees the key, so that a leader which hangs holds nobody up for longer. The
        same happens when the leader's thread is ended (KeyboardInterrupt, SystemExit).

        Call it outside of any transaction. A leader that computes inside of one keeps it open for as long as that
        takes, and a waiter that holds a lock which the leader needs would wait until its time is up. `compute` must
        not ask for its own key.
        """
        with self._lock:
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        if leads:
            return self._lead(key, flight, compute), False
        if flight.done.wait(self._wait_s):
            if flight.error is not None:
                raise flight.error
            if flight.value:
                return flight.value[0], True
        self._forget(key, flight)
        return compute(), False

    def _lead(self, key: Hashable, flight: _Flight[Value], compute: Callable[[], Value]) -> Value:
        try:
            value = compute()
            flight.value.append(value)
            return value
        except Exception as error:
            flight.error = error
            raise
        finally:
            # First the key, then the news: whoever comes after the news starts a computation of its own.
            self._forget(key, flight)
            flight.done.set()

    def _forget(self, key: Hashable, flight: _Flight[Value]) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]

    def __len__(self) -> int:
        """How many computations are under way."""
        return len(self._flights)


# --- The vectors of texts -------------------------------------------------------------------------------

# Embeddings of text queries by tenant, model and text, kept in the process and in Valkey.

QUERY_VECTORS = "embedding"
QUERY_VECTORS_KEEP_S = 3_600
LOCAL_BYTES = 4 << 20


@dataclass(frozen=True)
class Embedded:
    """A query's vector float32 [d], read-only, and which layer had it."""

    vector: np.ndarray
    layer: str

    @property
    def hit(self) -> bool:
        """Whether this caller was spared the encoder."""
        return self.layer != MISS


class QueryCache:
    """The vector of a text, encoded once for all of a tenant's people who ask the same within the hour.

    Vectors depend on nothing that a tenant owns, yet keys name the tenant: whether somebody else asked the same must
    not be measurable. The text is in them as a digest. `canonical` gives one spelling to texts that the encoder cannot
    tell apart.
    """

    def __init__(
        self,
        embed: Callable[[uuid.UUID, str, str], np.ndarray],
        canonical: Callable[[uuid.UUID, str, str], str],
        dimension: Callable[[uuid.UUID, str], int],
        shared: Callable[[], ValkeyStore] = valkey,
        counted: LookupCounts = lookup_counts,
    ) -> None:
        self.local = ProcessStore(LOCAL_BYTES)
        # Of a tenant, a model and a text; the third of the first two.
        self._embed, self._canonical, self._dimension = embed, canonical, dimension
        self._shared, self._counts = shared, counted
        self._flights: SingleFlight[tuple[bytes, str]] = SingleFlight()

    def find(self, tenant_id: uuid.UUID, text: str, model: str) -> Embedded:
        """The vector of a text in the space of a model. Raises what the encoder raises. Call it in no transaction."""
        text = self._canonical(tenant_id, model, text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        key = tenant_key(tenant_id, "query", model, digest)
        raw, layer = self.local.get(key), PROCESS
        if raw is None:
            (raw, layer), was_shared = self._flights.do(
                key, lambda: self._fetched(key, tenant_id, model, text)
            )
            layer = SHARED if was_shared else layer
        self._counts.add(QUERY_VECTORS, tenant_id, layer)
        return Embedded(np.frombuffer(raw, "<f4"), layer)

    def _fetched(self, key: str, tenant_id: uuid.UUID, model: str, text: str) -> tuple[bytes, str]:
        if (raw := self.local.get(key)) is not None:
            # Somebody's encoding ended between this caller's look and its flight.
            return raw, PROCESS
        raw, layer = self._shared().get(key), VALKEY
        if raw is None or not _is_unit(raw, self._dimension(tenant_id, model)):
            raw, layer = self._embed(tenant_id, model, text).astype("<f4").tobytes(), MISS
            self._shared().put(key, raw, QUERY_VECTORS_KEEP_S)
        self.local.put(key, raw)
        return raw, layer


def _is_unit(raw: bytes, dimension: int) -> bool:
    """Whether these are the bytes of a vector of norm 1, as all of the space's are: damage shows in the norm."""
    if len(raw) != 4 * dimension:
        return False
    vector = np.frombuffer(raw, "<f4").astype(np.float64)
    return bool(abs(vector @ vector - 1) < 1e-4)


# --- The best rows of a generation ----------------------------------------------------------------------

# The best rows of an index generation for a query vector, kept in the process and in Valkey.
#
# A generation never changes, so what was found in it once is true for as long as it exists. Whatever does change
# (newer vectors, deleted assets, filters) is applied to every answer afterwards: nothing stale is served, and no write
# has to remove anything here. A new generation has another id and starts empty; the old lists expire.

CANDIDATES = "candidates"
# Rows of the shortest list. Longer ones have four times as many, and so on: finding 256 takes twice as long as 64.
LEAST_DEPTH = 64
# Deeper lists than this are found and not kept.
MOST_DEPTH = 4_096
CANDIDATES_KEEP_S = 3_600

# Number of rows and checksum of what follows: scores float32, then rows uint32.
HEADER = struct.Struct("<II")
# In the key: values that another version wrote are not seen.
CANDIDATES_VERSION = "1"

Lists = tuple[np.ndarray, np.ndarray]
# Tenant, generation, digest of the vector, depth class.
CandidateKey = tuple[uuid.UUID, uuid.UUID, bytes, int]


@dataclass(frozen=True)
class CandidateList:
    """Scores float32 [m] and rows int64 [m] as `compute` returned them, read-only, and which layer had them."""

    scores: np.ndarray
    rows: np.ndarray
    layer: str

    @property
    def hit(self) -> bool:
        """Whether this caller was spared the computation."""
        return self.layer != MISS


def depth_class(depth: int) -> int:
    """How many rows to find for a caller who needs `depth`: few different numbers, so that lists are shared."""
    kept = LEAST_DEPTH
    while kept < depth:
        kept *= 4
    return kept


class CandidateCache:
    """See `get`. One for the process; thread-safe."""

    def __init__(
        self,
        budget_bytes: int,
        shared: Callable[[], ValkeyStore] = valkey,
        counted: LookupCounts = lookup_counts,
        keep: Callable[[str, bytes, int], object] | None = None,
    ) -> None:
        self.local = ProcessStore(budget_bytes)
        self._shared, self._counts = shared, counted
        # How to write to Valkey where that is not to be waited for.
        self._keep = keep or (lambda *entry: shared().put(*entry))
        self._flights: SingleFlight[tuple[bytes, str]] = SingleFlight()

    def get(
        self,
        tenant_id: uuid.UUID,
        generation_id: uuid.UUID,
        vector: np.ndarray,
        depth: int,
        compute: Callable[[], Lists],
        *,
        quick: bool = False,
    ) -> CandidateList:
        """The generation's best rows for a query vector float32 [d], at least `depth` where there are so many.

        `compute() -> (scores float32 [m], rows int64 [m])` searches the generation, without any filter, for
        `depth_class(depth)` rows; it runs once for all who ask at the same moment, and what it raises goes to all of
        them. Call this outside of a transaction: it may wait for Valkey or for another caller. `quick`: it computes
        faster than Valkey answers, which then is not asked.
        """
        raw, layer = self._found(tenant_id, generation_id, vector, depth_class(depth), compute, quick)
        self._counts.add(CANDIDATES, tenant_id, layer)
        return CandidateList(*_unpacked(raw), layer)

    def _found(
        self,
        tenant_id: uuid.UUID,
        generation_id: uuid.UUID,
        vector: np.ndarray,
        kept: int,
        compute: Callable[[], Lists],
        quick: bool,
    ) -> tuple[bytes, str]:
        if kept > MOST_DEPTH:
            return _packed(*compute()), MISS
        digest = hashlib.blake2b(np.ascontiguousarray(vector, dtype="<f4").data, digest_size=16).digest()
        key = (tenant_id, generation_id, digest, kept)
        if (raw := self.local.get(key)) is not None:
            return raw, PROCESS
        (raw, layer), was_shared = self._flights.do(key, lambda: self._fetched(key, compute, quick))
        return raw, SHARED if was_shared else layer

    def _fetched(self, key: CandidateKey, compute: Callable[[], Lists], quick: bool) -> tuple[bytes, str]:
        if (raw := self.local.get(key)) is not None:
            # Somebody's computation ended between this caller's look and its flight.
            return raw, PROCESS
        if quick:
            raw = _packed(*compute())
            self.local.put(key, raw)
            return raw, MISS
        tenant_id, generation_id, digest, kept = key
        name = tenant_key(
            tenant_id, "candidates", CANDIDATES_VERSION, generation_id.hex, f"{digest.hex()}.{kept}"
        )
        raw, layer = self._shared().get(name), VALKEY
        if raw is None or not _is_whole(raw):
            raw, layer = _packed(*compute()), MISS
            self._keep(name, raw, CANDIDATES_KEEP_S)
        self.local.put(key, raw)
        return raw, layer


def _packed(scores: np.ndarray, rows: np.ndarray) -> bytes:
    """Eight bytes a row and a header. Raises ValueError for what is no list of rows."""
    if scores.shape != rows.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and rows {rows.shape} do not belong together")
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < 1 << 32:
        raise ValueError("row numbers are outside of what 32 bits hold")
    body = scores.astype("<f4").tobytes() + rows.astype("<u4").tobytes()
    return HEADER.pack(len(rows), zlib.crc32(body)) + body


def _is_whole(raw: bytes) -> bool:
    if len(raw) < HEADER.size:
        return False
    count, checksum = HEADER.unpack_from(raw)
    return len(raw) == HEADER.size + 8 * count and zlib.crc32(memoryview(raw)[HEADER.size :]) == checksum


def _unpacked(raw: bytes) -> Lists:
    count = HEADER.unpack_from(raw)[0]
    scores = np.frombuffer(raw, "<f4", count, HEADER.size)
    rows = np.frombuffer(raw, "<u4", count, HEADER.size + 4 * count).astype(np.int64)
    rows.flags.writeable = False
    return scores, rows


candidate_cache = CandidateCache(settings.CANDIDATE_MEMORY_BYTES, keep=async_writer.put)
get_candidates = candidate_cache.get


# --- A sample of queries --------------------------------------------------------------------------------

# A sample of the query vectors that people really send: what an index's recall is measured on.
#
# Kept in Valkey only, as vectors, a thousand a tenant and model, for a month; a loss costs nothing but realism.

SAMPLES_KEPT = 1_000
SAMPLES_KEEP_S = 30 * 24 * 3600
SAMPLED_SHARE = 1 / 8


def note_query(tenant_id: uuid.UUID, model: str, vector: np.ndarray) -> None:
    """Remember one query in eight. `vector`: float32 [d]."""
    if random.random() >= SAMPLED_SHARE:  # noqa: S311 - a sample, not a secret
        return
    key, raw = _samples_key(tenant_id, model), vector.astype("<f4").tobytes()

    def write(pipe: Any) -> None:
        pipe.lpush(key, raw)
        pipe.ltrim(key, 0, SAMPLES_KEPT - 1)
        pipe.expire(key, SAMPLES_KEEP_S)

    async_writer.do(write)


def sampled_queries(tenant_id: uuid.UUID, model: str, dimension: int) -> np.ndarray:
    """float32 [n, dimension], distinct; empty without Valkey."""
    try:
        raw = client().lrange(_samples_key(tenant_id, model), 0, -1)
    except Unavailable:
        raw = []
    whole = sorted({one for one in raw if len(one) == 4 * dimension})
    return np.frombuffer(b"".join(whole), "<f4").reshape(len(whole), dimension)


def _samples_key(tenant_id: uuid.UUID, model: str) -> str:
    return tenant_key(tenant_id, "queries", model)
