"""What a migration may do while the release before is still running on the same database, and what would stop it.

Expand, then contract: N adds what N−1 does not know, and takes nothing away that N−1 reads or writes. And no statement
holds a lock that keeps others out for as long as a large table takes to be read: indexes are built CONCURRENTLY,
constraints are added NOT VALID and validated afterwards, rows are changed by jobs and not by migrations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from django.contrib.postgres import operations as postgres
from django.db import connection, models
from django.db.migrations import Migration, operations
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import NOT_PROVIDED

from tenants.scope import EnableTenancy, NarrowByDataset

Table = tuple[str, str]

# Statements that keep readers or writers out of a table that may be large, or take away what others use.
SQL = (
    (r"create\s+(?:unique\s+)?index\s+(?!concurrently)", "an index that is not built CONCURRENTLY"),
    (r"drop\s+index\s+(?!concurrently)", "an index that is not dropped CONCURRENTLY"),
    (r"drop\s+(?:table|column|schema)\b", "takes away what the release before uses"),
    (r"\brename\b", "a name that the release before uses"),
    (r"alter\s+(?:column\s+)?\S+\s+(?:set\s+data\s+)?type\b", "rewrites a table under its strongest lock"),
    (
        r"set\s+not\s+null",
        "reads a table under its strongest lock: ADD CONSTRAINT … NOT VALID, then VALIDATE",
    ),
    (
        r"add\s+constraint\b(?!.*\bnot\s+valid\b)(?!.*\busing\s+index\b)",
        "a constraint that is not NOT VALID at first",
    ),
    (
        r"\b(?:update\s+\S+\s+set|delete\s+from|lock\s+table|truncate|vacuum\s+full|cluster\b)",
        "work on rows: a job's",
    ),
)


def offences(migration: Migration, state: ProjectState, fresh: set[Table]) -> Iterator[str]:
    """What is wrong with a migration; `state` is the one before it, and is moved on.

    `fresh`: models that no release has yet, in which everything is allowed; those that it makes are added.
    """
    concurrent = False
    for operation in migration.operations:
        for said in _offences(operation, migration, state, fresh):
            yield f"{migration.app_label}.{migration.name}: {operation.describe()}: {said}"
        concurrent |= isinstance(operation, postgres.AddIndexConcurrently | postgres.RemoveIndexConcurrently)
        concurrent |= (
            isinstance(operation, operations.RunSQL) and "concurrently" in str(operation.sql).lower()
        )
        operation.state_forwards(migration.app_label, state)
    if concurrent and migration.atomic:
        yield f"{migration.app_label}.{migration.name}: CONCURRENTLY needs atomic = False"


def _offences(
    operation: Operation, migration: Migration, state: ProjectState, fresh: set[Table]
) -> Iterator[str]:
    table = (
        migration.app_label,
        str(getattr(operation, "model_name", getattr(operation, "model", ""))).lower(),
    )
    match operation:
        case operations.CreateModel():
            fresh.add((migration.app_label, operation.name_lower))
        case operations.SeparateDatabaseAndState():
            for part in operation.database_operations:
                yield from _offences(part, migration, state, fresh)
        case operations.DeleteModel() | operations.RenameModel() | operations.AlterModelTable():
            yield "takes away a table that the release before reads"
        case (
            operations.AlterModelOptions()
            | operations.AlterModelManagers()
            | operations.AlterModelTableComment()
        ):
            return
        case operations.RunSQL():
            yield from _of_sql(operation, migration, state, fresh)
        case operations.RunPython():
            yield "rows are changed by a job, in batches, and not under a migration's locks"
        case _ if table in fresh:
            return
        case operations.RemoveField() | operations.RenameField():
            yield "takes away a column that the release before reads"
        case operations.AddField():
            yield from _of_new_field(operation.field)
        case operations.AlterField():
            before = state.models[table].fields[operation.name]
            yield from _of_changed_field(before, operation.field)
        case operations.AddIndex() if not isinstance(operation, postgres.AddIndexConcurrently):
            yield "AddIndexConcurrently builds it without keeping writers out"
        case operations.RemoveIndex() if not isinstance(operation, postgres.RemoveIndexConcurrently):
            yield "RemoveIndexConcurrently drops it without waiting for readers under a lock"
        case operations.AddConstraint() if not isinstance(operation, postgres.AddConstraintNotValid):
            yield "AddConstraintNotValid, then ValidateConstraint; a unique one USING an index built CONCURRENTLY"
        case EnableTenancy():
            yield "row-level security on a table that the release before uses without it"
        case (
            postgres.AddIndexConcurrently()
            | postgres.RemoveIndexConcurrently()
            | postgres.AddConstraintNotValid()
            | postgres.ValidateConstraint()
            | operations.RemoveConstraint()
            | operations.RenameIndex()
            # The release before narrows nobody: for it the policies let every row through.
            | NarrowByDataset()
        ):
            return
        case NarrowByDataset():
            # The release before narrows nobody: for it the policies let every row through.
            if migration.atomic:
                yield "its locks would be held until the last table is done: atomic = False"
        case _:
            yield "an operation that tests/migration_rules.py does not know"


def _of_new_field(field: models.Field) -> Iterator[str]:
    if not field.null and field.db_default is NOT_PROVIDED:
        yield "what the release before inserts would not have it: null=True, or db_default"
    if field.unique or field.db_index:
        yield "its index would be built under a lock: without it first, then AddIndexConcurrently"
    if field.remote_field is not None and getattr(field, "db_constraint", False):
        yield "its foreign key would be checked under a lock: db_constraint=False, then NOT VALID by RunSQL"


def _of_changed_field(before: models.Field, after: models.Field) -> Iterator[str]:
    if before.null and not after.null:
        yield "the release before may write null there"
    if (after.unique, after.db_index) != (before.unique, before.db_index):
        yield "an index is built or dropped under a lock"
    if before.db_column != after.db_column:
        yield "another column"
    if type(before) is type(after) and before.remote_field is not None:
        return  # of the type of what it refers to
    old, new = (str(field.db_parameters(connection)["type"] or "") for field in (before, after))
    if old != new and not _is_wider(old, new):
        yield f"{old} becomes {new}: the table would be rewritten"


def _is_wider(old: str, new: str) -> bool:
    """Of text: Postgres changes the catalogue alone."""
    lengths = [re.fullmatch(r"varchar\((\d+)\)", kind) for kind in (old, new)]
    if lengths[0] and new in ("text", "varchar"):
        return True
    return bool(lengths[0] and lengths[1] and int(lengths[0][1]) <= int(lengths[1][1]))


def _of_sql(
    operation: operations.RunSQL, migration: Migration, state: ProjectState, fresh: set[Table]
) -> Iterator[str]:
    names = {
        str(state.models[key].options.get("db_table") or "_".join(key))
        for key in fresh
        if key in state.models
    }
    for statement in _statements(operation.sql):
        if any(re.search(rf'(?<!\w)"?{re.escape(name)}"?(?!\w)', statement) for name in names):
            continue
        for pattern, said in SQL:
            if re.search(pattern, statement, re.IGNORECASE | re.DOTALL):
                yield said


def _statements(sql: object) -> Iterable[str]:
    if isinstance(sql, str):
        return [part for part in sql.split(";") if part.strip()]
    parts = sql if isinstance(sql, list | tuple) else []
    return [str(part[0] if isinstance(part, list | tuple) else part) for part in parts]
