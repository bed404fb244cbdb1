"""Ids of rows are UUIDv7: they begin with the time at which they were made, so a span of time is a range of the key."""

from __future__ import annotations

import datetime as dt
import uuid


def first_id_of(moment: dt.datetime) -> uuid.UUID:
    """The least id that can be made at this moment."""
    milliseconds = max(0, min(int(moment.timestamp() * 1000), (1 << 48) - 1))
    return uuid.UUID(int=milliseconds << 80)
