"""`/plan-requests` and `/offered-plans`: what the tenant asks its operators for, where the installation offers it."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.accounts.people import People
from api.components import page_of
from api.fields import Body, Number, Text
from api.idempotency import Answer, IdempotentRequest
from api.paging import read_page, refuse_unknown
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts import shapes
from tenants.accounts.models import RESOURCES, Plan, PlanRequest
from tenants.accounts.permissions import ADMIN
from tenants.people import plan_requests
from tenants.scope import tenant_scope


class NewPlanRequest(Body):
    plan = Text(max_length=50, required=False)
    resource = serializers.ChoiceField(RESOURCES, required=False)
    amount = Number(min_value=0, required=False)
    note = Text(max_length=plan_requests.MAX_WORDS)


def request_shape(row: PlanRequest) -> shapes.PlanRequest:
    return shapes.PlanRequest(
        id=str(row.id),
        state=row.state,
        plan=row.plan_id,
        resource=row.resource or None,
        amount=row.amount,
        note=row.note,
        asked_by=row.asked_by.email if row.asked_by else None,
        answer=row.words or None,
        created_at=row.created_at,
        answered_at=row.answered_at,
    )


def plan_shape(plan: Plan) -> shapes.OfferedPlan:
    return shapes.OfferedPlan(slug=plan.slug, name=plan.name, limits=plan.limits)


class _SelfService(People):
    """Absent where the installation does not offer it, before anything of the request is read."""

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        super().initial(request, *args, **kwargs)
        plan_requests.require_on()


class OfferedPlans(_SelfService):
    scopes = {"GET": ADMIN}

    @extend_schema(
        summary="List plans that can be asked for",
        description="Those that operators offer, but for the tenant's own. 404 where `SELF_SERVICE` lacks `requests`.",
        parameters=PAGING,
        responses=page_of(shapes.OfferedPlan),
        extensions={"x-problems": [404]},
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(plan_requests.offered_plans(), plan_shape))


class PlanRequests(_SelfService):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(
        summary="List requests for more",
        description="Newest first, with their answers. 404 where `SELF_SERVICE` lacks `requests`.",
        parameters=PAGING,
        responses=page_of(shapes.PlanRequest),
        extensions={"x-problems": [404]},
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(plan_requests.list_requests(), request_shape))

    @extend_schema(
        summary="Ask for more",
        description=(
            "For a plan of `/offered-plans`, for more of a resource (`resource` and `amount`, together), or for what "
            "`note` says. One request is open at a time (409). With a key that a member made, who gets the answer by "
            "e-mail; others are refused (403)."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewPlanRequest},
        responses={201: shapes.PlanRequest},
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewPlanRequest.read(request.data)
        idempotent = IdempotentRequest(request, cast("dict[str, Any]", request.data))
        return idempotent.run(lambda: self._create(fields)).response()

    def _create(self, fields: dict[str, Any]) -> Answer:
        return Answer.of(201, request_shape(plan_requests.ask(actor=self.acting(), **fields)))


class WithdrawPlanRequest(_SelfService):
    scopes = {"POST": ADMIN}

    def find(self, plan_request_id: uuid.UUID | None) -> PlanRequest:
        return plan_requests.get_own(plan_request_id)

    @extend_schema(
        summary="Withdraw a request for more",
        request=None,
        responses=shapes.PlanRequest,
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, plan_request_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            plan_requests.withdraw(actor=self.acting(), request_id=plan_request_id)
            return Response(request_shape(plan_requests.get_own(plan_request_id)))
