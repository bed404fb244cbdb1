"""`/assets/{id}/content`, `/thumbnail`, `/transcript`: what is in it, by `datasets.content_responses`."""

from __future__ import annotations

import uuid

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of
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

    def find(self, asset_id: uuid.UUID | None) -> Asset:
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


class Transcript(Bytes):
    @extend_schema(
        summary="What is said in a recording or film, and when",
        description="Empty where nothing was said, and for pictures and texts.",
        responses=shapes.Transcript,
    )
    def get(self, request: Request, asset_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(shapes.Transcript(segments=selectors.transcript_of(self.found)))
