"""The one connection pool to Valkey, and the rule that every key names its tenant.

Where it is, one URL says (`Place`): a server, a group whose Sentinels know the primary, or a Cluster. In a Cluster keys
lie on several servers: pipelines are parted by the client, and no command here names keys of several slots. Where a
script has to, its keys share a hash tag (`console.account.throttle`).
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
import redis.asyncio
from django.conf import settings
from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.cluster import ClusterNode, ClusterPipeline, RedisCluster
from redis.exceptions import RedisClusterException
from redis.sentinel import Sentinel

Unavailable = redis.RedisError

SENTINEL_PORT, PORT = 26379, 6379
# A dead cache must cost a request milliseconds, not seconds.
TIMES: dict[str, Any] = {"socket_timeout": 2, "socket_connect_timeout": 1, "health_check_interval": 15}

_lock = threading.Lock()


# --- Where Valkey is -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """What a URL says. `kind` is `server`, `sentinel` or `cluster`; `hosts` are addresses and ports."""

    kind: str
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    db: int = 0
    user: str | None = None
    password: str | None = None
    sentinel_password: str | None = None
    tls: bool = False

    def login(self) -> dict[str, Any]:
        return {"username": self.user, "password": self.password, **({"ssl": True} if self.tls else {})}


def place_of(url: str) -> Place:
    """Read `redis://`, `rediss://`, `unix://` (as redis-py does, later), `sentinel://[user:password@]h1,h2:26380/0?service=name`
    or `redis+cluster://h1:6379,h2`; an s before :// or + is TLS. Raises ValueError."""
    scheme = url.partition("://")[0]
    if scheme in ("redis", "rediss", "unix"):
        return Place("server")
    kinds = {"sentinel": "sentinel", "sentinels": "sentinel"}
    kinds |= {"redis+cluster": "cluster", "rediss+cluster": "cluster"}
    if scheme not in kinds:
        raise ValueError(
            f"{scheme}:// is no address of Valkey: write redis://, rediss://, unix://, sentinel:// or redis+cluster://."
        )
    kind, parts = kinds[scheme], urlsplit(url)
    login, _, listed = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    port = SENTINEL_PORT if kind == "sentinel" else PORT
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    place = Place(
        kind,
        tuple(_host(one, port) for one in listed.split(",") if one),
        service=asked.get("service", ""),
        db=int(parts.path.strip("/") or 0),
        user=unquote(user) or None,
        password=unquote(password) or None,
        sentinel_password=asked.get("sentinel_password"),
        tls=scheme in ("sentinels", "rediss+cluster"),
    )
    if not place.hosts:
        raise ValueError(f"{scheme}:// names no host.")
    if kind == "sentinel" and not place.service:
        raise ValueError(
            "sentinel:// needs the name of its primary: sentinel://h1:26379,h2:26379/0?service=mymaster."
        )
    if kind == "cluster" and place.db:
        raise ValueError("A Cluster has one database, 0.")
    return place


def _host(given: str, port: int) -> tuple[str, int]:
    """An address and its port; IPv6 stands in brackets."""
    parts = urlsplit(f"//{given}")
    if not parts.hostname:
        raise ValueError(f"{given!r} is no host.")
    return parts.hostname, parts.port or port


# --- Clients -------------------------------------------------------------------------------------------------


def client() -> Any:
    """A thread-safe redis.Redis that answers in bytes, which its type stubs cannot tell from str."""
    # Only one is ever made: of two that the first requests made beside each other one would be collected, and take the
    # connections of its pool away from whoever still reads from them.
    with _lock:
        return _client()


@cache
def _client() -> Any:
    return connect(settings.REDIS_URL)


def connect(url: str) -> Any:
    """A client of its own. Raises ValueError for a URL that says no place, Unavailable for a Cluster that is away."""
    place = place_of(url)
    if place.kind == "sentinel":
        return _sentinel(Sentinel, place).master_for(place.service, db=place.db, **place.login(), **TIMES)
    if place.kind == "cluster":
        try:
            return Cluster(
                startup_nodes=[ClusterNode(*host) for host in place.hosts], **place.login(), **TIMES
            )
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error
    return redis.Redis.from_url(url, **TIMES)


def connect_async(url: str) -> Any:
    """One for the running loop, for channels; it waits for messages as long as it takes."""
    times: dict[str, Any] = {"socket_connect_timeout": 1, "health_check_interval": 15}
    place = place_of(url)
    if place.kind == "sentinel":
        return _sentinel(AsyncSentinel, place).master_for(
            place.service, db=place.db, **place.login(), **times
        )
    if place.kind == "cluster":
        nodes = [redis.asyncio.cluster.ClusterNode(*host) for host in place.hosts]
        return redis.asyncio.RedisCluster(startup_nodes=nodes, **place.login(), **times)
    return redis.asyncio.Redis.from_url(url, **times)


def _sentinel(make: Any, place: Place) -> Any:
    own = {"socket_timeout": 1, "socket_connect_timeout": 1, "password": place.sentinel_password}
    return make(place.hosts, sentinel_kwargs={**own, **({"ssl": True} if place.tls else {})})


class Cluster(RedisCluster):
    """A client of a Cluster whose failures are all `Unavailable`: redis-py has some that are no RedisError."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error

    def pipeline(self, transaction: bool | None = None, shard_hint: Any = None) -> ClusterPipeline:
        made: ClusterPipeline = super().pipeline(transaction, shard_hint)  # type: ignore[no-untyped-call]
        made.__class__ = _Pipeline
        return made


class _Pipeline(ClusterPipeline):
    def execute(self, raise_on_error: bool = True) -> list[Any]:
        try:
            return list(super().execute(raise_on_error))
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error


def tenant_key(tenant_id: uuid.UUID | str, *parts: str) -> str:
    return ":".join(("t", str(tenant_id), *parts))


# --- Django's cache ------------------------------------------------------------------------------------------


class _CacheClient(RedisCacheClient):
    def get_client(self, key: Any = None, *, write: bool = False) -> Any:
        return client()

    # Several keys may lie on several servers.
    def get_many(self, keys: Any) -> dict[Any, Any]:
        absent = object()
        found = ((key, self.get(key, absent)) for key in keys)
        return {key: value for key, value in found if value is not absent}

    def set_many(self, data: Any, timeout: Any) -> None:
        for key, value in data.items():
            self.set(key, value, timeout)


class ValkeyCache(RedisCache):
    """Django's cache over the process's one client."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = _CacheClient
