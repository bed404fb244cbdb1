"""The connection pool that all threads share."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest

from tenants import valkey
from tests.waiting import PATIENCE_S, pause


def test_the_first_requests_get_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two clients one would be collected at once, with the connections that its user reads from."""
    made: list[Any] = []
    together = threading.Barrier(8)

    def slowly() -> object:
        made.append(object())
        pause(0.05, "others come meanwhile")
        return made[-1]

    def ask(_: int) -> object:
        together.wait(PATIENCE_S)
        return valkey.client()

    monkeypatch.setattr(valkey, "_client", cache(slowly))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(8)))
    assert len(made) == 1
    assert all(one is made[0] for one in found)
