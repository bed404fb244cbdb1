"""Brokers that sources read from: Redis Streams, RabbitMQ and Kafka, each behind the same four words.

A connection goes to an address that the guard has checked (`events.ssrf_guard`), under the name of the host. `poll`
hands out messages in their order, `commit` says that they are stored, which is done after the database's commit only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

import amqp
import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenants.datasets.models import StreamSource
from tenants.errors import Conflict, Unavailable
from tenants.events import ssrf_guard
from tenants.events.ssrf_guard import Blocked, Broker, Target
from tenants.pipeline.streams.writing import Malformed

# How long a broker may take to answer, and to say nothing while it is read.
CONNECT_S, ANSWER_S = 5.0, 15.0
# Messages that RabbitMQ hands out before they are acknowledged.
PREFETCH = 512
MAX_ADDRESSES = 3


class BrokerAway(Unavailable):
    """The broker cannot be reached, or refuses; the text says why, for people."""


@dataclass(frozen=True)
class Message:
    """An item as a broker holds it. `partition` and `offset` are its place in the order; RabbitMQ knows none."""

    position: str
    body: bytes
    partition: str = ""
    offset: str = ""
    # The id that the broker gave it, for an item that names none; empty for none.
    known_as: str = ""
    # Fields, where the broker holds such (Redis Streams).
    fields: Mapping[str, str] | None = None
    # What a broker acknowledges it by.
    tag: Any = None

    def record(self, body_field: str = "") -> dict[str, Any]:
        """The item's fields. Raises Malformed."""
        body = self.body
        if self.fields is not None:
            if not body_field:
                return dict(self.fields)
            if body_field not in self.fields:
                raise Malformed(f"The item has no field {body_field[:60]!r}.")
            body = self.fields[body_field].encode()
        try:
            found = msgspec.json.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Malformed("The item is not JSON in UTF-8.") from error
        if not isinstance(found, dict):
            raise Malformed("An item is a JSON object.")
        return found


class Consumer(Protocol):
    """What reads one source. Raises BrokerAway from every method but close."""

    def open(self, position: Mapping[str, str]) -> dict[str, str]:
        """Connect, and go on behind what was stored; returns where that is."""

    def poll(self, most: int, timeout_s: float) -> list[Message]:
        """The next messages, in order; none where none come in time."""

    def behind(self, messages: Sequence[Message]) -> dict[str, str]:
        """The position behind these, to be stored with them."""

    def commit(self, messages: Sequence[Message]) -> None:
        """These are stored, and all before them."""

    def lag(self) -> int | None:
        """Messages that wait, as far as the broker tells."""

    def close(self) -> None: ...


def consumer_of(row: StreamSource, login: tuple[str, str]) -> Consumer:
    """The consumer of a source, not connected yet. Raises Invalid where its address is allowed no longer."""
    broker = ssrf_guard.read_broker(row.url, tuple(ssrf_guard.BROKERS))
    broker = Broker(broker.target, *login)
    if row.kind == StreamSource.Kind.REDIS:
        return RedisConsumer(broker, row.topic, row.group, from_start=row.from_start)
    if row.kind == StreamSource.Kind.RABBITMQ:
        return RabbitConsumer(broker, row.topic)
    return KafkaConsumer(AioKafka(broker, row.topic, row.group, from_start=row.from_start))


def addresses_of(target: Target) -> list[str]:
    """Checked addresses to connect to. Raises BrokerAway."""
    try:
        return ssrf_guard.addresses_of(target, ssrf_guard.for_streams())[:MAX_ADDRESSES]
    except Blocked as error:
        raise BrokerAway(str(error)) from error


# --- Redis Streams ---------------------------------------------------------------------------------------


class _ToAddress(redis.Connection):
    """Connects to a checked address under the name of its host."""

    address = ""

    def _connect(self) -> socket.socket:
        name, self.host = self.host, self.address
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        finally:
            self.host = name


class _ToAddressByTls(redis.SSLConnection, _ToAddress):
    pass


class RedisConsumer:
    """A stream of Redis or Valkey, read behind the last id that the database has.

    The consumer group is a bookmark: it is moved after each commit, so that `XINFO GROUPS` shows how far this is and
    how much waits. Nothing is handed out to it: of two processes that both believe to read, one that was thought dead
    would take entries away from the other, which then counts them as stored.
    """

    def __init__(self, broker: Broker, stream: str, group: str, *, from_start: bool) -> None:
        self._broker, self._stream, self._group, self._from_start = broker, stream, group, from_start
        self._client: redis.Redis | None = None
        self._last, self._read = "0-0", 0

    def open(self, position: Mapping[str, str]) -> dict[str, str]:
        target = self._broker.target
        address = addresses_of(target)[0]
        kind = _ToAddressByTls if target.secure else _ToAddress
        made = type(kind.__name__, (kind,), {"address": address})
        pool = redis.ConnectionPool(
            connection_class=made,
            host=target.host,
            port=target.port,
            db=_database(target.path),
            username=self._broker.user or None,
            password=self._broker.password or None,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=ANSWER_S,
            # The job tries again.
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
        )
        self._client = redis.Redis(connection_pool=pool)
        with _told(redis.RedisError):
            try:
                self._client.xgroup_create(self._stream, self._group, "0", mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
            told: Any = self._client.xinfo_stream(self._stream)
            added = int(told["entries-added"])
            if position:
                # Fewer where the server has lost some.
                self._last, self._read = position["last"], min(int(position["read"]), added)
            elif self._from_start:
                self._last, self._read = "0-0", added - int(told["length"])
            else:
                self._last, self._read = told["last-generated-id"].decode(), added
            self._move()
        return self._position()

    def poll(self, most: int, timeout_s: float) -> list[Message]:
        block_ms = max(1, int(timeout_s * 1000))
        with _told(redis.RedisError):
            answer: Any = self._open.xread({self._stream: self._last}, count=most, block=block_ms)
        if not answer:
            return []
        streams = answer.items() if isinstance(answer, dict) else answer
        entries = next(iter(streams))[1]
        # The third version of the protocol has one list more.
        if entries and isinstance(entries[0], list):
            entries = entries[0]
        return [_redis_message(entry) for entry in entries]

    def behind(self, messages: Sequence[Message]) -> dict[str, str]:
        return {"last": messages[-1].offset, "read": str(self._read + len(messages))}

    def commit(self, messages: Sequence[Message]) -> None:
        self._last, self._read = messages[-1].offset, self._read + len(messages)
        with _told(redis.RedisError):
            self._move()

    def _move(self) -> None:
        self._open.xgroup_setid(self._stream, self._group, self._last, entries_read=self._read)

    def _position(self) -> dict[str, str]:
        return {"last": self._last, "read": str(self._read)}

    def lag(self) -> int | None:
        with _told(redis.RedisError):
            told: Any = self._open.xinfo_stream(self._stream)
        return max(0, int(told["entries-added"]) - self._read)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client.connection_pool.disconnect()

    @property
    def _open(self) -> redis.Redis:
        if self._client is None:
            raise RuntimeError("it was not opened")
        return self._client


def _redis_message(entry: tuple[bytes, Mapping[bytes, bytes] | None]) -> Message:
    name = entry[0].decode()
    raw = entry[1] or {}
    fields = {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in raw.items()}
    return Message(
        position=name, offset=name, body=json.dumps(fields).encode(), known_as=name, fields=fields, tag=name
    )


def _database(path: str) -> int:
    name = path.strip("/")
    if not name.isascii() or (name and not name.isdigit()):
        raise BrokerAway("The path of a Redis URL is the number of a database, such as /0.")
    return int(name or 0)


# --- RabbitMQ --------------------------------------------------------------------------------------------


class RabbitConsumer:
    """A queue of RabbitMQ that is there (a quorum queue, best), with acknowledgements by hand.

    It hands back in its order what was not acknowledged; by its id an item that was stored is known then.
    """

    def __init__(self, broker: Broker, queue: str) -> None:
        self._broker, self._queue = broker, queue
        self._connection: amqp.Connection | None = None
        self._channel: Any = None
        self._come: deque[Message] = deque()

    def open(self, position: Mapping[str, str]) -> dict[str, str]:
        target = self._broker.target
        address = addresses_of(target)[0]
        host = f"[{address}]" if ":" in address else address
        # A context of Python's own defaults, which checks the certificate, under the name of the host.
        tls = {"context": {"check_hostname": True}, "do_handshake_on_connect": False}
        secured = {"server_hostname": target.host, **tls} if target.secure else False
        with _told(*_RABBIT):
            self._connection = amqp.Connection(
                host=f"{host}:{target.port}",
                userid=self._broker.user or "guest",
                password=self._broker.password or "guest",
                virtual_host=_virtual_host(target.path),
                ssl=secured,
                connect_timeout=CONNECT_S,
                read_timeout=ANSWER_S,
                write_timeout=ANSWER_S,
                heartbeat=60,
            )
            self._connection.connect()
            self._channel = self._connection.channel()
            self._channel.queue_declare(self._queue, passive=True)
            self._channel.basic_qos(0, PREFETCH, False)
            # Alone: who was thought dead and is not keeps the queue until its connection ends.
            self._channel.basic_consume(self._queue, callback=self._take, exclusive=True)
        return {}

    def _take(self, got: Any) -> None:
        raw = got.body
        body = raw if isinstance(raw, bytes) else str(raw).encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(body).hexdigest()[:40]
        named = got.properties.get("message_id") or f"content:{digest}"
        self._come.append(
            Message(position=f"sha256:{digest}", body=body, known_as=str(named), tag=got.delivery_tag)
        )

    def poll(self, most: int, timeout_s: float) -> list[Message]:
        with _told(*_RABBIT):
            self._open.heartbeat_tick()
            while len(self._come) < most:
                try:
                    # Whatever is there already is taken without waiting for more.
                    self._open.drain_events(timeout=0.01 if self._come else timeout_s)
                except TimeoutError:
                    break
        return [self._come.popleft() for _ in range(min(most, len(self._come)))]

    def behind(self, messages: Sequence[Message]) -> dict[str, str]:
        return {}

    def commit(self, messages: Sequence[Message]) -> None:
        with _told(*_RABBIT):
            self._channel.basic_ack(messages[-1].tag, multiple=True)

    def lag(self) -> int | None:
        with _told(*_RABBIT):
            return int(self._channel.queue_declare(self._queue, passive=True).message_count) + len(self._come)

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(*_RABBIT):
                self._connection.close()

    @property
    def _open(self) -> amqp.Connection:
        if self._connection is None:
            raise RuntimeError("it was not opened")
        return self._connection


_RABBIT = (amqp.exceptions.AMQPError, OSError)


def _virtual_host(path: str) -> str:
    """As the specification of AMQP URIs has it: no path is "/", and what stands behind the slash is the name."""
    return unquote(path[1:]) if len(path) > 1 else "/"


# --- Kafka -----------------------------------------------------------------------------------------------


class KafkaClient(Protocol):
    """What a Kafka consumer needs of its client; `AioKafka` is one, a test brings another."""

    def start(self) -> None: ...

    def seek(self, partition: int, offset: int) -> None:
        """Read on from here; kept for partitions that are assigned later."""

    def poll(self, most: int, timeout_s: float) -> list[tuple[int, int, bytes | None, bytes]]:
        """Partition, offset, key and value, each partition in its order."""

    def commit(self, offsets: Mapping[int, int]) -> None:
        """The next offset to be read, by partition."""

    def lag(self) -> int | None: ...

    def stop(self) -> None: ...


class KafkaConsumer:
    """A topic of Kafka. What the database says is stored counts, not what was committed to the broker."""

    def __init__(self, client: KafkaClient) -> None:
        self._client = client
        self._next: dict[int, int] = {}

    def open(self, position: Mapping[str, str]) -> dict[str, str]:
        self._next = {int(partition): int(offset) for partition, offset in position.items()}
        self._client.start()
        for partition, offset in self._next.items():
            self._client.seek(partition, offset)
        return dict(position)

    def poll(self, most: int, timeout_s: float) -> list[Message]:
        found = []
        for partition, offset, _key, value in self._client.poll(most, timeout_s):
            # Handed out again after a rebalance.
            if offset >= self._next.get(partition, 0):
                found.append(
                    Message(
                        position=f"{partition}:{offset}",
                        partition=str(partition),
                        # The next one to be read.
                        offset=str(offset + 1),
                        body=value or b"",
                        known_as=f"{partition}:{offset}",
                    )
                )
        return found

    def behind(self, messages: Sequence[Message]) -> dict[str, str]:
        read = {str(partition): str(offset) for partition, offset in self._next.items()}
        return read | {one.partition: one.offset for one in messages}

    def commit(self, messages: Sequence[Message]) -> None:
        offsets = {int(one.partition): int(one.offset) for one in messages}
        self._next.update(offsets)
        self._client.commit(offsets)

    def lag(self) -> int | None:
        return self._client.lag()

    def close(self) -> None:
        self._client.stop()


class GuardedLoop(asyncio.SelectorEventLoop):
    """An event loop whose connections all pass the guard: brokers of Kafka tell their clients further addresses."""

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **more: Any
    ) -> Any:
        scheme = "kafkas" if more.get("ssl") else "kafka"
        try:
            target = ssrf_guard.read_broker(f"{scheme}://{_bracketed(str(host))}:{port}", (scheme,)).target
        except Exception as error:
            raise ConnectionRefusedError(str(error)) from error
        addresses = await self.run_in_executor(None, addresses_of, target)
        if more.get("ssl") and not more.get("server_hostname"):
            more["server_hostname"] = target.host
        return await super().create_connection(protocol_factory, addresses[0], port, **more)


class AioKafka:
    """aiokafka, which is an extra of the package (`crosslight[kafka]`), driven from a thread that is no event loop."""

    def __init__(self, broker: Broker, topic: str, group: str, *, from_start: bool) -> None:
        self._broker, self._topic, self._group, self._from_start = broker, topic, group, from_start
        self._loop = GuardedLoop()
        self._consumer: Any = None
        self._wanted: dict[int, int] = {}

    def start(self) -> None:
        try:
            import aiokafka
        except ImportError as error:
            raise Conflict(
                "This installation reads no Kafka: its operator has to install crosslight[kafka]."
            ) from error
        target = self._broker.target
        login: dict[str, Any] = {}
        if self._broker.user:
            login = {
                "sasl_mechanism": "SCRAM-SHA-256",
                "sasl_plain_username": self._broker.user,
                "sasl_plain_password": self._broker.password,
            }
        protocol = ("SASL_" if login else "") + ("SSL" if target.secure else "PLAINTEXT")

        async def begin() -> None:
            self._consumer = aiokafka.AIOKafkaConsumer(
                self._topic,
                bootstrap_servers=f"{_bracketed(target.host)}:{target.port}",
                group_id=self._group,
                enable_auto_commit=False,
                auto_offset_reset="earliest" if self._from_start else "latest",
                request_timeout_ms=int(ANSWER_S * 1000),
                security_protocol=protocol,
                ssl_context=ssl.create_default_context() if target.secure else None,
                **login,
            )
            await self._consumer.start()

        self._run(begin())

    def seek(self, partition: int, offset: int) -> None:
        self._wanted[partition] = offset

    def poll(self, most: int, timeout_s: float) -> list[tuple[int, int, bytes | None, bytes]]:
        async def get() -> list[tuple[int, int, bytes | None, bytes]]:
            for place in self._consumer.assignment():
                if place.partition in self._wanted:
                    self._consumer.seek(place, self._wanted.pop(place.partition))
            got = await self._consumer.getmany(timeout_ms=int(timeout_s * 1000), max_records=most)
            return [
                (place.partition, one.offset, one.key, one.value)
                for place, ones in got.items()
                for one in ones
            ]

        return list(self._run(get()))

    def commit(self, offsets: Mapping[int, int]) -> None:
        places = {place.partition: place for place in self._consumer.assignment()}
        told = {places[partition]: offset for partition, offset in offsets.items() if partition in places}
        if told:
            self._run(self._consumer.commit(told))

    def lag(self) -> int | None:
        async def count() -> int:
            places = list(self._consumer.assignment())
            ends = await self._consumer.end_offsets(places)
            return sum([ends[place] - await self._consumer.position(place) for place in places])

        return int(self._run(count()))

    def stop(self) -> None:
        if self._consumer is not None:
            with contextlib.suppress(BrokerAway):
                self._run(self._consumer.stop())
        self._loop.close()

    def _run(self, work: Any) -> Any:
        async def bounded() -> Any:
            return await asyncio.wait_for(work, 2 * ANSWER_S)

        with _told(Exception):
            return self._loop.run_until_complete(bounded())


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


@contextlib.contextmanager
def _told(*kinds: type[BaseException]) -> Any:
    """What a broker's client raises, in words for people. Without what the other side said of itself."""
    try:
        yield
    except BrokerAway:
        raise
    except kinds as error:
        raise BrokerAway(_words(error)) from error


def _words(error: BaseException) -> str:
    if isinstance(error, amqp.AccessRefused) and "exclusive" in str(error):
        return "Another consumer reads this queue."
    if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError | amqp.AccessRefused):
        return "The broker refuses the user name and password."
    if isinstance(error, amqp.NotFound):
        return "The broker has no queue of this name. Declare it first."
    if isinstance(error, redis.ResponseError):
        return f"The broker refuses: {str(error)[:200]}"
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in _causes(error)):
        return "The certificate of the broker cannot be trusted."
    if any(isinstance(one, ssl.SSLError) for one in _causes(error)):
        return "TLS could not be agreed on with the broker."
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return "The broker does not answer in time."
    return "The broker cannot be reached."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
