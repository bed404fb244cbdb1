"""The database, and above all whether row-level security really keeps the tenants apart."""

from __future__ import annotations

import time
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from standalone.doctor.findings import Check, Finding, Options, examples, fail, ok, warn
from tenants.generation import disclosure, signing_keys
from tenants.scope import OPERATOR, TenantModel, operator_scope

MIN_VERSION = 160000
SKEW_WARN_S, SKEW_FAIL_S = 2.0, 10.0
MIGRATE = "Run `manage.py migrate --database=migration` (`make run` does)."
PROVISION = (
    "Run platform/standalone/provision.sql as a superuser (docs/operating.md); `make run` does it by itself."
)


def rows(statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def reachable(options: Options) -> Finding:
    version, number = rows(
        "SELECT current_setting('server_version'), current_setting('server_version_num')::int"
    )[0]
    if number < MIN_VERSION:
        return fail(
            f"Postgres {version} is too old", "Move the data to Postgres 16 or newer (pg_dump, pg_restore)."
        )
    return ok(f"Postgres {version}")


def clock(options: Options) -> Finding:
    before = time.time()
    there = float(rows("SELECT extract(epoch FROM clock_timestamp())")[0][0])
    skew = there - (before + time.time()) / 2
    what = f"the database's clock is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}"
    advice = "Let both machines keep time by NTP: leases of jobs and expiry of keys rely on it."
    if abs(skew) >= SKEW_FAIL_S:
        return fail(what, advice)
    return warn(what, advice) if abs(skew) >= SKEW_WARN_S else ok(f"{abs(skew):.2f} s apart")


def role(options: Options) -> Finding:
    statement = "SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
    name, superuser, bypasses = rows(statement)[0]
    if superuser or bypasses:
        power = "is a superuser" if superuser else "has BYPASSRLS"
        return fail(
            f"the application's role {name} {power}: every tenant could see every other",
            f"ALTER ROLE {name} NOSUPERUSER NOBYPASSRLS; and see DATABASE_URL. {PROVISION}",
        )
    owned = rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user")
    if owned:
        return fail(
            f"the application's role {name} owns {examples(table for (table,) in owned)}",
            "Tables belong to the owner of MIGRATION_DATABASE_URL: ALTER TABLE … OWNER TO crosslight_owner.",
        )
    return ok(f"{name}, neither superuser nor owner, bound by row-level security")


def operator_role(options: Options) -> Finding:
    if OPERATOR not in settings.DATABASES:
        return fail("OPERATOR_DATABASE_URL is not set: upkeep, backups and operators cannot work", PROVISION)
    if powers := rows(BECOMES):
        names = examples(name for (name,) in powers)
        return fail(
            f"the application's role can become {names}: every tenant could see every other", PROVISION
        )
    with operator_scope("doctor"):
        name, bypasses, count = rows(
            "SELECT rolname, rolbypassrls, (SELECT count(*) FROM tenant) FROM pg_roles WHERE rolname = current_user"
        )[0]
    if not bypasses:
        return fail(
            f"{name} does not bypass row-level security: upkeep, backups and operators see nothing", PROVISION
        )
    return ok(f"{name}, a connection of its own, {count} tenants")


BECOMES = """
    SELECT rolname FROM pg_roles
    WHERE (rolbypassrls OR rolsuper) AND rolname <> current_user AND pg_has_role(rolname, 'MEMBER')
"""


def row_level_security(options: Options) -> Finding:
    tables = sorted(model._meta.db_table for model in apps.get_models() if issubclass(model, TenantModel))
    states = {table: (enabled, forced) for table, enabled, forced in rows(STATE)}
    policies: dict[str, list[str]] = {}
    for table, name, rule in rows(POLICIES):
        policies.setdefault(table, []).append(
            rule if name == "tenant_isolation" else f"another policy: {name}"
        )
    wrong = [c for table in tables if (c := _complaint(table, states.get(table), policies.get(table, [])))]
    if wrong:
        return fail(
            f"tenants are not kept apart: {examples(wrong)}",
            "Stop the installation, find out who changed it, and enable it again: ALTER TABLE … ENABLE ROW LEVEL "
            "SECURITY, … FORCE ROW LEVEL SECURITY, CREATE POLICY tenant_isolation … as tenants/scope.py says.",
        )
    return ok(f"forced on {len(tables)} tables")


STATE = """
    SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'
"""
# Restrictive ones beside it show less, and nothing of another tenant: tenants.scope.NarrowByDataset.
POLICIES = """
    SELECT tablename, policyname, concat_ws(' / ', permissive, cmd, roles::text, qual, with_check)
    FROM pg_policies WHERE schemaname = 'public' AND (permissive = 'PERMISSIVE' OR policyname = 'tenant_isolation')
"""
RULE = "(tenant_id = (NULLIF(current_setting('app.tenant'::text, true), ''::text))::uuid)"
POLICY = f"PERMISSIVE / ALL / {{public}} / {RULE} / {RULE}"


def _complaint(table: str, state: tuple[bool, bool] | None, policies: list[str]) -> str:
    if state is None:
        return f"{table} is missing"
    if not state[0]:
        return f"{table} has row-level security off"
    if not state[1]:
        return f"{table} does not force it on its owner"
    if not policies:
        return f"{table} has no policy"
    return (
        ""
        if policies == [POLICY]
        else f"{table} has other rules ({examples(p for p in policies if p != POLICY)})"
    )


def migrations(options: Options) -> Finding:
    loader = MigrationLoader(connection)
    applied, known = set(loader.applied_migrations), set(loader.disk_migrations)
    if unknown := sorted(applied - known):
        names = examples(".".join(each) for each in unknown)
        return fail(
            f"the database is of a newer release: {names}", "Update the code to the release that wrote it."
        )
    if missing := sorted(known - applied):
        return fail(f"not migrated: {examples('.'.join(each) for each in missing)}", MIGRATE)
    return ok(f"{len(applied)} applied")


def keys(options: Options) -> Finding:
    if why := signing_keys.unreadable():
        return fail(
            f"nothing can be signed: {why}",
            "Set MASTER_KEY_FILE, KMS_URL or SECRET_KEY to what it was (docs/encryption.md). Only if that is lost: "
            "DELETE FROM installation_secret; files that were signed so far are a stranger's then.",
        )
    return ok("they open")


def marks(options: Options) -> Finding:
    """Of generated files: what cannot be drawn or spoken would fail every generation."""
    try:
        if settings.GENERATORS["image"] or settings.GENERATORS["video"]:
            disclosure.icon()
        if any(settings.GENERATORS.values()):
            disclosure.notice()
    except ValueError as error:
        return fail(str(error), "Correct GENERATION_ICON_* or GENERATION_NOTICE_FILE (docs/generation.md).")
    if why := signing_keys.wrong_time_stamps():
        return fail(why, "Correct GENERATION_TSA_URL or GENERATION_TSA_CA (docs/generation.md).")
    return ok(f"icon {settings.GENERATION_ICON}, notice {settings.GENERATION_NOTICE}")


CHECKS = (
    Check(
        "database",
        reachable,
        advice="Is Postgres running, and is DATABASE_URL right? See $DATA_DIR/log/postgres.log.",
    ),
    Check("clock", clock, needs="database"),
    Check("migrations", migrations, needs="database", advice=MIGRATE),
    Check("database-role", role, needs="database"),
    Check("operator-role", operator_role, needs="database", advice=PROVISION),
    Check("row-level-security", row_level_security, needs="database"),
    Check("signing-keys", keys, needs="migrations"),
    Check("marks", marks),
)
