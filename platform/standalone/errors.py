from __future__ import annotations


class StackError(Exception):
    """Something a person can act on; shown as one message, without a traceback."""
