"""`/origins`: web pages whose scripts may read what the API answers to this workspace's keys (CORS)."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, Text
from api.resource import Resource
from tenants.accounts import origins
from tenants.accounts.permissions import ADMIN
from tenants.events.services import record
from tenants.scope import tenant_scope

NAMED = "Each is a scheme and a host, with a port where it is not the usual one: `https://shop.example`."


class OriginList(Body):
    origins = serializers.ListField(
        child=Text(min_length=1, max_length=origins.MAX_LENGTH),
        max_length=origins.MAX_ORIGINS,
        allow_empty=True,
        help_text=NAMED,
    )


class Origins(Resource):
    scopes = {"GET": ADMIN, "PUT": ADMIN}

    @extend_schema(summary="Origins that may call from a browser", responses=OriginList)
    def get(self, request: Request) -> Response:
        with tenant_scope(self.tenant_id):
            return Response({"origins": origins.list_origins()})

    @extend_schema(
        summary="Set the origins that may call from a browser",
        description=(
            "All of them at once; an empty list allows none. Exact origins only, of https or of localhost. It may take "
            f"{origins.FRESH_S:g} seconds until every process knows. What a page can read is no secret from those who "
            "open it: give its key no more scopes than they may have."
        ),
        request={"application/json": OriginList},
        responses=OriginList,
    )
    def put(self, request: Request) -> Response:
        wanted = OriginList.read(request.data)["origins"]
        with tenant_scope(self.tenant_id):
            kept = origins.replace_origins(origins=wanted)
            record(actor=self.actor, verb="origins.changed", details={"origins": kept})
        return Response({"origins": kept})
