"""Valkey behind Sentinels, by `sentinel://`: after a failover the new primary is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from standalone.ports import free_port
from tenants import valkey
from tests.valkey_servers import Server, heard, started, used
from tests.waiting import answers, until

pytestmark = pytest.mark.timeout(600)


@dataclass
class Group:
    url: str
    primary: Server
    replica: Server


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    """A primary, its replica, and the Sentinel that watches them."""
    first, second, watching = free_port(), free_port(), free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"sentinel monitor main 127.0.0.1 {first} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
    )
    with (
        started(tmp_path / "first", first) as primary,
        started(tmp_path / "second", second, "--replicaof", f"127.0.0.1 {first}") as replica,
        started(tmp_path / "watching", watching, str(config), "--sentinel") as sentinel,
    ):
        until(lambda: replica.client.info("replication")["master_link_status"] == "up")
        until(lambda: _replicas(sentinel) == 1)
        gone = f"127.0.0.1:{free_port()}"
        yield Group(f"sentinel://{gone},127.0.0.1:{watching}/0?service=main", primary, replica)


def _replicas(sentinel: Server) -> int:
    return int(sentinel.client.sentinel_master("main")["num-slaves"])


def test_after_a_failover_the_new_primary_isused(group: Group, settings: Any) -> None:
    served = used(group.url, settings)
    client = next(served)
    client.set("kept", b"1")
    until(lambda: group.replica.client.get("kept") == b"1")
    group.primary.kill()
    until(answers(lambda: client.set("after", b"2"), valkey.Unavailable))
    assert group.replica.client.get("after") == b"2"
    assert client.get("kept") == b"1"
    assert asyncio.run(heard(lambda: client.publish("said", "x")))
    next(served, None)
