"""Every guard between tenants, how it is taken away, and which tests must fail without it.

Policies, scopes of the API and scopes of pages are listed by themselves. A new filter of another kind goes into EDITS:
the function, the words of its source that guard, and what stands there without them.
"""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import psycopg2
from django.apps import apps
from django.db.migrations.loader import MigrationLoader

from tenants.scope import NarrowByDataset
from tests.isolation.world import tenant_tables

ISOLATION = "tests/isolation/test_isolation.py::"
ATTACKED = f"{ISOLATION}test_every_operation_once"
BOUND = "tests/isolation/test_guards.py::"
SCOPE = "tests/tenants/test_scope.py::"
ACCOUNTS = "tests/tenants/test_accounts.py::"
PEOPLE = "tests/tenants/test_people.py::"
SECURITY = "tests/tenants/test_people_security.py::"
WEBHOOKS = "tests/tenants/test_webhook_guard.py::"
CONSOLE = "tests/console/test_access.py::"
PATHS = (f"{BOUND}test_paths_name_their_tenant",)
PERMISSIONS = "tests/api/test_permissions.py::"


@dataclass(frozen=True)
class Guard:
    """`tests`: one of them must fail while `removed()` is open; they are tried in order."""

    family: str
    name: str
    tests: tuple[str, ...]
    removed: Callable[[], AbstractContextManager[None]]


def all_guards() -> Iterator[Guard]:
    yield from policies()
    yield from policies_with_filters()
    yield from policies_of_narrowings()
    yield from scopes_of_the_api()
    yield from scopes_of_pages()
    yield from edits()


# --- Row-level security ---------------------------------------------------------------------------------------


@contextmanager
def without_policy(table: str) -> Iterator[None]:
    """As the owner of the tables, in the throw-away database of a test session."""
    _as_owner(f'ALTER TABLE "{table}" DISABLE ROW LEVEL SECURITY')
    try:
        yield
    finally:
        _as_owner(f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY')


def _as_owner(statement: str, parameters: tuple[str, ...] = ()) -> str:
    """The first value of the answer, if there is one."""
    connection = psycopg2.connect(os.environ["MIGRATION_DATABASE_URL"])
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '20s'")
            cursor.execute(statement, parameters or None)
            return str(cursor.fetchone()[0]) if cursor.description else ""
    finally:
        connection.close()


def policies() -> Iterator[Guard]:
    for table in tenant_tables():
        tests = (f"{BOUND}test_raw_sql_reaches_no_row_of_another_tenant[{table}]",)
        yield Guard(
            "policy", f"row-level security of {table}", tests, lambda table=table: without_policy(table)
        )


@contextmanager
def without_policy_and_filter(table: str) -> Iterator[None]:
    from tenants.scope import TenantManager

    model, kept = tenant_tables()[table], TenantManager.get_queryset

    def get_queryset(self: Any) -> Any:
        return super(TenantManager, self).get_queryset() if self.model is model else kept(self)

    TenantManager.get_queryset = get_queryset  # type: ignore[method-assign]
    try:
        with without_policy(table):
            yield
    finally:
        TenantManager.get_queryset = kept  # type: ignore[method-assign]


def policies_with_filters() -> Iterator[Guard]:
    """Both at once, as each of them alone is enough: then calls get at the rows."""
    for table in tenant_tables():
        tests = (ATTACKED, f"{BOUND}test_a_manager_reaches_no_row_of_another_tenant[{table}]")
        yield Guard(
            "policy and filter",
            f"row-level security and the manager's filter of {table}",
            tests,
            lambda table=table: without_policy_and_filter(table),
        )


def narrowed_tables() -> list[tuple[str, str]]:
    """(table, restrictive policy) of what members who are narrowed do not see all of, as the migrations say."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    steps = [
        (app, step)
        for (app, _), migration in sorted(loader.disk_migrations.items())
        for step in migration.operations
        if isinstance(step, NarrowByDataset)
    ]
    found = [(apps.get_model(app, step.model)._meta.db_table, step) for app, step in steps]
    return [(table, policy) for table, step in found for policy in step.POLICIES[: 2 if step.queue else 1]]


@contextmanager
def without_narrowing(table: str, policy: str) -> Iterator[None]:
    asked = (
        "SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = %s::regclass AND polname = %s"
    )
    kept = _as_owner(asked, (table, policy))
    _as_owner(f'ALTER POLICY {policy} ON "{table}" USING (true)')
    try:
        yield
    finally:
        _as_owner(f'ALTER POLICY {policy} ON "{table}" USING ({kept})')


def policies_of_narrowings() -> Iterator[Guard]:
    for table, policy in narrowed_tables():
        yield Guard(
            "narrowing",
            f"{policy} of {table}",
            (f"{BOUND}test_raw_sql_reaches_no_row_that_a_narrowing_hides[{table}-{policy}]",),
            lambda table=table, policy=policy: without_narrowing(table, policy),
        )


# --- Scopes ---------------------------------------------------------------------------------------------------


def scopes_of_the_api() -> Iterator[Guard]:
    from api.urls import urlpatterns
    from tests.api.test_permissions import CASES

    views = {_shape(p.pattern._route): p.callback.cls for p in urlpatterns}
    for case in CASES:
        row = case.values[0]
        view = views[_shape(row.route.partition("?")[0])]
        if row.scope is not None:
            tests = (f"{PERMISSIONS}test_scopes_and_roles[{case.id}]",)
            yield Guard(
                "scope of the API",
                f"{view.__module__}:{view.__name__}.scopes[{row.method}] {row.scope}",
                tests,
                lambda view=view, method=row.method: _replaced(view, "scopes", {**view.scopes, method: None}),
            )


def _shape(route: str) -> str:
    return "/".join("{}" if part[:1] in "{<" else part for part in route.split("/"))


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    kept = owner.__dict__.get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        # What it has from its parent is its parent's again.
        delattr(owner, name) if kept is None else setattr(owner, name, kept)


def scopes_of_pages() -> Iterator[Guard]:
    """`read` and `search` are every role's: who is a member is asked by another guard."""
    from console.urls import urlpatterns
    from tests.console.test_access import TABLE

    views = {p.name: p.callback for p in urlpatterns}
    for name, method, scope in TABLE:
        if scope not in ("read", "search"):
            tests = (f"{CONSOLE}test_a_refusal_changes_nothing[{name}-{method}-{scope}]",)
            view = views[name]
            yield Guard(
                "scope of a page",
                f"{view.__module__}:{view.__name__} needs {scope} ({name} {method})",
                tests,
                lambda view=view: _needing(view, "read"),
            )


@contextmanager
def _needing(view: Any, scope: str) -> Iterator[None]:
    """`console.access.needs` keeps the scope in the closure of the view that it makes."""
    while "scope" not in view.__code__.co_freevars:
        view = view.__wrapped__
    cell = dict(zip(view.__code__.co_freevars, view.__closure__, strict=True))["scope"]
    kept = cell.cell_contents
    cell.cell_contents = scope
    try:
        yield
    finally:
        cell.cell_contents = kept


# --- Words of the source --------------------------------------------------------------------------------------


@contextmanager
def edited(module: str, name: str, old: str, new: str) -> Iterator[None]:
    """A function or method with some words of its source exchanged, for all who hold it."""
    owner: Any = import_module(module)
    for part in name.split("."):
        owner = inspect.getattr_static(owner, part) if inspect.isclass(owner) else getattr(owner, part)
    function = inspect.unwrap(getattr(owner, "fget", None) or getattr(owner, "__func__", None) or owner)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(old) != 1:
        raise LookupError(f"{module}:{name} has {source.count(old)} times {old!r}")
    made = _compiled(source.replace(old, new), function)
    kept = function.__code__
    function.__code__ = made.__code__
    try:
        yield
    finally:
        function.__code__ = kept


def _compiled(source: str, function: Any) -> Any:
    lines = source.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith(("def ", "async def ", "class ")))
    body = textwrap.indent("\n".join(lines[first:]), "    ")
    free = ", ".join(function.__code__.co_freevars)
    space: dict[str, Any] = {}
    exec(
        f"from __future__ import annotations\ndef outer({free}):\n{body}\n    return {function.__name__}",
        space,
    )
    return space["outer"](*[None] * len(function.__code__.co_freevars))


#: Module, function, the words that guard, what stands there instead, and the tests that must fail.
EDITS: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    # Scopes of the database.
    (
        "tenants.scope",
        "TenantManager.get_queryset",
        "if active is None:",
        "if False:",
        (f"{SCOPE}test_a_query_outside_a_scope_raises",),
    ),
    (
        "tenants.scope",
        "tenant_scope",
        "if active is not None and active != wanted:",
        "if False:",
        (f"{SCOPE}test_a_scope_nests_for_the_same_tenant_only",),
    ),
    (
        "tenants.scope",
        "tenant_scope",
        "if active is None and joined:",
        "if False:",
        (f"{SCOPE}test_the_setting_does_not_leak_through_the_pooled_connection",),
    ),
    (
        "tenants.scope",
        "setting_of",
        'return _TENANT, {"tenant": tenant}',
        'return _TENANT.replace("true", "false"), {"tenant": tenant}',
        (f"{SCOPE}test_raw_sql_outside_a_scope_sees_nothing",),
    ),
    (
        "tenants.scope",
        "operator_scope",
        "if _active.get() is not None:",
        "if False:",
        (f"{SCOPE}test_a_scope_nests_for_the_same_tenant_only",),
    ),
    (
        "tenants.scope",
        "operator_scope",
        "if connection.in_atomic_block:",
        "if False:",
        (f"{SCOPE}test_the_operators_transaction_is_no_part_of_another",),
    ),
    (
        "tenants.scope",
        "TenantModel.claim_tenant",
        "elif _active.get() not in (self.tenant_id, OPERATOR):",
        "elif False:",
        (f"{SCOPE}test_a_row_of_another_tenant_cannot_be_written",),
    ),
    # Keys.
    (
        "tenants.accounts.keys",
        "usable",
        "and not record.revoked",
        "",
        (f"{ACCOUNTS}test_a_revoked_key_stops_at_once_though_it_was_cached",),
    ),
    (
        "tenants.accounts.keys",
        "usable",
        "return live and",
        "return",
        (f"{ACCOUNTS}test_an_expired_key_stops_though_it_was_cached",),
    ),
    (
        "tenants.accounts.keys",
        "usable",
        "and record.tenant_state == Tenant.State.ACTIVE",
        "",
        (f"{ACCOUNTS}test_a_suspended_tenants_key_opens_nothing",),
    ),
    (
        "tenants.accounts.keys",
        "forget",
        "_recent.pop(prefix, None)",
        "pass",
        (f"{ACCOUNTS}test_a_revoked_key_stops_at_once_though_it_was_cached",),
    ),
    (
        "tenants.accounts.keys",
        "forget",
        'pipe.set(name, b"{}", ex=CACHE_S)',
        "pass",
        (f"{ACCOUNTS}test_a_revoked_key_stops_at_once_though_it_was_cached",),
    ),
    (
        "tenants.accounts.keys",
        "matches",
        "return hmac.compare_digest(bytes.fromhex(record.digest), _digest(secret))",
        "return True",
        (f"{ACCOUNTS}test_a_wrong_token_opens_nothing",),
    ),
    (
        "tenants.accounts.keys",
        "_check_within",
        "sorted(set(scopes) - set(within))",
        "[]",
        ("tests/api/test_people.py::test_a_key_makes_and_rotates_only_keys_whose_scopes_it_has",),
    ),
    # People, in tables that are read before a tenant is known.
    (
        "tenants.people.members",
        "list_members",
        ".filter(tenant=current_tenant_id())",
        "",
        (f"{ISOLATION}test_pages_show_nothing_of_another_tenant",),
    ),
    (
        "tenants.people.members",
        "list_people",
        ".filter(memberships__tenant=current_tenant_id())",
        ".all()",
        (ATTACKED,),
    ),
    (
        "tenants.people.members",
        "get_member",
        "tenant=current_tenant_id(), ",
        "",
        (f"{PEOPLE}test_another_tenants_members_are_absent",),
    ),
    (
        "tenants.people.invitations",
        "list_invitations",
        ".filter(tenant=current_tenant_id())",
        "",
        (f"{PEOPLE}test_another_tenants_invitation_is_absent",),
    ),
    (
        "tenants.people.invitations",
        "find_by_digest",
        "digest=digest, ",
        "",
        (f"{PEOPLE}test_a_new_person_joins_once",),
    ),
    (
        "tenants.accounts.sessions",
        "_sessions",
        ".filter(user=user)",
        ".all()",
        (f"{SECURITY}test_sessions_are_listed_and_ended_by_their_owner_only",),
    ),
    (
        "tenants.accounts.origins",
        "tenant_allows",
        "return uuid.UUID(str(tenant_id)) in _allowed().get(origin, ())",
        "return bool(_allowed().get(origin))",
        ("tests/api/test_cors.py::test_the_answer_is_for_the_origins_of_the_keys_own_tenant",),
    ),
    # Streams.
    (
        "tenants.accounts.watchers",
        "may_watch",
        "or record.tenant_id != str(tenant_id)",
        "",
        (f"{SECURITY}test_a_stream_of_a_key_ends_with_the_key_and_opens_no_other_tenant",),
    ),
    (
        "tenants.accounts.watchers",
        "may_watch",
        "return keys.usable(record) and",
        "return",
        (f"{SECURITY}test_a_stream_of_a_key_ends_with_the_key_and_opens_no_other_tenant",),
    ),
    (
        "tenants.accounts.watchers",
        "_is_reading_member",
        ".filter(tenant=tenant_id)",
        "",
        (f"{BOUND}test_a_session_watches_no_stream_of_another_tenant",),
    ),
    (
        "tenants.accounts.watchers",
        "_is_reading_member",
        "or READ not in scopes_in(tenant_id, member.role)",
        "",
        (f"{SECURITY}test_a_stream_ends_with_the_right_to_watch",),
    ),
    (
        "tenants.accounts.watchers",
        "may_watch",
        "and record.admits(address)",
        "",
        ("tests/console/test_networks.py::",),
    ),
    # Who signed in, and where they work.
    (
        "console.access",
        "find_workspace",
        "str(m.tenant_id) == chosen",
        "True",
        (f"{CONSOLE}test_who_has_several_tenants_chooses_and_sees_only_that_one",),
    ),
    (
        "tenants.accounts.sign_on",
        "_active",
        "user=user, ",
        "",
        (f"{CONSOLE}test_losing_the_membership_takes_effect_at_once",),
    ),
    (
        "tenants.accounts.sign_on",
        "_active",
        "tenant__state=Tenant.State.ACTIVE",
        "",
        (f"{CONSOLE}test_a_suspended_tenant_is_closed",),
    ),
    (
        "console.access",
        "_authorize",
        "if scope not in workspace.scopes or",
        "if False or",
        (f"{CONSOLE}test_a_changed_role_takes_effect_at_once",),
    ),
    (
        "console.access",
        "_enter",
        "if not request.user.is_authenticated:",
        "if False:",
        (f"{CONSOLE}test_who_is_not_signed_in_is_sent_to_sign_in",),
    ),
    (
        "console.account.sign_in",
        "choose",
        "if any(str(m.tenant_id) == chosen for m in memberships):",
        "if chosen:",
        (f"{CONSOLE}test_a_tenant_that_is_not_ones_own_cannot_be_chosen",),
    ),
    (
        "api.auth",
        "HasScope.has_permission",
        "if request.auth is None:",
        "if False:",
        (f"{PERMISSIONS}test_no_live_key_no_answer",),
    ),
    (
        "api.auth",
        "HasScope.has_permission",
        "if needed is not None and needed not in key_of(request).scopes:",
        "if False:",
        (f"{PERMISSIONS}test_scopes_and_roles",),
    ),
    (
        "api.resource",
        "Resource.initial",
        "self.found = self.find(**kwargs)",
        "pass",
        (f"{PERMISSIONS}test_what_belongs_to_another_tenant_is_absent_whatever_the_body",),
    ),
    (
        "config.operations",
        "_has_token",
        "return ",
        "return True or ",
        ("tests/api/test_operations.py::test_metrics_are_not_for_everybody",),
    ),
    # Keys of caches, files and postings that name the tenant.
    (
        "tenants.valkey",
        "tenant_key",
        "str(tenant_id)",
        '"all"',
        (ATTACKED, "tests/tenants/test_query_cache.py::"),
    ),
    (
        "tenants.retrieval.query.result_page",
        "_cursor_key",
        "tenant_key(tenant_id",
        'tenant_key("all"',
        (f"{BOUND}test_a_cursor_of_another_tenant_is_as_good_as_a_made_up_one",),
    ),
    (
        "tenants.retrieval.query.fusion_weights",
        "_trace_key",
        "tenant_key(tenant_id",
        'tenant_key("all"',
        (f"{BOUND}test_a_search_of_another_tenant_takes_no_feedback",),
    ),
    (
        "tenants.retrieval.cache",
        "QueryCache.find",
        "tenant_key(tenant_id",
        'tenant_key("all"',
        ("tests/tenants/test_query_cache.py::test_texts_models_and_tenants_are_apart",),
    ),
    (
        "tenants.retrieval.cache",
        "CandidateCache._found",
        "key = (tenant_id,",
        "key = (None,",
        ("tests/tenants/test_candidates.py::test_tenants_generations_vectors_and_depths_are_apart",),
    ),
    (
        "tenants.retrieval.index.memory",
        "VectorCache.of",
        "key = (tenant_id, model)",
        "key = (None, model)",
        (f"{BOUND}test_counts_of_a_search_are_its_tenants",),
    ),
    (
        "tenants.retrieval.query.lexical",
        "prefix_of",
        "tenant_id.bytes",
        'b"all"',
        (
            "tests/tenants/test_lexical.py::test_ranks_do_not_depend_on_other_tenants",
            "tests/tenants/test_lexical.py::test_a_search_reads_the_gin_index_and_no_other_tenants_rows",
        ),
    ),
    ("tenants.datasets.storage", "path_of", "{tenant_id}/{kind}", "all/{kind}", PATHS),
    ("tenants.datasets.storage", "import_path", "{tenant_id}/", "all/", PATHS),
    ("tenants.retrieval.index.generation_files", "path_of", "{tenant_id}/", "all/", PATHS),
    ("tenants.retrieval.index.generation_files", "folder_of", "str(tenant_id)", '"all"', PATHS),
    ("tenants.retrieval.model_store", "path_of", "{tenant_id}/", "all/", PATHS),
    ("tenants.retrieval.map_points", "path_of", "{tenant_id}/", "all/", PATHS),
    (
        "tenants.generation.previews",
        "_key",
        "tenant_key(tenant_id",
        'tenant_key("all"',
        (f"{BOUND}test_a_preview_is_its_tenants",),
    ),
    ("tenants.datasets.upload_bytes", "Folder._folder", "{tenant_id}/{KIND}", "all/{KIND}", PATHS),
    (
        "tenants.events.services",
        "first_answer",
        "if stored.fingerprint != fingerprint:",
        "if False:",
        ("tests/api/test_idempotency.py::test_another_request_under_the_same_key",),
    ),
    (
        "api.idempotency",
        "_fingerprint",
        "request.path, ",
        "",
        (f"{BOUND}test_an_idempotency_key_is_bound_to_its_path",),
    ),
    # Where webhooks may go.
    (
        "tenants.events.ssrf_guard",
        "may_call",
        "return real.is_global and",
        "return",
        (f"{WEBHOOKS}test_addresses_that_only_this_installation_reaches",),
    ),
    (
        "tenants.events.ssrf_guard",
        "may_call",
        "and not any(real in network for network in _FORBIDDEN)",
        "",
        (f"{WEBHOOKS}test_addresses_that_only_this_installation_reaches",),
    ),
    (
        "tenants.events.ssrf_guard",
        "may_call",
        "found not in _GLOBAL_UNICAST and found not in _NAT64",
        "False",
        (f"{WEBHOOKS}test_addresses_that_only_this_installation_reaches",),
    ),
    (
        "tenants.events.ssrf_guard",
        "_embedded_ipv4",
        "if address in _NAT64 or",
        "if",
        (f"{WEBHOOKS}test_addresses_that_only_this_installation_reaches",),
    ),
    (
        "tenants.events.ssrf_guard",
        "addresses_of",
        "not all(may_call(address, allowed) for address in found)",
        "not any(may_call(address, allowed) for address in found)",
        (f"{WEBHOOKS}test_one_forbidden_address_among_public_ones_is_enough",),
    ),
    (
        "tenants.events.ssrf_guard",
        "read",
        "if parts.scheme not in schemes:",
        "if False:",
        (f"{WEBHOOKS}test_urls_that_are_refused",),
    ),
    (
        "tenants.events.ssrf_guard",
        "read",
        'if "@" in parts.netloc or parts.fragment:',
        "if False:",
        (f"{WEBHOOKS}test_urls_that_are_refused",),
    ),
    (
        "tenants.events.ssrf_guard",
        "read",
        "if not _port_allowed(port, allowed):",
        "if False:",
        (f"{WEBHOOKS}test_urls_that_are_refused",),
    ),
)


def edits() -> Iterator[Guard]:
    for module, name, old, new, tests in EDITS:
        yield Guard(
            "words of the source",
            f"{module}:{name} {' '.join(old.split())[:60]}",
            tests,
            lambda module=module, name=name, old=old, new=new: edited(module, name, old, new),
        )
