"""`/legal-holds`: what may not be erased. Holds are released by people: an owner in the console, or the operator."""

from __future__ import annotations

import uuid

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Text
from api.idempotency import Answer, IdempotentRequest
from api.paging import read_page, refuse_unknown
from api.paths import read_dataset_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts.permissions import ADMIN
from tenants.datasets import holds, shapes
from tenants.datasets.models import LegalHold
from tenants.scope import tenant_scope


class NewLegalHold(Body):
    reason = Text(max_length=holds.MAX_REASON, help_text="Why; it stands in the list of holds.")
    reference = Text(
        default="", allow_blank=True, max_length=holds.MAX_REFERENCE, help_text="A case number or the like."
    )
    dataset = Text(
        required=False, allow_null=True, help_text="What is held; absent or null, the whole workspace."
    )


class LegalHolds(Resource):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(
        summary="List legal holds",
        description="Released ones, too.",
        parameters=PAGING,
        responses=page_of(shapes.LegalHold),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(holds.list_holds(), holds.hold_shape))

    @extend_schema(
        summary="Set a legal hold",
        description=(
            "Until it is released nothing of the dataset, or of the workspace, is erased or changed: deletions, "
            "erasures of a person's data and changes of captions or metadata answer 409 `legal-hold`, and retention "
            "passes over it. It is released in the console by an owner, or by the operator, and not by a key."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewLegalHold},
        responses={201: shapes.LegalHold},
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewLegalHold.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._set(fields)).response()

    def _set(self, fields: dict[str, str | None]) -> Answer:
        dataset = fields.get("dataset")
        hold = holds.set_hold(
            reason=fields["reason"] or "",
            reference=fields["reference"] or "",
            dataset_id=None if dataset is None else read_dataset_id(dataset),
            actor=self.actor,
        )
        return Answer.of(201, holds.hold_shape(hold))


class OneLegalHold(Resource):
    scopes = {"GET": ADMIN}

    def find(self, hold_id: uuid.UUID | None) -> LegalHold:
        return holds.get_hold(hold_id)

    @extend_schema(summary="A legal hold", responses=shapes.LegalHold)
    def get(self, request: Request, hold_id: uuid.UUID) -> Response:
        return Response(holds.hold_shape(self.found))
