"""`/outcomes`: what people decided, and taking it back."""

from __future__ import annotations

import uuid

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api import review_shapes as shapes
from api.idempotency import Answer, Once
from api.paging import read_page, refuse_unknown
from api.reviews import Moderating, Reason, decided, id_in, read_text
from api.schema import IDEMPOTENCY, PAGING
from tenants.moderation import models, queue, showing, undoing
from tenants.scope import tenant_scope


class Outcomes(Moderating):
    @extend_schema(
        summary="What people decided, the newest first",
        parameters=[
            *PAGING,
            OpenApiParameter("review", str),
            OpenApiParameter("batch", str),
            OpenApiParameter("rule", str),
        ],
        responses=shapes.OutcomePage,
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, "review", "batch", "rule")
        page, rule = read_page(query), read_text(query, "rule")
        review_id, batch = id_in(query, "review"), id_in(query, "batch")
        with tenant_scope(self.tenant_id):
            rows = showing.list_outcomes(review_id=review_id, batch=batch, rule=rule, actor=self.actor)
            return Response(page.of(rows, showing.outcome_as_dict))


class UndoOutcome(Moderating):
    def find(self, outcome_id: uuid.UUID | None) -> models.Outcome:
        return undoing.get_outcome(outcome_id=outcome_id, actor=self.actor)

    @extend_schema(
        summary="Take a decision back",
        description="A new row points at it; the flag is open again, and the item stands as before.",
        parameters=[IDEMPOTENCY],
        request={"application/json": Reason},
        responses=shapes.ReviewDecided,
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, outcome_id: uuid.UUID) -> HttpResponse:
        fields = Reason.read(request.data)
        return Once(request, fields).run(lambda: self._undo(outcome_id, fields["reason"])).response()

    def _undo(self, outcome_id: uuid.UUID, reason: str) -> Answer:
        undone = undoing.undo(outcome_id=outcome_id, actor=self.actor, reason=reason)
        review = queue.get_review(review_id=undone.review, actor=self.actor)
        return Answer.of(200, decided(undone, review))
