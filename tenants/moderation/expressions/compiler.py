"""Compiled expressions, made once for each text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tenants.moderation.expressions.syntax import ExpressionError, Node, parse, unparse
from tenants.moderation.expressions.type_checker import Inspection, inspect

if TYPE_CHECKING:
    import cel


@dataclass(frozen=True)
class Expression:
    tree: Node
    inspection: Inspection
    program: Any

    def holds(self, context: cel.Context) -> bool | None:
        """Whether it is true, or None where that cannot be told. Never raises."""
        try:
            value = self.program.execute(context)
        except Exception:
            return None
        except BaseException as error:
            # A panic of the engine is no Exception; an interrupted process must stop all the same.
            if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
                raise
            return None
        return value if isinstance(value, bool) else None


@lru_cache(4096)
def compile_expression(text: str) -> Expression:
    """Raises ExpressionError."""
    import cel

    tree = parse(text)
    inspection = inspect(tree)
    try:
        return Expression(tree, inspection, cel.compile(unparse(tree)))
    except Exception as error:
        raise ExpressionError(f"The engine refuses this: {str(error).splitlines()[0][:200]}") from None
