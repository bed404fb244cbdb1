"""The clock of the database, which all hosts share: by it leases and times to wait are set and judged.

A host whose own clock is wrong, or is set while it works, neither takes others' work nor keeps its own from them.
"""

from __future__ import annotations

import datetime as dt

from django.db import connection


def shared_now() -> dt.datetime:
    """For what has to be known here; within a statement Django's `Now()` says it without this round trip. It goes on
    within a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        found: dt.datetime = cursor.fetchone()[0]
    return found
