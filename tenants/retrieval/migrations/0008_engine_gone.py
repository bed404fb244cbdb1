from django.db import migrations, models

# Copies in pgvector (0004) were derived: who has one is searched in memory until a generation is built. The extension
# goes where it is ours to drop and nothing else uses it.
GONE = """
DROP SCHEMA IF EXISTS copies CASCADE;
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
               WHERE e.extname = 'vector' AND n.nspname = 'pgvector') THEN
        DROP EXTENSION vector;
        DROP SCHEMA pgvector;
    END IF;
EXCEPTION WHEN insufficient_privilege OR dependent_objects_still_exist THEN
    RAISE NOTICE 'the extension vector is not used any more; a superuser may drop it';
END $$
"""


class Migration(migrations.Migration):

    dependencies = [
        ('retrieval', '0007_embedding_maps'),
    ]

    operations = [
        migrations.RunSQL(GONE, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name='indexpointer',
            name='engine',
            field=models.CharField(default='memory', max_length=10),
        ),
    ]
