"""Slow senders, and what `/healthz` and a tenant's search take idle and beside them.

The senders announce a body and then send a byte each two seconds: small ones without a key and large ones with one,
beyond what a workspace may have. Both latencies are measured in one run.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import requests

DROP_S = 2.0
# What p99 beside them may be of the idle one, and what a machine of two cores adds to anything.
FACTOR, FLOOR_MS = 2.0, 5.0


@contextmanager
def slow_senders(base_url: str, key: str, dataset: str, count: int) -> Iterator[list[socket.socket]]:
    """So many connections, half of them with a key; a new one for each that is ended."""
    url = urlsplit(base_url)
    small = f"POST /api/v1/search HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: 60000\r\n\r\n"
    large = (
        f"POST /api/v1/datasets/{dataset}/assets HTTP/1.1\r\nHost: {url.netloc}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: 10000000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
    )
    heads = [(small if number % 2 else large).encode() for number in range(count)]

    def connect(head: bytes) -> socket.socket:
        connection = socket.create_connection((url.hostname or "", url.port or 80), timeout=10)
        connection.sendall(head)
        return connection

    connections = [connect(head) for head in heads]
    done = threading.Event()

    def drip() -> None:
        while not done.wait(DROP_S):
            for number, connection in enumerate(connections):
                try:
                    connection.sendall(b"x")
                except OSError:
                    connection.close()
                    connections[number] = connect(heads[number])

    dripping = threading.Thread(target=drip, daemon=True)
    dripping.start()
    try:
        yield connections
    finally:
        done.set()
        dripping.join()
        for connection in connections:
            connection.close()


def latencies(ask: Callable[[], requests.Response], count: int) -> list[float]:
    """Milliseconds of each, one after the other."""
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        ask().raise_for_status()
        took.append((time.perf_counter() - begun) * 1000)
    return sorted(took)


def measure(
    base_url: str, key: str, dataset: str, *, senders: int, count: int
) -> dict[str, dict[str, float]]:
    """p50 and p99 in ms of both addresses, idle and beside the senders, and the ratio of the two p99."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key}"
    answer = session.post(f"{base_url}/api/v1/search", json={"text": "anything"}, timeout=30).json()
    vector = [1.0] + [0.0] * (answer["model"]["dimension"] - 1)
    asks = {
        "/healthz": lambda: session.get(f"{base_url}/healthz", timeout=30),
        "/search": lambda: session.post(f"{base_url}/api/v1/search", json={"vector": vector}, timeout=30),
    }
    found: dict[str, dict[str, float]] = {}
    for ask in asks.values():
        latencies(ask, 20)
    idle = {name: latencies(ask, count) for name, ask in asks.items()}
    with slow_senders(base_url, key, dataset, senders):
        time.sleep(1)
        beside = {name: latencies(ask, count) for name, ask in asks.items()}
    for name in asks:
        found[name] = {
            "idle_p50_ms": round(statistics.median(idle[name]), 2),
            "beside_p50_ms": round(statistics.median(beside[name]), 2),
            "idle_p99_ms": round(p99(idle[name]), 2),
            "beside_p99_ms": round(p99(beside[name]), 2),
            "ratio": round(p99(beside[name]) / p99(idle[name]), 2),
        }
    return found


def p99(took: list[float]) -> float:
    return took[min(len(took) - 1, int(len(took) * 0.99))]


def is_kept(found: dict[str, dict[str, float]], floor_ms: float = FLOOR_MS) -> bool:
    return all(row["beside_p99_ms"] <= FACTOR * row["idle_p99_ms"] + floor_ms for row in found.values())
