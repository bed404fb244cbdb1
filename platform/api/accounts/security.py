"""`/security`: what the tenant asks of those who come in."""

from __future__ import annotations

from typing import cast

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, Flag, NetworkList, Whole
from api.paging import refuse_unknown
from api.resource import Resource
from tenants.accounts import security, shapes
from tenants.accounts.models import TenantSecurity
from tenants.accounts.permissions import ADMIN
from tenants.people.security import Changes, change_security, get_security
from tenants.scope import tenant_scope

MAX_MINUTES = 1_000_000


class SecurityChanges(Body):
    session_idle_minutes = Whole(required=False, allow_null=True, min_value=1, max_value=MAX_MINUTES)
    session_max_minutes = Whole(required=False, allow_null=True, min_value=1, max_value=MAX_MINUTES)
    allowed_networks = NetworkList(required=False)
    shut_myself_out = Flag(
        required=False,
        help_text="Needed where the address that asks is in none of the new networks.",
    )


def security_shape(row: TenantSecurity) -> shapes.Security:
    limits = security.session_limits(row.tenant)
    return shapes.Security(
        session_idle_minutes=row.session_idle_minutes,
        session_max_minutes=row.session_max_minutes,
        allowed_networks=row.allowed_networks or [],
        sessions=shapes.SessionLimits(idle_minutes=limits.idle_minutes, max_minutes=limits.longest_minutes),
    )


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
            "What is absent stays. Limits can be stricter than the installation's, not wider. Networks are addresses "
            "or CIDR, IPv4 and IPv6, and bind the console and all keys; changes take a second to reach every process."
        ),
        request={"application/json": SecurityChanges},
        responses=shapes.Security,
    )
    def patch(self, request: Request) -> Response:
        fields = SecurityChanges.read(request.data)
        confirmed = bool(fields.pop("shut_myself_out", False))
        with tenant_scope(self.tenant_id):
            row = change_security(
                actor=self.actor,
                changes=cast(Changes, fields),
                address=request.META.get("REMOTE_ADDR", ""),
                confirmed=confirmed,
            )
            return Response(security_shape(row))
