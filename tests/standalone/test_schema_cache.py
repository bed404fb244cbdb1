"""What is kept of a migrated database is used for the same sources only, and makes the same database."""

from __future__ import annotations

from pathlib import Path

import pytest

from standalone import schema_cache
from standalone.stack import embedded_services
from tests.standalone.test_backup import rows, shape


def test_any_change_of_a_source_asks_for_the_migrations_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tenants/a/migrations/0001.py", "platform/config/settings.py", "requirements.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(schema_cache, "ROOT", tmp_path)
    monkeypatch.setattr(schema_cache, "PROVISION", tmp_path / "requirements.txt")
    seen = [schema_cache.digest()]
    for name, text in (
        ("tenants/a/migrations/0001.py", "2"),
        ("tenants/a/migrations/0002.py", "1"),
        ("platform/config/settings.py", "2"),
        ("requirements.txt", "2"),
    ):
        (tmp_path / name).write_text(text)
        seen.append(schema_cache.digest())
    assert len(set(seen)) == 5
    (tmp_path / "tenants/a/migrations/0002.py").rename(tmp_path / "tenants/a/migrations/0003.py")
    assert schema_cache.digest() not in seen


@pytest.mark.slow
def test_a_database_of_the_cache_is_what_the_migrations_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each table's privileges, policies, constraints, indexes and triggers, each function, and how many rows it has."""
    monkeypatch.setenv(schema_cache.VARIABLE, str(tmp_path / "schema"))
    made = []
    for data_dir in (tmp_path / "migrated", tmp_path / "loaded"):
        with embedded_services(data_dir):
            held = {table: len(found) for table, found in rows(data_dir).items()}
            made.append((shape(data_dir), held, rows(data_dir, FUNCTIONS)))
        assert len(list((tmp_path / "schema").glob("*.dump"))) == 1
    assert (tmp_path / "migrated" / "log" / "migrate.log").exists()
    assert not (tmp_path / "loaded" / "log" / "migrate.log").exists()
    assert made[0] == made[1]
    assert len(made[0][0]) > 1000


FUNCTIONS = """
    SELECT 'function', pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '') FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f'
"""
