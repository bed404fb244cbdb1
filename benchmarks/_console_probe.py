"""Opens pages inside a process beside a running stack (`_stack.beside`).

Given `{"user": e-mail, "pages": {name: address}, "rounds": n}` answers by name the status, wall and CPU time of each
round in milliseconds, how many statements went to the database, the bytes of the answer and the slowest statement.
"""

from __future__ import annotations

import time
from typing import Any

from django.db import connection
from django.test import Client

from standalone.stack import Stack
from tenants.accounts.models import User


class Statements:
    """Counts what goes to the database, and keeps the slowest."""

    def __init__(self) -> None:
        self.count, self.slowest_ms, self.slowest = 0, 0.0, ""

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        start = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.count += 1
            took = (time.perf_counter() - start) * 1000
            if took > self.slowest_ms:
                self.slowest_ms, self.slowest = took, str(sql)[:600]


def opened(client: Client, address: str, rounds: int) -> dict[str, Any]:
    # The first fills caches that live as long as the process: templates, addresses.
    client.get(address)
    wall, cpu, queries = [], [], []
    for _ in range(rounds):
        seen = Statements()
        begun, start = time.process_time(), time.perf_counter()
        with connection.execute_wrapper(seen):
            response = client.get(address)
            size = len(response.getvalue() if response.streaming else response.content)
        wall.append((time.perf_counter() - start) * 1000)
        cpu.append((time.process_time() - begun) * 1000)
        # What is kept for seconds is read again now and then: the fewest are those of the page itself.
        queries.append(seen.count)
    return {
        "status": response.status_code, "wall": wall, "cpu": cpu, "queries": min(queries), "bytes": size,
        "slowest_ms": seen.slowest_ms, "slowest": seen.slowest,
    }  # fmt: skip


def main(stack: Stack, asked: dict[str, Any]) -> dict[str, Any]:
    client = Client(SERVER_NAME="127.0.0.1", HTTP_ACCEPT="text/html")
    client.force_login(User.objects.get(email=asked["user"]))
    return {name: opened(client, page, asked["rounds"]) for name, page in asked["pages"].items()}
