"""The one error of adding a space."""

from __future__ import annotations


class AddingError(RuntimeError):
    """The space was not added, and nothing of it is left; the message says why and, where it is known, what helps."""
