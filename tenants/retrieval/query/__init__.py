"""A query's way to an answer: encoded, weighed, ranked, shown; and what people thought of it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenants.retrieval.query.composed import MAX_PART_WEIGHT as MAX_PART_WEIGHT
    from tenants.retrieval.query.composed import MAX_PARTS as MAX_PARTS
    from tenants.retrieval.query.composed import MAX_WITHIN_S as MAX_WITHIN_S
    from tenants.retrieval.query.encoding import MAX_ASSETS as MAX_ASSETS
    from tenants.retrieval.query.encoding import MAX_UNLIKE_WEIGHT as MAX_UNLIKE_WEIGHT
    from tenants.retrieval.query.encoding import UNLIKE_WEIGHT as UNLIKE_WEIGHT
    from tenants.retrieval.query.encoding import Costed as Costed
    from tenants.retrieval.query.encoding import ModelsLoading as ModelsLoading
    from tenants.retrieval.query.encoding import Spaces as Spaces
    from tenants.retrieval.query.encoding import check_models as check_models
    from tenants.retrieval.query.encoding import decoder as decoder
    from tenants.retrieval.query.encoding import model_id as model_id
    from tenants.retrieval.query.encoding import once as once
    from tenants.retrieval.query.encoding import place_image as place_image
    from tenants.retrieval.query.encoding import place_texts as place_texts
    from tenants.retrieval.query.encoding import query_cache as query_cache
    from tenants.retrieval.query.encoding import query_transcriber as query_transcriber
    from tenants.retrieval.query.encoding import share_image as share_image
    from tenants.retrieval.query.encoding import share_text as share_text
    from tenants.retrieval.query.encoding import space as space
    from tenants.retrieval.query.encoding import transcriber as transcriber
    from tenants.retrieval.query.encoding import warm_up as warm_up
    from tenants.retrieval.query.feedback import fusion_as_dict as fusion_as_dict
    from tenants.retrieval.query.feedback import record_feedback as record_feedback
    from tenants.retrieval.query.feedback import retire_gate as retire_gate
    from tenants.retrieval.query.feedback import start_training as start_training
    from tenants.retrieval.query.feedback import trace_of as trace_of_search
    from tenants.retrieval.query.fusion_weights import BUILT_IN as BUILT_IN
    from tenants.retrieval.query.fusion_weights import MAX_DESCRIPTION as MAX_DESCRIPTION
    from tenants.retrieval.query.fusion_weights import MAX_RULES as MAX_RULES
    from tenants.retrieval.query.fusion_weights import MAX_SLUG as MAX_SLUG
    from tenants.retrieval.query.fusion_weights import MAX_TASKS as MAX_TASKS
    from tenants.retrieval.query.fusion_weights import MAX_WEIGHT as MAX_WEIGHT
    from tenants.retrieval.query.fusion_weights import MAX_WORD as MAX_WORD
    from tenants.retrieval.query.fusion_weights import MAX_WORDS as MAX_WORDS
    from tenants.retrieval.query.fusion_weights import Task as Task
    from tenants.retrieval.query.fusion_weights import create_task as create_task
    from tenants.retrieval.query.fusion_weights import delete_task as delete_task
    from tenants.retrieval.query.fusion_weights import get_task as get_task
    from tenants.retrieval.query.fusion_weights import list_tasks as list_tasks
    from tenants.retrieval.query.fusion_weights import profile_of as profile_of
    from tenants.retrieval.query.fusion_weights import update_task as update_task
    from tenants.retrieval.query.lexical import Entry as Entry
    from tenants.retrieval.query.lexical import Highlight as Highlight
    from tenants.retrieval.query.lexical import entry_of as entry_of
    from tenants.retrieval.query.lexical import find_named as find_named
    from tenants.retrieval.query.lexical import index_fields as index_fields
    from tenants.retrieval.query.lexical import index_older_names as index_older_names
    from tenants.retrieval.query.lexical import index_texts as index_texts
    from tenants.retrieval.query.lexical import remove_texts as remove_texts
    from tenants.retrieval.query.lexical import words_of as words_of
    from tenants.retrieval.query.relevance import forget_correction as forget_correction
    from tenants.retrieval.query.result_page import HYDRATED as HYDRATED

__all__ = [
    "BUILT_IN",
    "HYDRATED",
    "MAX_ASSETS",
    "MAX_DESCRIPTION",
    "MAX_PARTS",
    "MAX_PART_WEIGHT",
    "MAX_RULES",
    "MAX_SLUG",
    "MAX_TASKS",
    "MAX_UNLIKE_WEIGHT",
    "MAX_WEIGHT",
    "MAX_WITHIN_S",
    "MAX_WORD",
    "MAX_WORDS",
    "UNLIKE_WEIGHT",
    "Costed",
    "Entry",
    "Highlight",
    "ModelsLoading",
    "Spaces",
    "Task",
    "check_models",
    "create_task",
    "decoder",
    "delete_task",
    "entry_of",
    "find_named",
    "forget_correction",
    "fusion_as_dict",
    "get_task",
    "index_fields",
    "index_older_names",
    "index_texts",
    "list_tasks",
    "model_id",
    "once",
    "place_image",
    "place_texts",
    "profile_of",
    "query_cache",
    "query_transcriber",
    "record_feedback",
    "remove_texts",
    "retire_gate",
    "share_image",
    "share_text",
    "space",
    "start_training",
    "trace_of_search",
    "transcriber",
    "update_task",
    "warm_up",
    "words_of",
]

_FROM = {
    "BUILT_IN": "tenants.retrieval.query.fusion_weights:BUILT_IN",
    "UNLIKE_WEIGHT": "tenants.retrieval.query.encoding:UNLIKE_WEIGHT",
    "Costed": "tenants.retrieval.query.encoding:Costed",
    "Entry": "tenants.retrieval.query.lexical:Entry",
    "HYDRATED": "tenants.retrieval.query.result_page:HYDRATED",
    "Highlight": "tenants.retrieval.query.lexical:Highlight",
    "MAX_ASSETS": "tenants.retrieval.query.encoding:MAX_ASSETS",
    "MAX_PARTS": "tenants.retrieval.query.composed:MAX_PARTS",
    "MAX_PART_WEIGHT": "tenants.retrieval.query.composed:MAX_PART_WEIGHT",
    "MAX_WITHIN_S": "tenants.retrieval.query.composed:MAX_WITHIN_S",
    "MAX_DESCRIPTION": "tenants.retrieval.query.fusion_weights:MAX_DESCRIPTION",
    "MAX_RULES": "tenants.retrieval.query.fusion_weights:MAX_RULES",
    "MAX_SLUG": "tenants.retrieval.query.fusion_weights:MAX_SLUG",
    "MAX_TASKS": "tenants.retrieval.query.fusion_weights:MAX_TASKS",
    "MAX_UNLIKE_WEIGHT": "tenants.retrieval.query.encoding:MAX_UNLIKE_WEIGHT",
    "MAX_WEIGHT": "tenants.retrieval.query.fusion_weights:MAX_WEIGHT",
    "MAX_WORD": "tenants.retrieval.query.fusion_weights:MAX_WORD",
    "MAX_WORDS": "tenants.retrieval.query.fusion_weights:MAX_WORDS",
    "ModelsLoading": "tenants.retrieval.query.encoding:ModelsLoading",
    "Spaces": "tenants.retrieval.query.encoding:Spaces",
    "Task": "tenants.retrieval.query.fusion_weights:Task",
    "check_models": "tenants.retrieval.query.encoding:check_models",
    "create_task": "tenants.retrieval.query.fusion_weights:create_task",
    "decoder": "tenants.retrieval.query.encoding:decoder",
    "delete_task": "tenants.retrieval.query.fusion_weights:delete_task",
    "entry_of": "tenants.retrieval.query.lexical:entry_of",
    "find_named": "tenants.retrieval.query.lexical:find_named",
    "forget_correction": "tenants.retrieval.query.relevance:forget_correction",
    "fusion_as_dict": "tenants.retrieval.query.feedback:fusion_as_dict",
    "get_task": "tenants.retrieval.query.fusion_weights:get_task",
    "index_fields": "tenants.retrieval.query.lexical:index_fields",
    "index_older_names": "tenants.retrieval.query.lexical:index_older_names",
    "index_texts": "tenants.retrieval.query.lexical:index_texts",
    "list_tasks": "tenants.retrieval.query.fusion_weights:list_tasks",
    "model_id": "tenants.retrieval.query.encoding:model_id",
    "once": "tenants.retrieval.query.encoding:once",
    "place_image": "tenants.retrieval.query.encoding:place_image",
    "place_texts": "tenants.retrieval.query.encoding:place_texts",
    "profile_of": "tenants.retrieval.query.fusion_weights:profile_of",
    "query_cache": "tenants.retrieval.query.encoding:query_cache",
    "query_transcriber": "tenants.retrieval.query.encoding:query_transcriber",
    "record_feedback": "tenants.retrieval.query.feedback:record_feedback",
    "remove_texts": "tenants.retrieval.query.lexical:remove_texts",
    "retire_gate": "tenants.retrieval.query.feedback:retire_gate",
    "share_image": "tenants.retrieval.query.encoding:share_image",
    "share_text": "tenants.retrieval.query.encoding:share_text",
    "space": "tenants.retrieval.query.encoding:space",
    "start_training": "tenants.retrieval.query.feedback:start_training",
    "trace_of_search": "tenants.retrieval.query.feedback:trace_of",
    "transcriber": "tenants.retrieval.query.encoding:transcriber",
    "update_task": "tenants.retrieval.query.fusion_weights:update_task",
    "warm_up": "tenants.retrieval.query.encoding:warm_up",
    "words_of": "tenants.retrieval.query.lexical:words_of",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        module, _, attribute = _FROM.get(name, "").partition(":")
        if not module:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(module), attribute)
