"""Legal holds, and the triggers that refuse to delete what is held, whoever asks."""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from uuid_utils.compat import uuid7

from tenants.scope import EnableTenancy

# As the role that deletes: row-level security shows it the holds of the tenant whose rows it sees. One look a statement.
FUNCTIONS = """
    CREATE FUNCTION refuse_held_assets() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT 1 FROM legal_hold AS hold WHERE hold.released_at IS NULL AND EXISTS (
            SELECT 1 FROM removed WHERE removed.tenant_id = hold.tenant_id
                AND (hold.dataset_id IS NULL OR hold.dataset_id = removed.dataset_id)))
        THEN RAISE EXCEPTION 'an asset is under legal hold: release the hold first'
            USING ERRCODE = 'restrict_violation', TABLE = 'legal_hold';
        END IF;
        RETURN NULL;
    END $$;
    CREATE FUNCTION refuse_held_datasets() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT 1 FROM legal_hold AS hold WHERE hold.released_at IS NULL AND EXISTS (
            SELECT 1 FROM removed WHERE removed.tenant_id = hold.tenant_id
                AND (hold.dataset_id IS NULL OR hold.dataset_id = removed.id)))
        THEN RAISE EXCEPTION 'a dataset is under legal hold: release the hold first'
            USING ERRCODE = 'restrict_violation', TABLE = 'legal_hold';
        END IF;
        RETURN NULL;
    END $$;
    CREATE FUNCTION keep_legal_hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP = 'DELETE' OR NEW.released_at IS NULL
            OR (NEW.tenant_id, NEW.dataset_id) IS DISTINCT FROM (OLD.tenant_id, OLD.dataset_id)
        THEN RAISE EXCEPTION 'a legal hold that stands is only released'
            USING ERRCODE = 'restrict_violation', TABLE = 'legal_hold';
        END IF;
        RETURN NEW;
    END $$;
    CREATE FUNCTION keep_held_keys() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        active text := current_setting('app.tenant', true);
        held boolean;
    BEGIN
        -- Keys are destroyed in no tenant's scope, where row-level security shows no hold.
        PERFORM set_config('app.tenant', OLD.owner::text, true);
        SELECT EXISTS (SELECT 1 FROM legal_hold WHERE tenant_id = OLD.owner AND released_at IS NULL) INTO held;
        PERFORM set_config('app.tenant', coalesce(active, ''), true);
        IF held
        THEN RAISE EXCEPTION 'the tenant of this data key is under legal hold: release the hold first'
            USING ERRCODE = 'restrict_violation', TABLE = 'legal_hold';
        END IF;
        IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
        RETURN NEW;
    END $$;
"""
TRIGGERS = """
    CREATE TRIGGER refuse_held AFTER DELETE ON asset REFERENCING OLD TABLE AS removed
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_held_assets();
    CREATE TRIGGER refuse_held AFTER DELETE ON dataset REFERENCING OLD TABLE AS removed
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_held_datasets();
    CREATE TRIGGER keep_hold BEFORE UPDATE OR DELETE ON legal_hold FOR EACH ROW
        WHEN (OLD.released_at IS NULL) EXECUTE FUNCTION keep_legal_hold();
    CREATE TRIGGER keep_destroyed BEFORE UPDATE ON data_key FOR EACH ROW
        WHEN (OLD.owner IS NOT NULL AND NEW.state = 'destroyed' AND OLD.state <> 'destroyed')
        EXECUTE FUNCTION keep_held_keys();
    CREATE TRIGGER keep_deleted BEFORE DELETE ON data_key FOR EACH ROW
        WHEN (OLD.owner IS NOT NULL) EXECUTE FUNCTION keep_held_keys();
"""
DROP = """
    DROP FUNCTION refuse_held_assets() CASCADE;
    DROP FUNCTION refuse_held_datasets() CASCADE;
    DROP FUNCTION keep_legal_hold() CASCADE;
    DROP FUNCTION keep_held_keys() CASCADE;
"""


class Migration(migrations.Migration):
    dependencies = [("datasets", "0013_narrowing"), ("accounts", "0016_data_key")]

    operations: list[Any] = [
        migrations.CreateModel(
            name="LegalHold",
            fields=[
                ("id", models.UUIDField(default=uuid7, editable=False, primary_key=True, serialize=False)),
                ("dataset_id", models.UUIDField(blank=True, null=True)),
                ("reason", models.TextField()),
                ("reference", models.CharField(blank=True, default="", max_length=200)),
                ("set_by", models.CharField(max_length=100)),
                ("by_operator", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("released_at", models.DateTimeField(blank=True, null=True)),
                ("released_by", models.CharField(blank=True, default="", max_length=100)),
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
                "db_table": "legal_hold",
                "abstract": False,
                "base_manager_name": "objects",
                "indexes": [
                    models.Index(
                        condition=models.Q(("released_at", None)),
                        fields=["tenant", "dataset_id"],
                        name="legal_hold_standing",
                    )
                ],
            },
        ),
        EnableTenancy("LegalHold"),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, DROP),
    ]
