"""Search: what the other packages may use of it stands here; nothing reaches past it (an import contract sees to that).

    search(tenant_id=…, query=Query(text="red apples")) -> Answer

Beside it may be imported: the packages `index` (vectors and the indexes of them) and `query` (encoding, words, weights,
feedback), which have front doors of their own, `filters`, `cache`, `maps` and `map_points`, `model_routing` (which
model answers), `model_store` (where a model's files are), `models` and `shapes`. Names are looked up when they are
asked for: this package is imported before Django models may be.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenants.retrieval.query.searcher import Answer as Answer
    from tenants.retrieval.query.searcher import search as search
    from tenants.retrieval.types import MODALITIES as MODALITIES
    from tenants.retrieval.types import Hit as Hit
    from tenants.retrieval.types import Query as Query
    from tenants.retrieval.types import QueryPart as QueryPart

__all__ = [
    "MODALITIES",
    "Answer",
    "Hit",
    "Query",
    "QueryPart",
    "search",
]

_FROM = {
    "Answer": "tenants.retrieval.query.searcher:Answer",
    "Hit": "tenants.retrieval.types:Hit",
    "MODALITIES": "tenants.retrieval.types:MODALITIES",
    "Query": "tenants.retrieval.types:Query",
    "QueryPart": "tenants.retrieval.types:QueryPart",
    "search": "tenants.retrieval.query.searcher:search",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        module, _, attribute = _FROM.get(name, "").partition(":")
        if not module:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(module), attribute)
