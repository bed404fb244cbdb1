"""Connections of a tenant to its identity providers: made, changed, enabled, enforced, deleted. Every change is logged.

A secret is written and never read out again. Roles that a provider may give are those that an admin may give: no owner.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import second_factor, sign_on, vault
from tenants.accounts.models import (
    IdentityProvider,
    Membership,
    Session,
    SignOnConnection,
    SignOnIdentity,
    SignOnRequest,
    UsedAssertion,
)
from tenants.accounts.permissions import Actor, may_manage
from tenants.accounts.roles import list_roles
from tenants.accounts.services import lock_members
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.services import record
from tenants.events.ssrf_guard import for_sign_on, read
from tenants.people.members import role_now
from tenants.people.sign_on import oidc, saml
from tenants.people.sign_on.domains import list_domains
from tenants.scope import current_tenant_id, tenant_scope

OIDC, SAML = SignOnConnection.Protocol.OIDC, SignOnConnection.Protocol.SAML
PURPOSE = "client secret of an identity provider"
MAX_CONNECTIONS, MAX_ROLES = 10, 100
LENGTHS = {
    "name": 100,
    "issuer": 1000,
    "client_id": 500,
    "scopes": 200,
    "email_claim": 200,
    "role_claim": 200,
}
#: What a provider may be changed in, by protocol; of both, what its answers mean.
MEANING = ("name", "email_claim", "role_claim", "role_map", "default_role", "sync_roles")
FIELDS = {
    OIDC: ("issuer", "client_id", "client_secret", "scopes", *MEANING),
    SAML: ("metadata", "metadata_url", *MEANING),
}
# After these it has to be tried again before it may be enforced.
MATTERING = frozenset({"issuer", "client_id", "client_secret", "metadata", "metadata_url", "email_claim"})
# These say who the provider is. Who changes them must not become an owner by naming a provider of their own.
IDENTITY = frozenset({"issuer", "client_id", "metadata", "metadata_url"})
Values = Mapping[str, object]
Changes = Mapping[str, object]
Switches = Mapping[str, bool]


@dataclass(frozen=True)
class Connection:
    """Both halves of one connection: what is known before there is a tenant, and the tenant's own."""

    route: SignOnConnection
    provider: IdentityProvider

    @property
    def id(self) -> uuid.UUID:
        return self.route.id

    @property
    def by_oidc(self) -> bool:
        return self.route.protocol == OIDC


def assignable_roles(tenant_id: uuid.UUID) -> list[str]:
    """What a provider of this tenant may make of somebody: any role but the owner's."""
    return [role.name for role in list_roles(tenant_id) if may_manage("admin", role.name)]


def list_connections() -> list[Connection]:
    """The active tenant's, the oldest first."""
    routes = {row.id: row for row in _routes()}
    return [
        Connection(routes[row.id], row) for row in IdentityProvider.objects.order_by("id") if row.id in routes
    ]


def newest_providers() -> QuerySet[IdentityProvider]:
    return IdentityProvider.objects.order_by("-id")


def _routes() -> QuerySet[SignOnConnection]:
    return SignOnConnection.objects.filter(tenant=current_tenant_id())


def get_connection(connection_id: uuid.UUID | None) -> Connection:
    """Raises NotFound."""
    route = _routes().filter(pk=connection_id).first() if connection_id else None
    provider = IdentityProvider.objects.filter(pk=route.pk).first() if route else None
    if route is None or provider is None:
        raise NotFound(_("This connection does not exist."))
    return Connection(route, provider)


def create_connection(*, protocol: str, changes: Changes, actor: str) -> Connection:
    """A connection of what `read_values` gave; it lets nobody in until it is enabled. Raises Invalid, Conflict."""
    provider = IdentityProvider(**changes)
    _check_complete(protocol, provider)
    with tenant_scope(current_tenant_id()):
        lock_members()
        if _routes().count() >= MAX_CONNECTIONS:
            raise Conflict(_("A workspace has at most %(most)s connections.") % {"most": MAX_CONNECTIONS})
        provider.save()
        route = SignOnConnection.objects.create(
            pk=provider.pk, tenant_id=current_tenant_id(), protocol=protocol
        )
        details = {"name": provider.name, "protocol": protocol}
        record(actor=actor, verb="sign_on.connection_created", target=str(route.id), details=details)
    return Connection(route, provider)


def update_connection(
    *, connection_id: uuid.UUID, changes: Changes, switches: Switches | None = None, actor: str
) -> Connection:
    """Change what `read_values` gave, and whether it is enabled or enforced.

    Raises NotFound, Invalid, and Conflict for enforcing what was not tried or would lock all owners out.
    """
    with tenant_scope(current_tenant_id()):
        lock_members()
        found = get_connection(connection_id)
        changed = _apply(found.provider, changes)
        _check_complete(found.route.protocol, found.provider)
        if MATTERING & set(changed):
            found.provider.worked_at = None
        _forget_links(found.provider, set(changed))
        found.provider.save()
        changed |= _switch(found, switches or {})
        record(actor=actor, verb="sign_on.connection_updated", target=str(connection_id), details=changed)
    return found


def _apply(provider: IdentityProvider, changes: Changes) -> dict[str, object]:
    """Set what differs; returns it as the audit log may show it."""
    changed: dict[str, object] = {}
    for name, value in changes.items():
        if getattr(provider, name) != value:
            setattr(provider, name, value)
            shown = "client_secret" if name == "sealed_secret" else name
            changed[shown] = True if shown in ("client_secret", "metadata", "fetched_at") else value
    return changed


def _forget_links(provider: IdentityProvider, changed: set[str]) -> None:
    """Another provider's names mean other people; owners confirm with their password whenever it could be another."""
    links = SignOnIdentity.objects.filter(provider=provider.pk)
    if "issuer" in changed or "client_id" in changed:
        links.delete()
    elif IDENTITY & changed and not (provider.metadata_url and "metadata_url" not in changed):
        owners = Membership.objects.filter(tenant=provider.tenant_id, role="owner")
        links.filter(user__in=owners.values("user")).delete()


def _switch(found: Connection, switches: Switches) -> dict[str, object]:
    changed: dict[str, object] = {n: v for n, v in switches.items() if getattr(found.route, n) != v}
    for name, value in changed.items():
        setattr(found.route, name, value)
    if not found.route.enabled:
        found.route.enforced = False
        Session.objects.filter(connection=found.id).delete()
    if changed.get("enforced") and found.route.enforced and found.provider.worked_at is None:
        raise Conflict(_("Test this connection first: no one has signed in with its current settings."))
    found.route.save()
    sign_on.keep_a_way_in(current_tenant_id())
    return changed


def delete_connection(*, connection_id: uuid.UUID, actor: str) -> None:
    """Forget the provider and end the sessions that came by it; its members stay. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        lock_members()
        found = get_connection(connection_id)
        Session.objects.filter(connection=found.id).delete()
        list_domains().filter(connection=found.id).update(connection=None)
        found.route.delete()
        for model in (UsedAssertion, SignOnRequest, SignOnIdentity):
            model.objects.filter(provider=found.id).delete()
        details = {"name": found.provider.name}
        record(actor=actor, verb="sign_on.connection_deleted", target=str(connection_id), details=details)
        found.provider.delete()


def choose_break_glass(*, user_id: uuid.UUID, chosen: bool, actor: Actor) -> None:
    """Let an owner keep the password while single sign-on is enforced, or no longer; owners choose.

    Raises NotFound, NotAllowed, Conflict for no owner with a second factor, or for the last one who could get in.
    """
    with tenant_scope(current_tenant_id()):
        lock_members()
        if not may_manage(role_now(actor), "owner"):
            raise NotAllowed(_("Owners choose who has an emergency password."))
        rows = Membership.objects.select_related("user")
        member = rows.filter(tenant=current_tenant_id(), user=user_id).first()
        if member is None:
            raise NotFound(_("This member does not exist."))
        if chosen and (member.role != "owner" or not second_factor.is_on(member.user)):
            raise Conflict(_("Only an owner with two-factor sign-in can have an emergency password."))
        member.break_glass = chosen
        member.save(update_fields=["break_glass"])
        sign_on.keep_a_way_in(current_tenant_id())
        record(actor=actor.label, verb="sign_on.break_glass", target=str(user_id), details={"chosen": chosen})


# --- Reading what was typed ------------------------------------------------------------------------------


def read_values(tenant_id: uuid.UUID, protocol: str, values: Values) -> Changes:
    """Columns of the provider, of what a person or program sent. No transaction may be open: metadata may be fetched.

    Raises Invalid for what cannot be.
    """
    if protocol not in FIELDS:
        raise Invalid(_("Choose oidc or saml."), pointer="/protocol")
    if unknown := sorted(set(values) - set(FIELDS[SignOnConnection.Protocol(protocol)])):
        said = _("A connection by %(protocol)s has no %(name)s.") % {"protocol": protocol, "name": unknown[0]}
        raise Invalid(said, pointer=f"/{unknown[0]}")
    changes: dict[str, object] = {name: _text(name, values[name]) for name in LENGTHS if name in values}
    if "issuer" in changes:
        _check_url(str(changes["issuer"]), "issuer")
    if values.get("client_secret"):
        changes["sealed_secret"] = _sealed(str(values["client_secret"]), tenant_id)
    if "sync_roles" in values:
        changes["sync_roles"] = bool(values["sync_roles"])
    return {**changes, **_roles(tenant_id, values), **_metadata(values)}


def _text(name: str, value: object) -> str:
    text = str(value).strip()
    if len(text) > LENGTHS[name] or not text.isprintable():
        said = _("At most %(count)s visible characters.") % {"count": LENGTHS[name]}
        raise Invalid(said, pointer=f"/{name}")
    return text


def _check_url(url: str, name: str) -> None:
    try:
        read(url, for_sign_on())
    except Invalid as error:
        raise Invalid(error.detail, pointer=f"/{name}") from error


def _roles(tenant_id: uuid.UUID, values: Values) -> dict[str, object]:
    allowed = assignable_roles(tenant_id)
    changes: dict[str, object] = {}
    if "default_role" in values:
        if values["default_role"] not in ("", *allowed):
            said = _("Choose a role from %(names)s, or none.") % {"names": ", ".join(allowed)}
            raise Invalid(said, pointer="/default_role")
        changes["default_role"] = values["default_role"]
    if "role_map" in values:
        changes["role_map"] = [_line(line, place, allowed) for place, line in enumerate(_lines(values))]
    return changes


def _lines(values: Values) -> list[object]:
    lines = values["role_map"]
    if not isinstance(lines, list) or len(lines) > MAX_ROLES:
        raise Invalid(_("At most %(count)s lines.") % {"count": MAX_ROLES}, pointer="/role_map")
    return lines


def _line(line: object, place: int, allowed: list[str]) -> dict[str, str]:
    found = line if isinstance(line, Mapping) else {}
    value, role = str(found.get("value", "")).strip(), found.get("role")
    if not value or len(value) > 300 or not value.isprintable():
        raise Invalid(_("A value has 1 to 300 characters."), pointer=f"/role_map/{place}/value")
    if role not in allowed:
        said = _("Choose a role from %(names)s.") % {"names": ", ".join(allowed)}
        raise Invalid(said, pointer=f"/role_map/{place}/role")
    return {"value": value, "role": str(role)}


def _metadata(values: Values) -> dict[str, object]:
    """The metadata as it was uploaded, or as its address has it now."""
    url = str(values.get("metadata_url") or "").strip()
    if url:
        _check_url(url, "metadata_url")
        text = saml.fetch_metadata(url)
        return {"metadata": text, "metadata_url": url, "fetched_at": timezone.now(), **_named_by(text)}
    if text := str(values.get("metadata") or ""):
        return {"metadata": text, "metadata_url": "", "fetched_at": timezone.now(), **_named_by(text)}
    return {}


def _named_by(text: str) -> dict[str, object]:
    return {"issuer": saml.read_metadata(text).entity_id}


def _check_complete(protocol: str, provider: IdentityProvider) -> None:
    needed = ("name", "issuer", "client_id") if protocol == OIDC else ("name", "metadata")
    for name in needed:
        if not getattr(provider, name):
            raise Invalid(_("This is needed."), pointer=f"/{name}")


# --- What the two sides are called -----------------------------------------------------------------------


def redirect_uri(connection_id: uuid.UUID) -> str:
    """Where an OpenID provider sends the browser back to."""
    return f"{settings.BASE_URL}/sso/{connection_id}/callback"


def service_of(connection_id: uuid.UUID) -> saml.Service:
    """What a SAML provider knows this connection as: it is also where its metadata stands."""
    base = f"{settings.BASE_URL}/sso/{connection_id}"
    return saml.Service(f"{base}/metadata", f"{base}/acs")


def client_of(provider: IdentityProvider) -> oidc.Client:
    """Raises Conflict for a secret that was sealed under a key that is not here."""
    return oidc.Client(
        issuer=provider.issuer,
        client_id=provider.client_id,
        secret=_unsealed(provider),
        redirect_uri=redirect_uri(provider.pk),
        scopes=provider.scopes,
        email_claim=provider.email_claim,
        role_claim=provider.role_claim,
    )


def purpose_of(tenant_id: uuid.UUID) -> bytes:
    """What the secrets of a tenant's providers are sealed for."""
    return f"{PURPOSE} of {tenant_id}".encode()


def _sealed(secret: str, tenant_id: uuid.UUID) -> bytes:
    if len(secret) > 1000 or not secret.isprintable():
        raise Invalid(_("A secret has at most 1,000 visible characters."), pointer="/client_secret")
    return vault.seal(secret.strip().encode(), purpose=purpose_of(tenant_id), owner=tenant_id)


def _unsealed(provider: IdentityProvider) -> str:
    if provider.sealed_secret is None:
        return ""
    try:
        owner = provider.tenant_id
        return vault.unseal(bytes(provider.sealed_secret), purpose=purpose_of(owner), owner=owner).decode()
    except vault.InvalidToken as error:
        raise Conflict(_("The client secret can no longer be read. Enter it again.")) from error
