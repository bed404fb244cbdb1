"""Database connections: looked at once a second, not once a request, and replaced when they are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import psycopg2
import pytest
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection, connections

from config.postgres import base
from tenants.scope import tenant_scope
from tests.waiting import Clock


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """The outcome of each check from now on, on a connection of its own."""
    found: list[bool] = []

    def is_usable(wrapper: base.DatabaseWrapper) -> bool:
        found.append(super(base.DatabaseWrapper, wrapper).is_usable())
        return found[-1]

    connection.close()
    # Whatever used this wrapper before may have looked within the last second.
    connections["default"]._checked_at = float("-inf")
    monkeypatch.setattr(base.DatabaseWrapper, "is_usable", is_usable, raising=False)
    yield found
    connection.close()


def serve(party, meanwhile: Callable[[], None] = lambda: None) -> None:
    """What one request does with its thread's connection."""
    close_old_connections()
    with tenant_scope(party.id):
        ask()
        meanwhile()
    close_old_connections()


def ask() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def kill() -> None:
    """End the server's side of this thread's connection, as a restart of the server does."""
    victim = connection.connection.get_backend_pid()
    other = psycopg2.connect(_url())
    try:
        with other, other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [victim])
    finally:
        other.close()


def _url() -> str:
    chosen = settings.DATABASES["default"]
    where = f"{chosen['HOST']}:{chosen['PORT']}/{chosen['NAME']}"
    return f"postgres://{chosen['USER']}:{chosen['PASSWORD']}@{where}"


def test_many_requests_are_one_check(party, checks: list[bool]) -> None:
    for _ in range(10):
        serve(party)
    assert checks == [True]


def test_no_check_falls_into_a_long_transaction(party, checks, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(0.0)
    monkeypatch.setattr(base, "time", SimpleNamespace(monotonic=clock))
    serve(party)
    clock.move(2)
    serve(party)
    serve(party, meanwhile=lambda: clock.move(2))
    serve(party)
    assert checks == [True, True]


def test_a_lost_connection_fails_one_request_at_most(party, checks: list[bool]) -> None:
    serve(party)
    serve(party)
    kill()
    with pytest.raises(DatabaseError):
        serve(party)
    assert False not in checks
    serve(party)


def test_a_connection_lost_while_nobody_asked_fails_none(
    party, checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(0.0)
    monkeypatch.setattr(base, "time", SimpleNamespace(monotonic=clock))
    serve(party)
    serve(party)
    kill()
    clock.move(2)
    serve(party)
    assert checks[-1] is False
