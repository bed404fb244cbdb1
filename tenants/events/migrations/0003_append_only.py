from django.db import migrations, models

# The application may add to the audit log and read it. Only work across tenants (operator_scope) may change it: to
# erase a tenant, or a person's name.
REVOKE = """
DO $$
DECLARE name text;
BEGIN
    FOR name IN
        SELECT g.grantee FROM information_schema.role_table_grants g
        JOIN pg_roles r ON r.rolname = g.grantee
        JOIN pg_tables t ON t.schemaname = g.table_schema AND t.tablename = g.table_name
        WHERE g.table_schema = 'public' AND g.table_name = 'audit_event' AND g.privilege_type = 'UPDATE'
          AND NOT r.rolbypassrls AND NOT r.rolsuper AND g.grantee <> t.tableowner
    LOOP
        EXECUTE format('REVOKE UPDATE, DELETE ON audit_event FROM %I', name);
    END LOOP;
END $$
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_people'),
        ('events', '0002_erasures_and_exports'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='auditevent',
            index=models.Index(fields=['tenant', 'verb', '-id'], name='audit_event_by_verb'),
        ),
        migrations.AddIndex(
            model_name='auditevent',
            index=models.Index(fields=['tenant', 'actor', '-id'], name='audit_event_by_actor'),
        ),
        migrations.RunSQL(REVOKE, migrations.RunSQL.noop),
    ]
