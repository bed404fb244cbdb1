"""Work that one process does at a time, on whatever host: a row that it renews while it lives.

Not an advisory lock of a session: behind a pooler that gives a connection to another client after each transaction
(pgbouncer), such a lock belongs to whoever has the connection next. Not one of a transaction either, as the work has
transactions of its own.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import connection, connections
from django.db.models.functions import Now

from tenants.accounts.operator_models import Lease

log = logging.getLogger(__name__)

# How long a process that died keeps its work from others.
LEASE_S = 60.0


@contextmanager
def held(name: str, *, seconds: float = LEASE_S) -> Iterator[bool]:
    """Hold this name while the block runs; False where somebody else does. In no transaction.

    A holder that stood still for so many seconds may have lost it to another: what is done must bear being done twice.
    """
    holder = uuid.uuid4()
    if not _take(name, holder, seconds):
        yield False
        return
    ended = threading.Event()
    renewing = threading.Thread(
        target=_renew_until, args=(ended, name, holder, seconds), name="lease", daemon=True
    )
    renewing.start()
    try:
        yield True
    finally:
        ended.set()
        renewing.join()
        Lease.objects.filter(name=name, holder=holder).delete()


def forget_ended() -> None:
    """Names of what processes that died had taken, and nobody took since."""
    Lease.objects.filter(until__lt=Now() - timedelta(days=1)).delete()


def _take(name: str, holder: uuid.UUID, seconds: float) -> bool:
    """One statement, so that of two one gets it. Times are the database's."""
    statement = """
        INSERT INTO lease (name, holder, until) VALUES (%(name)s, %(holder)s, now() + %(seconds)s * interval '1 second')
        ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until WHERE lease.until < now()
        RETURNING holder
    """
    with connection.cursor() as cursor:
        cursor.execute(statement, {"name": name, "holder": holder, "seconds": seconds})
        return cursor.fetchone() is not None


def _renew_until(ended: threading.Event, name: str, holder: uuid.UUID, seconds: float) -> None:
    statement = "UPDATE lease SET until = now() + %s * interval '1 second' WHERE name = %s AND holder = %s"
    try:
        while not ended.wait(seconds / 3):
            try:
                with connection.cursor() as cursor:
                    cursor.execute(statement, [seconds, name, holder])
            except Exception:
                log.warning("a lease could not be renewed; trying again", exc_info=True)
                connection.close()
    finally:
        connections.close_all()
