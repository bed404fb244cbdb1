"""Upkeep of this host: it says that it lives, fetches indexes ahead, lets go what it need not keep, and removes what is
erased.

One process of those that share a data directory does it, in a thread: whoever holds the lock on `node.lock`, which the
kernel frees when that process ends.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from django.conf import settings
from django.db import close_old_connections, connection

from tenants.jobs import nodes
from tenants.pipeline.care.tenant_erasure import erase_left_behind, erase_on_this_host
from tenants.retrieval import index, model_store
from tenants.valkey import Unavailable

log = logging.getLogger(__name__)

# How often everything here is looked through, an hour as a rule, beside when messages may have been missed; what is
# told over Valkey is done at once.
LOOK_S = 12.0 * settings.UPKEEP_S
# Working files that nobody wrote to for so long are left by a crash.
STALE_SPOOL_S = 6 * 3600
LOCK = "node.lock"
# Fetched one by one: searches that wait for theirs have the network first.
_fetching = threading.Lock()


class HostUpkeep:
    """Of the processes that start one, each tries to be the one that acts."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._looked_at = float("-inf")
        self._mended_at = time.monotonic()
        self._missed = False
        self._listener = nodes.Listener()

    def start(self) -> None:
        """In a thread, until the process ends."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="host-upkeep", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with acting() as mine:
                while mine:
                    self._act_once()
            self._look_at_open()
            time.sleep(nodes.BEAT_S)

    def _act_once(self) -> None:
        _logged(nodes.beat)
        _logged(erase_on_this_host)
        # One that broke meanwhile is made anew.
        close_old_connections()
        self._listen()
        if time.monotonic() - self._looked_at > LOOK_S:
            self._looked_at = time.monotonic()
            _logged(look_through)
        self._look_at_open()

    def _look_at_open(self) -> None:
        """Of whichever process: each knows what it has mapped."""
        if time.monotonic() - self._mended_at > LOOK_S:
            self._mended_at = time.monotonic()
            _logged(mend_open_indexes)

    def _listen(self) -> None:
        # At its start it looks as soon as it listens: files of whoever was erased meanwhile go first.
        wait_s = nodes.BEAT_S if self._looked_at > float("-inf") else 0.0
        ends = time.monotonic() + wait_s
        try:
            told = self._listener.heard(wait_s)
        except Unavailable:
            log.debug("Valkey is away; this host finds out later")
            self._missed = True
            time.sleep(max(0.0, ends - time.monotonic()))
            return
        if self._missed:
            # Nobody tells again what was told in the meantime. It listens again by now, so nothing falls between.
            self._missed, self._looked_at = False, float("-inf")
        for one in told:
            self._do(one)

    def _do(self, told: nodes.Told) -> None:
        if told.what == nodes.ERASED:
            _logged(erase_on_this_host)
        elif told.generation_id is not None and told.what == nodes.RETIRED:
            index.let_go(told.tenant_id, told.generation_id)
        elif told.generation_id is not None and told.what == nodes.PUBLISHED:
            # A daemon: a process that ends does not wait for it.
            arguments = (told.tenant_id, told.generation_id)
            threading.Thread(target=_fetch_ahead, args=arguments, name="fetch-ahead", daemon=True).start()


@contextmanager
def acting() -> Iterator[bool]:
    """Whether this process is the one that acts for its host while the block runs."""
    with (settings.DATA_DIR / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def look_through() -> None:
    """Once over everything that this host keeps for tenants."""
    erase_left_behind()
    for tenant_id in _tenants_with_indexes():
        _logged(partial(index.tidy_local, tenant_id))
    model_store.tidy_local()
    clear_spool()
    nodes.forget_lost()


def mend_open_indexes() -> None:
    """What is mapped is searched as it is: a file that was changed or removed under it is otherwise noticed when it is
    opened again. The next search fetches the stored copy; where that is no better, another is built beside it."""
    for tenant_id, generation_id, problem in index.opened.damaged():
        told = {"generation": str(generation_id), "reason": problem}
        log.warning("an index on this host is damaged", extra=told)
        if index.is_stored_whole(tenant_id, generation_id):
            index.let_go(tenant_id, generation_id)
            index.loaded.drop(tenant_id)
        else:
            index.replace_index(tenant_id=tenant_id, generation_id=generation_id)


def _tenants_with_indexes() -> list[uuid.UUID]:
    found = []
    for path in settings.INDEX_DIR.glob("*"):
        with suppress(ValueError):
            found.append(uuid.UUID(path.name))
    return found


def clear_spool() -> None:
    """Remove files, and working folders with what is in them, that nobody wrote to for so long."""
    for path in settings.SPOOL_DIR.iterdir():
        # What is in use may go while it is looked at.
        with suppress(FileNotFoundError):
            if time.time() - max(p.stat().st_mtime for p in (path, *path.rglob("*"))) > STALE_SPOOL_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _fetch_ahead(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> None:
    try:
        with _fetching:
            index.fetch_ahead(tenant_id, generation_id)
    except Exception:
        # The next search fetches it, and has it repaired if it must be.
        log.warning("an index was not fetched ahead", extra={"generation": str(generation_id)}, exc_info=True)
    finally:
        connection.close()


def _logged(step: Callable[[], object]) -> None:
    try:
        step()
    except Exception:
        log.warning("upkeep of this host failed; it is tried again", exc_info=True)
        connection.close()


host = HostUpkeep()
