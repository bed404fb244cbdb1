"""The one connection pool to Valkey, and the rule that every key names its tenant."""

from __future__ import annotations

import uuid
from functools import cache

import redis
from django.conf import settings

Unavailable = redis.RedisError


@cache
def client() -> redis.Redis:
    """A thread-safe client with short time-outs: a dead cache must cost a request milliseconds, not seconds."""
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=1, health_check_interval=15
    )


def tenant_key(tenant_id: uuid.UUID | str, *parts: str) -> str:
    return ":".join(("t", str(tenant_id), *parts))
