"""Recovery to a point in time: base backups of the cluster, and restoring one with the archived log up to a moment.

With WAL_ARCHIVE set, each backup also holds a base backup of the cluster, incremental to the one before it in the same
folder (PostgreSQL 18, 25.3: continuous archiving; 25.3.3: incremental backups):

    base.tar.gz      pg_basebackup's tar of the data directory, without the log
    base.json        when it ended, from which segment of the log it recovers, and the backup that it builds on; plain
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from standalone import datadir
from standalone.backup import manifest, wal
from standalone.backup.database import connected, pg_command
from standalone.backup.encryption import IDENTITY, Contents, Encryption, private_keys
from standalone.config import ROOT, StackConfig
from standalone.errors import StackError
from standalone.files import read_json, write_json
from standalone.logs import tail
from standalone.postgres import SUPERUSER, Postgres, binary, wal_command
from standalone.processes import Command, Spawner
from standalone.stack import wait_until
from tenants.age import SUFFIX

BASE, BASE_NOTE, BASE_MANIFESTS = "base.tar.gz", "base.json", "base-manifests"
# As they stand in a backup's sums.
BASE_FILES = (BASE, f"{BASE}{SUFFIX}", BASE_NOTE)
# A full base backup a week, of nightly ones: an old one goes when its days are over, and takes what builds on it along.
CHAIN = 7
LATEST = "latest"
# To the consistent state and on to the moment: some minutes a day of log.
RECOVERY_TIMEOUT_S = 6 * 3600.0
ARCHIVE_TIMEOUT_S = 120.0
SHOWN = 3


@dataclass(frozen=True)
class Base:
    """One base backup. `builds_on` is the name of the backup that it is incremental to, or empty."""

    ended_at: str
    first_segment: str
    builds_on: str

    @property
    def ended(self) -> datetime:
        return datetime.fromisoformat(self.ended_at)


def read_base(backup: Path) -> Base | None:
    note = read_json(backup / BASE_NOTE)
    return Base(**note) if note else None


def chain_of(backup: Path) -> list[Path]:
    """The full base backup first, this one last; empty where one of them has gone."""
    found: list[Path] = []
    while True:
        base = read_base(backup)
        if base is None:
            return []
        found.insert(0, backup)
        if not base.builds_on:
            return found
        backup = backup.with_name(base.builds_on)


def superuser_url(data_dir: Path) -> str:
    """Of the embedded cluster: no other role may take base backups."""
    password = datadir.load_secrets(data_dir)["superuser_password"]
    port = read_json(data_dir / "run" / "ports.json")["postgres"]
    return f"postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/postgres"


def _first_segment(base: Path) -> str:
    """From which segment the tar of a base backup recovers, as its backup_label says."""
    with tarfile.open(base, "r|gz") as tar:
        for member in tar:
            if member.name == "backup_label" and (content := tar.extractfile(member)):
                return content.read().decode().split("(file ", 1)[1].split(")", 1)[0]
    raise StackError(f"{base} has no backup_label: it is no base backup.")


def take_base(
    target: Path, name: str, folder: Path, data_dir: Path, spawner: Spawner, encryption: Encryption
) -> None:
    """A base backup of the embedded cluster into the folder `target`, of the backup `name` that is made in `folder`.

    Raises StackError, also where the archive does not take the log: a base backup without it is good for nothing.
    """
    url = superuser_url(data_dir)
    await_archive(url)
    before = _previous(folder, data_dir)
    scratch = data_dir / "run" / "base"
    shutil.rmtree(scratch, ignore_errors=True)
    options = [f"--pgdata={scratch}", "--format=tar", "--compress=client-gzip:1", "--checkpoint=fast"]
    options += ["--wal-method=none", "--manifest-checksums=SHA256", "--no-sync", "--no-password"]
    if before:
        options.append(f"--incremental={_manifest_of(before.name, data_dir)}")
    try:
        spawner.run(pg_command("pg_basebackup", url, data_dir / "log" / "backup.log", *options))
        note = Base(
            ended_at=datetime.now(UTC).isoformat(),
            first_segment=_first_segment(scratch / BASE),
            builds_on=before.name if before else "",
        )
        with (
            (scratch / BASE).open("rb") as source,
            (target / f"{BASE}{encryption.suffix}").open("wb") as sink,
        ):
            encryption.copy(source, sink)
        _keep_manifest(scratch / "backup_manifest", name, before, data_dir)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    write_json(target / BASE_NOTE, asdict(note))


def _manifest_of(name: str, data_dir: Path) -> Path:
    """Beside the cluster and plain, as the next base backup is compared with it: names and digests of files."""
    return data_dir / BASE_MANIFESTS / name


def _keep_manifest(made: Path, name: str, before: Path | None, data_dir: Path) -> None:
    target = _manifest_of(name, data_dir)
    target.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.move(made, target)
    for path in target.parent.iterdir():
        if path.name not in (name, before and before.name):
            path.unlink()


def await_archive(url: str) -> None:
    """Finish a segment and wait for it: a base backup would wait for ever where the archive does not take the log."""
    with connected(url) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SELECT pg_logical_emit_message(false, 'crosslight', 'backup')")
        cursor.execute("SELECT pg_walfile_name(pg_switch_wal())")
        (wanted,) = cursor.fetchone()

        def is_archived() -> bool:
            cursor.execute("SELECT last_archived_wal FROM pg_stat_archiver")
            newest = cursor.fetchone()[0] or ""
            return bool(newest[:24] >= wanted)

        wait_until(
            is_archived,
            ARCHIVE_TIMEOUT_S,
            lambda: (
                f"{wal.VARIABLE} does not take {wanted}: log/postgres.log says why. The backup was not made."
            ),
        )


def _previous(folder: Path, data_dir: Path) -> Path | None:
    """What the next base backup builds on; None where it has to be a full one."""
    newest = next(reversed(manifest.complete_backups(folder)), None)
    if newest is None or not _manifest_of(newest.name, data_dir).exists():
        return None
    return newest if 0 < len(chain_of(newest)) < CHAIN else None


def prune_archive(url: str, folder: Path) -> int:
    """Remove from the archive what no base backup in the folder needs any more. How many segments went."""
    bases = [base for backup in manifest.complete_backups(folder) if (base := read_base(backup))]
    if not bases:
        return 0
    return wal.open_archive(url).remove_before(
        min((base.first_segment for base in bases), key=lambda s: s[8:])
    )


def moment(text: str) -> datetime | None:
    """Of an ISO 8601 time, UTC where it has no zone; None for `latest`. Raises StackError."""
    if text == LATEST:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise StackError(
            f"TO_TIME is a time such as 2026-11-30T14:05:00+00:00, or `{LATEST}`, not {text!r}."
        ) from error
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if found > datetime.now(UTC):
        raise StackError(f"TO_TIME {text} has not come yet. `{LATEST}` restores all that was archived.")
    return found


def check_restorable(config: StackConfig) -> None:
    """Raises StackError where nothing can be recovered to a moment."""
    if not config.embeds_postgres:
        raise StackError(
            "TO_TIME restores the embedded Postgres. One of DATABASE_URL is recovered with what archives its log."
        )
    if not config.environ.get(wal.VARIABLE):
        raise StackError(f"Set {wal.VARIABLE} to the archive that the installation wrote its log to.")


def choose(folder: Path, to: datetime | None) -> Path:
    """The newest backup with a base that ended before the moment, of a folder of backups or one itself."""
    given = [folder] if (folder / manifest.MANIFEST).exists() else manifest.complete_backups(folder)
    based = [backup for backup in given if chain_of(backup)]
    if not based:
        raise StackError(
            f"No backup in {folder} has a base backup: they are made with {wal.VARIABLE} set (docs/operating.md)."
        )
    ended = {backup: base.ended for backup in based if (base := read_base(backup))}
    fitting = [backup for backup in based if to is None or ended[backup] <= to]
    if not fitting:
        raise StackError(
            f"The oldest base backup in {folder} ended at {min(ended.values()).isoformat(timespec='seconds')}: "
            "choose a later TO_TIME."
        )
    return fitting[-1]


@dataclass
class Recovery:
    """Base backups and the archived log, made into a cluster that has been recovered and is stopped.

    `folder` is the data directory that is being built: its secrets.json is there, its `postgres` is made here. The
    timeline is the base backup's: a moment is what the clock said then, whatever was restored later.
    """

    config: StackConfig
    folder: Path
    bases: Sequence[Contents]
    to: datetime | None
    say: Callable[[str], None]

    def run(self) -> None:
        """Raises StackError that says how far the log reaches, if not to the moment."""
        datadir.create(self.folder)
        self.say(f"base backups: {len(self.bases)}")
        self._combine()
        postgres = self._postgres()
        for path in (self.cluster, *self.cluster.rglob("*")):
            if postgres.identity.user:
                shutil.chown(path, postgres.identity.user)
        configured = self._configure()
        self.say(f"the log, to {self.to.isoformat() if self.to else 'its end'}")
        self._replay(postgres)
        # Neither outlives the recovery: they would stand above what the stack says.
        (self.cluster / "postgresql.auto.conf").write_text(configured)

    @property
    def cluster(self) -> Path:
        return self.folder / "postgres"

    def _combine(self) -> None:
        parts = self.folder / "bases"
        for path in (parts, self.cluster):
            shutil.rmtree(path, ignore_errors=True)
        for number, base in enumerate(self.bases):
            (parts / str(number)).mkdir(parents=True, mode=0o700)
            with base.opened(BASE, parts) as file, tarfile.open(fileobj=file, mode="r|gz") as tar:
                tar.extractall(parts / str(number), filter="tar")
        if len(self.bases) == 1:
            (parts / "0").rename(self.cluster)
        else:
            log = self.config.log_dir / "restore.log"
            inputs = [str(parts / str(number)) for number in range(len(self.bases))]
            arguments = [
                str(binary("pg_combinebackup")),
                "--no-manifest",
                *inputs,
                f"--output={self.cluster}",
            ]
            Spawner().run(Command(arguments, dict(os.environ), ROOT, log))
        shutil.rmtree(parts)

    def _postgres(self) -> Postgres:
        secrets = read_json(self.folder / manifest.SECRETS)
        config = StackConfig(self.folder, self.config.host, self.config.port, self.config.environ)
        return Postgres(config, secrets, Spawner(), throwaway=False)

    def _configure(self) -> str:
        """What the cluster's postgresql.auto.conf said before."""
        path = self.cluster / "postgresql.auto.conf"
        before = path.read_text() if path.exists() else ""
        settings = {
            "restore_command": wal_command("fetch", "%f", "%p"),
            "recovery_target_timeline": "current",
            "recovery_target_action": "promote",
            # Nobody is answered before the recovery is over.
            "hot_standby": "off",
        }
        if self.to:
            settings["recovery_target_time"] = self.to.isoformat()
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items()]
        path.write_text(before + "".join(lines))
        (self.cluster / "recovery.signal").touch(mode=0o600)
        return before

    def _replay(self, postgres: Postgres) -> None:
        command = postgres.program().command
        environment = {
            **command.env,
            **self._pending(),
            wal.IDENTITIES_VARIABLE: ",".join(self._identities()),
        }
        spawner = Spawner()
        child = spawner.spawn(replace(command, env=environment))
        try:
            wait_until(
                lambda: self._is_over(child, postgres, command.log),
                RECOVERY_TIMEOUT_S,
                lambda: tail(command.log),
            )
        finally:
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGINT)
            child.wait(60)
            spawner.forget(child)

    def _pending(self) -> dict[str, str]:
        """Where the log goes on that was never archived: beside the same cluster, if that is what is replaced."""
        replaced = self.config.data_dir / "postgres"
        both = [cluster / "global" / "pg_control" for cluster in (replaced, self.cluster)]
        # Its first eight bytes are the cluster's system identifier.
        if not both[0].is_file() or both[0].read_bytes()[:8] != both[1].read_bytes()[:8]:
            return {}
        return {wal.PENDING_VARIABLE: str(replaced / "pg_wal")}

    def _identities(self) -> list[str]:
        path = self.config.environ.get(IDENTITY, "")
        return private_keys(path) if path else []

    def _is_over(self, child: subprocess.Popen[bytes], postgres: Postgres, log: Path) -> bool:
        if child.poll() is not None:
            raise StackError(_explained(log, self.to))
        return postgres.answers()


def _explained(log: Path, to: datetime | None) -> str:
    """Why a recovery ended by itself: mostly because the log does not reach so far."""
    text = log.read_text(errors="replace")
    reached = re.findall(r"last completed transaction was at log time (.+)", text)
    if to and "recovery ended before configured recovery target was reached" in text:
        last = f" Its last transaction was at {reached[-1]}." if reached else ""
        return f"The log does not reach to {to.isoformat()}.{last} Choose an earlier TO_TIME, or `{LATEST}`."
    return f"The recovery failed:\n{tail(log)}"
