"""Isolation, as the application's own role on the real database, committed and not rolled back."""

from __future__ import annotations

import threading
import uuid

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction

from tenants import scope
from tenants.datasets.models import Asset, Blob, Dataset
from tenants.datasets.services import create_dataset
from tenants.scope import (
    NoTenantScope,
    TenantForeignKey,
    TenantMismatch,
    TenantModel,
    current_tenant_id,
    operator_scope,
    tenant_scope,
)
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.guard

TENANT_MODELS = [model for model in apps.get_models() if issubclass(model, TenantModel)]


def _sql(statement: str, *parameters: object) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def test_the_application_role_is_bound_by_row_level_security() -> None:
    row = _sql("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
    assert row == [(False, False)]
    assert _sql(
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user"
    ) == [(0,)]


@pytest.mark.parametrize("model", TENANT_MODELS, ids=lambda model: model.__name__)
def test_every_tenant_table_has_a_forced_policy(model: type[TenantModel]) -> None:
    table = model._meta.db_table
    flags = _sql("SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = %s::regclass", table)
    assert flags == [(True, True)]
    policies = _sql(
        "SELECT policyname, permissive, cmd, qual = with_check FROM pg_policies WHERE tablename = %s", table
    )
    permissive = [policy for policy in policies if policy[1] == "PERMISSIVE"]
    assert permissive == [("tenant_isolation", "PERMISSIVE", "ALL", True)]
    # What else there is takes rows away (tests/tenants/test_narrowing.py).
    assert {cmd for _, _, cmd, _ in policies} == {"ALL"}


@pytest.mark.parametrize("model", TENANT_MODELS, ids=lambda model: model.__name__)
def test_every_reference_within_a_tenant_is_composite(model: type[TenantModel]) -> None:
    table = model._meta.db_table
    found = {
        name for (name,) in _sql("SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass", table)
    }
    wanted = {
        f"{table}_{field.column}_tenant_fk"
        for field in model._meta.local_fields
        if isinstance(field, TenantForeignKey)
    }
    assert wanted <= found
    plain = [
        field.name
        for field in model._meta.local_fields
        if field.remote_field and isinstance(field.remote_field.model, type)
        if issubclass(field.remote_field.model, TenantModel) and not isinstance(field, TenantForeignKey)
    ]
    assert plain == []


def test_every_table_with_a_tenant_is_a_tenant_model_or_known_to_be_global() -> None:
    named = {
        table
        for (table,) in _sql(
            "SELECT table_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND column_name = 'tenant_id'"
        )
    }
    scoped = {model._meta.db_table for model in TENANT_MODELS}
    known = {
        "invitation",
        "membership",
        "key_digest",
        "job_dispatch",
        "job_turn",
        "webhook_due",
        "webhook_lane",
        # What a role of a tenant's own may do, read at log-in.
        "custom_role",
        # Where an address signs in, before there is a scope.
        "sign_on_connection",
        # Tokens of identity providers, looked up like keys.
        "provisioning_token",
        "sign_on_domain",
        # From where it is opened, read before that.
        "tenant_security",
        # How far the stream of each tenant's audit log has come: numbers of lines, for upkeep across tenants.
        "stream_position",
    }
    # Keys of the installation and of tenants, sealed.
    known |= {"installation_secret"}
    # The operators': who acts where, and for whom a feature is on.
    known |= {"acting", "flag_tenant", "operator_request"}
    # What tenants ask operators for, and letters that upkeep sends for all of them.
    known |= {"plan_request", "letter"}
    assert named - scoped == known


def test_a_query_outside_a_scope_raises() -> None:
    with pytest.raises(NoTenantScope):
        Dataset.objects.count()
    with pytest.raises(NoTenantScope):
        current_tenant_id()


def test_raw_sql_outside_a_scope_sees_nothing(party) -> None:
    with tenant_scope(party.id):
        create_dataset(name="mine")
        assert _sql("SELECT count(*) FROM dataset") == [(1,)]
    assert _sql("SELECT count(*) FROM dataset") == [(0,)]


def test_raw_sql_in_a_scope_sees_only_its_tenant(party, stranger) -> None:
    for owner in (party, stranger):
        with tenant_scope(owner.id):
            create_dataset(name="mine")
    with tenant_scope(stranger.id):
        assert _sql("SELECT DISTINCT tenant_id FROM dataset") == [(stranger.id,)]


def test_the_setting_does_not_leak_through_the_pooled_connection(party) -> None:
    with tenant_scope(party.id):
        create_dataset(name="mine")
    with transaction.atomic():
        assert _sql("SELECT NULLIF(current_setting('app.tenant', true), '')") == [(None,)]
        with tenant_scope(party.id):
            assert _sql("SELECT count(*) FROM dataset") == [(1,)]
        assert _sql("SELECT count(*) FROM dataset") == [(0,)]


def test_the_setting_does_not_leak_after_an_error(party) -> None:
    with transaction.atomic():
        with pytest.raises(RuntimeError), tenant_scope(party.id):
            raise RuntimeError
        assert _sql("SELECT count(*) FROM dataset") == [(0,)]


def test_a_scope_nests_for_the_same_tenant_only(party, stranger) -> None:
    with tenant_scope(party.id):
        with tenant_scope(str(party.id)):
            assert current_tenant_id() == party.id
        assert current_tenant_id() == party.id
        with pytest.raises(TenantMismatch), tenant_scope(stranger.id):
            pass
        with pytest.raises(TenantMismatch), operator_scope("nested"):
            pass
        assert current_tenant_id() == party.id


def test_a_row_of_another_tenant_cannot_be_written(party, stranger) -> None:
    with tenant_scope(party.id):
        with pytest.raises(TenantMismatch):
            Dataset(name="theirs", tenant_id=stranger.id).save()
        with pytest.raises(DatabaseError, match="row-level security"), transaction.atomic():
            _sql(
                "INSERT INTO dataset (id, tenant_id, name, description, metadata_schema, created_at) "
                "VALUES (%s, %s, 'theirs', '', '{}', now())",
                uuid.uuid4(),
                stranger.id,
            )
    with tenant_scope(stranger.id):
        assert Dataset.objects.count() == 0


def test_a_reference_to_another_tenants_row_is_refused_by_the_database(party, stranger) -> None:
    with tenant_scope(stranger.id):
        theirs = create_dataset(name="theirs")
    with pytest.raises(IntegrityError), tenant_scope(party.id):
        blob = Blob.objects.create(sha256="0" * 64, bytes=1, media_type="text/plain")
        Asset.objects.create(dataset_id=theirs.id, blob=blob, modality="text")
    with tenant_scope(party.id):
        assert Asset.objects.count() == 0
        assert Blob.objects.count() == 0


def test_update_and_delete_do_not_reach_another_tenant(party, stranger) -> None:
    with tenant_scope(stranger.id):
        theirs = create_dataset(name="theirs")
    with tenant_scope(party.id):
        assert Dataset.objects.filter(pk=theirs.pk).update(name="taken") == 0
        _sql("UPDATE dataset SET name = 'taken'")
        _sql("DELETE FROM dataset")
    with tenant_scope(stranger.id):
        assert Dataset.objects.get(pk=theirs.pk).name == "theirs"


def test_equal_names_do_not_tell_about_another_tenant(party, stranger) -> None:
    for owner in (party, stranger):
        with tenant_scope(owner.id):
            assert create_dataset(name="the same name").name == "the same name"


def test_the_operator_sees_all_tenants_and_it_is_logged(party, stranger, caplog) -> None:
    for owner in (party, stranger):
        with tenant_scope(owner.id):
            create_dataset(name="seen by the operator")
    with caplog.at_level("INFO", logger="tenants.scope"), operator_scope("counting"):
        owners = set(Dataset.objects.filter(name="seen by the operator").values_list("tenant_id", flat=True))
    assert {party.id, stranger.id} <= owners
    assert any(record.reason == "counting" for record in caplog.records)
    assert _sql("SELECT session_user") == [("crosslight_app",)]


def test_the_operators_transaction_is_its_own(party) -> None:
    """What is done in it is undone with it, wherever Django's connection is asked for; callbacks come after it."""
    seen: list[object] = []
    with pytest.raises(RuntimeError), operator_scope("a test"):
        Dataset.objects.create(tenant_id=party.id, name="undone")
        transaction.on_commit(lambda: seen.append("never"))
        raise RuntimeError
    with operator_scope("a test"):
        with pytest.raises(RuntimeError), transaction.atomic():
            Dataset.objects.create(tenant_id=party.id, name="undone, too")
            raise RuntimeError
        kept = Dataset.objects.create(tenant_id=party.id, name="kept")
        assert _sql("SELECT session_user, current_user") == [("crosslight_operator", "crosslight_operator")]
        transaction.on_commit(lambda: seen.extend(_sql("SELECT session_user")))
        assert seen == []
    assert seen == [("crosslight_app",)]
    # Rows from there are looked after by the application's role again.
    assert kept._state.db == "default"
    with tenant_scope(party.id):
        assert [row.name for row in Dataset.objects.all()] == ["kept"]


def test_the_operators_transaction_is_no_part_of_another(party) -> None:
    with (
        transaction.atomic(),
        pytest.raises(transaction.TransactionManagementError),
        operator_scope("nested"),
    ):
        pass
    assert _sql("SELECT session_user") == [("crosslight_app",)]


@pytest.mark.services
def test_a_process_has_few_connections_as_the_operator(settings, monkeypatch) -> None:
    monkeypatch.setattr(scope, "OPERATOR_WAIT_S", 0.2)
    held, go = threading.Barrier(settings.OPERATOR_CONNECTIONS + 1), threading.Event()

    def hold() -> None:
        with operator_scope("a test"):
            _sql("SELECT 1")
            held.wait(PATIENCE_S)
            go.wait(PATIENCE_S)

    threads = [threading.Thread(target=hold) for _ in range(settings.OPERATOR_CONNECTIONS)]
    for thread in threads:
        thread.start()
    held.wait(PATIENCE_S)
    with pytest.raises(OperationalError, match="OPERATOR_CONNECTIONS"), operator_scope("one too many"):
        pass
    go.set()
    for thread in threads:
        thread.join()
    for _ in range(2 * settings.OPERATOR_CONNECTIONS):
        with operator_scope("a test"):
            mine = "usename = current_user AND application_name = current_setting('application_name')"
            [(count,)] = _sql(f"SELECT count(*) FROM pg_stat_activity WHERE {mine}")
            assert count <= settings.OPERATOR_CONNECTIONS


@pytest.mark.services
def test_a_process_without_the_operators_role_says_so(settings, monkeypatch) -> None:
    monkeypatch.delitem(settings.DATABASES, "operator")
    with pytest.raises(ImproperlyConfigured, match="OPERATOR_DATABASE_URL"), operator_scope("a test"):
        pass


def test_scopes_of_two_threads_do_not_mix(party, stranger) -> None:
    seen: dict[str, uuid.UUID] = {}
    barrier = threading.Barrier(2)

    def work(name: str, tenant_id: uuid.UUID) -> None:
        with tenant_scope(tenant_id):
            create_dataset(name=name)
            barrier.wait(PATIENCE_S)
            seen[name] = Dataset.objects.get().tenant_id
        connection.close()

    threads = [threading.Thread(target=work, args=(n, p.id)) for n, p in (("a", party), ("b", stranger))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"a": party.id, "b": stranger.id}


def test_platform_is_still_the_standard_librarys() -> None:
    import platform
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    assert platform.system() in {"Linux", "Darwin"}
    assert not (root / "platform" / "__init__.py").exists()
    assert not (root / "tests" / "platform").exists()
