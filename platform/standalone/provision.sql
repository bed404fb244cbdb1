-- Roles and database of Crosslight. Idempotent; run by a superuser with psql 16 or newer, connected to any
-- database of the server (the stack does so with its embedded Postgres at every start):
--
--   OWNER_PASSWORD=… APP_PASSWORD=… OPERATOR_ROLE_PASSWORD=… psql -v ON_ERROR_STOP=1 -f platform/standalone/provision.sql postgres
--
-- crosslight_owner     owns the database and its tables; migrations only (MIGRATION_DATABASE_URL)
-- crosslight_app       the application; owns nothing, so that row-level security binds it (DATABASE_URL)
-- crosslight_operator  work across tenants, past row-level security (OPERATOR_DATABASE_URL): only processes that need
--                      it have its password, and nobody can switch to it
-- crosslight_lexical   owns one function, which reads the lexical index of the tenant that is set; sees no other
--                      table, nobody logs in as it, and only the owner can make functions its own

\getenv owner_password OWNER_PASSWORD
\getenv app_password APP_PASSWORD
\getenv operator_password OPERATOR_ROLE_PASSWORD
\if :{?operator_password}
\else
DO $$ BEGIN RAISE 'Set OWNER_PASSWORD, APP_PASSWORD and OPERATOR_ROLE_PASSWORD (docs/operating.md).'; END $$;
\endif

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['crosslight_owner', 'crosslight_app', 'crosslight_operator', 'crosslight_lexical']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

ALTER ROLE crosslight_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'owner_password';
ALTER ROLE crosslight_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'app_password';
ALTER ROLE crosslight_operator LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE BYPASSRLS PASSWORD :'operator_password';
ALTER ROLE crosslight_lexical NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE BYPASSRLS;
-- A host that is cut off in the middle of a transaction holds its locks, and so the job that another one is to take up:
-- for no longer than a lease, where TCP alone would take hours. Not by the session, which behind a pooler is anybody's.
ALTER ROLE crosslight_app SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE crosslight_app SET tcp_keepalives_idle = 10;
ALTER ROLE crosslight_app SET tcp_keepalives_interval = 5;
ALTER ROLE crosslight_app SET tcp_keepalives_count = 3;
ALTER ROLE crosslight_app SET tcp_user_timeout = '25s';
-- Earlier releases let the application switch to the operator's role. By grantor: a plain REVOKE leaves others' grants.
SELECT format('REVOKE crosslight_operator FROM %I GRANTED BY %I', pg_get_userbyid(member), pg_get_userbyid(grantor))
FROM pg_auth_members WHERE roleid = 'crosslight_operator'::regrole
\gexec
-- A member inherits rights on the function, and not BYPASSRLS, which is never inherited.
GRANT crosslight_lexical TO crosslight_owner WITH INHERIT TRUE, SET TRUE;

SELECT 'CREATE DATABASE crosslight OWNER crosslight_owner'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'crosslight')
\gexec

REVOKE ALL ON DATABASE crosslight FROM PUBLIC;
GRANT CONNECT ON DATABASE crosslight TO crosslight_app, crosslight_operator;

\connect crosslight

ALTER SCHEMA public OWNER TO crosslight_owner;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO crosslight_app, crosslight_operator;
-- CREATE, as Postgres asks it of whoever is to own a function: in a migration, and when a backup is restored.
GRANT USAGE, CREATE ON SCHEMA public TO crosslight_lexical;
ALTER DEFAULT PRIVILEGES FOR ROLE crosslight_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO crosslight_app, crosslight_operator;
ALTER DEFAULT PRIVILEGES FOR ROLE crosslight_owner IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO crosslight_app, crosslight_operator;
