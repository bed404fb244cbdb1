from django.conf import settings
from django.db import connection, migrations

APPLICATION = connection.ops.quote_name(settings.DATABASES['default']['USER'])

# The extension is not a must. It lies in a schema of its own, as it brings a type with the name of a table of ours.
# Where it is not trusted only a superuser can make it: platform/standalone/provision.sql does.
EXTENSION = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector')
       AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
        CREATE SCHEMA IF NOT EXISTS pgvector;
        CREATE EXTENSION vector SCHEMA pgvector;
        GRANT USAGE ON SCHEMA pgvector TO {APPLICATION};
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'pgvector is not made: run platform/standalone/provision.sql as a superuser to have it.';
END $$
"""

SCHEMAS = f"""
CREATE SCHEMA copies;
GRANT USAGE ON SCHEMA copies TO {APPLICATION};
"""

# Every function takes the tenant from the setting that tenant_scope makes and from nothing else, and names all that it
# touches in full under a pinned search path. Whose table it is stands in the table's comment, which only its owner can
# write; what belongs to another tenant is as if it were not there.
FUNCTIONS = """
CREATE FUNCTION copies.active_tenant() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE tenant uuid := NULLIF(current_setting('app.tenant', true), '')::uuid;
BEGIN
    IF tenant IS NULL THEN
        RAISE EXCEPTION 'no tenant is set';
    END IF;
    RETURN tenant::text;
END $$;

CREATE FUNCTION copies.table_of(generation uuid) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT 'copy_' || translate(generation::text, '-', '') $$;

CREATE FUNCTION copies.is_mine(generation uuid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT COALESCE(
        obj_description(to_regclass('copies.' || copies.table_of(generation)), 'pg_class')
            = copies.active_tenant(), false)
$$;

CREATE FUNCTION copies.create_copy(generation uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant text := copies.active_tenant();
    name text := copies.table_of(generation);
    mine text := format('NULLIF(current_setting(''app.tenant'', true), '''')::uuid = %L::uuid', tenant);
BEGIN
    EXECUTE format(
        'CREATE TABLE copies.%I (seq bigint NOT NULL, asset_id uuid NOT NULL, dataset_id uuid NOT NULL, '
        'kind smallint NOT NULL, part smallint NOT NULL, embedding pgvector.halfvec(256) NOT NULL)', name);
    EXECUTE format('ALTER TABLE copies.%I ALTER COLUMN embedding SET STORAGE PLAIN', name);
    EXECUTE format('ALTER TABLE copies.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE copies.%I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY tenant_isolation ON copies.%I USING (%s) WITH CHECK (%s)', name, mine, mine);
    EXECUTE format('COMMENT ON TABLE copies.%I IS %L', name, tenant);
    EXECUTE format('GRANT SELECT, INSERT ON copies.%I TO APPLICATION', name);
END $$;

CREATE FUNCTION copies.index_copy(generation uuid, links integer, breadth integer, memory_mb integer, threads integer)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET maintenance_work_mem = '64MB' SET max_parallel_maintenance_workers = 0 AS $$
DECLARE name text := copies.table_of(generation);
BEGIN
    IF NOT copies.is_mine(generation) THEN
        RAISE EXCEPTION 'there is no such copy';
    END IF;
    PERFORM set_config('maintenance_work_mem', memory_mb || 'MB', true);
    PERFORM set_config('max_parallel_maintenance_workers', GREATEST(threads - 1, 0)::text, true);
    EXECUTE format('REVOKE INSERT ON copies.%I FROM APPLICATION', name);
    EXECUTE format('ALTER TABLE copies.%I ADD PRIMARY KEY (seq)', name);
    EXECUTE format('CREATE INDEX ON copies.%I (asset_id)', name);
    EXECUTE format('CREATE INDEX ON copies.%I (dataset_id, kind)', name);
    EXECUTE format(
        'CREATE INDEX ON copies.%I USING hnsw (embedding pgvector.halfvec_ip_ops) '
        'WITH (m = %s, ef_construction = %s)', name, links, breadth);
    EXECUTE format('ANALYZE copies.%I', name);
END $$;

CREATE FUNCTION copies.drop_copy(generation uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
BEGIN
    IF NOT copies.is_mine(generation) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE copies.%I', copies.table_of(generation));
    RETURN true;
END $$;

CREATE FUNCTION copies.list_copies() RETURNS TABLE (generation uuid, bytes bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT substr(c.relname, 6)::uuid, pg_total_relation_size(c.oid)
    FROM pg_class c
    WHERE c.relnamespace = 'copies'::regnamespace AND c.relkind = 'r'
      AND obj_description(c.oid, 'pg_class') = copies.active_tenant()
$$;
""".replace('APPLICATION', APPLICATION)

RIGHTS = f"""
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA copies FROM PUBLIC;
GRANT EXECUTE ON FUNCTION copies.create_copy, copies.index_copy, copies.drop_copy, copies.list_copies TO {APPLICATION}
"""


class Migration(migrations.Migration):

    dependencies = [
        ('retrieval', '0003_index_generations'),
    ]

    operations = [
        migrations.RunSQL(EXTENSION, migrations.RunSQL.noop),
        migrations.RunSQL(SCHEMAS, "DROP SCHEMA copies CASCADE"),
        migrations.RunSQL(FUNCTIONS, migrations.RunSQL.noop),
        migrations.RunSQL(RIGHTS, migrations.RunSQL.noop),
    ]
