"""The broker of Celery's messages, by `BROKER_URL`: RabbitMQ (`amqp://`), or Valkey, whose lists are its queues.

A message only says that work waits (ADR 22), so a handful in a queue is enough. In Valkey whoever sends one looks first
how many lie there; RabbitMQ keeps to the bound by itself, as two that look at the same time both send.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

from celery import current_app
from django.conf import settings
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from tenants import valkey
from tenants.jobs.kinds import QUEUES

# Most messages in a queue that are only to wake workers; the oldest gives way.
MOST_WAKING = 8
# And in one whose messages say what is to be done: a bound for the memory of a broker that nobody consumes from.
MOST_TOLD = 10_000
TELLING = ("hooks", "system")
# Tasks that are to be tried again after a moment: from here RabbitMQ hands them back to `system`. Celery's own delay
# would keep places of the worker's prefetch, or need 28 exchanges and queues of its own.
LATER, LATER_MS = "later", 60_000
# How long an answer of RabbitMQ is waited for, and a connection to one of its nodes before the next is tried.
SILENT_S, CONNECT_S = 5, 3


def is_amqp(url: str) -> bool:
    return url.startswith(("amqp://", "amqps://", "pyamqp://"))


def amqp_queues() -> tuple[Queue, ...]:
    """Celery's queues on RabbitMQ: replicated (quorum), each bounded."""
    bounded = tuple(_queue(name, _bounds(MOST_TOLD if name in TELLING else MOST_WAKING)) for name in QUEUES)
    back = {
        "x-message-ttl": LATER_MS,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "system",
        # Only handed on once `system` has it.
        "x-dead-letter-strategy": "at-least-once",
        "x-max-length": MOST_TOLD,
        "x-overflow": "reject-publish",
    }
    return (*bounded, _queue(LATER, {"x-queue-type": "quorum", **back}))


def _bounds(most: int) -> dict[str, Any]:
    return {"x-queue-type": "quorum", "x-max-length": most, "x-overflow": "drop-head"}


def celery_settings(url: str) -> dict[str, Any]:
    """What Celery has to know of a broker, by the names of its settings in small letters. Raises ValueError."""
    if is_amqp(url):
        # A node may take bytes and say nothing: who waits for its answer gives up.
        options: dict[str, Any] = {"read_timeout": SILENT_S, "write_timeout": SILENT_S}
        by_url = {"broker_url": url, "broker_connection_timeout": CONNECT_S, "task_queues": amqp_queues()}
        # A worker gives a broker up that says nothing for so long.
        by_url["broker_heartbeat"] = 20
    else:
        options = {"socket_timeout": 30, "socket_connect_timeout": 1, "health_check_interval": 10}
        place = valkey.place_of(url)
        by_url = {"broker_url": _valkey_url(url, place)}
        if place.kind == "sentinel":
            options |= {"master_name": place.service, "sentinel_kwargs": {"socket_timeout": 1}}
            if place.sentinel_password:
                options["sentinel_kwargs"]["password"] = place.sentinel_password
    return {**by_url, "broker_transport_options": options}


def _valkey_url(url: str, place: valkey.Place) -> str:
    """As Celery writes it: each Sentinel by itself."""
    if place.kind == "server":
        return url
    if place.kind == "cluster" or place.tls:
        raise ValueError(
            "BROKER_URL cannot be a Cluster of Valkey, or Sentinels by TLS: a worker waits for several queues at once, "
            "which lie on several servers there. Use RabbitMQ (amqp://) or Sentinels (sentinel://)."
        )
    login = f"{quote(place.user or '', '')}:{quote(place.password, '')}@" if place.password else ""
    named = (f"[{host}]" if ":" in host else host for host, _ in place.hosts)
    ports = (port for _, port in place.hosts)
    return ";".join(
        f"sentinel://{login}{host}:{port}/{place.db}" for host, port in zip(named, ports, strict=True)
    )


def _queue(name: str, arguments: Mapping[str, Any]) -> Queue:
    # The exchange is Celery's own; what is sent to a queue by name goes past it.
    return Queue(name, Exchange("celery", type="direct"), routing_key=name, queue_arguments=dict(arguments))


def unread(queue: str) -> int:
    """How many messages lie in a queue that no worker has fetched. Raises what the broker's client raises."""
    if (store := lists()) is not None:
        return int(store.llen(queue))
    for is_last in (False, True):
        with current_app.pool.acquire(block=True, timeout=1) as connection:
            try:
                return _declared(connection, queue)
            except connection.recoverable_connection_errors as error:
                # Whoever has it next makes a new one of it, to another node.
                connection.collect()
                connection.maybe_switch_next()
                # One that was away since this connection was used says so at once; one that hangs might again.
                if is_last or isinstance(error, TimeoutError):
                    raise
    raise AssertionError("it returns or raises")


def _declared(connection: Connection, queue: str) -> int:
    """Messages in a queue of RabbitMQ, which is made if it is not there. Raises PreconditionFailed for another kind."""
    # One of the pool may have been closed.
    connection.ensure_connection(max_retries=1)
    channel = connection.channel()
    made = current_app.amqp.queues[queue].bind(channel).queue_declare()
    # Not after a failure: it asks the node, which may be what did not answer.
    channel.close()
    return int(made.message_count)


def drop_messages(about: str) -> int:
    """Take messages that hold these words, such as a tenant's id, out of all queues; returns how many."""
    words = about.encode()
    store = lists()
    if store is None:
        with current_app.connection_for_read() as connection:
            names = (*QUEUES, LATER)
            return sum(_drop_amqp(connection, queue, words) for queue in names)
    dropped = 0
    for queue in QUEUES:
        mine = [raw for raw in store.lrange(queue, 0, -1) if words in raw]
        dropped += sum(int(store.lrem(queue, 1, raw)) for raw in mine)
    return dropped


def _drop_amqp(connection: Connection, queue: str, words: bytes) -> int:
    """Each message is taken, and one about others put back at the end: RabbitMQ has no other way to look."""
    dropped = 0
    length = _declared(connection, queue)
    with connection.channel() as channel:
        for _ in range(length):
            message = channel.basic_get(queue)
            if message is None:
                break
            body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
            if words in body or words in repr(message.headers).encode():
                dropped += 1
            else:
                # Sent before the first is let go.
                channel.basic_publish(message, "", queue)
            channel.basic_ack(message.delivery_tag)
    return dropped


def check() -> str:
    """What the broker is and holds, for the operator. Raises what its client raises."""
    if (store := lists()) is not None:
        store.ping()
        return "Valkey"
    with current_app.connection_for_read() as connection:
        lengths = {queue: _declared(connection, queue) for queue in QUEUES}
        told = connection.connection.server_properties
    return f"{told.get('product')} {told.get('version')}, {sum(lengths.values())} messages"


def lists() -> Any:
    """A client whose lists are the queues; None where the broker is RabbitMQ."""
    if is_amqp(settings.BROKER_URL):
        return None
    return valkey.client() if settings.BROKER_URL == settings.REDIS_URL else _other_valkey()


@cache
def _other_valkey() -> Any:
    return valkey.connect(settings.BROKER_URL)
