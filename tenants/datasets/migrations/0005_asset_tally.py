"""Counts of assets that nobody has to count: triggers on `asset` note every change of them."""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from uuid_utils.compat import uuid7

from tenants.scope import EnableTenancy

# As the role that writes the asset: row-level security holds for the tally, too.
COUNTED = "count(*), count(*) FILTER (WHERE status = 'ready'), count(*) FILTER (WHERE status = 'failed')"
INTO = "INSERT INTO asset_tally (id, tenant_id, dataset_id, assets, ready, failed)"
FUNCTIONS = f"""
    CREATE FUNCTION note_assets_added() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        {INTO} SELECT gen_random_uuid(), tenant_id, dataset_id, {COUNTED}
        FROM added GROUP BY tenant_id, dataset_id;
        RETURN NULL;
    END $$;
    CREATE FUNCTION note_assets_removed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        {INTO} SELECT gen_random_uuid(), tenant_id, dataset_id, -n, -r, -f FROM (
            SELECT tenant_id, dataset_id, {COUNTED} FROM removed GROUP BY tenant_id, dataset_id
        ) AS counted (tenant_id, dataset_id, n, r, f);
        RETURN NULL;
    END $$;
    CREATE FUNCTION note_assets_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        {INTO} SELECT gen_random_uuid(), tenant_id, dataset_id, sum(n), sum(r), sum(f) FROM (
            SELECT tenant_id, dataset_id, 1, (status = 'ready')::int, (status = 'failed')::int FROM added
            UNION ALL
            SELECT tenant_id, dataset_id, -1, -(status = 'ready')::int, -(status = 'failed')::int FROM removed
        ) AS moved (tenant_id, dataset_id, n, r, f)
        GROUP BY tenant_id, dataset_id HAVING sum(n) <> 0 OR sum(r) <> 0 OR sum(f) <> 0;
        RETURN NULL;
    END $$;
"""
TRIGGERS = """
    CREATE TRIGGER note_added AFTER INSERT ON asset REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION note_assets_added();
    CREATE TRIGGER note_removed AFTER DELETE ON asset REFERENCING OLD TABLE AS removed
        FOR EACH STATEMENT EXECUTE FUNCTION note_assets_removed();
    CREATE TRIGGER note_changed AFTER UPDATE ON asset REFERENCING OLD TABLE AS removed NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION note_assets_changed();
"""
DROP = """
    DROP FUNCTION note_assets_added() CASCADE;
    DROP FUNCTION note_assets_removed() CASCADE;
    DROP FUNCTION note_assets_changed() CASCADE;
"""
# The owner counts what is there already: for a moment row-level security does not bind it (only it, in this transaction).
COUNT = f"""
    LOCK TABLE asset IN SHARE MODE;
    ALTER TABLE asset NO FORCE ROW LEVEL SECURITY;
    {INTO} SELECT gen_random_uuid(), tenant_id, dataset_id, {COUNTED} FROM asset GROUP BY tenant_id, dataset_id;
    ALTER TABLE asset FORCE ROW LEVEL SECURITY;
"""


class Migration(migrations.Migration):
    dependencies = [("datasets", "0004_moderation"), ("accounts", "0001_initial")]

    operations: list[Any] = [
        migrations.CreateModel(
            name="AssetTally",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid7, editable=False, primary_key=True, serialize=False),
                ),
                ("dataset_id", models.UUIDField()),
                ("assets", models.BigIntegerField(default=0)),
                ("ready", models.BigIntegerField(default=0)),
                ("failed", models.BigIntegerField(default=0)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "asset_tally",
                "abstract": False,
                "base_manager_name": "objects",
                "indexes": [models.Index(fields=["tenant", "dataset_id"], name="asset_tally_by_dataset")],
            },
        ),
        migrations.RunSQL(COUNT, migrations.RunSQL.noop),
        EnableTenancy("AssetTally"),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, DROP),
    ]
