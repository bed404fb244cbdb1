"""The schema of an empty database, kept once it has been migrated: for tests, which make many installations.

With CROSSLIGHT_SCHEMA_CACHE, a folder, an empty database is filled from a dump of what these sources have migrated
before, in a second or two instead of a quarter of a minute. Without it the migrations run, as everywhere else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from standalone.backup.database import LEFT_OUT, load, pg_command, view
from standalone.config import ROOT
from standalone.postgres import PROVISION
from standalone.processes import Spawner

VARIABLE = "CROSSLIGHT_SCHEMA_CACHE"
#: Whatever a migration may import.
SOURCES = ("tenants", "platform/config")


def migrate(env: Mapping[str, str], spawner: Spawner, log: Path, run_migrations: Callable[[], None]) -> None:
    """Bring the database of `env` up to date. `run_migrations` does so in any case."""
    folder = env.get(VARIABLE)
    if not folder or _has_tables(env):
        run_migrations()
        return
    kept = Path(folder) / f"{digest()}.dump"
    if kept.exists():
        with kept.open("rb") as dump:
            load(partial(shutil.copyfileobj, dump), env["MIGRATION_DATABASE_URL"], spawner, log)
        return
    run_migrations()
    _keep(kept, env, spawner, log)


def _has_tables(env: Mapping[str, str]) -> bool:
    with view(env["MIGRATION_DATABASE_URL"]) as there:
        return bool(there.tables())


def _keep(target: Path, env: Mapping[str, str], spawner: Spawner, log: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for outdated in target.parent.glob("*.dump"):
        outdated.unlink(missing_ok=True)
    # Several may do this at once: each has a whole one.
    partial_file = target.with_name(f".{target.name}.{os.getpid()}")
    options = ["--format=custom", "--compress=0", *LEFT_OUT, f"--file={partial_file}"]
    spawner.run(pg_command("pg_dump", env["OPERATOR_DATABASE_URL"], log, *options))
    partial_file.replace(target)


def digest() -> str:
    """Of all that a migration may be made of."""
    taken = hashlib.sha256()
    for path in _sources():
        taken.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return taken.hexdigest()[:32]


def _sources() -> Iterator[Path]:
    yield from (PROVISION, ROOT / "requirements.txt")
    for name in SOURCES:
        yield from sorted((ROOT / name).rglob("*.py"))
