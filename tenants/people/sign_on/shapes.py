"""Connections and domains as the API shows them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from tenants.accounts.models import SignOnConnection, SignOnDomain
from tenants.people.sign_on import connections, domains
from tenants.shapes import Choices, Doc, Shape


class RoleLine(Shape, kw_only=True):
    value: str
    role: str


class SsoConnection(Shape, kw_only=True):
    id: str
    protocol: Annotated[str, Choices(SignOnConnection.Protocol.values)]
    name: str
    enabled: bool
    enforced: Annotated[bool, Doc("Members with an address in its domains cannot use a password here.")]
    issuer: Annotated[str, Doc("Of OpenID Connect; of SAML the provider's entity ID.")]
    client_id: str
    has_secret: bool
    scopes: str
    metadata_url: str
    email_claim: Annotated[str, Doc("The claim or attribute with the address; empty: the usual ones.")]
    role_claim: Annotated[str, Doc("The claim or attribute that roles are given by.")]
    role_map: list[RoleLine]
    default_role: Annotated[str, Doc("Where no line fits; empty: no access.")]
    sync_roles: Annotated[bool, Doc("Roles follow the provider at each sign-in.")]
    redirect_uri: Annotated[str | None, Doc("What an OpenID provider has to allow.")]
    acs_url: Annotated[str | None, Doc("Where a SAML provider posts its responses.")]
    entity_id: Annotated[str | None, Doc("The audience of a SAML provider, and where our metadata stands.")]
    worked_at: Annotated[dt.datetime | None, Doc("When somebody last came through with these settings.")]
    created_at: dt.datetime


class SsoDomain(Shape, kw_only=True):
    id: str
    domain: str
    connection: Annotated[str | None, Doc("By which addresses of this domain sign in.")]
    proved_at: dt.datetime | None
    proof: Annotated[str, Choices(("", *SignOnDomain.Proof.values))]
    record_name: Annotated[str, Doc("The name of the TXT record that proves the domain.")]
    record_value: str
    created_at: dt.datetime


def connection_shape(found: connections.Connection) -> SsoConnection:
    row, service = found.provider, connections.service_of(found.id)
    return SsoConnection(
        id=str(found.id),
        protocol=found.route.protocol,
        name=row.name,
        enabled=found.route.enabled,
        enforced=found.route.enforced,
        issuer=row.issuer,
        client_id=row.client_id,
        has_secret=row.sealed_secret is not None,
        scopes=row.scopes,
        metadata_url=row.metadata_url,
        email_claim=row.email_claim,
        role_claim=row.role_claim,
        role_map=[RoleLine(**line) for line in row.role_map],
        default_role=row.default_role,
        sync_roles=row.sync_roles,
        redirect_uri=connections.redirect_uri(found.id) if found.by_oidc else None,
        acs_url=None if found.by_oidc else service.acs_url,
        entity_id=None if found.by_oidc else service.entity_id,
        worked_at=row.worked_at,
        created_at=row.created_at,
    )


def domain_shape(row: SignOnDomain) -> SsoDomain:
    return SsoDomain(
        id=str(row.id),
        domain=row.domain,
        connection=str(row.connection_id) if row.connection_id else None,
        proved_at=row.proved_at,
        proof=row.proof,
        record_name=domains.record_name(row),
        record_value=domains.record_value(row),
        created_at=row.created_at,
    )
