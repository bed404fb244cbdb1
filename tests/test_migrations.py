"""Migrations since the last release leave what that release needs, and lock nothing for long (tests.migration_rules).

A release that has been out moves RELEASED on, to the last migration of each app that it has.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from tests.migration_rules import Table, offences

#: Of 0.2.0.
RELEASED = {
    "accounts": "0006_invitation_acting",
    "datasets": "0010_import_row_record",
    "events": "0005_audit_event_by_target",
    "generation": "0001_initial",
    "jobs": "0004_job_by_age",
    "learning": "0003_classifier_decisions",
    "moderation": "0007_longer_verdicts",
    "people": None,
    "retrieval": "0009_computed_field",
}


@pytest.fixture(scope="module")
def loader() -> MigrationLoader:
    return MigrationLoader(None)


def ours() -> set[str]:
    return {
        config.label for config in apps.get_app_configs() if config.name.startswith(("tenants.", "workers"))
    }


def released(loader: MigrationLoader) -> list[tuple[str, str]]:
    targets = [
        (app, name) for app, name in RELEASED.items() if name and (app, name) in loader.disk_migrations
    ]
    return [key for key in loader.graph.leaf_nodes() if key[0] not in RELEASED] + targets


def since(loader: MigrationLoader) -> list[tuple[str, str]]:
    """Migrations that no release has, in the order in which they run."""
    plan: list[tuple[str, str]] = []
    for leaf in loader.graph.leaf_nodes():
        plan += [key for key in loader.graph.forwards_plan(leaf) if key not in plan]
    known = {key for target in released(loader) for key in loader.graph.forwards_plan(target)}
    return [key for key in plan if key not in known and key[0] in RELEASED]


def test_every_app_of_ours_is_looked_at(loader: MigrationLoader) -> None:
    with_migrations = {app for app in ours() if app in loader.migrated_apps}
    assert with_migrations <= set(RELEASED)
    missing = [key for key in RELEASED.items() if key[1] and key not in loader.disk_migrations]
    assert missing == []


def test_new_migrations_expand_and_lock_nothing_for_long(loader: MigrationLoader) -> None:
    state, fresh = loader.project_state(released(loader)), set[Table]()
    found: list[str] = []
    for key in since(loader):
        found += offences(loader.disk_migrations[key], state, fresh)
    assert found == []


def test_the_release_before_finds_every_table_and_column(loader: MigrationLoader) -> None:
    """Whatever the migrations say they do: what it reads is there, and what it does not know may be left out."""
    before, now = loader.project_state(released(loader)).apps, loader.project_state().apps
    columns = {
        model._meta.db_table: {field.column: field for field in model._meta.local_concrete_fields}
        for model in now.get_models()
    }
    for model in before.get_models():
        if model._meta.app_label not in RELEASED:
            continue
        table = model._meta.db_table
        assert table in columns, f"the table {table} is gone"
        known = {field.column for field in model._meta.local_concrete_fields}
        assert known <= set(columns[table]), f"{table}: {sorted(known - set(columns[table]))} are gone"
        for column in set(columns[table]) - known:
            field = columns[table][column]
            assert field.null or field.has_db_default(), (
                f"{table}.{column}: inserts of the release before lack it"
            )


# --- The rules themselves ---


def world() -> ProjectState:
    """A released table `shop_item`."""
    state = ProjectState()
    made = migrations.CreateModel(
        "Item",
        [
            ("id", models.BigAutoField(primary_key=True)),
            ("name", models.CharField(max_length=20)),
            ("note", models.TextField(null=True)),
        ],
    )
    made.state_forwards("shop", state)
    return state


def said(*operations: Any, atomic: bool = True) -> str:
    migration = migrations.Migration("0002_next", "shop")
    migration.operations, migration.atomic = list(operations), atomic
    return "\n".join(offences(migration, world(), set()))


INDEX = models.Index(fields=["name"], name="item_name")
BAD = {
    "a column is dropped": (migrations.RemoveField("item", "note"), "takes away a column"),
    "a column is renamed": (migrations.RenameField("item", "note", "remark"), "takes away a column"),
    "a table is dropped": (migrations.DeleteModel("Item"), "takes away a table"),
    "a table is renamed": (migrations.RenameModel("Item", "Thing"), "takes away a table"),
    "inserts would fail": (
        migrations.AddField("item", "size", models.IntegerField(default=0)),
        "null=True, or db_default",
    ),
    "an index with a column": (
        migrations.AddField("item", "size", models.IntegerField(null=True, db_index=True)),
        "AddIndexConcurrently",
    ),
    "an index": (migrations.AddIndex("item", INDEX), "AddIndexConcurrently"),
    "a constraint": (
        migrations.AddConstraint(
            "item", models.CheckConstraint(condition=models.Q(id__gt=0), name="positive")
        ),
        "AddConstraintNotValid",
    ),
    "null no more": (migrations.AlterField("item", "note", models.TextField(default="")), "may write null"),
    "a shorter text": (
        migrations.AlterField("item", "name", models.CharField(max_length=10)),
        "would be rewritten",
    ),
    "another type": (migrations.AlterField("item", "name", models.IntegerField()), "would be rewritten"),
    "Python over rows": (migrations.RunPython(lambda apps, editor: None), "changed by a job"),
    "an index in SQL": (migrations.RunSQL("CREATE INDEX a ON shop_item (name)"), "not built CONCURRENTLY"),
    "a type in SQL": (
        migrations.RunSQL("ALTER TABLE shop_item ALTER COLUMN name TYPE text"),
        "rewrites a table",
    ),
    "rows in SQL": (migrations.RunSQL([("UPDATE shop_item SET name = %s", ["x"])]), "work on rows"),
    "hidden from the state": (
        migrations.SeparateDatabaseAndState([migrations.RunSQL("ALTER TABLE shop_item DROP COLUMN note")]),
        "takes away",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_would_stop_others_is_found(name: str) -> None:
    operation, expected = BAD[name]
    assert expected in said(operation)


def test_concurrently_needs_no_transaction_around_it() -> None:
    assert "atomic = False" in said(AddIndexConcurrently("item", INDEX))
    assert said(AddIndexConcurrently("item", INDEX), atomic=False) == ""


def test_what_expands_is_let_through() -> None:
    made = migrations.CreateModel(
        "Box", [("id", models.BigAutoField(primary_key=True)), ("n", models.IntegerField(db_index=True))]
    )
    allowed = [
        migrations.AddField("item", "size", models.IntegerField(null=True)),
        migrations.AddField("item", "state", models.CharField(max_length=9, db_default="new", default="new")),
        migrations.AlterField("item", "name", models.CharField(max_length=40)),
        migrations.RunSQL("ALTER TABLE shop_item ADD CONSTRAINT a CHECK (id > 0) NOT VALID"),
        made,
        migrations.AddIndex("box", models.Index(fields=["n"], name="box_n")),
        migrations.RunSQL("CREATE INDEX b ON shop_box (n)"),
        migrations.RemoveField("box", "n"),
    ]
    assert said(*allowed) == ""


def test_the_rules_see_what_was_done_before_they_were_kept(loader: MigrationLoader) -> None:
    """Migrations of 0.2.0 and before were written for one machine that stands still meanwhile."""
    found = set()
    for target in released(loader):
        for key in loader.graph.forwards_plan(target):
            if key[0] in RELEASED:
                parents = [parent.key for parent in loader.graph.node_map[key].parents]
                state = loader.project_state(parents) if parents else ProjectState()
                found |= {key for _ in offences(loader.disk_migrations[key], state, set())}
    assert {("datasets", "0006_asset_by_status"), ("retrieval", "0008_engine_gone")} <= found
    assert ("generation", "0001_initial") not in found
