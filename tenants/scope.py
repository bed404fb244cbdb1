"""Tenancy: the only module that knows row-level security.

A tenant's rows are visible only inside `tenant_scope(id)`: one transaction in which PostgreSQL itself filters
every statement (forced row-level security on the setting `app.tenant`). Managers refuse to query outside a
scope, so a forgotten scope is an error and never a leak.

Within a tenant a person may be narrowed to some datasets and review queues (`narrowed`): restrictive policies read the
settings `app.datasets` and `app.queues`, which are empty for everybody else.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Narrowing:
    """What of a tenant somebody sees: these datasets and these review queues; None: all of them.

    A queue is named by what raises its flags: the id of a policy's rule, `appeal` or `detector-failed`.
    """

    datasets: tuple[uuid.UUID, ...] | None = None
    queues: tuple[str, ...] | None = None


_narrowing: ContextVar[Narrowing | None] = ContextVar("narrowing", default=None)


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
            _set(str(wanted), narrowing())
        yield
        if active is None and joined:
            # Inside an outer transaction the setting would outlive this scope (a rollback undoes it by itself).
            _set("", None, also_narrowing=narrowing() is not None)


def narrowing() -> Narrowing | None:
    """What scopes that are opened now are narrowed to; None: they show all of the tenant."""
    return _narrowing.get()


@contextmanager
def narrowed(to: Narrowing | None) -> Iterator[None]:
    """Let the tenant's rows inside be those of these datasets and queues, in the open scope and in later ones.

    In an open scope it is a savepoint, so that an error leaves the narrowing as it was.
    """
    before = _narrowing.get()
    token = _narrowing.set(to)
    try:
        if to == before or not isinstance(_active.get(), uuid.UUID):
            yield
            return
        with transaction.atomic():
            _set(str(current_tenant_id()), to, also_narrowing=True)
            yield
            _set(str(current_tenant_id()), before, also_narrowing=True)
    finally:
        _narrowing.reset(token)


def whole_tenant() -> AbstractContextManager[None]:
    """Lift a narrowing: for what is shared by all people of the tenant (caches, the sealed record), and for what
    follows from a decision that somebody was allowed to make. Nothing that is read in it is shown as it is.
    """
    return narrowed(None)


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


_TENANT = "SELECT set_config('app.tenant', %(tenant)s, true)"
_NARROWED = (
    f"{_TENANT}, set_config('app.datasets', COALESCE(%(datasets)s::uuid[]::text, ''), true), "
    "set_config('app.queues', COALESCE(%(queues)s::text[]::text, ''), true)"
)


def setting_of(
    tenant: str, to: Narrowing | None, *, also_narrowing: bool = False
) -> tuple[str, dict[str, str | list[str] | None]]:
    """The statement that makes the rest of a transaction the tenant's, narrowed or not, and its parameters."""
    if to is None and not also_narrowing:
        return _TENANT, {"tenant": tenant}
    to = to or Narrowing()
    datasets = None if to.datasets is None else [str(one) for one in to.datasets]
    queues = None if to.queues is None else list(to.queues)
    return _NARROWED, {"tenant": tenant, "datasets": datasets, "queues": queues}


def _set(tenant: str, to: Narrowing | None, *, also_narrowing: bool = False) -> None:
    statement, parameters = setting_of(tenant, to, also_narrowing=also_narrowing)
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


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


# The restrictive policies. Settings are read once a statement (sub-selects without outer references), and rows are
# looked up only where somebody is narrowed. `IS NOT NULL` is what the planner estimates to be nearly always true, so
# that plans stay what they are without the policy.
_POLICY = (
    'DROP POLICY IF EXISTS {name} ON "{table}"; CREATE POLICY {name} ON "{table}" AS RESTRICTIVE USING (('
    "CASE WHEN (SELECT current_setting('{setting}', true)) <> '' THEN NULLIF({kept}, false) ELSE true END"
    ") IS NOT NULL)"
)
_IN_DATASETS = (
    "\"{column}\" = ANY ((SELECT NULLIF(current_setting('app.datasets', true), '')::uuid[])::uuid[])"
)
_IN_QUEUES = (
    "\"{column}\"::text = ANY ((SELECT NULLIF(current_setting('app.queues', true), '')::text[])::text[])"
)
_LOOK_UP = """
CREATE OR REPLACE FUNCTION public.{name}(wanted uuid) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE COST 1 AS $$
BEGIN
    -- As whoever asks: the policies of the table say whether it is seen.
    RETURN EXISTS (
        SELECT 1 FROM public."{table}" t
        WHERE t.tenant_id = NULLIF(current_setting('app.tenant', true), '')::uuid AND t.id = wanted
    );
END $$
"""


class NarrowByDataset(Operation):
    """Migration step after which a model's rows are seen only by who may see the dataset that they belong to.

    Which that is stands in one of its columns: the id of the dataset, of an asset, or of an audit. Rows without one are
    seen by nobody whose datasets are narrowed. `queue` is the column that names a review queue, `search` one that holds
    a search, whose datasets and assets have to be seen, all of them.

    Each policy takes its table's strongest lock for a moment: in migrations that are not atomic, so that never two
    tables are locked at once while the release before is at work. It may be run again.
    """

    reversible = True
    reduces_to_sql = True
    POLICIES = ("dataset_narrowing", "queue_narrowing")

    def __init__(
        self,
        model: str,
        *,
        dataset: str = "",
        asset: str = "",
        audit: str = "",
        queue: str = "",
        search: str = "",
    ) -> None:
        self.model = model
        self.dataset, self.asset, self.audit, self.queue = dataset, asset, audit, queue
        self.search = search

    def state_forwards(self, app_label: str, state: Any) -> None:
        """The model's Python state does not change."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        table = to_state.apps.get_model(app_label, self.model)._meta.db_table
        of_dataset, of_queue = self.POLICIES
        schema_editor.execute(
            _POLICY.format(name=of_dataset, table=table, setting="app.datasets", kept=self._kept())
        )
        if self.queue:
            kept = _IN_QUEUES.format(column=self.queue)
            schema_editor.execute(_POLICY.format(name=of_queue, table=table, setting="app.queues", kept=kept))

    def _kept(self) -> str:
        if self.dataset:
            return _IN_DATASETS.format(column=self.dataset)
        if self.search:
            return f'public.search_is_seen("{self.search}")'
        return (
            f'public.asset_is_seen("{self.asset}")' if self.asset else f'public.audit_is_seen("{self.audit}")'
        )

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        table = from_state.apps.get_model(app_label, self.model)._meta.db_table
        for name in self.POLICIES:
            schema_editor.execute(f'DROP POLICY IF EXISTS {name} ON "{table}"')

    def describe(self) -> str:
        return f"Narrow {self.model} to the datasets that somebody may see"


def looks_up(name: str, table: str) -> RunSQL:
    """Migration step that makes the function `name(id)`: whether a row of the table is seen by who asks."""
    return RunSQL(_LOOK_UP.format(name=name, table=table), f"DROP FUNCTION IF EXISTS public.{name}(uuid)")
