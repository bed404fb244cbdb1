"""`/roles`: what each role of the tenant may do, and roles that it makes itself."""

from __future__ import annotations

from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.accounts.people import People
from api.components import page_of
from api.fields import Body, Text
from api.idempotency import Answer, IdempotentRequest
from api.paging import refuse_unknown
from api.schema import IDEMPOTENCY
from tenants.accounts import shapes
from tenants.accounts.models import CustomRole
from tenants.accounts.permissions import ADMIN, SCOPES
from tenants.accounts.roles import Role, list_roles
from tenants.people import roles
from tenants.scope import tenant_scope


class RoleChanges(Body):
    description = Text(required=False, allow_blank=True, max_length=roles.MAX_DESCRIPTION)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(SCOPES), min_length=1, max_length=20, required=False
    )


class NewRole(Body):
    name = Text(min_length=2, max_length=39)
    description = Text(required=False, allow_blank=True, max_length=roles.MAX_DESCRIPTION)
    scopes = serializers.ListField(child=serializers.ChoiceField(SCOPES), min_length=1, max_length=20)


def role_shape(role: Role | CustomRole) -> shapes.Role:
    return shapes.Role(
        name=role.name,
        description=role.description,
        scopes=list(role.scopes),
        built_in=isinstance(role, Role) and role.built_in,
    )


class Roles(People):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(summary="List roles", responses=page_of(shapes.Role))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response({"results": [role_shape(role) for role in list_roles()], "next": None})

    @extend_schema(
        summary="Make a role",
        description=(
            "Of scopes other than `admin`: administration stays with owners and admins. Members get it by its name, as "
            "they get a built-in one."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewRole},
        responses={201: shapes.Role},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewRole.read(request.data)
        idempotent = IdempotentRequest(request, cast("dict[str, Any]", request.data))
        return idempotent.run(
            lambda: Answer.of(201, role_shape(roles.create_role(actor=self.acting(), **fields)))
        ).response()


class OneRole(People):
    scopes = {"PATCH": ADMIN, "DELETE": ADMIN}

    def find(self, name: str) -> CustomRole:
        return roles.get_role(name)

    @extend_schema(
        summary="Change a role",
        description=(
            "What is absent stays. It holds at once for everybody who has it; API keys that they made and that may do "
            "more than the role does now end. Built-in roles cannot be changed."
        ),
        request={"application/json": RoleChanges},
        responses=shapes.Role,
    )
    def patch(self, request: Request, name: str) -> Response:
        fields = RoleChanges.read(request.data)
        with tenant_scope(self.tenant_id):
            changed = roles.change_role_definition(actor=self.acting(), name=name, **fields)
            return Response(role_shape(changed))

    @extend_schema(
        summary="Delete a role",
        description="A role in use is refused with who has it.",
        responses={204: None},
        extensions={"x-problems": [409]},
    )
    def delete(self, request: Request, name: str) -> Response:
        with tenant_scope(self.tenant_id):
            roles.delete_role(actor=self.acting(), name=name)
        return Response(status=204)
