"""Versions of a dataset: lists of assets that nobody changes (docs/adr/0072-versions-list-assets-and-copy-nothing.md)."""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from uuid_utils.compat import uuid7

from tenants.scope import EnableTenancy, NarrowByDataset, TenantForeignKey

# Versions are locked in the order of their ids, so that two erasures wait for each other and never in a circle.
TRIGGERS = """
    CREATE FUNCTION count_gone_of_versions() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NOT EXISTS (SELECT 1 FROM removed) THEN RETURN NULL; END IF;
        PERFORM 1 FROM dataset_version AS v WHERE v.id IN (SELECT version_id FROM removed)
            ORDER BY v.id FOR NO KEY UPDATE;
        UPDATE dataset_version AS v SET gone = v.gone + lost.n
            FROM (SELECT tenant_id, version_id, count(*) AS n FROM removed GROUP BY 1, 2) AS lost
            WHERE v.tenant_id = lost.tenant_id AND v.id = lost.version_id;
        RETURN NULL;
    END $$;
    CREATE FUNCTION keep_versions() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'what a version of a dataset lists is not changed'
            USING ERRCODE = 'restrict_violation', TABLE = 'dataset_version_asset';
    END $$;
    CREATE TRIGGER count_gone AFTER DELETE ON dataset_version_asset REFERENCING OLD TABLE AS removed
        FOR EACH STATEMENT EXECUTE FUNCTION count_gone_of_versions();
    CREATE TRIGGER keep_version BEFORE UPDATE ON dataset_version_asset
        FOR EACH ROW EXECUTE FUNCTION keep_versions();
"""
DROP = """
    DROP FUNCTION count_gone_of_versions() CASCADE;
    DROP FUNCTION keep_versions() CASCADE;
"""


def _tenant() -> models.ForeignKey:
    return models.ForeignKey(
        db_index=False,
        editable=False,
        on_delete=django.db.models.deletion.CASCADE,
        related_name="+",
        to="accounts.tenant",
    )


def _id() -> models.UUIDField:
    return models.UUIDField(default=uuid7, editable=False, primary_key=True, serialize=False)


def _within(to: str, related_name: str) -> TenantForeignKey:
    return TenantForeignKey(
        db_constraint=False,
        db_index=False,
        on_delete=django.db.models.deletion.CASCADE,
        related_name=related_name,
        to=to,
    )


class Migration(migrations.Migration):
    dependencies = [("datasets", "0014_legal_hold"), ("accounts", "0016_data_key")]

    operations: list[Any] = [
        migrations.CreateModel(
            name="DatasetVersion",
            fields=[
                ("id", _id()),
                ("name", models.CharField(max_length=100)),
                ("note", models.TextField(blank=True, default="")),
                (
                    "state",
                    models.CharField(
                        choices=[("making", "Making"), ("ready", "Ready"), ("failed", "Failed")],
                        default="making",
                        max_length=6,
                    ),
                ),
                ("made_from", models.JSONField(blank=True, default=dict)),
                ("asset_count", models.PositiveIntegerField(default=0)),
                ("kinds", models.JSONField(blank=True, default=dict)),
                ("digest", models.CharField(blank=True, default="", max_length=64)),
                ("gone", models.PositiveIntegerField(default=0)),
                ("job_id", models.UUIDField(blank=True, null=True)),
                ("created_by", models.CharField(blank=True, default="", max_length=100)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("dataset", _within("datasets.dataset", "versions")),
                ("tenant", _tenant()),
            ],
            options={
                "db_table": "dataset_version",
                "abstract": False,
                "base_manager_name": "objects",
                "indexes": [
                    models.Index(fields=["tenant", "dataset", "-id"], name="dataset_version_by_dataset")
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "dataset", "name"), name="dataset_version_name_once"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="DatasetVersionAsset",
            fields=[
                ("id", _id()),
                ("digest", models.BinaryField()),
                ("asset", _within("datasets.asset", "+")),
                ("version", _within("datasets.datasetversion", "+")),
                ("tenant", _tenant()),
            ],
            options={
                "db_table": "dataset_version_asset",
                "abstract": False,
                "base_manager_name": "objects",
                "indexes": [models.Index(fields=["tenant", "asset"], name="dataset_version_by_asset")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "version", "asset"), name="dataset_version_asset_once"
                    )
                ],
            },
        ),
        EnableTenancy("DatasetVersion"),
        EnableTenancy("DatasetVersionAsset"),
        NarrowByDataset("DatasetVersion", dataset="dataset_id"),
        NarrowByDataset("DatasetVersionAsset", asset="asset_id"),
        migrations.RunSQL(TRIGGERS, DROP),
    ]
