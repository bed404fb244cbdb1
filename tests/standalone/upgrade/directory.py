"""Put back what a machine of a former release left when it was switched off, as if that had been a moment ago."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import psycopg2
import redis

from standalone.postgres import binary
from standalone.stack import embedded_services

ARCHIVE = Path(__file__).with_name("directory-0.1.0.tar.xz")
# So long the leases of its workers still hold.
LEASE_S = 3.0
# Lines of the record and their seals are signed with their times.
SEALED = ("moderation_record", "moderation_seal", "moderation_clock")


def read_told(archive: Path = ARCHIVE) -> dict[str, Any]:
    """What the program that made the directory noted about it."""
    with tarfile.open(archive) as packed:
        file = packed.extractfile("told.json")
        assert file
        return dict(json.load(file))


def put_back(data_dir: Path, archive: Path = ARCHIVE) -> dict[str, Any]:
    """Fill an empty folder with the directory; what its program noted about it."""
    packed = data_dir.parent / "packed"
    with tarfile.open(archive) as file:
        file.extractall(packed, filter="data")
    (packed / "data").rename(data_dir)
    told = json.loads((packed / "told.json").read_text())
    age = time.time() - told["dumped_at"]
    # What looks after unused files goes by their age.
    for path in data_dir.rglob("*"):
        known = path.stat()
        os.utime(path, (known.st_atime + age, known.st_mtime + age))
    for facts in data_dir.glob("uploads/*/*.json"):
        known = json.loads(facts.read_text())
        facts.write_text(json.dumps({**known, "expires_at": known["expires_at"] + age}))
    with embedded_services(data_dir, throwaway=False, migrated=False) as services:
        _load(data_dir, packed / "database.sql", age)
        _fill_valkey(services.env["REDIS_URL"], packed / "valkey.json")
    return told


def _load(data_dir: Path, dump: Path, age: float) -> None:
    password = json.loads((data_dir / "secrets.json").read_text())["superuser_password"]
    port = json.loads((data_dir / "run" / "ports.json").read_text())["postgres"]
    where = {"host": "127.0.0.1", "port": port, "user": "crosslight_admin", "password": password}
    for statement in (
        "DROP DATABASE crosslight WITH (FORCE)",
        "CREATE DATABASE crosslight OWNER crosslight_owner",
    ):
        _run(where, "postgres", statement)
    url = f"host=127.0.0.1 port={port} user=crosslight_admin dbname=crosslight"
    load = [str(binary("psql")), "-qXAt", "-v", "ON_ERROR_STOP=1", "-1", "-f", str(dump), "-d", url]
    done = subprocess.run(
        load, check=False, env={"PGPASSWORD": password}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    _run(where, "crosslight", YOUNGER.format(age=age, sealed=list(SEALED)))
    _run(where, "crosslight", LEASED.format(lease=LEASE_S))


def _run(where: dict[str, Any], database: str, statement: str) -> None:
    connection = psycopg2.connect(**where, dbname=database)
    connection.autocommit = True
    try:
        connection.cursor().execute(statement)
    finally:
        connection.close()


# Sessions, claims, deliveries and receipts expire: every time but the signed ones moves with the directory.
YOUNGER = """
DO $$
DECLARE found record;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR found IN
        SELECT c.table_name, string_agg(format('%I = %I + interval ''{age} seconds''', column_name, column_name), ', ')
            AS changes
        FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
        WHERE table_schema = 'public' AND data_type = 'timestamp with time zone' AND table_type = 'BASE TABLE'
            AND NOT c.table_name = ANY (ARRAY{sealed!r}::text[])
        GROUP BY c.table_name
    LOOP
        EXECUTE format('UPDATE public.%I SET %s', found.table_name, found.changes);
    END LOOP;
END $$
"""
LEASED = """
    UPDATE public.job SET lease_until = now() + interval '{lease} seconds' WHERE state = 'running';
    UPDATE public.job_dispatch SET due_at = now() + interval '{lease} seconds'
        WHERE job_id IN (SELECT id FROM public.job WHERE state = 'running');
"""


def _fill_valkey(url: str, kept: Path) -> None:
    valkey = redis.Redis.from_url(url)
    for key, (dump, ttl) in json.loads(kept.read_text()).items():
        valkey.restore(base64.b64decode(key), ttl, base64.b64decode(dump), replace=True)
