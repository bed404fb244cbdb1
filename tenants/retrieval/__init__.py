"""Search: what the other packages may use of it stands here; nothing reaches past it (an import contract sees to that).

    search(tenant_id=…, query=Query(text="red apples")) -> Answer

The rooms have doors of their own: `index` (vectors and the indexes of them), `query` (encoding, words, weights,
feedback), `filters`, `cache`, `maps`, and `model_routing` (which model answers). Names are looked up when they are
asked for: this package is imported before Django models may be.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenants.retrieval import cache, filters, index, maps, model_routing, query, shapes
    from tenants.retrieval.query.searcher import Answer as Answer
    from tenants.retrieval.query.searcher import search as search
    from tenants.retrieval.types import Hit as Hit
    from tenants.retrieval.types import Query as Query

__all__ = [
    "Answer",
    "Hit",
    "Query",
    "cache",
    "filters",
    "index",
    "maps",
    "model_routing",
    "query",
    "search",
    "shapes",
]

_FROM = {
    "Answer": "tenants.retrieval.query.searcher:Answer",
    "Hit": "tenants.retrieval.types:Hit",
    "Query": "tenants.retrieval.types:Query",
    "search": "tenants.retrieval.query.searcher:search",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in __all__ and name not in _FROM:
            return import_module(f"{__name__}.{name}")
        module, _, attribute = _FROM.get(name, "").partition(":")
        if not module:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(module), attribute)
