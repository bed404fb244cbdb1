"""`/assets/{id}/content`, `/thumbnail`, `/pages/{page}`, `/document`, `/transcript`: what is in it."""

from __future__ import annotations

import uuid

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of
from api.paging import refuse_unknown
from api.resource import Resource
from tenants.accounts.permissions import READ
from tenants.datasets import content_responses, selectors, shapes
from tenants.datasets.models import Asset
from tenants.scope import tenant_scope

RANGE = [
    OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="`bytes=0-99`; one range."),
    OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER),
]
BYTES = OpenApiTypes.BINARY
NOTHING = OpenApiResponse(description="No body.")


class Bytes(Resource):
    scopes = {"GET": READ}

    def find(self, asset_id: uuid.UUID | None, page: str = "") -> Asset:
        asset = selectors.get_asset(asset_id)
        selectors.require_shown(asset, key_of(self.request).scopes)
        return asset


class Content(Bytes):
    @extend_schema(
        summary="The bytes of an asset",
        description=(
            "Pictures, sound and film are served without location data, so not before they were decoded: until then "
            "409 `not-ready`. With `Range` players can seek."
        ),
        parameters=RANGE,
        responses={(200, "*/*"): BYTES, (206, "*/*"): BYTES, 304: NOTHING, 416: NOTHING},
        extensions={"x-problems": [409]},
    )
    def get(self, request: Request, asset_id: uuid.UUID) -> HttpResponseBase:
        return content_responses.serve(request, content_responses.content_of(self.found))


class Thumbnail(Bytes):
    @extend_schema(
        summary="A small picture of an asset (JPEG or WebP)",
        description="Of a picture itself, of a film a frame, of sound its waveform.",
        parameters=RANGE,
        responses={(200, "image/*"): BYTES, (206, "image/*"): BYTES, 304: NOTHING, 416: NOTHING},
    )
    def get(self, request: Request, asset_id: uuid.UUID) -> HttpResponseBase:
        return content_responses.serve(request, content_responses.thumbnail_of(self.found))


class PagePicture(Bytes):
    @extend_schema(
        summary="A page of a PDF as a picture (JPEG)",
        description="`width`: pixels, 800 by default, 1,600 at most; the picture is at least so wide. Pages from 1.",
        parameters=[
            OpenApiParameter("page", int, OpenApiParameter.PATH),
            OpenApiParameter("width", int),
        ],
        responses={(200, "image/jpeg"): BYTES, 304: NOTHING},
        extensions={"x-problems": [429, 503]},
    )
    def get(self, request: Request, asset_id: uuid.UUID, page: str) -> HttpResponseBase:
        refuse_unknown(request.query_params, "width")
        return content_responses.serve_page(request, self.found, page)


class DocumentText(Bytes):
    @extend_schema(
        summary="What was read of a document",
        description=(
            "Its text, and of each block the kind, the page and the place: `start` and `end` in characters, `box` as "
            "shares of the page. Hidden text is not in it. 409 `not-ready` until it was read."
        ),
        responses=shapes.DocumentText,
        extensions={"x-problems": [409]},
    )
    def get(self, request: Request, asset_id: uuid.UUID) -> Response:
        return Response(content_responses.document_text(self.found))


class Transcript(Bytes):
    @extend_schema(
        summary="What is said in a recording or film, and when",
        description="Empty where nothing was said, and for pictures and texts.",
        responses=shapes.Transcript,
    )
    def get(self, request: Request, asset_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(shapes.Transcript(segments=selectors.transcript_of(self.found)))
