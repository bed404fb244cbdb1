from django.db import migrations

TABLES = ("hash_entry", "shared_hash_entry")


def _set(storage: str) -> list[str]:
    return [f"ALTER TABLE {table} ALTER COLUMN content SET STORAGE {storage}" for table in TABLES]


class Migration(migrations.Migration):
    """Hashes do not compress; kept as they are, Postgres reads the first bytes of one without the rest."""

    dependencies = [("moderation", "0003_policy_life")]

    operations = [migrations.RunSQL(_set("EXTERNAL"), _set("EXTENDED"))]
