"""`/feedback`: what somebody thought of a result of a search."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from api.fields import Body, Text
from api.idempotency import Answer, IdempotentRequest
from api.paths import read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY
from tenants.accounts.permissions import SEARCH
from tenants.errors import NotFound
from tenants.retrieval import query, shapes
from tenants.retrieval.models import Feedback as FeedbackRow

MAX_ID = 100


class NewFeedback(Body):
    search_id = Text(max_length=MAX_ID, help_text="As the search answered it, within a day.")
    asset = Text(max_length=MAX_ID, help_text="One of the results that were shown.")
    kind = serializers.ChoiceField(
        FeedbackRow.Kind.values, help_text="The opposite judgement takes the place of an earlier one."
    )


class Feedback(Resource):
    scopes = {"POST": SEARCH}

    @extend_schema(
        summary="Tell what was chosen, or what fits",
        description="The weights of the parts of later queries can be learnt from it. Words of queries are not kept.",
        parameters=[IDEMPOTENCY],
        request={"application/json": NewFeedback},
        responses={201: shapes.FeedbackShape, 200: shapes.FeedbackShape},
        extensions={"x-problems": [404]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewFeedback.read(request.data)
        idempotent = IdempotentRequest(request, fields)
        return (idempotent.replay() or self._record(idempotent, fields)).response()

    def _record(self, idempotent: IdempotentRequest, fields: dict[str, Any]) -> Answer:
        search_id = _named(fields["search_id"], "No such search was made in the last 24 hours.")
        asset_id = _named(fields["asset"], "This asset does not exist.")
        trace = query.trace_of_search(self.tenant_id, search_id)

        def record() -> Answer:
            row, new = query.record_feedback(
                search_id=search_id, trace=trace, asset_id=asset_id, kind=fields["kind"], actor=self.actor
            )
            return Answer.of(201 if new else 200, as_dict(row))

        return idempotent.run(record)


def _named(value: str, missing: str) -> uuid.UUID:
    if (found := read_id(value)) is None:
        raise NotFound(missing)
    return found


def as_dict(row: FeedbackRow) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "search_id": str(row.search_id),
        "asset": str(row.asset_id),
        "kind": row.kind,
        "rank": row.rank,
        "created_at": row.created_at,
    }
