"""`/exports`: everything that a tenant owns, as one file in open formats."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.assets.content import NOTHING, RANGE
from api.components import page_of
from api.fields import Body, Flag, Text
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paging import read_page, refuse_unknown
from api.paths import read_dataset_id, read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts.permissions import ADMIN
from tenants.datasets import content_responses
from tenants.errors import Invalid
from tenants.events.models import Export
from tenants.jobs import selectors as jobs
from tenants.pipeline.transfer import exports, shapes
from tenants.scope import tenant_scope

# An id that no row has.
NO_ID = uuid.UUID(int=0)


class NewExport(Body):
    vectors = Flag(
        default=False, help_text="With the vectors; without, whoever imports it computes them anew."
    )
    recipient = Text(
        default="",
        allow_blank=True,
        max_length=200,
        help_text="A public key of age (`age1…`): the file is encrypted for it. Without, it is a plain zip.",
    )
    dataset = Text(required=False, allow_null=True, help_text="With `version`: the dataset that it is of.")
    version = Text(
        required=False,
        allow_null=True,
        help_text="A version of a dataset: only what it lists is exported, and the file names it and its digest.",
    )


class Exports(Resource):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(summary="List exports", parameters=PAGING, responses=page_of(shapes.Export))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(exports.list_exports(), exports.export_shape))

    @extend_schema(
        summary="Export everything, or a version of a dataset",
        description="A job makes a signed zip file, kept for some days. One at a time.",
        parameters=[IDEMPOTENCY],
        request={"application/json": NewExport},
        responses={202: shapes.ExportAccepted},
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewExport.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._request(fields)).response()

    def _request(self, fields: dict[str, Any]) -> Answer:
        dataset, version = fields.get("dataset"), fields.get("version")
        if (dataset is None) != (version is None):
            raise Invalid(
                "Send both, the dataset and its version.", pointer="/version" if dataset else "/dataset"
            )
        export, job = exports.request_export(
            with_vectors=fields["vectors"],
            recipient=fields["recipient"],
            dataset_id=None if dataset is None else read_dataset_id(dataset),
            version_id=None if version is None else read_id(version) or NO_ID,
            actor=self.actor,
        )
        body = {"export": exports.export_shape(export), "job": jobs.job_shape(job)}
        return Answer.of(202, body, location(job.id))


class OneExport(Resource):
    scopes = {"GET": ADMIN}

    def find(self, export_id: uuid.UUID | None) -> Export:
        return exports.get_export(export_id)

    @extend_schema(summary="An export", responses=shapes.Export)
    def get(self, request: Request, export_id: uuid.UUID) -> Response:
        return Response(exports.export_shape(self.found))


class ExportContent(OneExport):
    @extend_schema(
        summary="Download an export",
        parameters=RANGE,
        responses={
            (200, "application/zip"): OpenApiTypes.BINARY,
            (200, exports.ENCRYPTED): OpenApiTypes.BINARY,
            (206, "application/zip"): OpenApiTypes.BINARY,
            (206, exports.ENCRYPTED): OpenApiTypes.BINARY,
            304: NOTHING,
            416: NOTHING,
        },
        extensions={"x-problems": [409]},
    )
    def get(self, request: Request, export_id: uuid.UUID) -> HttpResponseBase:  # type: ignore[override]
        return content_responses.serve(request, exports.content_of(self.found))
