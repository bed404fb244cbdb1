"""`/search`: one query of any modalities."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import TemporaryUploadedFile
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from api import shapes
from api.fields import Body, Flag, Number, Object, Text, UnitVector, Whole
from api.forms import Form, read_form
from api.paths import read_id
from api.rendering import to_json
from api.resource import Resource, since
from tenants.accounts.permissions import SEARCH
from tenants.datasets import selectors
from tenants.datasets.models import Asset
from tenants.errors import Invalid, NotFound
from tenants.retrieval import filters, search
from tenants.retrieval.hydration import hydrate
from tenants.retrieval.memory import Hit
from tenants.scope import tenant_scope

MAX_TEXT = 10_000
MAX_TOP_K = 200
MAX_DATASETS = 1_000
PARTS = ("text", "image", "audio", "vector")
FILES = ("image", "audio", "video")
JSON_FIELDS = (
    *("vector", "image", "audio", "datasets", "modalities", "filter", "weights"),
    *("hybrid", "top_k", "exact", "explain"),
)


@extend_schema_field({"type": "string"})
class Id(serializers.Field):
    """An id in a body: one that this API never gave out answers 404, as another tenant's does."""

    def to_internal_value(self, data: Any) -> uuid.UUID:
        if not isinstance(data, str):
            raise ValidationError("An id is a string.")
        found = read_id(data)
        if found is None:
            raise NotFound("There is no such thing as this id names.")
        return found

    def to_representation(self, value: Any) -> str:
        return str(value)


class AssetReference(Body):
    asset = Id()


class Weights(Body):
    text = Number(required=False, min_value=0)
    image = Number(required=False, min_value=0)
    audio = Number(required=False, min_value=0)
    vector = Number(required=False, min_value=0)


OPTIONAL: dict[str, Any] = {"required": False, "allow_null": True}


class SearchBody(Body):
    """At least one of text, image, audio and vector, or a cursor. Null is as good as absent."""

    text = Text(**OPTIONAL, allow_blank=True, max_length=MAX_TEXT)
    image = AssetReference(**OPTIONAL)
    audio = AssetReference(**OPTIONAL)
    vector = UnitVector(**OPTIONAL)
    datasets = serializers.ListField(**OPTIONAL, child=Id(), min_length=1, max_length=MAX_DATASETS)
    modalities = serializers.ListField(
        **OPTIONAL, child=serializers.ChoiceField(Asset.Modality.values), min_length=1, max_length=4
    )
    filter = Object(**OPTIONAL, help_text='`{"price": {"lt": 20}, "colour": {"in": ["red"]}, "label": "x"}`')
    task = serializers.ChoiceField(tuple(search.TASKS), **OPTIONAL)
    weights = Weights(**OPTIONAL)
    hybrid = Flag(
        **OPTIONAL,
        help_text="Fuse the ranking by meaning with one by words (reciprocal rank); needs text or speech.",
    )
    top_k = Whole(**OPTIONAL, min_value=1, max_value=MAX_TOP_K)
    cursor = Text(**OPTIONAL, max_length=200)
    exact = Flag(**OPTIONAL, help_text="Accepted; the flat index is always exact.")
    explain = Flag(**OPTIONAL)


class Search(Resource):
    scopes = {"POST": SEARCH}

    @extend_schema(
        summary="Search by text, picture, speech, vector, or several of them",
        description="Files go in a form: the JSON fields as form fields, `image` and `audio` as files.",
        request={"application/json": SearchBody, "multipart/form-data": shapes.SearchForm},
        responses={200: shapes.Found},
        extensions={"x-problems": [404, 410, 413, 415]},
    )
    def post(self, request: Request) -> HttpResponse:
        begun = time.perf_counter()
        form = read_form(request, files=FILES, json_fields=JSON_FIELDS)
        fields = SearchBody.read(form.fields)
        query = build_query(fields, form)
        if fields.get("audio"):
            self._refuse_audio_asset(fields["audio"]["asset"])
        around = {"auth": self.auth_ms, "parse": since(begun)}
        answer = search.search(tenant_id=self.tenant_id, query=query, read=hydrate)
        answer.timings = {**around, **answer.timings}
        return self._answered(answer, fields)

    def _answered(self, answer: search.Answer, fields: dict[str, Any]) -> HttpResponse:
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

    def _refuse_audio_asset(self, asset_id: uuid.UUID) -> None:
        with tenant_scope(self.tenant_id):
            selectors.get_asset(asset_id)
        raise Invalid("This asset is not a recording.", pointer="/audio/asset")


def build_query(fields: dict[str, Any], form: Form) -> search.Query:
    """The query that the checked fields and files stand for. Raises Invalid."""
    _refuse_what_is_to_come(fields, form)
    text = (fields.get("text") or "").strip()
    named = [
        part for part in PARTS if part in form.files or (fields.get(part) is not None and part != "text")
    ]
    if not text and not named and not fields.get("cursor"):
        raise Invalid(f"Send at least one of {', '.join(PARTS)}.")
    return search.Query(
        text=text,
        image=_path(form, "image"),
        image_asset=fields["image"]["asset"] if fields.get("image") else None,
        audio=_path(form, "audio"),
        vector=fields.get("vector"),
        datasets=fields.get("datasets"),
        modalities=fields.get("modalities"),
        conditions=filters.parse(fields.get("filter")),
        task=fields.get("task") or "general",
        hybrid=bool(fields.get("hybrid")),
        weights=fields.get("weights") or {},
        top_k=fields.get("top_k") or 10,
        cursor=fields.get("cursor") or "",
        explain=bool(fields.get("explain")),
    )


def _refuse_what_is_to_come(fields: dict[str, Any], form: Form) -> None:
    if "video" in form.files:
        raise Invalid("Search by video is not available yet.", pointer="/video")


def _path(form: Form, name: str) -> Path | None:
    file = form.files.get(name)
    if file is None:
        return None
    if not file.size:
        raise Invalid("The file is empty.", pointer=f"/{name}")
    # The upload handler spools to disk; the file goes away with the request.
    assert isinstance(file, TemporaryUploadedFile)  # noqa: S101 - for the type checker
    return Path(file.temporary_file_path())


def as_dict(answer: search.Answer) -> dict[str, Any]:
    """The answer in the shape of the API."""
    return {
        "search_id": answer.search_id,
        "results": [_result(asset, hit) for asset, hit in answer.results],
        "next": answer.next,
        **answer.meta,
    }


def _result(asset: dict[str, Any], hit: Hit) -> dict[str, Any]:
    matched: dict[str, Any] = {"modality": hit.modality}
    if hit.segment:
        matched["segment"] = hit.segment
    return {"asset": asset, "score": hit.score, "matched": matched}


def _explained(answer: search.Answer, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "timings_ms": {step: round(took, 3) for step, took in answer.timings.items()},
        "parts": answer.meta["weights"],
        "filter": fields.get("filter"),
    }


def _timing(answer: search.Answer) -> str:
    return ", ".join(f"{step};dur={took:.2f}" for step, took in answer.timings.items())
