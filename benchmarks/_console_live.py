"""Two hundred people watch jobs of several tenants: each is told every change, and pages answer meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import requests
from _console_world import World, world
from _report import Line, at_least, at_most, sized
from _stack import memory_mb

LISTENERS, STEPS, EVERY_S = sized(200, 3), sized(10, 2), sized(1.0, 0.2)
#: From the change in the database to the listener.
LATE_MS = 1_000


def run() -> list[Line]:
    with world() as all_of_it:
        keys = [*(entry["api_key"] for entry in all_of_it.stack.demo["tenants"]), *_keys(all_of_it)]
        return asyncio.run(_watch(all_of_it, keys))


def _keys(all_of_it: World) -> list[str]:
    given = {"tenants": [tenant["tenant"] for tenant in all_of_it.tenants.values()]}
    return list(all_of_it.run("_console_jobs", {"do": "keys", **given})["keys"])


async def _watch(all_of_it: World, keys: list[str]) -> list[Line]:
    stack = all_of_it.stack
    begun = await asyncio.to_thread(all_of_it.run, "_console_jobs", {"do": "begin", "keys": keys})
    jobs = begun["jobs"]
    alone = await asyncio.to_thread(_request_ms, stack.base_url, keys[0])
    before = memory_mb(stack, "web")
    heard: list[list[tuple[float, int]]] = [[] for _ in range(LISTENERS)]
    watching = [
        asyncio.create_task(_listen(stack.base_url, keys[n % len(keys)], jobs[n % len(keys)], heard[n]))
        for n in range(LISTENERS)
    ]
    await asyncio.sleep(sized(5, 0.5))
    held = memory_mb(stack, "web")
    stepping = asyncio.create_task(asyncio.to_thread(_step, all_of_it, keys, jobs))
    busy = await asyncio.to_thread(_request_ms, stack.base_url, keys[0])
    said = await stepping
    await asyncio.wait(watching, timeout=30)
    return _lines(heard, said["at"], (alone, busy), (before, held))


def _step(all_of_it: World, keys: list[str], jobs: list[str]) -> dict[str, Any]:
    given = {"keys": keys, "jobs": jobs, "steps": STEPS, "every_s": EVERY_S}
    return all_of_it.run("_console_jobs", {"do": "step", **given})


async def _listen(base_url: str, key: str, job: str, heard: list[tuple[float, int]]) -> None:
    """When each state of progress came, over one connection, until the job has ended."""
    where = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    head = f"GET /api/v1/jobs/{job}/events HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {key}\r\n\r\n"
    writer.write(head.encode())
    # The answer is sent in chunks of whole events, so that their lines stand alone.
    while line := await reader.readline():
        if line.startswith(b"data: "):
            told = json.loads(line[6:])
            heard.append((time.time(), int(told["progress"]["done"])))
            if told["state"] == "succeeded":
                break
    writer.close()


def _request_ms(base_url: str, key: str) -> float:
    """Of a light request, in milliseconds; twenty in turn."""
    took = []
    for _ in range(sized(20, 2)):
        start = time.perf_counter()
        address, headers = f"{base_url}/api/v1/jobs?limit=10", {"Authorization": f"Bearer {key}"}
        requests.get(address, headers=headers, timeout=30).raise_for_status()
        took.append((time.perf_counter() - start) * 1000)
        time.sleep(sized(0.3, 0))
    return median(took)


def _lines(
    heard: list[list[tuple[float, int]]],
    said: dict[str, float],
    request_ms: tuple[float, float],
    memory: tuple[float, float],
) -> list[Line]:
    """`said`: when each state of progress was written, by its number."""
    complete = sum({done for _, done in one} >= set(map(int, said)) for one in heard)
    late = [at - said[str(done)] for one in heard for at, done in one if str(done) in said]
    ends = Counter(one[-1][1] if one else -1 for one in heard)
    return [
        at_least(
            f"of {LISTENERS} listeners in 4 tenants, told every one of {len(said)} changes",
            complete,
            LISTENERS,
        ),
        at_least("… told the end", ends[STEPS], LISTENERS),
        at_most("from the change to the listener, median", median(late) * 1000, LATE_MS),
        at_most("… the latest", max(late) * 1000, 5 * LATE_MS),
        Line("web process resident (PSS), before", memory[0], "MB"),
        Line("… grown by the listeners", memory[1] - memory[0], "MB"),
        Line("a light request, nobody listening, median", request_ms[0], "ms"),
        Line("… with the listeners, changes every second", request_ms[1], "ms"),
    ]
