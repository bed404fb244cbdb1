"""`/security`: what the tenant asks of those who come in."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, Flag, NetworkList
from api.paging import refuse_unknown
from api.resource import Resource
from tenants.accounts import shapes
from tenants.accounts.models import TenantSecurity
from tenants.accounts.permissions import ADMIN
from tenants.people.security import allow_networks, get_security
from tenants.scope import tenant_scope


class SecurityChanges(Body):
    allowed_networks = NetworkList()
    shut_myself_out = Flag(
        required=False,
        help_text="Needed where the address that asks is in none of the new networks.",
    )


def security_shape(row: TenantSecurity) -> shapes.Security:
    return shapes.Security(allowed_networks=row.allowed_networks or [])


class Security(Resource):
    scopes = {"GET": ADMIN, "PATCH": ADMIN}

    @extend_schema(summary="What the tenant asks of those who come in", responses=shapes.Security)
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(security_shape(get_security()))

    @extend_schema(
        summary="Change what the tenant asks of those who come in",
        description=(
            "Networks are addresses or CIDR, IPv4 and IPv6, and bind the console and all keys; changes take a second "
            "to reach every process."
        ),
        request={"application/json": SecurityChanges},
        responses=shapes.Security,
    )
    def patch(self, request: Request) -> Response:
        fields = SecurityChanges.read(request.data)
        with tenant_scope(self.tenant_id):
            row = allow_networks(
                actor=self.actor,
                networks=fields["allowed_networks"],
                address=request.META.get("REMOTE_ADDR", ""),
                confirmed=fields.get("shut_myself_out", False),
            )
            return Response(security_shape(row))
