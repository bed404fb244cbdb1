"""Restoring a backup: everything is checked first, built beside, compared, and put in place by renaming."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.db.migrations.loader import MigrationLoader

from standalone import datadir
from standalone.backup import manifest, signing_keys
from standalone.backup.database import load, view
from standalone.backup.manifest import DUMP, FILES, SECRETS, Manifest
from standalone.backup.stored_files import restore_files
from standalone.backup.swap import StagingArea
from standalone.build import Builder
from standalone.config import StackConfig
from standalone.errors import StackError
from standalone.files import read_json, write_json
from standalone.processes import Spawner
from standalone.progress import Progress
from standalone.stack import Stack

# Of the dump's size: rows, indexes and the log of writing them.
SPACE_FACTOR = 4
# Valkey has no part in a restore.
NO_VALKEY = {"REDIS_URL": "redis://127.0.0.1:1"}

Say = Callable[[str], None]


@dataclass
class Restoration:
    """One restore into `config.data_dir`. Django's storage is where its files go."""

    config: StackConfig
    source: Path
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

    def _check_target(self) -> None:
        """All that can be known to be in the way, before the first change."""
        self._check_secret()
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
        need = SPACE_FACTOR * (self.source / DUMP).stat().st_size + self.described.storage["bytes"]
        parents = (self.config.data_dir, *self.config.data_dir.parents)
        datadir.check_space(next(path for path in parents if path.exists()), (need >> 20) + 1)

    def _check_secret(self) -> None:
        given = self.config.environ.get("SECRET_KEY")
        if given and given != read_json(self.source / SECRETS)["secret_key"]:
            raise StackError(
                "SECRET_KEY in the environment is another one than the backup's: sessions and encrypted values "
                "would be lost. Unset it (the restored secrets.json has the right one), or set it to that."
            )

    def _restore(self) -> None:
        backup, unfinished = self.described.sums_sha256, self.site.state()
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
            if (self.source / name).exists():
                write_json(folder / name, read_json(self.source / name))
        if (keys := self.source / signing_keys.FILE).exists():
            signing_keys.write_keys(folder / signing_keys.FOLDER, read_json(keys))
        self.say("files")
        names = (
            name.removeprefix(f"{FILES}/") for name, _ in manifest.read_sums(self.source) if _is_file(name)
        )
        restore_files(self.source, names)
        self.say("database")
        with self._database() as env:
            self._fill(env)

    def _fill(self, env: Mapping[str, str]) -> None:
        spawner, log = Spawner(), self.config.log_dir / "restore.log"
        if self.config.embeds_postgres or not self._loaded_already():
            load(self.source / DUMP, env["MIGRATION_DATABASE_URL"], spawner, log)
        with view(env["OPERATOR_DATABASE_URL"]) as restored:
            check_same(self.described, restored.digests())
        if pending(self.described):
            self.say("migrating")
            Builder(self.config, spawner, Progress(self.say, [])).schema(env)

    def _loaded_already(self) -> bool:
        """Whether an external database has been filled by a restore that was killed later. Raises for other rows."""
        with view(self.config.environ["OPERATOR_DATABASE_URL"]) as there:
            if not there.tables():
                return False
            if (
                self.site.state().get("backup") == self.described.sums_sha256
                and there.digests() == self.described.tables
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


def pending(described: Manifest) -> bool:
    return bool(_known_migrations() - _applied(described))


def check_same(described: Manifest, found: Mapping[str, object]) -> None:
    differing = sorted(
        name for name in {*described.tables, *found} if found.get(name) != described.tables.get(name)
    )
    if differing:
        raise StackError(f"The restored database differs from the backup in: {', '.join(differing)}.")
