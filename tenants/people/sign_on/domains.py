"""Domains whose addresses a tenant's providers may assert: claimed by anybody, proved by one.

Proved by a TXT record in the domain's own zone, or by the operator of the installation. Whether somebody else has
proved a domain is told to nobody who has not proved it, too.
"""

from __future__ import annotations

import secrets
import uuid

import dns.exception
import dns.nameserver
import dns.resolver
import idna
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.accounts.models import SignOnConnection, SignOnDomain, Tenant
from tenants.accounts.operators import Operator, checked_reason, record_act
from tenants.accounts.services import lock_members
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.services import record
from tenants.people.tenancies import locked
from tenants.scope import current_tenant_id, tenant_scope

MAX_DOMAINS = 50
LABEL, VALUE = "_crosslight", "crosslight-domain-verification="
RESOLVE_S = 5.0
TAKEN = gettext_noop(
    "Another workspace of this installation has proved this domain. Its operator can move it: manage.py prove_domain."
)


def list_domains() -> QuerySet[SignOnDomain]:
    """The active tenant's, by name."""
    return SignOnDomain.objects.filter(tenant=current_tenant_id()).order_by("domain", "id")


def get_domain(domain_id: uuid.UUID | None) -> SignOnDomain:
    """Raises NotFound."""
    row = list_domains().filter(pk=domain_id).first() if domain_id else None
    if row is None:
        raise NotFound(_("This domain does not exist."))
    return row


def record_name(row: SignOnDomain) -> str:
    return f"{LABEL}.{row.domain}"


def record_value(row: SignOnDomain) -> str:
    return f"{VALUE}{row.token}"


def normalise(domain: str) -> str:
    """The one spelling of a domain: small letters, Punycode, no dot at the end. Raises Invalid."""
    name = domain.strip().rstrip(".").removeprefix("@")
    try:
        encoded = idna.encode(name, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise Invalid(_("This is not a domain, such as example.org."), pointer="/domain") from error
    if len(encoded) > 253 or encoded.count(".") < 1 or encoded.rpartition(".")[2].isdigit():
        raise Invalid(_("This is not a domain, such as example.org."), pointer="/domain")
    return encoded


def add_domain(*, domain: str, connection_id: uuid.UUID | None = None, actor: str) -> SignOnDomain:
    """Claim a domain, which does nothing until it is proved. Raises Invalid, NotFound, Conflict for one in the list."""
    name = normalise(domain)
    with tenant_scope(current_tenant_id()):
        lock_members()
        if list_domains().count() >= MAX_DOMAINS:
            raise Conflict(_("A workspace has at most %(most)s domains.") % {"most": MAX_DOMAINS})
        if list_domains().filter(domain=name).exists():
            raise Conflict(_("%(domain)s is in the list already.") % {"domain": name})
        row = SignOnDomain.objects.create(
            tenant_id=current_tenant_id(),
            domain=name,
            connection=_own_connection(connection_id),
            token=secrets.token_urlsafe(24),
        )
        record(actor=actor, verb="sign_on.domain_added", target=str(row.id), details={"domain": name})
    return row


def _own_connection(connection_id: uuid.UUID | None) -> SignOnConnection | None:
    """Raises NotFound for one of another tenant."""
    if connection_id is None:
        return None
    found = SignOnConnection.objects.filter(pk=connection_id, tenant=current_tenant_id()).first()
    if found is None:
        raise NotFound(_("This connection does not exist."))
    return found


def route_domain(*, domain_id: uuid.UUID, connection_id: uuid.UUID | None, actor: str) -> SignOnDomain:
    """Let addresses of the domain sign in by this connection, or by none. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        lock_members()
        row = get_domain(domain_id)
        row.connection = _own_connection(connection_id)
        row.save(update_fields=["connection"])
        details = {"domain": row.domain, "connection": str(connection_id or "")}
        record(actor=actor, verb="sign_on.domain_routed", target=str(row.id), details=details)
    return row


def remove_domain(*, domain_id: uuid.UUID, actor: str) -> None:
    """Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        lock_members()
        row = get_domain(domain_id)
        record(actor=actor, verb="sign_on.domain_removed", target=str(row.id), details={"domain": row.domain})
        row.delete()


# --- Proving ---------------------------------------------------------------------------------------------


def prove_domain(*, tenant_id: uuid.UUID, domain_id: uuid.UUID, actor: str) -> SignOnDomain:
    """Look for the record in the DNS, and count the domain as proved. No transaction may be open.

    Raises NotFound, Conflict in plain words where it is not there, or where another tenant has proved the domain.
    """
    with tenant_scope(tenant_id):
        row = get_domain(domain_id)
    return row if row.proved_at else _look_up(row, actor)


def _look_up(row: SignOnDomain, actor: str) -> SignOnDomain:
    found = read_records(record_name(row))
    if record_value(row) not in found:
        said = _(
            "%(name)s has no TXT record with the value %(value)s. It may take a while until a new record is seen."
        )
        raise Conflict(said % {"name": record_name(row), "value": record_value(row)})
    return _keep_proof(row, SignOnDomain.Proof.DNS, actor)


def read_records(name: str) -> list[str]:
    """The TXT records of a name, none where there is no such name. Raises Conflict where no answer comes."""
    resolver = dns.resolver.Resolver(configure=not settings.SSO_DNS_SERVERS)
    if settings.SSO_DNS_SERVERS:
        resolver.nameservers = [_server(entry) for entry in settings.SSO_DNS_SERVERS]
    try:
        answer = resolver.resolve(name, "TXT", lifetime=RESOLVE_S, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as error:
        raise Conflict(
            _("No name server answered for %(name)s. Try again later.") % {"name": name}
        ) from error
    return [b"".join(record.strings).decode("utf-8", "replace") for record in list(answer)[:100]]


def _server(entry: str) -> dns.nameserver.Do53Nameserver:
    address, _colon, port = entry.rpartition(":") if entry.count(":") == 1 else (entry, "", "53")
    return dns.nameserver.Do53Nameserver(address, int(port))


def _keep_proof(row: SignOnDomain, proof: str, actor: str) -> SignOnDomain:
    try:
        with tenant_scope(row.tenant_id):
            row = get_domain(row.pk)
            row.proved_at, row.proof = timezone.now(), proof
            row.save(update_fields=["proved_at", "proof"])
            details = {"domain": row.domain, "proof": proof}
            record(actor=actor, verb="sign_on.domain_proved", target=str(row.id), details=details)
    except IntegrityError as error:
        raise Conflict(_(TAKEN)) from error
    return row


@transaction.atomic
def prove_by_operator(*, by: Operator, label: str, slug: str, domain: str, reason: str) -> SignOnDomain:
    """Vouch for a tenant's domain; one that another tenant had proved is taken from it. Raises NotFound, Invalid."""
    reason, name, tenant = checked_reason(reason), normalise(domain), locked(slug)
    before = SignOnDomain.objects.filter(domain=name, proved_at__isnull=False).exclude(tenant=tenant).first()
    if before is not None:
        _withdraw(before, label)
    row = _claimed(tenant, name, label)
    if row.proved_at is None:
        with tenant_scope(tenant.id):
            row = _keep_proof(row, SignOnDomain.Proof.OPERATOR, label)
    details = {"domain": name, "taken_from": before.tenant.slug if before else ""}
    record_act(by=by, verb="sign_on.domain_proved", target=slug, reason=reason, details=details)
    return row


def _withdraw(row: SignOnDomain, label: str) -> None:
    SignOnDomain.objects.filter(pk=row.pk).update(proved_at=None, proof="")
    with tenant_scope(row.tenant_id):
        record(
            actor=label, verb="sign_on.domain_withdrawn", target=str(row.id), details={"domain": row.domain}
        )


def _claimed(tenant: Tenant, name: str, label: str) -> SignOnDomain:
    with tenant_scope(tenant.id):
        return list_domains().filter(domain=name).first() or add_domain(domain=name, actor=label)
