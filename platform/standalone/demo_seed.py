"""When the demo tenants are sown, and keeping demo.json true afterwards."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import psycopg2

from standalone.config import ROOT, StackConfig
from standalone.files import read_json, write_json
from standalone.processes import Command, Spawner
from standalone.progress import Progress, last_line

# The step, as people read it.
DEMO = "demo data"


def seed(config: StackConfig, spawner: Spawner, env: Mapping[str, str], progress: Progress) -> None:
    """Run the (idempotent) seeding where it is wanted; an interrupted one is taken up again."""
    unfinished = config.run_dir / "seeding"
    if not (unfinished.exists() or should_seed(config, env)):
        progress.skip(DEMO)
        refresh_base_url(config)
        return
    unfinished.touch()
    arguments, log = [sys.executable, "manage.py", "seed_demo"], config.log_dir / "seed_demo.log"
    with progress.step(DEMO, last_line(log)):
        spawner.run(Command(arguments, env, ROOT, log))
    unfinished.unlink(missing_ok=True)


def should_seed(config: StackConfig, env: Mapping[str, str]) -> bool:
    if config.seeds_demo is not None:
        return config.seeds_demo
    return config.embeds_postgres and is_empty(env)


def is_empty(env: Mapping[str, str]) -> bool:
    connection = psycopg2.connect(env["MIGRATION_DATABASE_URL"])
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT NOT EXISTS (SELECT FROM tenant)")
        return bool(cursor.fetchone()[0])
    finally:
        connection.close()


def refresh_base_url(config: StackConfig) -> None:
    """A later start may listen elsewhere than the one that wrote the file."""
    path = config.data_dir / "demo.json"
    demo = read_json(path)
    if demo and demo.get("base_url") != config.base_url:
        write_json(path, {**demo, "base_url": config.base_url})
