"""`python -m standalone backup | restore | verify`: what `make backup` and `make restore` call."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from standalone import datadir
from standalone.backup import encryption, keys, manifest, point_in_time, signature
from standalone.backup.encryption import Contents
from standalone.backup.environment import attached
from standalone.backup.manifest import SECRETS, Manifest
from standalone.config import StackConfig
from standalone.errors import StackError


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def backup(config: StackConfig, to: str, keep_days: str) -> None:
    folder = Path(to or config.data_dir / "backups").resolve()
    given = _days(keep_days)
    # Before services are started: a mistake in it is told at once.
    encryption.encryption_of(config.environ)
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


def backup_keys(config: StackConfig) -> None:
    """Write the keys apart, without a backup: after an erasure, or a rotation."""
    path = keys.file_of(config.environ)
    if path is None:
        raise StackError(f"Set {keys.VARIABLE} to the file that the keys are to be written to.")
    os.umask(0o077)
    with attached(config) as env:
        keys.write(path, env["OPERATOR_DATABASE_URL"], env.get("MASTER_KEY_FILE", ""))
    print(f"keys {path}")


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


def backup_identity(path: str) -> None:
    """Make a pair of keys for encrypted backups, and print the public one."""
    public = encryption.make_identity(Path(path))
    say(f"Keep {path} apart from the installation and its backups: without it they cannot be restored.")
    print(public)


def restore(config: StackConfig, source: str, *, force: bool, unsigned: bool, to_time: str = "") -> None:
    """`to_time`: a moment between this backup and now, or `latest`; the backup's own without one."""
    to = point_in_time.moment(to_time) if to_time else None
    chain: list[Path] = []
    if to_time:
        point_in_time.check_restorable(config)
        chain = point_in_time.chain_of(point_in_time.choose(Path(source).resolve(), to))
    found = chain[-1] if chain else manifest.find(Path(source).resolve())
    say("checking every file of the backup")
    described = _verify(config, found, unsigned=unsigned)
    # Before anything is changed: its keys are looked for, and one file is opened with them.
    contents = _contents(config, found, described)
    # Of what it builds on, and of what came later, that is read which is taken from it.
    bases = [
        _contents(config, one, _verify(config, one, unsigned=unsigned, only=point_in_time.BASE_FILES))
        for one in chain[:-1]
    ]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        _start_for_restore(config, scratch)
        from standalone.backup.restore import Restoration, TimedRestoration

        if chain:
            later = [
                _contents(config, one, _verify(config, one, unsigned=unsigned, only=()))
                for one in manifest.complete_backups(found.parent)
                if one.name > found.name
            ]
            TimedRestoration(config, contents, described, force, say, [*bases, contents], later, to).run()
        else:
            Restoration(config, contents, described, force, say).run()
    moment = f" as of {to.isoformat() if to else 'the end of the archive'}" if chain else ""
    print(
        f"restored {found}{moment} to {config.data_dir}\n{_sizes(described)}, {time.monotonic() - begun:.1f} s"
    )
    if chain:
        say("make a backup soon after it runs: moments from then on are recovered from that one")
    say("start it with `make run`")


def _contents(config: StackConfig, folder: Path, described: Manifest) -> Contents:
    contents = Contents(folder, described, config.environ.get(encryption.IDENTITY, ""))
    contents.text(SECRETS)
    return contents


def _start_for_restore(config: StackConfig, scratch: str) -> None:
    """Only storage and migrations of Django are used here; its database does not exist yet."""
    blobs = config.data_dir / datadir.RESTORING / "blobs"
    unused = {
        "DATABASE_URL": "postgres://127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1",
        "SECRET_KEY": "-",
    }
    storage = {"STORAGE_URL": config.environ.get("STORAGE_URL") or f"file://{blobs}"}
    start_django({**config.environ, **unused, **storage, "DATA_DIR": scratch})


def _verify(
    config: StackConfig, found: Path, *, unsigned: bool, only: Collection[str] | None = None
) -> Manifest:
    """Signature and digests; says whose word it is. Raises StackError."""
    # A newer format first: its signature may be another, too.
    manifest.read_manifest(found)
    signer = config.environ.get(signature.SIGNER, "")
    key = signature.check(found, signer, unsigned=unsigned)
    if not key:
        say("warning: not signed: whether somebody changed it cannot be told")
    elif not signer:
        say(
            f"signed by {key}. Compare that with the key's id that you noted: without {signature.SIGNER} anybody's "
            "signature counts"
        )
    return manifest.verify(found, only)


def verify(config: StackConfig, source: str, *, unsigned: bool) -> None:
    """Print what every table and file digests to. Raises StackError for a damaged backup."""
    found = manifest.find(Path(source).resolve())
    described = _verify(config, found, unsigned=unsigned)
    for name, table in described.tables.items():
        print(f"{table['sha256']}  {table['rows']:>9}  {name}")
    print(f"{described.sums_sha256}  {described.storage['files']:>9}  {manifest.SUMS}")
    print(f"intact: {found}, made {described.created_at} by {described.version}")
    print(_sizes(described))


def start_django(env: Mapping[str, str]) -> None:
    os.environ.update({**env, "DJANGO_SETTINGS_MODULE": "config.settings"})
    import django

    django.setup()
