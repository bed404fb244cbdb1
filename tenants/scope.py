"""Tenancy: the only module that knows row-level security.

A tenant's rows are visible only inside `tenant_scope(id)`: one transaction in which PostgreSQL itself filters
every statement (forced row-level security on the setting `app.tenant`). Managers refuse to query outside a
scope, so a forgotten scope is an error and never a leak.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from queue import Empty, LifoQueue
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections, models, transaction
from django.db.migrations import RunSQL
from django.db.migrations.operations.base import Operation
from uuid_utils.compat import uuid7

from tenants import observe

log = logging.getLogger(__name__)

_REVOKE = """
DO $$
DECLARE line record;
BEGIN
    FOR line IN
        SELECT DISTINCT g.grantee, g.table_name FROM information_schema.role_table_grants g
        JOIN pg_roles r ON r.rolname = g.grantee
        JOIN pg_tables t ON t.schemaname = g.table_schema AND t.tablename = g.table_name
        WHERE g.table_schema = 'public' AND g.privilege_type IN ('UPDATE', 'DELETE') AND g.table_name IN (%s)
          AND NOT r.rolbypassrls AND NOT r.rolsuper AND g.grantee <> t.tableowner
    LOOP
        EXECUTE format('REVOKE UPDATE, DELETE ON %%I FROM %%I', line.table_name, line.grantee);
    END LOOP;
END $$
"""

# The scope, and the alias of its database role in DATABASES.
OPERATOR = "operator"
# How long a thread waits for one of its process's connections as the operator's role.
OPERATOR_WAIT_S = 10.0
_active: ContextVar[uuid.UUID | str | None] = ContextVar("tenant_scope", default=None)


class NoTenantScope(RuntimeError):
    """A tenant's table was used outside `tenant_scope` and `operator_scope`."""


class TenantMismatch(RuntimeError):
    """A scope was opened, or a row saved, for another tenant than the active one."""


def current_tenant_id() -> uuid.UUID:
    """The tenant of the active scope. Raises NoTenantScope where there is none."""
    active = _active.get()
    if not isinstance(active, uuid.UUID):
        raise NoTenantScope("Open a tenant_scope first.")
    return active


def is_active(tenant_id: uuid.UUID) -> bool:
    """Whether a scope of this tenant is open."""
    return _active.get() == tenant_id


@contextmanager
def tenant_scope(tenant_id: uuid.UUID | str) -> Iterator[None]:
    """One transaction that sees and writes the rows of one tenant.

    Nests for the same tenant; raises TenantMismatch for another one. Keep it short: never hold one across
    encoding, waiting or a network call.
    """
    wanted = tenant_id if isinstance(tenant_id, uuid.UUID) else uuid.UUID(str(tenant_id))
    active = _active.get()
    if active is not None and active != wanted:
        raise TenantMismatch(f"A scope for {active} is open; it cannot turn into {wanted}.")
    joined = connection.in_atomic_block
    with transaction.atomic(), _entered(wanted):
        if active is None:
            _set_tenant(str(wanted))
        yield
        if active is None and joined:
            # Inside an outer transaction the setting would outlive this scope (a rollback undoes it by itself).
            _set_tenant("")


@contextmanager
def operator_scope(reason: str) -> Iterator[None]:
    """One transaction across all tenants, as the role with BYPASSRLS. Every use is logged with its reason.

    It has a connection of its own (OPERATOR_DATABASE_URL), which is the default one as long as the scope is open:
    queries, cursors, `atomic` and `on_commit` need not know. It therefore cannot be part of a transaction that is open
    already: that would neither see its rows nor be undone with it, and could wait for it for ever. Callbacks of
    `on_commit` run after the scope, as the application's role.

    Raises TenantMismatch inside another scope, TransactionManagementError inside a transaction, ImproperlyConfigured
    in a process that has no such connection, OperationalError if all of them are in use for OPERATOR_WAIT_S.
    """
    if _active.get() is not None:
        raise TenantMismatch("operator_scope cannot be opened inside another scope.")
    if connection.in_atomic_block:
        raise transaction.TransactionManagementError("operator_scope cannot be opened inside a transaction.")
    log.info("operator scope", extra={"reason": reason})
    # The default connection is put back before the commit, whose callbacks may open a tenant's scope.
    with (
        _operator_connection(),
        transaction.atomic(using=OPERATOR),
        _default_connection(OPERATOR),
        _entered(OPERATOR),
    ):
        yield


# None stands for a connection that is not made yet.
_operator_connections: LifoQueue[Any] = LifoQueue()
for _ in range(settings.OPERATOR_CONNECTIONS):
    _operator_connections.put(None)


@contextmanager
def _operator_connection() -> Iterator[None]:
    """Lend this thread one of the process's connections as the operator's role; they are few, and made when needed."""
    if OPERATOR not in settings.DATABASES:
        raise ImproperlyConfigured(
            "This process does not work across tenants: OPERATOR_DATABASE_URL is not set (docs/operating.md)."
        )
    try:
        lent = _operator_connections.get(timeout=OPERATOR_WAIT_S)
    except Empty:
        raise OperationalError(
            "All connections as the operator's role are in use (OPERATOR_CONNECTIONS)."
        ) from None
    try:
        if lent is None:
            lent = connections.create_connection(OPERATOR)
            lent.inc_thread_sharing()
        lent.close_if_unusable_or_obsolete()
        connections[OPERATOR] = lent
        try:
            yield
        finally:
            del connections[OPERATOR]
    finally:
        _operator_connections.put(lent)


@contextmanager
def _default_connection(alias: str) -> Iterator[None]:
    """Let this thread's default connection be another one."""
    before = connections[DEFAULT_DB_ALIAS]
    connections[DEFAULT_DB_ALIAS] = connections[alias]
    try:
        yield
    finally:
        connections[DEFAULT_DB_ALIAS] = before


@contextmanager
def _entered(value: uuid.UUID | str) -> Iterator[None]:
    token = _active.set(value)
    try:
        with observe.bound(observe.tenant_id, str(value)):
            yield
    finally:
        _active.reset(token)


def _set_tenant(value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.tenant', %s, true)", [value])


class TenantManager(models.Manager):
    """Queries only inside a scope, and names the tenant in SQL too, so that its indexes are used."""

    use_in_migrations = False

    def get_queryset(self) -> models.QuerySet:
        active = _active.get()
        if active is None:
            raise NoTenantScope(f"{self.model.__name__} was queried outside tenant_scope.")
        queryset = super().get_queryset()
        return queryset if active == OPERATOR else queryset.filter(tenant_id=active)

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> Any:
        rows = list(objs)
        for row in rows:
            row.claim_tenant()
        return super().bulk_create(rows, *args, **kwargs)


class TenantModel(models.Model):
    """A row that belongs to one tenant. Its migration must end with `EnableTenancy(model)`."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No index of its own: the key (tenant_id, id) starts with it.
    tenant = models.ForeignKey(
        "accounts.Tenant", on_delete=models.CASCADE, related_name="+", editable=False, db_index=False
    )

    objects: models.Manager = TenantManager()

    class Meta:
        abstract = True
        base_manager_name = "objects"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.claim_tenant()
        super().save(*args, **kwargs)

    def claim_tenant(self) -> None:
        if self.tenant_id is None:
            self.tenant_id = current_tenant_id()
        elif _active.get() not in (self.tenant_id, OPERATOR):
            raise TenantMismatch(f"This {type(self).__name__} belongs to another tenant.")


class TenantForeignKey(models.ForeignKey):
    """A reference within one tenant; `EnableTenancy` gives it the composite constraint (tenant_id, …).

    Its model declares the index (tenant, …) that look-ups through it need.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["db_constraint"] = kwargs["db_index"] = False
        super().__init__(*args, **kwargs)


def append_only(*tables: str) -> RunSQL:
    """Migration step after which the application may add to tables and read them, and no more.

    Only work across tenants (operator_scope) may change them: to erase a tenant, or a person's name.
    """
    named = ", ".join(f"'{table}'" for table in tables)
    return RunSQL(_REVOKE % named, RunSQL.noop)


class EnableTenancy(Operation):
    """Migration step that puts one model under row-level security.

    Adds the key (tenant_id, id) that others refer to, composite foreign keys for every TenantForeignKey (a plain
    foreign-key check bypasses row-level security and so would accept another tenant's row), and the forced policy.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, model: str) -> None:
        self.model = model

    def state_forwards(self, app_label: str, state: Any) -> None:
        """The model's Python state does not change."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.model)
        for statement in _tenancy_sql(model):
            schema_editor.execute(statement)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        table = from_state.apps.get_model(app_label, self.model)._meta.db_table
        schema_editor.execute(f'DROP POLICY IF EXISTS tenant_isolation ON "{table}"')
        schema_editor.execute(f'ALTER TABLE "{table}" DISABLE ROW LEVEL SECURITY')

    def describe(self) -> str:
        return f"Put {self.model} under row-level security"


def _tenancy_sql(model: type[models.Model]) -> Iterator[str]:
    table, key = model._meta.db_table, model._meta.pk.column
    mine = "tenant_id = NULLIF(current_setting('app.tenant', true), '')::uuid"
    if key != "tenant_id":
        yield f'ALTER TABLE "{table}" ADD CONSTRAINT "{table}_tenant_key" UNIQUE (tenant_id, "{key}")'
    for field in model._meta.local_fields:
        if isinstance(field, TenantForeignKey):
            yield (
                f'ALTER TABLE "{table}" ADD CONSTRAINT "{table}_{field.column}_tenant_fk" '
                f'FOREIGN KEY (tenant_id, "{field.column}") '
                f'REFERENCES "{field.related_model._meta.db_table}" (tenant_id, id) DEFERRABLE INITIALLY DEFERRED'
            )
    yield f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY'
    yield f'ALTER TABLE "{table}" FORCE ROW LEVEL SECURITY'
    yield f'CREATE POLICY tenant_isolation ON "{table}" USING ({mine}) WITH CHECK ({mine})'
