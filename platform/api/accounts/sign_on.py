"""`/sso`: a tenant's single sign-on, its connections to identity providers and the domains that it has proved."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Flag, Text
from api.idempotency import Answer, IdempotentRequest
from api.paging import read_page, refuse_unknown
from api.paths import read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts.models import SignOnConnection, SignOnDomain
from tenants.accounts.permissions import ADMIN
from tenants.errors import NotFound
from tenants.people.sign_on import connections, domains, saml, shapes
from tenants.scope import tenant_scope

SWITCHES = ("enabled", "enforced")


class RoleLine(Body):
    value = Text(max_length=300)
    role = Text(min_length=1, max_length=60, help_text="Any of `/roles` but owner.")


class ConnectionChanges(Body):
    name = Text(required=False, max_length=100)
    issuer = Text(required=False, max_length=1000, help_text="Of OpenID Connect: https://login.example.org")
    client_id = Text(required=False, max_length=500)
    client_secret = Text(required=False, max_length=1000, help_text="Never shown again.")
    scopes = Text(
        required=False, allow_blank=True, max_length=200, help_text="Beside openid, email, profile."
    )
    metadata = Text(
        required=False, max_length=saml.MAX_METADATA, help_text="The XML that a SAML provider gives out."
    )
    metadata_url = Text(required=False, max_length=2000, help_text="Or where that is read from, once a day.")
    email_claim = Text(required=False, allow_blank=True, max_length=200)
    role_claim = Text(required=False, allow_blank=True, max_length=200)
    role_map = serializers.ListField(
        child=RoleLine(),
        required=False,
        max_length=connections.MAX_ROLES,
        help_text="The first line whose value the claim holds gives the role.",
    )
    default_role = Text(
        required=False,
        allow_blank=True,
        max_length=60,
        help_text="Any of `/roles` but owner; empty: no access.",
    )
    sync_roles = Flag(required=False)
    enabled = Flag(required=False)
    enforced = Flag(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise ValidationError("Send what is to change.")
        return attrs


class NewConnection(ConnectionChanges):
    protocol = serializers.ChoiceField(SignOnConnection.Protocol.values)
    name = Text(max_length=100)
    enabled = None  # type: ignore[assignment]  # nobody has tried it
    enforced = None  # type: ignore[assignment]


class NewDomain(Body):
    domain = Text(max_length=253)
    connection = Text(required=False, allow_null=True, max_length=36)


class DomainChanges(Body):
    connection = Text(allow_null=True, max_length=36, help_text="Null: by none.")


class Connections(Resource):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(
        summary="List single sign-on connections", parameters=PAGING, responses=page_of(shapes.SsoConnection)
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(connections.newest_providers(), _shape_of))

    @extend_schema(
        summary="Create a single sign-on connection",
        description=(
            "It lets nobody in until it is enabled. Of OpenID Connect send `issuer`, `client_id` and `client_secret`, "
            "of SAML `metadata` or `metadata_url`."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewConnection},
        responses={201: shapes.SsoConnection},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewConnection.read(request.data)
        idempotent = IdempotentRequest(request, fields)
        protocol = fields.pop("protocol")
        earlier = idempotent.replay()
        if earlier is not None:
            return earlier.response()
        changes = connections.read_values(self.tenant_id, protocol, fields)
        return idempotent.run(partial(self._create, protocol, changes)).response()

    def _create(self, protocol: str, changes: connections.Changes) -> Answer:
        found = connections.create_connection(protocol=protocol, changes=changes, actor=self.actor)
        headers = {"Location": f"/api/v1/sso/connections/{found.id}"}
        return Answer.of(201, shapes.connection_shape(found), headers)


def _shape_of(provider: Any) -> shapes.SsoConnection:
    return shapes.connection_shape(connections.get_connection(provider.pk))


class OneConnection(Resource):
    scopes = {"GET": ADMIN, "PATCH": ADMIN, "DELETE": ADMIN}
    found: connections.Connection

    def find(self, connection_id: uuid.UUID | None) -> connections.Connection:
        return connections.get_connection(connection_id)

    @extend_schema(summary="A single sign-on connection", responses=shapes.SsoConnection)
    def get(self, request: Request, connection_id: uuid.UUID) -> Response:
        return Response(shapes.connection_shape(self.found))

    @extend_schema(
        summary="Change a single sign-on connection",
        description=(
            "It can be enforced once somebody has come through it with its settings as they are, and as long as some "
            "owner can still sign in by password. Disabling it ends the sessions that came by it."
        ),
        request={"application/json": ConnectionChanges},
        responses=shapes.SsoConnection,
        extensions={"x-problems": [409]},
    )
    def patch(self, request: Request, connection_id: uuid.UUID) -> Response:
        fields = ConnectionChanges.read(request.data)
        switches = {name: fields.pop(name) for name in SWITCHES if name in fields}
        changes = connections.read_values(self.tenant_id, self.found.route.protocol, fields)
        with tenant_scope(self.tenant_id):
            found = connections.update_connection(
                connection_id=connection_id, changes=changes, switches=switches, actor=self.actor
            )
        return Response(shapes.connection_shape(found))

    @extend_schema(
        summary="Delete a single sign-on connection",
        description="Ends the sessions that came by it. Members stay.",
        responses={204: None},
    )
    def delete(self, request: Request, connection_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            connections.delete_connection(connection_id=connection_id, actor=self.actor)
        return Response(status=204)


def _named(connection: str | None) -> uuid.UUID | None:
    """Raises NotFound for what is no id."""
    if connection is None:
        return None
    found = read_id(connection)
    if found is None:
        raise NotFound("This connection does not exist.")
    return found


class Domains(Resource):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(
        summary="List domains of single sign-on", parameters=PAGING, responses=page_of(shapes.SsoDomain)
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(domains.list_domains().order_by("-id"), shapes.domain_shape))

    @extend_schema(
        summary="Add a domain",
        description="It counts once it is proved: put the TXT record into its zone, then verify it.",
        parameters=[IDEMPOTENCY],
        request={"application/json": NewDomain},
        responses={201: shapes.SsoDomain},
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewDomain.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._create(fields)).response()

    def _create(self, fields: dict[str, Any]) -> Answer:
        connection_id = _named(fields.get("connection"))
        row = domains.add_domain(domain=fields["domain"], connection_id=connection_id, actor=self.actor)
        return Answer.of(201, shapes.domain_shape(row), {"Location": f"/api/v1/sso/domains/{row.id}"})


class OneDomain(Resource):
    scopes = {"GET": ADMIN, "PATCH": ADMIN, "DELETE": ADMIN}
    found: SignOnDomain

    def find(self, domain_id: uuid.UUID | None) -> SignOnDomain:
        return domains.get_domain(domain_id)

    @extend_schema(summary="A domain", responses=shapes.SsoDomain)
    def get(self, request: Request, domain_id: uuid.UUID) -> Response:
        return Response(shapes.domain_shape(self.found))

    @extend_schema(
        summary="Choose by which connection a domain signs in",
        request={"application/json": DomainChanges},
        responses=shapes.SsoDomain,
    )
    def patch(self, request: Request, domain_id: uuid.UUID) -> Response:
        connection_id = _named(DomainChanges.read(request.data)["connection"])
        with tenant_scope(self.tenant_id):
            row = domains.route_domain(domain_id=domain_id, connection_id=connection_id, actor=self.actor)
        return Response(shapes.domain_shape(row))

    @extend_schema(summary="Remove a domain", responses={204: None})
    def delete(self, request: Request, domain_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            domains.remove_domain(domain_id=domain_id, actor=self.actor)
        return Response(status=204)


class VerifyDomain(Resource):
    scopes = {"POST": ADMIN}

    def find(self, domain_id: uuid.UUID | None) -> SignOnDomain:
        return domains.get_domain(domain_id)

    @extend_schema(
        summary="Look for a domain's TXT record now",
        request=None,
        responses=shapes.SsoDomain,
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, domain_id: uuid.UUID) -> Response:
        row = domains.prove_domain(tenant_id=self.tenant_id, domain_id=domain_id, actor=self.actor)
        return Response(shapes.domain_shape(row))
