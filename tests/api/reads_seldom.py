"""The edge, which reads the row of a job that is waited for once a minute: what it answers before, it was told."""

from __future__ import annotations

from config.asgi import application  # first: it sets Django up

# isort: split
from config import event_stream

__all__ = ["application"]

event_stream.READ_EVERY_S = 60.0
