"""The search form as a query: parts, restrictions and the metadata filter, checked."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict

from console.paging import parse_id
from console.refining import Refinements
from tenants.datasets.models import Asset, Dataset
from tenants.errors import Invalid, NotFound
from tenants.retrieval import filters
from tenants.retrieval.faceting import MAX_KEYS
from tenants.retrieval.search import Query

PAGE = 24
TASK = "general"
# The slider between words and picture stands here until it is moved: then the task and its gate weigh them.
MIDDLE = "50"
FOLD = "duplicates"
MAX_TEXT = 10_000
OPERATORS = (
    ("eq", "is"),
    ("ne", "is not"),
    ("lt", "less than"),
    ("lte", "at most"),
    ("gt", "more than"),
    ("gte", "at least"),
    ("in", "is one of"),
    ("exists", "is present"),
)
Schema = dict[str, str]
Files = MultiValueDict[str, UploadedFile]


def read_query(form: QueryDict, files: Files, schema: Schema, refined: Refinements) -> Query:
    """The query that a person asked for, with what they chose in earlier results. Raises Invalid, NotFound."""
    if cursor := form.get("cursor", ""):
        return Query(cursor=cursor, top_k=PAGE)
    datasets = [_id(value, "dataset") for value in form.getlist("dataset")]
    picture = form.get("image_asset", "")
    query = Query(
        text=form.get("text", "").strip(),
        like=refined.like,
        unlike=refined.unlike,
        unlike_text=form.get("unlike_text", "").strip(),
        image=_path(files, "image"),
        image_asset=_id(picture, "picture") if picture else None,
        audio=_path(files, "audio"),
        datasets=datasets or None,
        modalities=_modalities(form.getlist("modality")),
        conditions=[*filters.parse(read_filter(form, schema)), *refined.conditions()],
        top_k=PAGE,
        highlight=True,
        group_duplicates=form.get("group") == FOLD,
        # What is narrowed by stays in sight, whatever else there is.
        facets=list(dict.fromkeys([*refined.keys, *schema]))[:MAX_KEYS],
        task=form.get("task", "") or TASK,
        explain=True,
    )
    _check(query)
    # Words are fused where there are some: a picture alone is no fault of who left the box ticked.
    query.hybrid = "hybrid" in form and bool(query.text or query.audio)
    query.weights = _weights(query, form.get("balance", ""))
    return query


def is_asked(form: QueryDict, files: Files, refined: Refinements) -> bool:
    """Whether there is anything to look for."""
    words = form.get("text", "").strip() or form.get("cursor")
    return bool(
        words or form.get("image_asset") or refined.like or _path(files, "image") or _path(files, "audio")
    )


def _check(query: Query) -> None:
    if not (query.text or query.image or query.image_asset or query.audio or query.like):
        raise Invalid("Type what you look for, add a picture, or speak.", pointer="/text")
    if max(len(query.text), len(query.unlike_text)) > MAX_TEXT:
        raise Invalid(f"A query has at most {MAX_TEXT} characters.", pointer="/text")
    if len(query.conditions) > filters.MAX_CONDITIONS:
        raise Invalid(f"At most {filters.MAX_CONDITIONS} conditions.", pointer="/key")


def _path(files: Files, name: str) -> Path | None:
    # Uploads lie on disk (config.uploads) until the request ends.
    file: Any = files.get(name)
    return Path(file.temporary_file_path()) if file and file.size else None


def _id(value: str, noun: str) -> uuid.UUID:
    found = parse_id(value)
    if found is None:
        raise NotFound(f"There is no such {noun}.")
    return found


def _modalities(chosen: list[str]) -> list[str] | None:
    if unknown := set(chosen) - set(Asset.Modality.values):
        raise Invalid(f"There is no modality {min(unknown)!r}.", pointer="/modality")
    return chosen or None


def _weights(query: Query, balance: str) -> dict[str, float]:
    """The slider between words (0) and picture (100), where there are both and it was moved."""
    if not query.text or not (query.image or query.image_asset):
        return {}
    if balance == MIDDLE or not balance.isdecimal():
        return {}
    picture = min(int(balance), 100) / 100
    return {"text": 1 - picture, "image": picture}


def read_filter(form: Any, schema: Schema) -> dict[str, dict[str, Any]]:
    """The rows key, operator, value as a filter; rows without a key are left out."""
    rows = zip(form.getlist("key"), form.getlist("operator"), form.getlist("value"), strict=False)
    conditions: dict[str, dict[str, Any]] = {}
    for key, operator, value in rows:
        if key.strip():
            conditions.setdefault(key.strip(), {})[operator] = _typed(
                operator, value, schema.get(key.strip())
            )
    return conditions


def _typed(operator: str, value: str, kind: str | None) -> Any:
    """What was typed, as the type that the key's values have."""
    if operator == "exists":
        return value.strip().lower() not in {"no", "false", "0"}
    if operator == "in":
        return [_scalar(part.strip(), kind) for part in value.split(",") if part.strip()]
    return _scalar(value.strip(), "number" if operator in filters.RANGES and kind != "time" else kind)


def _scalar(value: str, kind: str | None) -> Any:
    if kind == "number":
        try:
            return float(value)
        except ValueError:
            return value
    if kind == "bool" and value.lower() in {"true", "yes", "false", "no"}:
        return value.lower() in {"true", "yes"}
    return value


def schema_of(datasets: list[Dataset]) -> Schema:
    """The type of each metadata key over some datasets; of two declarations the newest dataset's counts."""
    merged: Schema = {}
    for dataset in datasets:
        for key, entry in dataset.metadata_schema.items():
            merged.setdefault(key, entry.get("type", "text"))
    return dict(sorted(merged.items()))


def labels_of(datasets: list[Dataset]) -> dict[str, str]:
    """What people call each metadata key, where that was declared; the newest dataset's word counts."""
    found: dict[str, str] = {}
    for dataset in datasets:
        for key, entry in dataset.metadata_schema.items():
            if entry.get("label"):
                found.setdefault(key, entry["label"])
    return found


def read_rows(form: Any) -> list[tuple[str, str, str]]:
    """The rows key, operator, value as they were typed, to be shown again."""
    rows = zip(form.getlist("key"), form.getlist("operator"), form.getlist("value"), strict=False)
    return [row for row in rows if row[0].strip()]
