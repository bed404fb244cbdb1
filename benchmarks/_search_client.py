"""A process that keeps several connections busy: `python _search_client.py URL CONNECTIONS SECONDS FILE`.

FILE has requests, each behind its length in four bytes; they are sent in turn, a connection's next as soon as its
answer is there. Prints JSON: answers, those that were not 200, those that say `cache: hit`, seconds, own cpu seconds.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit


def write_requests(path: Path, requests: list[bytes]) -> None:
    path.write_bytes(b"".join(struct.pack(">I", len(one)) + one for one in requests))


def read_requests(path: Path) -> Iterator[bytes]:
    data, at = path.read_bytes(), 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


class Connection:
    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data, self._end, self._size = b"", -1, 0

    def send(self, request: bytes) -> None:
        self._data, self._end = b"", -1
        self.socket.sendall(request)

    def receive(self) -> bytes | None:
        """The whole answer once it is there."""
        got = self.socket.recv(1 << 18)
        if not got:
            raise ConnectionError("the server closed the connection")
        self._data += got
        if self._end < 0 and (end := self._data.find(b"\r\n\r\n")) >= 0:
            at = self._data.lower().index(b"content-length:") + 15
            self._end, self._size = end + 4, int(self._data[at : self._data.index(b"\r\n", at)])
        whole = self._end >= 0 and len(self._data) >= self._end + self._size
        return self._data if whole else None


def run(url: str, connections: int, seconds: float, path: Path) -> dict[str, float]:
    where, ready = urlsplit(url), selectors.DefaultSelector()
    requests = cycle(list(read_requests(path)))
    for _ in range(connections):
        connection = Connection(where.hostname or "", where.port or 80)
        ready.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(next(requests))
    found = {"answers": 0, "failed": 0, "hits": 0}
    start = time.monotonic()
    while (now := time.monotonic()) < start + seconds:
        for key, _ in ready.select(1):
            answer = key.data.receive()
            if answer is not None:
                found["answers"] += 1
                found["failed"] += answer[9:12] != b"200"
                found["hits"] += b'"cache":"hit"' in answer
                key.data.send(next(requests))
    return {**found, "seconds": now - start, "cpu_s": time.process_time()}


if __name__ == "__main__":
    _, url, connections, seconds, path = sys.argv
    sys.stdout.write(json.dumps(run(url, int(connections), float(seconds), Path(path))))
