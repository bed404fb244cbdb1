"""The working files of a training in the storage, so that another host goes on where this one was.

`<tenant>/training/<model>/` holds each file under its SHA-256, and lists `files-000042.json` of which the newest that
can be read counts. A list is written after its files, and files that no list names go after it: whoever is killed in
between leaves what was kept before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection

from tenants.datasets import storage
from tenants.jobs import services as jobs
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

KIND = "training"
LIST, SUFFIX = "files-", ".json"
# What is made again on any host: the space to start from, and what the trainer reads first.
LEFT_OUT = ("base", "base.part", "space", "shards", "run.json", "result.json")
# Between two times that files are kept.
PERIOD_S = 60.0
CHUNK = 1 << 20

# By path within the folder: SHA-256.
Files = dict[str, str]


class Scratch:
    """Of one attempt at one training, whose files lie in `folder`."""

    def __init__(self, claimed: jobs.Claim, model_id: uuid.UUID, folder: Path) -> None:
        self._claimed, self._folder = claimed, folder
        self._place = place_of(claimed.tenant_id, model_id)
        self._kept_at = -PERIOD_S
        self._keeping: threading.Thread | None = None
        self._over = threading.Event()
        # Digests of files that have not changed since, by path, size and time.
        self._digests: dict[tuple[str, int, int], str] = {}

    def fetch(self) -> int:
        """Bring the folder to what was kept last, and say how many files came. All of it or nothing of it."""
        if not is_shared():
            return 0
        wanted = _newest(self._place)
        missing = {path: sha for path, sha in wanted.items() if _digest(self._folder / path) != sha}
        try:
            for path, sha in missing.items():
                _fetch(f"{self._place}/{sha}", self._folder / path, sha)
        except (FileNotFoundError, ValueError):
            log.warning("a training starts anew: its kept files are not whole", exc_info=True)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            return 0
        return len(missing)

    def keep_soon(self) -> None:
        """Keep what is there in a thread, unless one is at it or was a moment ago."""
        busy = self._keeping is not None and self._keeping.is_alive()
        if busy or not is_shared() or time.monotonic() - self._kept_at < PERIOD_S:
            return
        self._keeping = threading.Thread(target=self._keep_or_log, name="training-files", daemon=True)
        self._keeping.start()

    def keeping(self, told: Callable[[dict[str, object] | None], None]) -> Callable[..., None]:
        """`told`, and what was written until a checkpoint is kept."""

        def both(event: dict[str, object] | None) -> None:
            told(event)
            if event is not None and event.get("event") == "checkpoint":
                self.keep_soon()

        return both

    def end(self) -> None:
        """Keep nothing more."""
        self._over.set()
        if self._keeping is not None:
            self._keeping.join()

    def keep(self) -> None:
        """Store what has changed. Raises LeaseLost, where another has the job meanwhile."""
        before, files = _numbers(self._place), self._local_files()
        stored = set(_stored_names(self._place))
        for path, sha in files.items():
            if self._over.is_set():
                return
            if sha not in stored:
                with (self._folder / path).open("rb") as stream:
                    storage.put(f"{self._place}/{sha}", stream)
        with tenant_scope(self._claimed.tenant_id):
            jobs.held(self._claimed)
        number = before[-1] + 1 if before else 0
        storage.put(_list_path(self._place, number), json.dumps(files).encode())
        for old in before:
            storage.drop(_list_path(self._place, old))
        for name in stored - set(files.values()):
            storage.drop(f"{self._place}/{name}")
        self._kept_at = time.monotonic()

    def _keep_or_log(self) -> None:
        try:
            self.keep()
        except FileNotFoundError:
            pass  # the trainer has replaced a checkpoint; the next one is kept
        except jobs.LeaseLost:
            self._over.set()
        except Exception:
            # The training goes on without; it is only from where another host would.
            log.warning("a training's files could not be kept", exc_info=True)
        finally:
            connection.close()

    def _local_files(self) -> Files:
        """Everything that is complete. Raises FileNotFoundError for what goes while it is read."""
        found = {}
        for path in sorted(self._folder.rglob("*")):
            name = path.relative_to(self._folder).as_posix()
            half = any(part.startswith(".") or part.endswith(".part") for part in name.split("/"))
            if half or name.split("/")[0] in LEFT_OUT or not path.is_file():
                continue
            stat = path.stat()
            key = (name, stat.st_size, stat.st_mtime_ns)
            if key not in self._digests:
                self._digests[key] = _digest(path) or ""
            found[name] = self._digests[key]
        return found


def is_shared() -> bool:
    """Whether other hosts see the storage: not where it is a folder of this host's data directory."""
    root = storage.local_path("")
    return root is None or not root.is_relative_to(settings.DATA_DIR)


def place_of(tenant_id: uuid.UUID, model_id: uuid.UUID | str) -> str:
    return f"{tenant_id}/{KIND}/{model_id}"


def kept_models(tenant_id: uuid.UUID) -> list[str]:
    """Ids of models of whose training there are files."""
    try:
        return list(default_storage.listdir(f"{tenant_id}/{KIND}")[0])
    except FileNotFoundError:
        return []


def drop(tenant_id: uuid.UUID, model_id: uuid.UUID | str) -> None:
    """Remove all that was kept of a training."""
    place = place_of(tenant_id, model_id)
    for path in list(storage.files_below(place)):
        storage.drop(path)
    if (folder := storage.local_path(place)) is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _newest(place: str) -> Files:
    for number in reversed(_numbers(place)):
        with suppress(FileNotFoundError, ValueError), storage.open_blob(_list_path(place, number)) as stream:
            found: Files = json.loads(stream.read())
            return found
    return {}


def _numbers(place: str) -> list[int]:
    """Of the lists, the newest last."""
    names = [Path(path).name for path in storage.files_below(place)]
    return sorted(int(name[len(LIST) : -len(SUFFIX)]) for name in names if name.startswith(LIST))


def _stored_names(place: str) -> list[str]:
    names = [Path(path).name for path in storage.files_below(place)]
    return [name for name in names if not name.startswith(LIST)]


def _list_path(place: str, number: int) -> str:
    return f"{place}/{LIST}{number:06d}{SUFFIX}"


def _fetch(source: str, target: Path, sha: str) -> None:
    """Raises FileNotFoundError, and ValueError for other bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    storage.copy_to(source, part)
    if _digest(part) != sha:
        part.unlink()
        raise ValueError(f"{source} is damaged")
    part.replace(target)


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return None
