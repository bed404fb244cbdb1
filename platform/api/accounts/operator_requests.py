"""`/operator-requests`: what operators ask the tenant for, and the answers of its owners."""

from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.accounts.people import People
from api.components import page_of
from api.fields import Body
from api.paging import read_page, refuse_unknown
from api.schema import PAGING
from tenants.accounts import shapes
from tenants.accounts.models import OperatorRequest
from tenants.accounts.permissions import ADMIN
from tenants.people import approvals
from tenants.scope import tenant_scope

APPROVE, DENY, REVOKE = "approve", "deny", "revoke"


class OperatorAnswer(Body):
    answer = serializers.ChoiceField((APPROVE, DENY, REVOKE))


def request_shape(row: OperatorRequest) -> shapes.OperatorRequest:
    return shapes.OperatorRequest(
        id=str(row.id),
        operator=row.operator.email,
        access=row.access,
        reason=row.reason,
        minutes=row.minutes,
        state=row.state,
        until=row.until,
        answered_by=row.answered_by or None,
        answered_at=row.answered_at,
        created_at=row.created_at,
    )


class OperatorRequests(People):
    scopes = {"GET": ADMIN}

    @extend_schema(
        summary="List requests of operators", parameters=PAGING, responses=page_of(shapes.OperatorRequest)
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(approvals.list_requests(), request_shape))


class OneOperatorRequest(People):
    scopes = {"PATCH": ADMIN}

    def find(self, request_id: uuid.UUID | None) -> OperatorRequest:
        return approvals.get_request(request_id)

    @extend_schema(
        summary="Answer a request of an operator",
        description=(
            "With a key that an owner made: `approve` or `deny` one that waits, `revoke` one that was approved, which "
            "ends the operator's acting at once."
        ),
        request={"application/json": OperatorAnswer},
        responses=shapes.OperatorRequest,
        extensions={"x-problems": [409]},
    )
    def patch(self, request: Request, request_id: uuid.UUID) -> Response:
        given = OperatorAnswer.read(request.data)["answer"]
        with tenant_scope(self.tenant_id):
            if given == REVOKE:
                approvals.revoke(actor=self.acting(), request_id=request_id)
            else:
                approvals.answer(actor=self.acting(), request_id=request_id, approve=given == APPROVE)
            return Response(request_shape(approvals.get_request(request_id)))
