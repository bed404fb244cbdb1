"""`python -m standalone backup | restore | verify`: what `make backup` and `make restore` call."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from standalone import datadir
from standalone.backup import manifest
from standalone.backup.environment import attached
from standalone.backup.manifest import Manifest
from standalone.config import StackConfig
from standalone.errors import StackError


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def backup(config: StackConfig, to: str, keep_days: str) -> None:
    folder = Path(to or config.data_dir / "backups").resolve()
    given = _days(keep_days)
    begun = time.monotonic()
    os.umask(0o077)
    with attached(config) as env:
        start_django({**env, "DATA_DIR": str(config.data_dir)})
        from standalone.backup.create import make_backup, retention_days

        days = retention_days(given, say)
        made, described, expired = make_backup(folder, env, config.data_dir, days, say)
    for path in expired:
        say(f"removed {path.name}, older than {days} days")
    _warn(described)
    print(f"backup {made}\n{_sizes(described)}, {time.monotonic() - begun:.1f} s")


def _days(text: str) -> int | None:
    if text and not text.isdigit():
        raise StackError(f"KEEP_DAYS must be a number of days, not {text!r}.")
    return int(text) if text else None


def _warn(described: Manifest) -> None:
    for word, consequence in (
        ("missing", "were not there"),
        ("damaged", "have other bytes than their names say"),
    ):
        if paths := described.storage[word]:
            shown = ", ".join(paths[:3])
            say(
                f"warning: {len(paths)} stored files {consequence} ({shown} …): see `manage.py doctor --deep`"
            )


def _sizes(described: Manifest) -> str:
    stored = described.storage
    return (
        f"{described.rows} rows, {stored['files']} files of {stored['bytes'] / 1e6:.1f} MB, "
        f"of which {stored['new_files']} new ({stored['new_bytes'] / 1e6:.1f} MB)"
    )


def restore(config: StackConfig, source: str, *, force: bool) -> None:
    found = manifest.find(Path(source).resolve())
    say("checking every file of the backup")
    described = manifest.verify(found)
    blobs = config.data_dir / datadir.RESTORING / "blobs"
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        # Only storage and migrations of Django are used here; its database does not exist yet.
        unused = {
            "DATABASE_URL": "postgres://127.0.0.1:1/none",
            "REDIS_URL": "redis://127.0.0.1:1",
            "SECRET_KEY": "-",
        }
        storage = {"STORAGE_URL": config.environ.get("STORAGE_URL") or f"file://{blobs}"}
        start_django({**config.environ, **unused, **storage, "DATA_DIR": scratch})
        from standalone.backup.restore import Restoration

        Restoration(config, found, described, force, say).run()
    print(f"restored {found} to {config.data_dir}\n{_sizes(described)}, {time.monotonic() - begun:.1f} s")
    say("start it with `make run`")


def verify(source: str) -> None:
    """Print what every table and file digests to. Raises StackError for a damaged backup."""
    found = manifest.find(Path(source).resolve())
    described = manifest.verify(found)
    for name, table in described.tables.items():
        print(f"{table['sha256']}  {table['rows']:>9}  {name}")
    print(f"{described.sums_sha256}  {described.storage['files']:>9}  {manifest.SUMS}")
    print(f"intact: {found}, made {described.created_at} by {described.version}")
    print(_sizes(described))


def start_django(env: Mapping[str, str]) -> None:
    os.environ.update({**env, "DJANGO_SETTINGS_MODULE": "config.settings"})
    import django

    django.setup()
