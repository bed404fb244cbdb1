"""`/golden-queries`: queries whose right answers are known, which judge a model before it answers searches."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Text
from api.idempotency import Answer, IdempotentRequest
from api.paging import read_page, refuse_unknown
from api.paths import read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts.permissions import READ, TRAIN
from tenants.errors import NotFound
from tenants.learning import golden, selectors, shapes
from tenants.learning.models import GoldenQuery
from tenants.scope import tenant_scope

MAX_ID = 100


class QueryPicture(Body):
    asset = Text(max_length=MAX_ID)


class NewGoldenQuery(Body):
    text = Text(required=False, max_length=golden.MAX_TEXT)
    image = QueryPicture(required=False, help_text="A picture of the workspace, instead of a text.")
    relevant = serializers.ListField(
        child=Text(max_length=MAX_ID),
        min_length=1,
        max_length=golden.MAX_ANSWERS,
        help_text="The ids of the assets that it has to find.",
    )


class GoldenQueries(Resource):
    scopes = {"GET": READ, "POST": TRAIN}

    @extend_schema(
        summary="List golden queries",
        parameters=PAGING,
        responses=page_of(shapes.GoldenQueryShape),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            rows = page.fetch(selectors.list_golden())
            answers = selectors.answers_of(row.id for row in rows)
            return Response(page.cut(rows, lambda row: selectors.golden_shape(row, answers)))

    @extend_schema(
        summary="Add a golden query",
        parameters=[IDEMPOTENCY],
        request={"application/json": NewGoldenQuery},
        responses={201: shapes.GoldenQueryShape},
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewGoldenQuery.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._add(fields)).response()

    def _add(self, fields: dict[str, Any]) -> Answer:
        picture = fields.get("image")
        row = golden.add_golden_query(
            text=fields.get("text", ""),
            asset_id=_asset(picture["asset"]) if picture else None,
            relevant=[_asset(one) for one in fields["relevant"]],
            actor=self.actor,
        )
        body = selectors.golden_shape(row, selectors.answers_of([row.id]))
        return Answer.of(201, body, {"Location": f"/api/v1/golden-queries/{row.id}"})


def _asset(name: str) -> uuid.UUID:
    if (found := read_id(name)) is None:
        raise NotFound("This asset does not exist.")
    return found


class OneGoldenQuery(Resource):
    scopes = {"GET": READ, "DELETE": TRAIN}
    found: GoldenQuery

    def find(self, golden_id: uuid.UUID | None) -> GoldenQuery:
        return selectors.get_golden(golden_id)

    @extend_schema(summary="A golden query", responses=shapes.GoldenQueryShape)
    def get(self, request: Request, golden_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            answers = selectors.answers_of([self.found.id])
            return Response(selectors.golden_shape(self.found, answers))

    @extend_schema(summary="Delete a golden query", responses={204: None})
    def delete(self, request: Request, golden_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            golden.delete_golden_query(golden_id=golden_id, actor=self.actor)
        return Response(status=204)
