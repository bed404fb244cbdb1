"""The data directory: one stack at a time, a layout this code knows, room to write, secrets kept."""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from standalone.config import PRIVILEGED
from standalone.errors import StackError
from standalone.files import read_json, write_json, write_private

LAYOUT = 1
ENV, MANAGE_ENV = "env.json", "manage.json"
# Where a restore builds, and its journal: as long as that is there, the directory is half restored.
RESTORING = "restoring"
RESTORE_JOURNAL = f"{RESTORING}/restore.json"
# SECRET_KEYs before the one of now, comma-separated; taken out by hand.
FORMER = "secret_key_fallbacks"
MASTER_KEY = "master.key"
MASTER_KEYS = ("MASTER_KEY_FILE", "KMS_URL")
POSTGRES_MAJOR = "18"
SECRET_NAMES = (
    "secret_key",
    "superuser_password",
    "owner_password",
    "app_password",
    "operator_password",
    "valkey_password",
    "metrics_token",
)


@contextlib.contextmanager
def claimed(data_dir: Path, *, restoring: bool = False) -> Iterator[None]:
    """Hold the data directory for this stack (or restore) alone, as long as the block runs."""
    create(data_dir)
    with permissions_explained():
        handle = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(handle, data_dir)
        os.truncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        check_version(data_dir)
        if not restoring:
            check_restored(data_dir)
        yield
    finally:
        os.close(handle)


def create(data_dir: Path) -> None:
    with permissions_explained():
        data_dir.mkdir(parents=True, exist_ok=True)
        for folder in (data_dir / "run", data_dir / "log"):
            folder.mkdir(mode=0o700, exist_ok=True)


def _lock(handle: int, data_dir: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 32, 0).decode().strip() or "unknown"
        raise StackError(
            f"Another stack (process {holder}) is running on {data_dir}. "
            "Stop it, or start this one with another DATA_DIR and PORT."
        ) from error


def check_version(data_dir: Path) -> None:
    """Refuse data that a newer release or another Postgres has written; note ours in a new directory."""
    path = data_dir / "version.json"
    found = read_json(path)
    if found is None:
        write_json(path, {"layout": LAYOUT, "postgres": POSTGRES_MAJOR})
        return
    if found["layout"] > LAYOUT:
        raise StackError(
            f"{data_dir} was written by a newer release "
            f"(layout {found['layout']}, this code knows {LAYOUT}). "
            "Update the code, or choose another DATA_DIR."
        )
    if found["postgres"] != POSTGRES_MAJOR:
        raise _other_postgres(data_dir, found["postgres"])


def check_restored(data_dir: Path) -> None:
    """Refuse what a killed restore has left."""
    journal = read_json(data_dir / RESTORE_JOURNAL)
    if journal is None:
        return
    untouched = journal["stage"] == "building"
    give_up = f" To give it up, delete {data_dir / RESTORING}." if untouched else ""
    raise StackError(
        f"A restore into {data_dir} was interrupted. Run the same `make restore` again: it goes on.{give_up}"
    )


def check_cluster_version(cluster: Path) -> None:
    path = cluster / "PG_VERSION"
    if path.exists() and (major := path.read_text().strip()) != POSTGRES_MAJOR:
        raise _other_postgres(cluster, major)


def _other_postgres(where: Path, major: str) -> StackError:
    return StackError(
        f"{where} holds a Postgres {major} database, this release brings Postgres {POSTGRES_MAJOR}. "
        "Dump it with the old release and load it into a new DATA_DIR (docs/operating.md)."
    )


def check_space(data_dir: Path, needed_mb: int, free_bytes: Callable[[Path], int] | None = None) -> None:
    free = (free_bytes or (lambda path: shutil.disk_usage(path).free))(data_dir)
    if free < needed_mb * 1024 * 1024:
        raise disk_full(data_dir, free // (1024 * 1024), f", {needed_mb} MB needed")


def disk_full(data_dir: Path, free_mb: int, needed: str = "") -> StackError:
    return StackError(
        f"There is not enough space on the disk under {data_dir}: {free_mb} MB free{needed}. "
        "Free some space, or choose another DATA_DIR."
    )


@contextlib.contextmanager
def permissions_explained() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise StackError(
            f"Cannot write to {error.filename}. Start as the user who owns it, or choose another DATA_DIR."
        ) from error


@contextlib.contextmanager
def disk_full_explained(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, StackError) as error:
        if not _tells_of_full_disk(error):
            raise
        raise disk_full(data_dir, shutil.disk_usage(data_dir).free // (1024 * 1024)) from error


def _tells_of_full_disk(error: OSError | StackError) -> bool:
    """An error of this process, or the end of a child's log that an error quotes."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return os.strerror(errno.ENOSPC) in str(error)


def write_environment(data_dir: Path, env: Mapping[str, str]) -> None:
    """Keep a stack's variables: in `env.json` what its settings read, in `manage.json` what only manage.py adds."""
    write_json(data_dir / MANAGE_ENV, {name: env[name] for name in PRIVILEGED if env.get(name)})
    write_json(data_dir / ENV, {name: value for name, value in env.items() if name not in PRIVILEGED})


def read_environment(data_dir: Path) -> dict[str, str]:
    """All of the stack's variables, as `manage.py` has them; empty if no stack has written any."""
    return {**read_json(data_dir / ENV, {}), **read_json(data_dir / MANAGE_ENV, {})}


def master_key(data_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Where the stack's master key is: what the environment says, else a file of a data directory that was made with
    one. Without either SECRET_KEY is the master key (docs/encryption.md)."""
    if given := {name: environ[name] for name in MASTER_KEYS if environ.get(name)}:
        return given
    path = data_dir / MASTER_KEY
    return {"MASTER_KEY_FILE": str(path)} if path.exists() else {}


def make_master_key(data_dir: Path, environ: Mapping[str, str]) -> None:
    """For a new data directory only: what an older one has is wrapped under SECRET_KEY."""
    new = not (data_dir / "secrets.json").exists() and not any(environ.get(name) for name in MASTER_KEYS)
    if new and not (data_dir / MASTER_KEY).exists():
        write_private(data_dir / MASTER_KEY, base64.b64encode(secrets.token_bytes(32)).decode() + "\n")


def new_secret_key(data_dir: Path) -> None:
    """A new `secret_key` in `secrets.json`, from the next start on; the one before stays valid beside it."""
    known = load_secrets(data_dir)
    former = ",".join(filter(None, (known["secret_key"], known.get(FORMER))))
    write_json(data_dir / "secrets.json", {**known, "secret_key": secrets.token_urlsafe(32), FORMER: former})


def load_secrets(data_dir: Path) -> dict[str, str]:
    """The stack's own secrets: made once, added to by a release that needs more, never changed."""
    path = data_dir / "secrets.json"
    known = read_json(path, {})
    missing = {name: secrets.token_urlsafe(32) for name in SECRET_NAMES if name not in known}
    if missing:
        known = {**known, **missing}
        write_json(path, known)
    return known
