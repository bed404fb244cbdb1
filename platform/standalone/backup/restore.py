"""Restoring a backup: everything is checked first, built beside, compared, and put in place by renaming."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from django.core.files import File
from django.db.migrations.loader import MigrationLoader

from standalone import datadir
from standalone.backup import keys, manifest, signing_keys
from standalone.backup.database import load, view
from standalone.backup.encryption import Contents
from standalone.backup.manifest import DUMP, FILES, SECRETS, Manifest
from standalone.backup.point_in_time import LATEST, Recovery
from standalone.backup.stored_files import restore_files
from standalone.backup.swap import StagingArea
from standalone.build import Builder
from standalone.config import StackConfig
from standalone.errors import StackError
from standalone.files import read_json, write_json, write_private
from standalone.processes import Spawner
from standalone.progress import Progress
from standalone.stack import Stack
from tenants.datasets.storage import as_stored, path_of

# Of the dump's size: rows, indexes and the log of writing them.
SPACE_FACTOR = 4
# Valkey has no part in a restore.
NO_VALKEY = {"REDIS_URL": "redis://127.0.0.1:1"}

Say = Callable[[str], None]


@dataclass
class Restoration:
    """One restore into `config.data_dir`. Django's storage is where its files go."""

    config: StackConfig
    contents: Contents
    described: Manifest
    force: bool
    say: Say

    def __post_init__(self) -> None:
        self.site = StagingArea(self.config.data_dir)

    def run(self) -> None:
        """Restore a verified backup, or go on where a killed restore stopped.

        Raises StackError; before any change, as long as that can be.
        """
        check_known(self.described)
        self._check_target()
        data_dir = self.config.data_dir
        with datadir.disk_full_explained(data_dir), datadir.claimed(data_dir, restoring=True):
            self._restore()

    @property
    def name(self) -> str:
        """What the journal calls it: a killed restore goes on with the same one only."""
        return self.described.sums_sha256

    def _check_target(self) -> None:
        """All that can be known to be in the way, before the first change."""
        self._check_secret()
        if self._keys_apart:
            keys.read(self._keys_file)
        if self.site.half_placed:
            return
        if (held := self.site.held()) and not self.force:
            raise StackError(
                f"{self.config.data_dir} is not empty: it has {', '.join(held)}. Choose another DATA_DIR, or set "
                "FORCE=1, which moves what is there into a folder beside."
            )
        if not self.config.embeds_postgres:
            self.config.check_roles()
            self._loaded_already()
        need = SPACE_FACTOR * self.contents.path(DUMP).stat().st_size + self.described.storage["bytes"]
        parents = (self.config.data_dir, *self.config.data_dir.parents)
        datadir.check_space(next(path for path in parents if path.exists()), (need >> 20) + 1)

    def _check_secret(self) -> None:
        given = self.config.environ.get("SECRET_KEY")
        if given and given != self.contents.json(SECRETS)["secret_key"]:
            raise StackError(
                "SECRET_KEY in the environment is another one than the backup's: sessions and encrypted values "
                "would be lost. Unset it (the restored secrets.json has the right one), or set it to that."
            )

    @property
    def _keys_apart(self) -> bool:
        return (
            bool(self.described.tables)
            and keys.TABLE not in self.described.tables
            and _has_keys(self.described)
        )

    @property
    def _keys_file(self) -> Path | None:
        return keys.file_of(self.config.environ)

    def _restore(self) -> None:
        backup, unfinished = self.name, self.site.state()
        self.site.finish()
        if unfinished.get("backup") == backup and not self.site.journal.exists():
            self.say("finished what an interrupted restore had begun to put in place")
            return
        if self.site.held() and not self.force:
            raise StackError(
                "The interrupted restore of another backup was finished; this one was not begun."
            )
        try:
            self.site.begin(backup)
            self._build()
        except Exception:
            self.site.abandon()
            raise
        # On the disk before it takes the place of anything.
        os.sync()
        self.site.put_in_place()

    def _build(self) -> None:
        folder = self.site.folder
        for name in (SECRETS, "demo.json"):
            if self.contents.has(name):
                write_json(folder / name, self.contents.json(name))
        if self.contents.has(signing_keys.FILE):
            signing_keys.write_keys(folder / signing_keys.FOLDER, self.contents.json(signing_keys.FILE))
        if master := self._master_key():
            write_private(folder / datadir.MASTER_KEY, master)
        self.say("files")
        names = (
            self.contents.name_of(name).removeprefix(f"{FILES}/")
            for name, _ in manifest.read_sums(self.contents.folder)
            if _is_file(name)
        )
        restore_files(self.contents, names, folder)
        self.say("database")
        with self._database() as env:
            self._fill(env)

    def _master_key(self) -> str:
        if self._keys_apart:
            return keys.read(self._keys_file).master
        return self.contents.text(datadir.MASTER_KEY) if self.contents.has(datadir.MASTER_KEY) else ""

    def _fill(self, env: Mapping[str, str]) -> None:
        spawner, log = Spawner(), self.config.log_dir / "restore.log"
        if self.config.embeds_postgres or not self._loaded_already():
            load(partial(self.contents.copy, DUMP), env["MIGRATION_DATABASE_URL"], spawner, log)
        apart = (keys.TABLE,) if self._keys_apart else ()
        with view(env["OPERATOR_DATABASE_URL"]) as restored:
            check_same(self.described, restored.digests(apart))
        if apart:
            keys.load(keys.read(self._keys_file), env["MIGRATION_DATABASE_URL"])
        self._bring_up_to_date(env)

    def _bring_up_to_date(self, env: Mapping[str, str]) -> None:
        if self._keys_apart:
            for slug in keys.erased_since(env["OPERATOR_DATABASE_URL"]):
                self.say(
                    f"{slug} was erased after this backup, and its files cannot be read: run `manage.py erase_tenant`"
                )
        if pending(self.described):
            self.say("migrating")
            Builder(self.config, Spawner(), Progress(self.say, [])).schema(env)

    def _loaded_already(self) -> bool:
        """Whether an external database has been filled by a restore that was killed later. Raises for other rows."""
        with view(self.config.environ["OPERATOR_DATABASE_URL"]) as there:
            if not there.tables():
                return False
            if (
                self.site.state().get("backup") == self.name
                and there.digests((keys.TABLE,) if self._keys_apart else ()) == self.described.tables
            ):
                return True
        raise StackError(
            "The database of DATABASE_URL is not empty. Make a new one with platform/standalone/provision.sql "
            "(docs/operating.md) and restore into that."
        )

    @contextmanager
    def _database(self) -> Iterator[Mapping[str, str]]:
        """Environment of the database to fill: the external one, or a new cluster that is started for it."""
        if not self.config.embeds_postgres:
            yield self._environment(self.config.environ)
            return
        shutil.rmtree(self.site.folder / "postgres", ignore_errors=True)
        with self._embedded() as env:
            yield env

    @contextmanager
    def _embedded(self) -> Iterator[Mapping[str, str]]:
        stack = Stack(self.site.folder, ["services", "--as-is"], NO_VALKEY)
        try:
            yield self._environment(stack.start().env)
        finally:
            stack.stop()

    def _environment(self, env: Mapping[str, str]) -> dict[str, str]:
        secret = read_json(self.site.folder / SECRETS)["secret_key"]
        given = {**self.config.environ, **NO_VALKEY, **env, "SECRET_KEY": secret}
        given.setdefault("MIGRATION_DATABASE_URL", given["DATABASE_URL"])
        return {**given, "DATA_DIR": str(self.site.folder), "DJANGO_SETTINGS_MODULE": "config.settings"}


@dataclass
class TimedRestoration(Restoration):
    """One restore of the embedded Postgres to a moment: base backups, and the archived log up to it.

    `bases` are those of the backup and of what it builds on, the full one first. `later` are the backups after it, with
    files that were stored since. No `to` is all that was archived.
    """

    bases: Sequence[Contents] = ()
    later: Sequence[Contents] = ()
    to: datetime | None = None

    @property
    def name(self) -> str:
        return f"{super().name} {self.to.isoformat() if self.to else LATEST}"

    @contextmanager
    def _database(self) -> Iterator[Mapping[str, str]]:
        Recovery(self.config, self.site.folder, self.bases, self.to, self.say).run()
        with self._embedded() as env:
            yield env

    def _fill(self, env: Mapping[str, str]) -> None:
        """The rows are there; keys that were destroyed since, files that were stored since, and migrations are not."""
        if self._keys_apart:
            keys.replace(keys.read(self._keys_file), env["MIGRATION_DATABASE_URL"])
        self._fetch_later_files(env)
        self._bring_up_to_date(env)

    def _fetch_later_files(self, env: Mapping[str, str]) -> None:
        """Files that the backup has not: of later backups, and of the directory that is replaced."""
        with view(env["OPERATOR_DATABASE_URL"]) as restored:
            rows = restored.rows("SELECT tenant_id::text, sha256 FROM blob ORDER BY 1, 2")
        lacking = {path for path in (path_of(*row) for row in rows) if not as_stored().exists(path)}
        for contents in self.later:
            here = {path for path in lacking if contents.has(f"{FILES}/{path}")}
            manifest.verify(contents.folder, {contents.listed(f"{FILES}/{path}") for path in here})
            restore_files(contents, iter(sorted(here)), self.site.folder)
            lacking -= here
        for path in sorted(lacking):
            if (held := self.config.data_dir / "blobs" / path).is_file():
                with held.open("rb") as file:
                    as_stored().save(path, File(file))
                lacking.discard(path)
        if lacking:
            self.say(
                f"warning: {len(lacking)} stored files are in no backup, nor in {self.config.data_dir} "
                f"({', '.join(sorted(lacking)[:3])} …): see `manage.py doctor --deep`"
            )


def _is_file(name: str) -> bool:
    return name.startswith(f"{FILES}/")


def _known_migrations() -> set[tuple[str, str]]:
    return set(MigrationLoader(None, ignore_no_migrations=True).disk_migrations)


def _applied(described: Manifest) -> set[tuple[str, str]]:
    return {(app, name) for app, names in described.migrations.items() for name in names}


def check_known(described: Manifest) -> None:
    """Refuse a database that a newer release has migrated."""
    if unknown := sorted(_applied(described) - _known_migrations()):
        raise StackError(
            f"The backup was made by a newer release ({described.version}): this code does not know its migrations "
            f"{', '.join('.'.join(each) for each in unknown[:5])}. Update the code, then restore."
        )


def _has_keys(described: Manifest) -> bool:
    """Whether its release knew the table."""
    return any(name.endswith("_data_key") for name in described.migrations.get("accounts", []))


def pending(described: Manifest) -> bool:
    return bool(_known_migrations() - _applied(described))


def check_same(described: Manifest, found: Mapping[str, object]) -> None:
    differing = sorted(
        name for name in {*described.tables, *found} if found.get(name) != described.tables.get(name)
    )
    if differing:
        raise StackError(f"The restored database differs from the backup in: {', '.join(differing)}.")
