"""`/search`: one query of any modalities."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import TemporaryUploadedFile
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from api.parsers import Form, read_form
from api.rendering import to_json
from api.resource import Resource, since
from api.search.forms import JSON_FIELDS, SearchBody, SearchForm, require_named
from tenants.accounts.permissions import SEARCH
from tenants.datasets.shapes import Asset
from tenants.errors import Invalid
from tenants.learning.selectors import public_name
from tenants.retrieval import Answer, Hit, Query, QueryPart, filters, search, shapes
from tenants.retrieval.query import HYDRATED, UNLIKE_WEIGHT
from tenants.shapes import UNSET

PARTS = ("text", "image", "audio", "video", "vector", "like")
FILES = ("image", "audio", "video")


class Search(Resource):
    scopes = {"POST": SEARCH}

    @extend_schema(
        summary="Search by text, picture, speech, vector, or several of them",
        description="Files go in a form: the JSON fields as form fields, `image` and `audio` as files.",
        request={"application/json": SearchBody, "multipart/form-data": SearchForm},
        responses={200: shapes.Found},
        extensions={"x-problems": [404, 410, 413, 415]},
    )
    def post(self, request: Request) -> HttpResponse:
        begun = time.perf_counter()
        form = read_form(request, files=FILES, json_fields=JSON_FIELDS)
        try:
            fields = SearchBody.read(form.fields)
            query = build_query(fields, form)
        except (ValidationError, Invalid):
            # What is not there is told before what is wrong.
            require_named(self.tenant_id, form.fields)
            raise
        around = {"auth": self.auth_ms, "parse": since(begun)}
        answer = search(tenant_id=self.tenant_id, query=query, read=HYDRATED)
        answer.timings = {**around, **answer.timings}
        return self._timed_response(answer, fields)

    def _timed_response(self, answer: Answer, fields: dict[str, Any]) -> HttpResponse:
        """Written here, so that this step can be told, too."""
        begun = time.perf_counter()
        body = as_dict(answer)
        content = to_json(body)
        answer.timings |= {"serialise": since(begun), "total": since(self.begun)}
        if fields.get("explain"):
            content = to_json({**body, "explain": _explained(answer, fields)})
        return HttpResponse(
            content, content_type="application/json", headers={"Server-Timing": _timing(answer)}
        )


def build_query(fields: dict[str, Any], form: Form) -> Query:
    """The query that the checked fields and files stand for. Raises Invalid."""
    _refuse_unsupported(fields, form)
    parts = _parts(fields, form)
    text = (fields.get("text") or "").strip()
    named = [
        part for part in PARTS if part in form.files or (fields.get(part) is not None and part != "text")
    ]
    if not text and not named and not parts and not fields.get("cursor"):
        raise Invalid(f"Send at least one of {', '.join(PARTS)}.")
    like, unlike = fields.get("like") or {}, fields.get("unlike") or {}
    return Query(
        text=text,
        image=_path(form, "image"),
        image_file=(fields.get("image") or {}).get("file"),
        image_asset=_asset(fields, "image"),
        audio=_path(form, "audio"),
        audio_asset=_asset(fields, "audio"),
        video_asset=_asset(fields, "video"),
        vector=fields.get("vector"),
        like=like.get("assets") or [],
        unlike=unlike.get("assets") or [],
        unlike_text=(unlike.get("text") or "").strip(),
        datasets=fields.get("datasets"),
        modalities=fields.get("modalities"),
        conditions=filters.parse(fields.get("filter")),
        task=fields.get("task") or "general",
        hybrid=fields.get("hybrid"),
        weights=fields.get("weights") or {},
        generated=fields.get("generated") or "",
        top_k=fields.get("top_k") or 10,
        cursor=fields.get("cursor") or "",
        explain=bool(fields.get("explain")),
        exact=bool(fields.get("exact")),
        highlight=bool(fields.get("highlight")),
        group_duplicates=fields.get("group") == "duplicates",
        facets=fields.get("facets") or [],
        min_relevance=fields.get("min_relevance"),
        sort="" if fields.get("sort") in (None, "relevance") else fields["sort"],
        parts=parts,
        in_order=bool(fields.get("sequence")),
        within_s=fields.get("within_s"),
    )


#: What asks, or weighs what asks, in a query of one vector.
ALONE = (*PARTS, "unlike", "task", "weights", "hybrid")


def _parts(fields: dict[str, Any], form: Form) -> list[QueryPart]:
    """The parts of a query of several; none of any other. Raises Invalid."""
    name = "sequence" if fields.get("sequence") else "parts"
    sent = fields.get(name)
    if fields.get("within_s") is not None and name == "parts":
        raise Invalid("within_s belongs to a sequence.", pointer="/within_s")
    if not sent:
        return []
    if fields.get("parts") and name == "sequence":
        raise Invalid("Send either parts or a sequence.", pointer="/sequence")
    for other in ALONE:
        given = fields.get(other)
        is_empty = given is None or given is False or (isinstance(given, str) and not given)
        if other in form.files or not is_empty:
            raise Invalid(f"With {name} nothing else asks: make {other} one of them.", pointer=f"/{other}")
    return [_part(one) for one in sent]


def _part(fields: dict[str, Any]) -> QueryPart:
    unwanted = fields.get("not")
    told = unwanted or fields
    usual = UNLIKE_WEIGHT if unwanted else 1.0
    part = QueryPart(
        text=(told.get("text") or "").strip(),
        vector=told.get("vector"),
        weight=usual if fields.get("weight") is None else fields["weight"],
        unwanted=bool(unwanted),
    )
    for kind in FILES:
        if (named := told.get(kind)) is not None:
            part = replace(part, kind=kind, asset=named.get("asset"), image_file=named.get("file"))
    return part


def _asset(fields: dict[str, Any], part: str) -> uuid.UUID | None:
    return fields[part].get("asset") if fields.get(part) else None


def _refuse_unsupported(fields: dict[str, Any], form: Form) -> None:
    if "video" in form.files:
        raise Invalid(
            'Search by a film that is uploaded is not available yet. Add it, then send {"asset": its id}.',
            pointer="/video",
        )


def _path(form: Form, name: str) -> Path | None:
    file = form.files.get(name)
    if file is None:
        return None
    if not file.size:
        raise Invalid("The file is empty.", pointer=f"/{name}")
    # The upload handler spools to disk; the file goes away with the request.
    if not isinstance(file, TemporaryUploadedFile):
        raise TypeError("uploads are spooled to disk")
    return Path(file.temporary_file_path())


def as_dict(answer: Answer) -> dict[str, Any]:
    """The answer in the shape of the API."""
    return {
        "search_id": answer.search_id,
        "results": [_result(asset, hit, answer) for asset, hit in answer.results],
        "next": answer.next,
        **answer.meta,
        "model": _model(answer.meta["model"]),
    }


def _model(named: dict[str, Any]) -> shapes.Model:
    """The model by the id that /models knows it by."""
    space = f"{named['id']}:{named['version']}"
    return shapes.Model(id=public_name(space), version=named["version"], dimension=named["dimension"])


def _result(asset: Asset, hit: Hit, answer: Answer) -> shapes.Result:
    result = shapes.Result(
        asset=asset,
        score=hit.score,
        relevance=None if hit.relevance is None else round(hit.relevance, 4),
        matched=shapes.Matched(
            modality=hit.modality,
            segment=hit.segment or UNSET,
            by=hit.by or UNSET,
            parts=_matched_parts(hit) or UNSET,
            passage=answer.passages.get(hit.asset_id, UNSET),
        ),
    )
    if answer.highlights is not None:
        result.highlights = [
            shapes.Highlight(field=found.field, text=found.text, marks=[list(mark) for mark in found.marks])
            for found in answer.highlights[hit.asset_id]
        ]
    if answer.duplicates is not None:
        others = answer.duplicates[hit.asset_id]
        result.duplicates = [
            shapes.Duplicate(asset=str(other.asset_id), score=other.score) for other in others
        ]
    return result


def _matched_parts(hit: Hit) -> list[shapes.MatchedPart]:
    return [
        shapes.MatchedPart(score=one.score, modality=one.modality, segment=one.segment or UNSET)
        for one in hit.parts or ()
    ]


def _explained(answer: Answer, fields: dict[str, object]) -> dict[str, object]:
    return {
        "timings_ms": {step: round(took, 3) for step, took in answer.timings.items()},
        "parts": answer.meta["weights"],
        "weighing": answer.why,
        "cache": {name: layer or "bypass" for name, layer in answer.layers.items()},
        "filter": fields.get("filter"),
    }


def _timing(answer: Answer) -> str:
    return ", ".join(f"{step};dur={took:.2f}" for step, took in answer.timings.items())
