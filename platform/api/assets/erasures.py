"""`/erasures`: a person's data erased on request, and the receipts of everything that was erased."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Flag, Object, Text
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paging import read_page, refuse_unknown
from api.paths import read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts.permissions import ADMIN
from tenants.errors import NotFound
from tenants.events.models import Erasure
from tenants.jobs import selectors as jobs
from tenants.pipeline.care import erasure_receipts as receipts
from tenants.pipeline.care import shapes, subject_erasure
from tenants.scope import tenant_scope

NOTHING = uuid.UUID(int=0)


class NewErasure(Body):
    filter = Object(
        required=False,
        help_text='Metadata that names the person: `{"customer_id": "42"}`; a list of values under `in`. All must fit.',
    )
    external_ids = serializers.ListField(
        child=Text(),
        required=False,
        max_length=subject_erasure.MAX_IDS,
        help_text="Assets that are theirs as well.",
    )
    dataset = Text(required=False, allow_null=True, help_text="Only of this dataset.")
    dry_run = Flag(default=False, help_text="True: only say how much it would be.")


class Erasures(Resource):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(
        summary="List receipts of erasures",
        parameters=[*PAGING, OpenApiParameter("target", str, description="The id of an asset or dataset.")],
        responses=page_of(shapes.Erasure),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, "target")
        page, target = read_page(request.query_params), request.query_params.get("target")
        with tenant_scope(self.tenant_id):
            # What is no id names nothing.
            wanted = None if target is None else read_id(target) or NOTHING
            return Response(page.of(receipts.list_erasures(target=wanted), receipts.erasure_shape))

    @extend_schema(
        summary="Erase a person's data",
        description=(
            "Every asset that the filter fits, and those with the external_ids, with all that hangs on them. With "
            "`dry_run` 200 and how much it would be. The receipt keeps a keyed hash of what was asked for."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewErasure},
        responses={202: shapes.ErasureAccepted, 200: shapes.ErasurePreview},
        extensions={"x-problems": [404]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewErasure.read(request.data)
        if not fields["dry_run"]:
            return IdempotentRequest(request, fields).run(lambda: self._request(fields)).response()
        with tenant_scope(self.tenant_id):
            return Answer.of(200, subject_erasure.preview_subject(_criteria(fields))).response()

    def _request(self, fields: dict[str, object]) -> Answer:
        erasure, job = subject_erasure.request_erasure(criteria=_criteria(fields), actor=self.actor)
        body = {"erasure": receipts.erasure_shape(erasure), "job": jobs.job_shape(job)}
        return Answer.of(202, body, location(job.id))


def _criteria(fields: dict[str, Any]) -> dict[str, object]:
    dataset_id = None
    if fields.get("dataset") is not None and (dataset_id := read_id(fields["dataset"])) is None:
        raise NotFound("This dataset does not exist.")
    return subject_erasure.check_criteria(
        values=fields.get("filter"), external_ids=fields.get("external_ids"), dataset_id=dataset_id
    )


class OneErasure(Resource):
    scopes = {"GET": ADMIN}

    def find(self, erasure_id: uuid.UUID | None) -> Erasure:
        return receipts.get_erasure(erasure_id)

    @extend_schema(summary="The receipt of an erasure", responses=shapes.Erasure)
    def get(self, request: Request, erasure_id: uuid.UUID) -> Response:
        return Response(receipts.erasure_shape(self.found))
