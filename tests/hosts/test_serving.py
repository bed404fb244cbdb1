"""Indexes that one host builds and all serve: published under load, nobody waits and nothing is stale."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from tenants.jobs.models import Job
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.hosts.proxy import Answer, Client, Load, Proxy, WebHost, bearer
from tests.tenants.test_index_lifecycle import Library
from tests.waiting import until

Start = Callable[[dict[str, str]], Proxy]
Tell = Callable[[str], None]
# Without its index nobody is answered: what a host lacks shows.
ENV = {"INDEX_FLAT_MAX": "20", "INDEX_EXACT_MAX": "5"}
ROUNDS = 5


@pytest.fixture
def one_storage(tmp_path: Path) -> Iterator[None]:
    """The folder in which `WebHost.product` keeps files, for this process, too."""
    stored = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(tmp_path / "blobs")},
    }
    with override_settings(STORAGES={"default": stored, "staticfiles": stored}):
        yield


@pytest.fixture
def library(party: Party, one_storage: None, settings: Any) -> Library:
    settings.INDEX_FLAT_MAX = 20
    library = Library(party)
    library.fill(30)
    library.build()
    return library


@pytest.fixture
def hosts(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, WebHost]]:
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    hosts = {name: WebHost.product(name, tmp_path) for name in ("h1", "h2", "h3")}
    try:
        for host in hosts.values():
            host.wait()
        yield hosts
    finally:
        for host in hosts.values():
            host.kill()


class Ledger:
    """What has been acknowledged, and searches that must find it."""

    def __init__(self, library: Library) -> None:
        self.library, self.newest, self.stale = library, 29, 0
        self._lock = threading.Lock()

    def put(self) -> None:
        number = self.newest + 1
        self.library.put(number, values={"n": number})
        self.newest = number

    def ask(self, client: Client, _number: int = 0) -> Answer:
        newest = self.newest
        body = {"text": "anything", "filter": {"n": {"gte": newest}}, "top_k": 200}
        headers = {**bearer(self.library.party.token), "Content-Type": "application/json"}
        answer = client.ask("POST", "/api/v1/search", headers, json.dumps(body).encode())
        if answer.status == 200 and newest not in [
            one["asset"]["metadata"]["n"] for one in answer.json["results"]
        ]:
            with self._lock:
                self.stale += 1
        return answer


def generations_of(folder: Path, name: str, library: Library) -> set[str]:
    """What a host has on its disk."""
    there = folder / name / "data" / "indexes" / str(library.tenant_id)
    return {path.name for path in there.iterdir()} if there.exists() else set()


def has(folder: Path, name: str, library: Library, generation: str) -> bool:
    return generation in generations_of(folder, name, library)


@pytest.mark.timeout(600)
@pytest.mark.proof(2)
def test_an_index_is_published_under_load(
    proxy: Start, hosts: dict[str, WebHost], library: Library, tmp_path: Path, tell: Tell
) -> None:
    ledger = Ledger(library)
    each = {name: Client(int(host.address.split(":")[1])) for name, host in hosts.items()}
    for client in each.values():
        # The first search of a host fetches the index; it may be told to come back.
        until(lambda client=client: ledger.ask(client).status == 200)
    front = proxy({name: host.address for name, host in hosts.items()})
    refused = 0
    with Load(front.port, ledger.ask, 6) as load:
        for _ in range(ROUNDS):
            ledger.put()
            library.build()
            current = str(library.pointer.current_id)
            for name, client in each.items():
                # Fetched ahead, or by a search beside which the one before answers.
                until(partial(has, tmp_path, name, library, current))
                refused += ledger.ask(client).status != 200
            load.reach(30)
    tell(f"2. {ROUNDS} indexes published under load: {load.told()}, stale {ledger.stale}, refused {refused}")
    assert (load.failed, ledger.stale, refused) == (0, 0, 0), load.said
    with tenant_scope(library.tenant_id):
        assert set(Job.objects.filter(kind="build_index").values_list("state", flat=True)) == {"succeeded"}
    # What no pointer names leaves every host's disk.
    pointer = library.pointer
    kept = {str(pointer.current_id), str(pointer.previous_id)}
    for name in hosts:
        until(lambda name=name: generations_of(tmp_path, name, library) <= kept, seconds=90)
