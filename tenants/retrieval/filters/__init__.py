"""Which assets a search may find, by their metadata."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenants.retrieval.filters.facet_counts import MAX_KEYS as MAX_KEYS
    from tenants.retrieval.filters.filter_plan import MAX_CONDITIONS as MAX_CONDITIONS
    from tenants.retrieval.filters.filter_plan import RANGES as RANGES
    from tenants.retrieval.filters.filter_plan import Condition as Condition
    from tenants.retrieval.filters.filter_plan import parse as parse

__all__ = [
    "MAX_CONDITIONS",
    "MAX_KEYS",
    "RANGES",
    "Condition",
    "parse",
]

_FROM = {
    "Condition": "tenants.retrieval.filters.filter_plan:Condition",
    "MAX_CONDITIONS": "tenants.retrieval.filters.filter_plan:MAX_CONDITIONS",
    "MAX_KEYS": "tenants.retrieval.filters.facet_counts:MAX_KEYS",
    "RANGES": "tenants.retrieval.filters.filter_plan:RANGES",
    "parse": "tenants.retrieval.filters.filter_plan:parse",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        module, _, attribute = _FROM.get(name, "").partition(":")
        if not module:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(module), attribute)
