"""`/assets/{id}/comparison` and `/alike-clauses`: two versions of a document, and what one says twice."""

from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of
from api.paging import read_choice, read_limit, refuse_unknown
from api.resource import Resource
from api.schema import PAGING, choice
from tenants.accounts.permissions import READ
from tenants.datasets import document_comparison, selectors, shapes
from tenants.datasets.models import Asset
from tenants.errors import Invalid


class Comparison(Resource):
    scopes = {"GET": READ}

    def find(self, asset_id: uuid.UUID | None, later_id: uuid.UUID | None) -> tuple[Asset, Asset]:
        return _shown(self, asset_id), _shown(self, later_id)

    @extend_schema(
        summary="What changed between two versions of a document",
        description=(
            "Clauses are matched by their words, so that one which was inserted does not change those behind it. "
            "Documents and texts of up to 2,000 clauses. `unchanged=true` lists what stayed as well."
        ),
        parameters=[choice("unchanged", ("true", "false")), *PAGING],
        responses=shapes.DocumentComparison,
        extensions={"x-problems": [409, 422]},
    )
    def get(self, request: Request, asset_id: uuid.UUID, later_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params, "unchanged")
        unchanged = read_choice(request.query_params, "unchanged", ("true", "false")) == "true"
        limit, start = read_limit(request.query_params), _start(request.query_params.get("cursor", "0"))
        before, after = self.found
        found = document_comparison.compare_assets(
            before, after, unchanged=unchanged, start=start, limit=limit
        )
        return Response(found)


class AlikeClauses(Resource):
    scopes = {"GET": READ}

    def find(self, asset_id: uuid.UUID | None) -> Asset:
        return _shown(self, asset_id)

    @extend_schema(
        summary="Clauses of a document that say nearly the same",
        description="At most 50 pairs, the most alike first.",
        responses=shapes.AlikeClausesOf,
        extensions={"x-problems": [409, 422]},
    )
    def get(self, request: Request, asset_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params)
        return Response(shapes.AlikeClausesOf(results=document_comparison.alike_in(self.found)))


def _shown(resource: Resource, asset_id: uuid.UUID | None) -> Asset:
    asset = selectors.get_asset(asset_id)
    selectors.require_shown(asset, key_of(resource.request).scopes)
    return asset


def _start(cursor: str) -> int:
    if not (
        cursor.isascii() and cursor.isdigit() and len(cursor) <= len(str(document_comparison.MAX_CLAUSES))
    ):
        raise Invalid("This is not a cursor from an earlier answer.", pointer="/cursor")
    return int(cursor)
