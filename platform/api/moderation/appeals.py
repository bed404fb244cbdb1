"""`/appeals`: somebody disagrees with a decision; another person looks again."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from msgspec.structs import asdict
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Text
from api.idempotency import Answer, IdempotentRequest
from api.moderation.reviews import REASON, ModeratorResource, id_in, labels
from api.paging import read_choice, read_page, refuse_unknown
from api.paths import read_id
from api.schema import IDEMPOTENCY, PAGING, choice
from tenants.moderation import models, reviews, shapes
from tenants.moderation.reviews import serializers as review_serializers
from tenants.moderation.reviews.serializers import appeal_shape, appeal_shapes
from tenants.scope import tenant_scope


class NewAppeal(Body):
    audit = Text(help_text="The id of the audit whose decision it is.")
    reason = Text(max_length=reviews.MAX_REASON)


class AppealDecision(Body):
    decision = serializers.ChoiceField(
        reviews.APPEAL_DECISIONS,
        help_text="`upheld`, `overturned` (the item is allowed), or what becomes of the item.",
    )
    reason = Text(**REASON)
    labels = labels()


class Appeals(ModeratorResource):
    @extend_schema(
        summary="List appeals",
        parameters=[
            *PAGING,
            choice("state", models.Appeal.State.values),
            OpenApiParameter("audit", str, description="The id of an audit."),
        ],
        responses=page_of(shapes.Appeal),
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, "state", "audit")
        page, state = read_page(query), read_choice(query, "state", models.Appeal.State.values)
        with tenant_scope(self.tenant_id):
            rows = reviews.list_appeals(actor=self.actor, state=state, audit_id=id_in(query, "audit"))
            found = page.fetch(rows)
            shaped = appeal_shapes(found)
            return Response(page.cut(found, lambda row: shaped[row.id]))

    @extend_schema(
        summary="Appeal against a decision",
        description="It waits in the queue as a flag of kind `appeal`, for somebody who has not decided before.",
        parameters=[IDEMPOTENCY],
        request={"application/json": NewAppeal},
        responses={201: shapes.Appeal},
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewAppeal.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._open(fields)).response()

    def _open(self, fields: dict[str, Any]) -> Answer:
        appeal = reviews.open_appeal(
            audit_id=read_id(fields["audit"]), reason=fields["reason"], actor=self.actor
        )
        return Answer.of(201, appeal_shape(appeal), {"Location": f"/api/v1/appeals/{appeal.id}"})


class ExistingAppeal(ModeratorResource):
    def find(self, appeal_id: uuid.UUID | None) -> models.Appeal:
        return reviews.get_appeal(appeal_id=appeal_id, actor=self.actor)


class OneAppeal(ExistingAppeal):
    @extend_schema(summary="An appeal", responses=shapes.Appeal)
    def get(self, request: Request, appeal_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(appeal_shape(self.found))


class DecideAppeal(ExistingAppeal):
    @extend_schema(
        summary="Decide an appeal",
        description=(
            "Not by anybody who has decided about the item before (403). One that nobody holds is claimed with the "
            "decision. With a decision of the item's, the appeal is upheld if that is what it stood at."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": AppealDecision},
        responses=shapes.AppealDecided,
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, appeal_id: uuid.UUID) -> HttpResponse:
        fields = AppealDecision.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._decide(appeal_id, fields)).response()

    def _decide(self, appeal_id: uuid.UUID, fields: dict[str, Any]) -> Answer:
        appeal, outcome = reviews.decide_appeal(appeal_id=appeal_id, actor=self.actor, **fields)
        return Answer.of(
            200,
            shapes.AppealDecided(
                **asdict(appeal_shape(appeal)), outcome=review_serializers.outcome_shape(outcome)
            ),
        )
