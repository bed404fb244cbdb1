"""The one connection pool to Valkey, and the rule that every key names its tenant."""

from __future__ import annotations

import threading
import uuid
from functools import cache
from typing import Any

import redis
from django.conf import settings

Unavailable = redis.RedisError

_lock = threading.Lock()


def client() -> Any:
    """A thread-safe redis.Redis that answers in bytes, which its type stubs cannot tell from str.

    Its time-outs are short: a dead cache must cost a request milliseconds, not seconds.
    """
    # Only one is ever made: of two that the first requests made beside each other one would be collected, and take the
    # connections of its pool away from whoever still reads from them.
    with _lock:
        return _client()


@cache
def _client() -> Any:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=1, health_check_interval=15
    )


def broker() -> Any:
    """A client of the broker, whose lists are its queues; None for a broker of another kind."""
    with _lock:
        return _client() if settings.BROKER_URL == settings.REDIS_URL else _broker()


@cache
def _broker() -> Any:
    try:
        return redis.Redis.from_url(settings.BROKER_URL, socket_timeout=2, socket_connect_timeout=1)
    except ValueError:
        return None


def tenant_key(tenant_id: uuid.UUID | str, *parts: str) -> str:
    return ":".join(("t", str(tenant_id), *parts))
