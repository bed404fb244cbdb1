"""Statements that Postgres parses and plans once a connection: planning a join costs it more than running it.

psycopg2 sends plain text, so this is SQL's own PREPARE and EXECUTE. Row-level security holds as ever: its policy reads
the tenant when the statement runs, and Postgres plans anew for another role.
"""

from __future__ import annotations

import re
import uuid
import weakref
from typing import Any

from django.conf import settings
from django.db import connection

from tenants.scope import is_active, narrowing, setting_of, tenant_scope

# Names known to each open connection; a new connection knows none.
_known: weakref.WeakKeyDictionary[object, set[str]] = weakref.WeakKeyDictionary()


class Prepared:
    """A query with the parameters $1, $2 … of the given types. `name` is unique in this program."""

    def __init__(self, name: str, types: tuple[str, ...], sql: str) -> None:
        self._name, self.sql = name, sql
        self._plain = re.sub(r"\$(\d+)", r"%(p\1)s", sql)
        self._prepare = f"PREPARE {name} ({', '.join(types)}) AS {sql}"
        self._execute = f"EXECUTE {name} ({', '.join(f'%(p{n + 1})s' for n in range(len(types)))})"

    def rows(self, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of the answer: one round trip, and another one for the first use of a connection."""
        values = {f"p{n + 1}": value for n, value in enumerate(parameters)}
        with connection.cursor() as cursor:
            if settings.PREPARED_STATEMENTS:
                self._run(cursor, values)
            else:
                cursor.execute(self._plain, values)
            return cursor.fetchall()

    def rows_of(self, tenant_id: uuid.UUID, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows as this tenant, in a transaction of its own; where a scope is open, in that one.

        One round trip where `tenant_scope` around `rows` takes four: Postgres runs statements that come together as
        one transaction, which the setting of the tenant does not outlive.
        """
        if is_active(tenant_id):
            return self.rows(*parameters)
        if connection.in_atomic_block or not settings.PREPARED_STATEMENTS:
            with tenant_scope(tenant_id):
                return self.rows(*parameters)
        values = {f"p{n + 1}": value for n, value in enumerate(parameters)}
        with connection.cursor() as cursor:
            self._make_known(cursor)
            setting, told = setting_of(str(tenant_id), narrowing())
            cursor.execute(f"{setting}; {self._execute}", {**values, **told})
            return cursor.fetchall()

    def _run(self, cursor: Any, values: dict[str, Any]) -> None:
        self._make_known(cursor)
        cursor.execute(self._execute, values)

    def _make_known(self, cursor: Any) -> None:
        known = _known.setdefault(connection.connection, set())
        if self._name not in known:
            # On its own: it stays for the connection's life, also if what follows fails or is rolled back.
            cursor.execute(self._prepare, {})
            known.add(self._name)
