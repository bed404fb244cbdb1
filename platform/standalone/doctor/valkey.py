"""Valkey as broker, cache and counter."""

from __future__ import annotations

from typing import Any

import redis
from django.conf import settings

from standalone.doctor.findings import Check, Finding, Options, fail, ok, warn
from tenants.valkey import client

MIN_MAJOR = 7
FULL = 0.9


def reachable(options: Options) -> Finding:
    said: dict[str, Any] = client().info("server")
    version = str(said.get("valkey_version") or said["redis_version"])
    if settings.BROKER_URL != settings.REDIS_URL:
        redis.Redis.from_url(settings.BROKER_URL, socket_timeout=2, socket_connect_timeout=2).ping()
    if int(version.split(".")[0]) < MIN_MAJOR:
        return warn(f"version {version} is not tested", "Use Valkey 8 or newer, or Redis 7.")
    return ok(version)


def memory(options: Options) -> Finding:
    """Of the broker: what it evicts are messages."""
    said: dict[str, Any] = _broker().info("memory")
    policy, limit, used = said["maxmemory_policy"], said["maxmemory"], said["used_memory"]
    if policy.startswith("allkeys-"):
        return fail(
            f"maxmemory-policy is {policy}: queued messages and usage counters may be thrown away",
            "Set maxmemory-policy to volatile-lru (or noeviction).",
        )
    if limit and used > FULL * limit:
        return warn(
            f"{used / limit:.0%} of {limit >> 20} MB are used", "Raise VALKEY_MAXMEMORY or maxmemory."
        )
    return ok(f"{policy}, {used >> 20} MB used of {f'{limit >> 20} MB' if limit else 'no limit'}")


def persistence(options: Options) -> Finding:
    said: dict[str, Any] = _broker().info("persistence")
    if not said["aof_enabled"]:
        return warn(
            "no append-only file: a restart loses usage that is not flushed, and messages until they are sent again",
            "Set appendonly to yes.",
        )
    if said["aof_last_write_status"] != "ok":
        return fail(
            "the append-only file cannot be written", "Make room on its disk; see $DATA_DIR/log/valkey.log."
        )
    return ok("append-only file")


def _broker() -> Any:
    return redis.Redis.from_url(settings.BROKER_URL, socket_timeout=2, socket_connect_timeout=2)


CHECKS = (
    Check(
        "valkey", reachable, advice="Is Valkey running, and is REDIS_URL right? See $DATA_DIR/log/valkey.log."
    ),
    Check("valkey-memory", memory, needs="valkey"),
    Check("valkey-persistence", persistence, needs="valkey"),
)
