"""`/data-processing`: what is kept of the workspace, where, for how long, and who outside gets it."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.paging import refuse_unknown
from api.resource import Resource
from tenants.accounts.permissions import ADMIN
from tenants.pipeline.care import data_inventory, shapes


class DataProcessing(Resource):
    scopes = {"GET": ADMIN}

    @extend_schema(
        summary="What is kept where, and who gets it",
        description="`recipients` are the hosts that are set up now. Texts are for people.",
        responses=shapes.DataProcessing,
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        return Response(data_inventory.report(self.tenant_id))
