"""The engine that evaluates expressions. Imported at the first of them: the package `cel` imports its own command line
and terminal, which the start of a process need not wait for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import cel


def compiled(text: str) -> Any:
    """A program with `execute(context)`. Raises what the engine does for a text that it refuses."""
    import cel

    return cel.compile(text)


def context(values: Mapping[str, Any]) -> cel.Context:
    """Values by variable, made once for all expressions that are evaluated with them."""
    import cel

    return cel.Context(dict(values))
