"""Which models a tenant's vectors are of, which of them answers, and what still lacks vectors of one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenants.retrieval.model_routing.embedding_gaps import FIRST as FIRST
    from tenants.retrieval.model_routing.embedding_gaps import Missing as Missing
    from tenants.retrieval.model_routing.embedding_gaps import forget_gaps as forget_gaps
    from tenants.retrieval.model_routing.embedding_gaps import gaps as gaps
    from tenants.retrieval.model_routing.embedding_gaps import note_gap as note_gap
    from tenants.retrieval.model_routing.embedding_gaps import require_whole as require_whole
    from tenants.retrieval.model_routing.embedding_gaps import some_missing as some_missing
    from tenants.retrieval.model_routing.model_store import KIND as STORED_AS
    from tenants.retrieval.model_routing.model_store import path_of as space_path
    from tenants.retrieval.model_routing.model_store import tidy_local as tidy_local_spaces
    from tenants.retrieval.model_routing.routing import Written as Written
    from tenants.retrieval.model_routing.routing import begin_dual_write as begin_dual_write
    from tenants.retrieval.model_routing.routing import drop_space as drop_space
    from tenants.retrieval.model_routing.routing import end_dual_write as end_dual_write
    from tenants.retrieval.model_routing.routing import forget_retired as forget_retired
    from tenants.retrieval.model_routing.routing import has_index as has_index
    from tenants.retrieval.model_routing.routing import is_own as is_own
    from tenants.retrieval.model_routing.routing import is_written as is_written
    from tenants.retrieval.model_routing.routing import keep_space as keep_space
    from tenants.retrieval.model_routing.routing import live as live
    from tenants.retrieval.model_routing.routing import missing as missing
    from tenants.retrieval.model_routing.routing import opened_spaces as opened_spaces
    from tenants.retrieval.model_routing.routing import roll_back as roll_back
    from tenants.retrieval.model_routing.routing import space as space
    from tenants.retrieval.model_routing.routing import switch as switch
    from tenants.retrieval.model_routing.routing import written as written

__all__ = [
    "FIRST",
    "STORED_AS",
    "Missing",
    "Written",
    "begin_dual_write",
    "drop_space",
    "end_dual_write",
    "forget_gaps",
    "forget_retired",
    "gaps",
    "has_index",
    "is_own",
    "is_written",
    "keep_space",
    "live",
    "missing",
    "note_gap",
    "opened_spaces",
    "require_whole",
    "roll_back",
    "some_missing",
    "space",
    "space_path",
    "switch",
    "tidy_local_spaces",
    "written",
]

_FROM = {
    "FIRST": "tenants.retrieval.model_routing.embedding_gaps:FIRST",
    "Missing": "tenants.retrieval.model_routing.embedding_gaps:Missing",
    "STORED_AS": "tenants.retrieval.model_routing.model_store:KIND",
    "Written": "tenants.retrieval.model_routing.routing:Written",
    "begin_dual_write": "tenants.retrieval.model_routing.routing:begin_dual_write",
    "drop_space": "tenants.retrieval.model_routing.routing:drop_space",
    "end_dual_write": "tenants.retrieval.model_routing.routing:end_dual_write",
    "forget_gaps": "tenants.retrieval.model_routing.embedding_gaps:forget_gaps",
    "forget_retired": "tenants.retrieval.model_routing.routing:forget_retired",
    "gaps": "tenants.retrieval.model_routing.embedding_gaps:gaps",
    "has_index": "tenants.retrieval.model_routing.routing:has_index",
    "is_own": "tenants.retrieval.model_routing.routing:is_own",
    "is_written": "tenants.retrieval.model_routing.routing:is_written",
    "keep_space": "tenants.retrieval.model_routing.routing:keep_space",
    "live": "tenants.retrieval.model_routing.routing:live",
    "missing": "tenants.retrieval.model_routing.routing:missing",
    "note_gap": "tenants.retrieval.model_routing.embedding_gaps:note_gap",
    "opened_spaces": "tenants.retrieval.model_routing.routing:opened_spaces",
    "require_whole": "tenants.retrieval.model_routing.embedding_gaps:require_whole",
    "roll_back": "tenants.retrieval.model_routing.routing:roll_back",
    "some_missing": "tenants.retrieval.model_routing.embedding_gaps:some_missing",
    "space": "tenants.retrieval.model_routing.routing:space",
    "space_path": "tenants.retrieval.model_routing.model_store:path_of",
    "switch": "tenants.retrieval.model_routing.routing:switch",
    "tidy_local_spaces": "tenants.retrieval.model_routing.model_store:tidy_local",
    "written": "tenants.retrieval.model_routing.routing:written",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        module, _, attribute = _FROM.get(name, "").partition(":")
        if not module:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(module), attribute)
