"""Servers of Valkey that tests start, and this process using them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from config.pubsub_listener import PubSubListener
from standalone.valkey import binary
from tenants import valkey
from tests.waiting import PATIENCE_S, answers, until


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=2)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)


@contextmanager
def started(folder: Path, port: int, *arguments: str) -> Iterator[Server]:
    folder.mkdir()
    quiet = ("--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--port", str(port))
    command = [str(binary()), *arguments, *quiet]
    server = Server(port, subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL))
    try:
        until(answers(server.client.ping, redis.ConnectionError, redis.BusyLoadingError))
        yield server
    finally:
        server.kill()


def used(url: str, settings: Any) -> Iterator[Any]:
    settings.REDIS_URL = url
    before = valkey._client
    made = valkey.connect(url)
    valkey._client = lambda: made
    yield made
    valkey._client = before


async def heard(say: Callable[[], object]) -> bool:
    listener = PubSubListener()
    async with listener.subscribe("said") as said:
        await asyncio.wait_for(listener._open.wait(), 20)
        said.clear()
        for _ in range(100):
            await asyncio.to_thread(say)
            try:
                await asyncio.wait_for(said.wait(), 0.2)
            except TimeoutError:
                continue
            return True
    return False
