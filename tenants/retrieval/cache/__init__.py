"""Caches that stay true, and writes to Valkey that nobody waits for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenants.retrieval.cache.async_writer import async_writer as writer
    from tenants.retrieval.cache.cache_layers import counts as lookup_counts
    from tenants.retrieval.cache.candidates import NAME as CANDIDATES
    from tenants.retrieval.cache.candidates import cache as candidate_cache
    from tenants.retrieval.cache.query_vectors import NAME as QUERY_VECTORS

__all__ = [
    "CANDIDATES",
    "QUERY_VECTORS",
    "candidate_cache",
    "lookup_counts",
    "writer",
]

_FROM = {
    "CANDIDATES": "tenants.retrieval.cache.candidates:NAME",
    "QUERY_VECTORS": "tenants.retrieval.cache.query_vectors:NAME",
    "writer": "tenants.retrieval.cache.async_writer:async_writer",
    "candidate_cache": "tenants.retrieval.cache.candidates:cache",
    "lookup_counts": "tenants.retrieval.cache.cache_layers:counts",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        module, _, attribute = _FROM.get(name, "").partition(":")
        if not module:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(module), attribute)
