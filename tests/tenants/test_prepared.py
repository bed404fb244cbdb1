"""Prepared statements: the tenant of the moment, whatever the plan; new connections; rolled back transactions."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

from tenants.datasets.services import create_dataset
from tenants.prepared import Prepared
from tenants.scope import TenantMismatch, operator_scope, tenant_scope

# Without a condition on the tenant: row-level security alone decides.
NAMES = Prepared("test_names", ("text",), "SELECT name FROM dataset WHERE name LIKE $1 || '%%' ORDER BY name")
HALF = Prepared("test_half", ("int", "int"), "SELECT $2 / $1, $1")


@pytest.fixture(params=[True, False], ids=["prepared", "plain"])
def way(request, settings) -> None:
    settings.PREPARED_STATEMENTS = request.param


def names(party) -> list[str]:
    with tenant_scope(party.id):
        return [name for (name,) in NAMES.rows("d")]


@pytest.mark.usefixtures("way")
def test_one_connection_serves_many_tenants_and_no_row_crosses(party, stranger) -> None:
    for owner, name in ((party, "d-mine"), (stranger, "d-theirs")):
        with tenant_scope(owner.id):
            create_dataset(name=name)
    # More often than Postgres plans for the parameters of one call.
    for _ in range(8):
        assert (names(party), names(stranger)) == (["d-mine"], ["d-theirs"])
    assert NAMES.rows("d") == []


def test_a_role_that_sees_all_changes_nothing_for_the_others(party, stranger) -> None:
    for owner in (party, stranger):
        with tenant_scope(owner.id):
            create_dataset(name=f"d-{owner.tenant.slug}")
    for _ in range(8):
        assert len(names(party)) == 1
        with operator_scope("a test"):
            assert len(NAMES.rows(f"d-{stranger.tenant.slug}")) == 1


@pytest.mark.usefixtures("way")
def test_parameters_may_come_in_any_order_and_more_than_once() -> None:
    assert HALF.rows(2, 8) == [(4, 2)]


def test_it_is_prepared_once_for_each_connection(party) -> None:
    for _ in range(2):
        connection.close()
        with CaptureQueriesContext(connection) as queries:
            assert HALF.rows(1, 1) == HALF.rows(1, 1)
        assert ["PREPARE" in query["sql"] for query in queries] == [True, False, False]


def test_a_failure_before_and_after_it_is_prepared(party) -> None:
    connection.close()
    for _ in range(3):
        with pytest.raises(DatabaseError), tenant_scope(party.id):
            HALF.rows(0, 1)
    with tenant_scope(party.id):
        assert HALF.rows(1, 5) == [(5, 1)]


# --- A transaction of its own ---


@pytest.mark.usefixtures("way")
def test_alone_it_sees_one_tenant_and_leaves_none_behind(party, stranger) -> None:
    for owner, name in ((party, "d-mine"), (stranger, "d-theirs")):
        with tenant_scope(owner.id):
            create_dataset(name=name)
    for _ in range(8):
        assert NAMES.rows_of(party.id, "d") == [("d-mine",)]
        assert NAMES.rows("d") == []
        assert NAMES.rows_of(stranger.id, "d") == [("d-theirs",)]
        assert NAMES.rows("d") == []
    assert not connection.in_atomic_block


def test_alone_it_is_one_round_trip(party) -> None:
    NAMES.rows_of(party.id, "d")
    with CaptureQueriesContext(connection) as queries:
        NAMES.rows_of(party.id, "d")
    assert len(queries) == 1


def test_alone_it_joins_an_open_scope_and_no_other_tenants(party, stranger) -> None:
    with tenant_scope(party.id):
        create_dataset(name="d-new")
        assert NAMES.rows_of(party.id, "d") == [("d-new",)]
        with pytest.raises(TenantMismatch):
            NAMES.rows_of(stranger.id, "d")
        assert NAMES.rows("d") == [("d-new",)]


def test_alone_a_failure_leaves_nothing_behind(party) -> None:
    with pytest.raises(DatabaseError):
        HALF.rows_of(party.id, 0, 1)
    assert HALF.rows_of(party.id, 1, 1) == [(1, 1)]
    assert NAMES.rows("d") == []
