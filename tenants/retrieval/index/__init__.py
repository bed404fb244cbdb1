"""Vectors, which are the truth, and the indexes of them: built, published, archived, repaired."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenants.retrieval.engines import ENGINES as ENGINES
    from tenants.retrieval.engines import LEFT as LEFT_ENGINES
    from tenants.retrieval.engines import is_there as is_there
    from tenants.retrieval.engines import of_tenant as copies_of_tenant
    from tenants.retrieval.engines import tidy as tidy_copies
    from tenants.retrieval.index.generation_files import KIND as STORED_AS
    from tenants.retrieval.index.generation_files import folder_of as folder_of
    from tenants.retrieval.index.generation_files import is_stored_whole as is_stored_whole
    from tenants.retrieval.index.generation_files import path_of as stored_path
    from tenants.retrieval.index.lifecycle import FILES as FILES
    from tenants.retrieval.index.lifecycle import FORGET as FORGET_WITHIN
    from tenants.retrieval.index.lifecycle import JOB as JOB
    from tenants.retrieval.index.lifecycle import JOBS as JOBS
    from tenants.retrieval.index.lifecycle import build as build_index
    from tenants.retrieval.index.lifecycle import consider_all as consider_indexes
    from tenants.retrieval.index.lifecycle import engine_of as engine_of
    from tenants.retrieval.index.lifecycle import fetch_ahead as fetch_ahead
    from tenants.retrieval.index.lifecycle import indexed_models as indexed_models
    from tenants.retrieval.index.lifecycle import is_due as is_due
    from tenants.retrieval.index.lifecycle import let_go as let_go
    from tenants.retrieval.index.lifecycle import look_after_stored as look_after_stored
    from tenants.retrieval.index.lifecycle import move as move_index
    from tenants.retrieval.index.lifecycle import note_figures as note_figures
    from tenants.retrieval.index.lifecycle import oldest_kept as oldest_kept_seq
    from tenants.retrieval.index.lifecycle import prune_changes as prune_changes
    from tenants.retrieval.index.lifecycle import read_figures as read_figures
    from tenants.retrieval.index.lifecycle import replace as replace_index
    from tenants.retrieval.index.lifecycle import rests as build_rests
    from tenants.retrieval.index.lifecycle import roll_back as roll_back_index
    from tenants.retrieval.index.lifecycle import tidy_local as tidy_local
    from tenants.retrieval.index.memory import vector_cache as loaded
    from tenants.retrieval.index.registry import opened as opened
    from tenants.retrieval.index.vectors import KEEP_TOMBSTONES as KEEP_TOMBSTONES
    from tenants.retrieval.index.vectors import ModelSwitched as ModelSwitched
    from tenants.retrieval.index.vectors import NewVector as NewVector
    from tenants.retrieval.index.vectors import add_vectors as add_vectors
    from tenants.retrieval.index.vectors import dimension_of as dimension_of
    from tenants.retrieval.index.vectors import locked_clock as locked_clock
    from tenants.retrieval.index.vectors import prune_tombstones as prune_tombstones
    from tenants.retrieval.index.vectors import record_changes as record_changes
    from tenants.retrieval.index.vectors import remove_vectors as remove_vectors
    from tenants.retrieval.index.vectors import replace_vectors as replace_vectors
    from tenants.retrieval.index.vectors import sampled as sampled

__all__ = [
    "ENGINES",
    "FILES",
    "FORGET_WITHIN",
    "JOB",
    "JOBS",
    "KEEP_TOMBSTONES",
    "LEFT_ENGINES",
    "STORED_AS",
    "ModelSwitched",
    "NewVector",
    "add_vectors",
    "build_index",
    "build_rests",
    "consider_indexes",
    "copies_of_tenant",
    "dimension_of",
    "engine_of",
    "fetch_ahead",
    "folder_of",
    "indexed_models",
    "is_due",
    "is_stored_whole",
    "is_there",
    "let_go",
    "loaded",
    "locked_clock",
    "look_after_stored",
    "move_index",
    "note_figures",
    "oldest_kept_seq",
    "opened",
    "prune_changes",
    "prune_tombstones",
    "read_figures",
    "record_changes",
    "remove_vectors",
    "replace_index",
    "replace_vectors",
    "roll_back_index",
    "sampled",
    "stored_path",
    "tidy_copies",
    "tidy_local",
]

_FROM = {
    "ENGINES": "tenants.retrieval.engines:ENGINES",
    "FILES": "tenants.retrieval.index.lifecycle:FILES",
    "FORGET_WITHIN": "tenants.retrieval.index.lifecycle:FORGET",
    "JOB": "tenants.retrieval.index.lifecycle:JOB",
    "JOBS": "tenants.retrieval.index.lifecycle:JOBS",
    "KEEP_TOMBSTONES": "tenants.retrieval.index.vectors:KEEP_TOMBSTONES",
    "LEFT_ENGINES": "tenants.retrieval.engines:LEFT",
    "ModelSwitched": "tenants.retrieval.index.vectors:ModelSwitched",
    "NewVector": "tenants.retrieval.index.vectors:NewVector",
    "STORED_AS": "tenants.retrieval.index.generation_files:KIND",
    "add_vectors": "tenants.retrieval.index.vectors:add_vectors",
    "stored_path": "tenants.retrieval.index.generation_files:path_of",
    "build_index": "tenants.retrieval.index.lifecycle:build",
    "build_rests": "tenants.retrieval.index.lifecycle:rests",
    "consider_indexes": "tenants.retrieval.index.lifecycle:consider_all",
    "copies_of_tenant": "tenants.retrieval.engines:of_tenant",
    "dimension_of": "tenants.retrieval.index.vectors:dimension_of",
    "fetch_ahead": "tenants.retrieval.index.lifecycle:fetch_ahead",
    "let_go": "tenants.retrieval.index.lifecycle:let_go",
    "tidy_local": "tenants.retrieval.index.lifecycle:tidy_local",
    "engine_of": "tenants.retrieval.index.lifecycle:engine_of",
    "folder_of": "tenants.retrieval.index.generation_files:folder_of",
    "indexed_models": "tenants.retrieval.index.lifecycle:indexed_models",
    "is_due": "tenants.retrieval.index.lifecycle:is_due",
    "is_stored_whole": "tenants.retrieval.index.generation_files:is_stored_whole",
    "is_there": "tenants.retrieval.engines:is_there",
    "loaded": "tenants.retrieval.index.memory:vector_cache",
    "locked_clock": "tenants.retrieval.index.vectors:locked_clock",
    "look_after_stored": "tenants.retrieval.index.lifecycle:look_after_stored",
    "move_index": "tenants.retrieval.index.lifecycle:move",
    "note_figures": "tenants.retrieval.index.lifecycle:note_figures",
    "oldest_kept_seq": "tenants.retrieval.index.lifecycle:oldest_kept",
    "opened": "tenants.retrieval.index.registry:opened",
    "prune_changes": "tenants.retrieval.index.lifecycle:prune_changes",
    "prune_tombstones": "tenants.retrieval.index.vectors:prune_tombstones",
    "read_figures": "tenants.retrieval.index.lifecycle:read_figures",
    "record_changes": "tenants.retrieval.index.vectors:record_changes",
    "remove_vectors": "tenants.retrieval.index.vectors:remove_vectors",
    "replace_index": "tenants.retrieval.index.lifecycle:replace",
    "replace_vectors": "tenants.retrieval.index.vectors:replace_vectors",
    "roll_back_index": "tenants.retrieval.index.lifecycle:roll_back",
    "sampled": "tenants.retrieval.index.vectors:sampled",
    "tidy_copies": "tenants.retrieval.engines:tidy",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        module, _, attribute = _FROM.get(name, "").partition(":")
        if not module:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(module), attribute)
