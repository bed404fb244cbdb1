"""Valkey as broker, cache and counter."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from standalone.doctor.findings import Check, Finding, Options, fail, ok, warn
from tenants import broker
from tenants.valkey import Cluster, client

MIN_MAJOR = 7
FULL = 0.9


def reachable(options: Options) -> Finding:
    said = _info("server")
    version = str(said.get("valkey_version") or said["redis_version"])
    if int(version.split(".")[0]) < MIN_MAJOR:
        return warn(f"version {version} is not tested", "Use Valkey 8 or newer, or Redis 7.")
    return ok(version)


def memory(options: Options) -> Finding:
    """What it evicts are usage counters, and messages where it is the broker."""
    said = _info("memory")
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
    said = _info("persistence")
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


def answers(options: Options) -> Finding:
    return ok(broker.check())


def _info(section: str) -> dict[str, Any]:
    """Of one server: of the broker if it is one, else of the cache; of a Cluster the fullest."""
    store = client() if broker.is_amqp(settings.BROKER_URL) else broker.lists()
    said: dict[str, Any] = store.info(section)
    if isinstance(store, Cluster):
        nodes: list[dict[str, Any]] = list(said.values())
        return max(nodes, key=lambda node: int(node.get("used_memory", 0)))
    return said


CHECKS = (
    Check(
        "valkey", reachable, advice="Is Valkey running, and is REDIS_URL right? See $DATA_DIR/log/valkey.log."
    ),
    Check("broker", answers, advice="Does the broker answer, and is BROKER_URL right?"),
    Check("valkey-memory", memory, needs="valkey"),
    Check("valkey-persistence", persistence, needs="valkey"),
)
