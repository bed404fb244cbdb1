"""A client that costs next to nothing: one kept connection, requests made beforehand, answers parsed afterwards."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from _stack import _family, _spent
from numpy.typing import NDArray

from standalone.stack import Stack

TIMEOUT_S = 60.0


class SectionFailed(RuntimeError):
    """A section cannot say anything, and why: the others go on."""


class Wire:
    """HTTP/1.1 on one connection. `send` blocks until the whole answer is there."""

    def __init__(self, base_url: str) -> None:
        where = urlsplit(base_url)
        self.host = f"{where.hostname}:{where.port}"
        self._socket = socket.create_connection((where.hostname, where.port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body."""
        self._socket.sendall(request)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        size = _length(data[:end].lower())
        while len(data) < end + 4 + size:
            data += self._more()
        return int(data[9:12]), data[end + 4 :]

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise SectionFailed("The web process closed the connection.")
        return data

    def close(self) -> None:
        self._socket.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    if head[9:12] == b"204":
        return 0
    raise SectionFailed(f"An answer without a length: {head[:200]!r}")


def message(host: str, method: str, path: str, key: str = "", body: Any = None, **headers: str) -> bytes:
    """A request as bytes; `body` goes as JSON."""
    content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(content)}"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    lines += ["Content-Type: application/json"] if content else []
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def vector_body(vector: NDArray[np.float32], **more: Any) -> dict[str, Any]:
    # Seven digits, as float32 has them.
    return {"vector": [float(f"{value:.7g}") for value in vector], "top_k": 10, **more}


@dataclass
class Run:
    """Searches one after the other: milliseconds and bodies of each, processor time of the web process."""

    walls_ms: NDArray[np.float64]
    bodies: list[bytes]
    cpu_s: float

    @property
    def p50(self) -> float:
        return float(np.percentile(self.walls_ms, 50))

    @property
    def p99(self) -> float:
        return float(np.percentile(self.walls_ms, 99))

    @property
    def cpu_ms(self) -> float:
        """Of the web process, a search."""
        return self.cpu_s * 1000 / len(self.walls_ms)

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]

    def rows(self) -> list[list[int]]:
        """The row numbers that the results have as their external ids; -1 for what was not loaded as a row."""
        return [[row_of(hit) for hit in answer["results"]] for answer in self.answers()]

    def figures(self) -> dict[str, float]:
        return {
            "searches": len(self.walls_ms),
            "p50_ms": round(self.p50, 3),
            "p99_ms": round(self.p99, 3),
            "web_cpu_ms": round(self.cpu_ms, 3),
        }


def row_of(hit: dict[str, Any]) -> int:
    name = hit["asset"]["external_id"] or ""
    return int(name) if name.isdecimal() else -1


def measure(stack: Stack, requests: Sequence[bytes], pause_s: float = 0.0) -> Run:
    """Send these one after the other. Raises SectionFailed at the first that is not answered with 200."""
    wire, walls, bodies = Wire(stack.base_url), [], []
    cpu = web_cpu(stack)
    for request in requests:
        start = time.perf_counter()
        status, body = wire.send(request)
        walls.append((time.perf_counter() - start) * 1000)
        if status != 200:
            raise SectionFailed(f"answered {status}: {body[:300].decode('utf-8', 'replace')}")
        bodies.append(body)
        if pause_s:
            time.sleep(pause_s)
    run = Run(np.array(walls), bodies, web_cpu(stack) - cpu)
    wire.close()
    return run


def web_cpu(stack: Stack) -> float:
    """Seconds that the web process and its children have spent so far."""
    return sum(_spent(process) for process in _family(stack.pid("web")))
