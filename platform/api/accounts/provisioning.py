"""`/provisioning`: tokens for the tenant's identity provider (`/scim/v2`), and which roles its people get."""

from __future__ import annotations

from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from msgspec.structs import asdict
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.accounts.people import People
from api.components import page_of
from api.fields import Body, Text, Whole
from api.idempotency import Answer, IdempotentRequest
from api.paging import refuse_unknown
from api.schema import IDEMPOTENCY
from tenants.accounts import shapes
from tenants.accounts.permissions import ADMIN
from tenants.people.models import ProvisioningSettings, ProvisioningToken
from tenants.people.provisioning import directory, tokens
from tenants.scope import tenant_scope


class GroupRoleBody(Body):
    group = Text(min_length=1, max_length=255)
    role = Text(min_length=1, max_length=60)


class SettingsBody(Body):
    default_role = Text(min_length=1, max_length=60)
    group_roles = serializers.ListField(
        child=GroupRoleBody(), max_length=directory.MAX_MAPPINGS, allow_empty=True
    )


class TokenBody(Body):
    name = Text(min_length=1, max_length=100)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class TokenRotation(Body):
    overlap_s = Whole(min_value=0, max_value=tokens.MAX_OVERLAP_S)


def settings_shape(row: ProvisioningSettings) -> shapes.ProvisioningSettings:
    listed = [shapes.GroupRole(group=one["group"], role=one["role"]) for one in row.group_roles]
    return shapes.ProvisioningSettings(default_role=row.default_role, group_roles=listed)


def token_shape(row: ProvisioningToken) -> shapes.ProvisioningToken:
    return shapes.ProvisioningToken(
        prefix=row.prefix,
        name=row.name,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
        maker_left=tokens.made_by_somebody_gone(row),
    )


def shown_once(row: ProvisioningToken, token: str) -> Answer:
    shown = shapes.NewProvisioningToken(**asdict(token_shape(row)), token=token)
    return Answer.of(201, shown, withheld="token")


class Provisioning(People):
    scopes = {"GET": ADMIN, "PUT": ADMIN}

    @extend_schema(summary="Roles of provisioned people", responses=shapes.ProvisioningSettings)
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(settings_shape(directory.settings()))

    @extend_schema(
        summary="Set the roles of provisioned people",
        description=(
            "Groups by the name that the identity provider gives them. Of several the most powerful role counts; "
            "no group makes owners, and owners keep their role. People who are in groups get their role at once."
        ),
        request={"application/json": SettingsBody},
        responses=shapes.ProvisioningSettings,
    )
    def put(self, request: Request) -> Response:
        fields = SettingsBody.read(request.data)
        with tenant_scope(self.tenant_id):
            return Response(settings_shape(directory.change_settings(actor=self.acting(), **fields)))


class ProvisioningTokens(People):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(
        summary="List provisioning tokens",
        responses=page_of(shapes.ProvisioningToken),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        with tenant_scope(self.tenant_id):
            rows = list(tokens.list_tokens()[: tokens.MAX_LISTED])
            return Response({"results": [token_shape(row) for row in rows], "next": None})

    @extend_schema(
        summary="Make a provisioning token",
        description=(
            "For an identity provider, which sends it to `/scim/v2`. It opens nothing else, and no API key opens that. "
            "The token is shown in this answer only; a replay of it has `token: null`."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": TokenBody},
        responses={201: shapes.NewProvisioningToken},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = TokenBody.read(request.data)
        idempotent = IdempotentRequest(request, cast("dict[str, Any]", request.data))
        return idempotent.run(
            lambda: shown_once(*tokens.create_token(actor=self.acting(), **fields))
        ).response()


class OneProvisioningToken(People):
    scopes = {"DELETE": ADMIN}

    def find(self, prefix: str) -> ProvisioningToken:
        return tokens.get_token(prefix)

    @extend_schema(summary="Revoke a provisioning token", responses={204: None})
    def delete(self, request: Request, prefix: str) -> Response:
        with tenant_scope(self.tenant_id):
            tokens.revoke_token(actor=self.acting(), prefix=prefix)
        return Response(status=204)


class RotateProvisioningToken(People):
    scopes = {"POST": ADMIN}

    def find(self, prefix: str) -> ProvisioningToken:
        return tokens.get_token(prefix)

    @extend_schema(
        summary="Rotate a provisioning token",
        description=(
            "A new token of the same name. The old one works for `overlap_s` seconds more, 0 to 7 days. "
            "The token is shown in this answer only; a replay of it has `token: null`."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": TokenRotation},
        responses={201: shapes.NewProvisioningToken},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, prefix: str) -> HttpResponse:
        overlap_s = TokenRotation.read(request.data)["overlap_s"]
        idempotent = IdempotentRequest(request, cast("dict[str, Any]", request.data))
        return idempotent.run(lambda: self._rotate(prefix, overlap_s)).response()

    def _rotate(self, prefix: str, overlap_s: int) -> Answer:
        return shown_once(*tokens.rotate_token(actor=self.acting(), prefix=prefix, overlap_s=overlap_s))
