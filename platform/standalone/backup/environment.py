"""The environment of the installation that is to be backed up, with its database answering."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from standalone import datadir
from standalone.config import StackConfig
from standalone.errors import StackError
from standalone.files import read_json
from standalone.stack import Stack


@contextmanager
def attached(config: StackConfig) -> Iterator[Mapping[str, str]]:
    """Of a running stack its own environment; of a stopped one, the services that it embeds are started meanwhile.

    They start as they are: a backup before an upgrade must not migrate what it saves.
    """
    if is_running(config):
        yield {**config.environ, **datadir.read_environment(config.data_dir)}
    elif not (config.embeds_postgres or config.embeds_valkey):
        config.check_roles()
        yield _with_secret_key(config)
    else:
        if config.embeds_postgres and not (config.data_dir / "postgres").exists():
            raise StackError(f"{config.data_dir} holds no database. Set DATA_DIR, or DATABASE_URL.")
        yield from _started(config)


def _with_secret_key(config: StackConfig) -> Mapping[str, str]:
    """As `make run` does: of the environment, else the one that the data directory keeps."""
    kept = read_json(config.data_dir / "secrets.json", {}).get("secret_key")
    key = config.environ.get("SECRET_KEY") or kept
    if not key:
        raise StackError("Set SECRET_KEY to the one that this installation uses: it belongs into the backup.")
    given = {**config.environ, "SECRET_KEY": key, **datadir.master_key(config.data_dir, config.environ)}
    if former := read_json(config.data_dir / "secrets.json", {}).get(datadir.FORMER):
        given.setdefault("SECRET_KEY_FALLBACKS", former)
    return given


def _started(config: StackConfig) -> Iterator[Mapping[str, str]]:
    stack = Stack(config.data_dir, ["services", "--as-is"], config.environ)
    try:
        yield {**config.environ, **stack.start().env}
    finally:
        stack.stop()


def is_running(config: StackConfig) -> bool:
    try:
        handle = os.open(config.data_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
