"""Making a backup: consistent while the installation works, complete or not there at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from standalone import datadir
from standalone.backup import keys, manifest, point_in_time, signing_keys, wal
from standalone.backup.database import Snapshot, snapshot, view
from standalone.backup.encryption import Encryption, encryption_of
from standalone.backup.manifest import DUMP, FILES, MANIFEST, SECRETS, SIGNATURE, SUMS, Manifest, sha256
from standalone.backup.signature import Signed, message_of
from standalone.backup.stored_files import CopyReport, StorageCopier
from standalone.errors import StackError
from standalone.files import read_json, write_json
from standalone.processes import Spawner
from tenants.accounts import metering
from tenants.datasets.services import REMOVING_FILES
from tenants.errors import Unavailable as ServiceUnavailable
from tenants.moderation.record import signatures
from tenants.valkey import Unavailable

ATTEMPTS = 3
PARTIAL, REPLACED = ".partial", ".old"
LAST = "last-backup.json"
# A dump is smaller than its database; below this a start would fail only later, and less clearly.
MIN_FREE_MB = 100

Say = Callable[[str], None]


class SnapshotOutdated(Exception):
    """Files of the snapshot were removed before they were copied, by someone who did not wait for the backup."""


@dataclass
class BackupWriter:
    """Makes one backup of the installation that Django's settings describe."""

    folder: Path
    env: Mapping[str, str]
    data_dir: Path
    spawner: Spawner
    say: Say

    @property
    def keys_apart(self) -> Path | None:
        return keys.file_of(self.env)

    def __post_init__(self) -> None:
        self.encryption = encryption_of(self.env)

    def make(self) -> Path:
        """The finished backup's folder. Raises StackError; then nothing is there that looks like a backup."""
        datadir.check_space(self.folder, MIN_FREE_MB)
        self._flush_usage()
        self.ring = self._signing_keys()
        name = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        target, partial = self.folder / name, self.folder / f".{name}{PARTIAL}"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._fill(partial)
                break
            except SnapshotOutdated as error:
                self.say(f"starting anew: {error}")
                if attempt == ATTEMPTS:
                    raise StackError(f"Gave up after {ATTEMPTS} attempts: {error}") from error
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        if self.keys_apart:
            # Later than the snapshot: whatever it is encrypted under is there.
            keys.write(self.keys_apart, self.env["OPERATOR_DATABASE_URL"], settings.MASTER_KEY_FILE)
        # On the disk before it has a name: else a power cut could leave a whole-looking folder of empty files.
        os.sync()
        partial.rename(target)
        return target

    def _signing_keys(self) -> signatures.KeyRing | None:
        """Before the snapshot, so that a key which is made now is in the backup; None where nothing can sign."""
        try:
            return signatures.key_ring()
        except DatabaseError:
            self.say("warning: not signed, as the database is of a release that did not sign")
        except ServiceUnavailable as error:
            self.say(f"warning: not signed, and only restored with UNSIGNED=1: {error}")
        return None

    def _flush_usage(self) -> None:
        try:
            metering.flush()
        except Unavailable:
            self.say("Valkey is away: usage of the last half minute is not in this backup")

    def _fill(self, partial: Path) -> None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        with snapshot(self.env["OPERATOR_DATABASE_URL"], REMOVING_FILES) as seen:
            self.say("database")
            apart = (keys.TABLE,) if self.keys_apart else ()
            self._dump(seen, partial, apart)
            tables = seen.digests(apart)
            self.say("files")
            copied = self._copy_files(seen, partial)
            self._take_base(partial)
            self._finish(seen, partial, tables, copied)
            # Had this session broken off, files could have gone unnoticed.
            seen.value("SELECT 1")

    def _dump(self, seen: Snapshot, partial: Path, apart: tuple[str, ...]) -> None:
        log, target = self.data_dir / "log" / "backup.log", partial / f"{DUMP}{self.encryption.suffix}"
        with seen.dump(self.spawner, log, apart) as dumped, target.open("wb") as sink:
            self.encryption.copy(dumped, sink)

    def _take_base(self, partial: Path) -> None:
        if not self.env.get(wal.VARIABLE):
            return
        self.say("base backup")
        name = partial.name.removeprefix(".").removesuffix(PARTIAL)
        point_in_time.take_base(partial, name, self.folder, self.data_dir, self.spawner, self.encryption)

    def _copy_files(self, seen: Snapshot, partial: Path) -> CopyReport:
        previous = next(reversed(manifest.complete_backups(self.folder)), None)
        known = _known_files(previous, self.encryption) if previous else {}
        (partial / FILES).mkdir(mode=0o700)
        copied = StorageCopier(seen, partial / FILES, previous, known, self.encryption).run()
        if gone := self._gone_since(copied.missing):
            raise SnapshotOutdated(f"{gone} files were removed while they were copied")
        return copied

    def _gone_since(self, missing: list[str]) -> int:
        """Of the files that were not there: how many have no row any more, and so were there at the snapshot."""
        if not missing:
            return 0
        with view(self.env["OPERATOR_DATABASE_URL"]) as now:
            statement = "SELECT count(*) FROM blob WHERE tenant_id::text || '/' || sha256 = ANY(%s)"
            names = [f"{path.split('/')[0]}/{path.rsplit('/', 1)[1]}" for path in missing]
            return len(missing) - int(now.value(statement, (names,)))

    def _finish(self, seen: Snapshot, partial: Path, tables: dict[str, Any], copied: CopyReport) -> None:
        secrets = {**datadir.load_secrets(self.data_dir), "secret_key": settings.SECRET_KEY}
        put = self.encryption
        put.write_json(partial / SECRETS, secrets)
        if settings.MASTER_KEY_FILE and not self.keys_apart:
            put.write(partial / datadir.MASTER_KEY, Path(settings.MASTER_KEY_FILE).read_text())
        if signing := signing_keys.read_keys(settings.PROVENANCE_DIR):
            put.write_json(partial / signing_keys.FILE, signing)
        demo = self.data_dir / "demo.json"
        if demo.exists():
            put.write_json(partial / demo.name, read_json(demo))
        for path in sorted(partial.iterdir()):
            if path.is_file():
                copied.sums[path.name] = sha256(path)
        _write_sums(partial / SUMS, copied.sums)
        described = Manifest(
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            version=version("crosslight"),
            postgres=str(seen.value("SHOW server_version")),
            migrations=seen.migrations(),
            tables=tables,
            storage=copied.summary(),
            sums_sha256=sha256(partial / SUMS),
            recipients=list(self.encryption.recipients),
        )
        (partial / MANIFEST).write_text(described.to_json())
        if self.ring:
            (partial / SIGNATURE).write_text(_signed(self.ring, described).to_json())


def _signed(ring: signatures.KeyRing, described: Manifest) -> Signed:
    made = ring.sign(message_of(described.to_json()))
    return Signed(made.key_id, ring.public[0].pem, made.value)


def _known_files(previous: Path, encryption: Encryption) -> dict[str, str]:
    """What may be linked: nothing of a backup that other keys open, as this one would then need them, too."""
    described = manifest.read_manifest(previous)
    if set(described.recipients) != set(encryption.recipients):
        return {}
    found = {
        name.removeprefix(f"{FILES}/").removesuffix(encryption.suffix): digest
        for name, digest in manifest.read_sums(previous)
        if name.startswith(f"{FILES}/")
    }
    for damaged in described.storage["damaged"]:
        found.pop(damaged, None)
    return found


def _write_sums(path: Path, sums: Mapping[str, str]) -> None:
    with path.open("w") as file:
        file.writelines(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def make_backup(
    folder: Path, env: Mapping[str, str], data_dir: Path, keep_days: int, say: Say
) -> tuple[Path, Manifest, list[Path]]:
    """A new backup in `folder`, its manifest, and the expired ones that were removed."""
    with datadir.permissions_explained():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (data_dir / "log").mkdir(parents=True, exist_ok=True)
    with datadir.disk_full_explained(folder), exclusively(folder):
        clear_leftovers(folder)
        made = BackupWriter(folder, env, data_dir, Spawner(), say).make()
        described = manifest.read_manifest(made)
        note = {"path": str(made), "created_at": described.created_at, "keep_days": keep_days}
        note |= {"encrypted": bool(described.recipients), "signed": (made / SIGNATURE).exists()}
        write_json(data_dir / LAST, {**note, "missing": len(described.storage["missing"])})
        expired = prune(folder, keep_days)
        if url := env.get(wal.VARIABLE):
            point_in_time.prune_archive(url, folder)
        return made, described, expired


@contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """One backup into a folder at a time: what another one has not finished looks like a leftover."""
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StackError(f"Another backup into {folder} is being made.") from error
    finally:
        os.close(handle)


def clear_leftovers(folder: Path) -> None:
    """What killed backups left behind."""
    for pattern in (f".*{PARTIAL}", f".*{REPLACED}"):
        for path in folder.glob(pattern):
            shutil.rmtree(path)


def prune(folder: Path, keep_days: int) -> list[Path]:
    """Remove backups older than so many days, never the newest."""
    limit = datetime.now(UTC) - timedelta(days=keep_days)
    expired = [path for path in manifest.complete_backups(folder)[:-1] if _is_older(path, limit)]
    for path in expired:
        # Out of sight first: a half-removed backup must not look like one.
        hidden = path.with_name(f".{path.name}{REPLACED}")
        path.rename(hidden)
        shutil.rmtree(hidden)
    return expired


def retention_days(given: int | None, say: Say) -> int:
    """For how many days backups are kept; says so where that is longer than what erasure receipts promise."""
    promised = int(settings.BACKUP_KEEP_DAYS)
    if given is not None and given > promised:
        say(f"warning: erasure receipts promise that backups expire after {promised} days (BACKUP_KEEP_DAYS)")
    return promised if given is None else given


def _is_older(path: Path, limit: datetime) -> bool:
    try:
        return manifest.read_manifest(path).created < limit
    except StackError:
        return False
