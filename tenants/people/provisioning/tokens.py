"""Tokens for `/scim/v2`: made, rotated and revoked by admins, and they open nothing else.

A token is `<prefix>.<secret>`, kept as a digest like an API key (`tenants.accounts.keys`). It is looked up in the
database with each request, as there are few, so it ends at the moment in which it is revoked.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import keys
from tenants.accounts.models import Membership, Tenant
from tenants.accounts.permissions import ADMIN, Actor, scopes_of
from tenants.accounts.services import lock_members
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.services import record
from tenants.people.models import ProvisioningToken
from tenants.scope import current_tenant_id, tenant_scope

MAX_LIVE = 10
MAX_LISTED = 200
MAX_OVERLAP_S = 7 * 24 * 3600
SEEN_EVERY = dt.timedelta(minutes=1)
# What stands in the audit log before the token's prefix.
LABEL = "scim:"


@dataclass(frozen=True)
class Bearer:
    """Whom a token lets in."""

    prefix: str
    tenant_id: uuid.UUID
    rate_per_minute: int | None

    @property
    def actor(self) -> Actor:
        """As an admin, who never reaches owners."""
        return Actor(f"{LABEL}{self.prefix}", "admin")


def list_tokens() -> QuerySet[ProvisioningToken]:
    """The active tenant's tokens, newest first."""
    rows = ProvisioningToken.objects.select_related("created_by").filter(tenant=current_tenant_id())
    return rows.order_by("-created_at")


def get_token(prefix: str) -> ProvisioningToken:
    """The active tenant's token. Raises NotFound."""
    row = list_tokens().filter(prefix=prefix).first() if prefix.isalnum() else None
    if row is None:
        raise NotFound(_("This token does not exist."))
    return row


def is_live(row: ProvisioningToken) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > timezone.now())


def made_by_somebody_gone(row: ProvisioningToken) -> bool:
    """Whether who made it is no admin here any more, and yet may know it."""
    member = Membership.objects.filter(tenant=row.tenant_id, user=row.created_by_id).first()
    return member is None or ADMIN not in scopes_of(member.role)


def create_token(
    *, actor: Actor, name: str, expires_at: dt.datetime | None = None
) -> tuple[ProvisioningToken, str]:
    """A token of the active tenant, and itself, which is shown once.

    Raises Invalid for a name or expiry that cannot be, Conflict where MAX_LIVE work already.
    """
    name = name.strip()
    if not 1 <= len(name) <= 100 or "\x00" in name:
        raise Invalid(_("A name has 1 to 100 characters."), pointer="/name")
    if expires_at is not None and expires_at <= timezone.now():
        raise Invalid(_("The expiry must be in the future."), pointer="/expires_at")
    with tenant_scope(current_tenant_id()):
        lock_members()
        live = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
        if list_tokens().filter(live).count() >= MAX_LIVE:
            raise Conflict(_("%(most)s tokens work already. Revoke one first.") % {"most": MAX_LIVE})
        row, token = _make(name, actor, expires_at)
        record(actor=actor.label, verb="provisioning.token_made", target=row.prefix, details={"name": name})
    return row, token


def _make(name: str, actor: Actor, expires_at: dt.datetime | None) -> tuple[ProvisioningToken, str]:
    prefix, secret = f"sc{secrets.token_hex(5)}", secrets.token_urlsafe(32)
    row = ProvisioningToken.objects.create(
        prefix=prefix,
        digest=_digest(secret),
        tenant_id=current_tenant_id(),
        name=name,
        created_by_id=actor.user_id,
        expires_at=expires_at,
    )
    return row, f"{prefix}.{secret}"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def rotate_token(*, actor: Actor, prefix: str, overlap_s: int) -> tuple[ProvisioningToken, str]:
    """A new token of the same name; the old one ends after `overlap_s` seconds, 0 to 7 days.

    Raises NotFound, Invalid, Conflict for one that has ended.
    """
    if not 0 <= overlap_s <= MAX_OVERLAP_S:
        detail = _("The overlap is 0 to %(overlap_s)s seconds (7 days).") % {"overlap_s": MAX_OVERLAP_S}
        raise Invalid(detail, pointer="/overlap_s")
    now = timezone.now()
    with tenant_scope(current_tenant_id()):
        lock_members()
        old = get_token(prefix)
        if not is_live(old):
            raise Conflict(_("This token has ended already. Make a new one instead."))
        made = _make(old.name, actor, old.expires_at and keys.renewed(old.expires_at, now - old.created_at))
        end = now + dt.timedelta(seconds=overlap_s)
        old.expires_at = min(old.expires_at or end, end)
        if overlap_s == 0:
            old.revoked_at = now
        old.save(update_fields=["expires_at", "revoked_at"])
        details = {"new": made[0].prefix, "overlap_s": overlap_s}
        record(actor=actor.label, verb="provisioning.token_rotated", target=prefix, details=details)
    return made


def revoke_token(*, actor: Actor, prefix: str) -> None:
    """End a token at once. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        row = get_token(prefix)
        if ProvisioningToken.objects.filter(pk=row.pk, revoked_at=None).update(revoked_at=timezone.now()):
            record(actor=actor.label, verb="provisioning.token_revoked", target=prefix)


def identify(token: str) -> Bearer | None:
    """Whom the token lets in; None for one that is wrong or over, or whose tenant is suspended."""
    prefix, _dot, secret = token.partition(".")
    if not prefix.isalnum() or not prefix.isascii() or len(prefix) > 16 or not secret.isascii() or not secret:
        return None
    row = ProvisioningToken.objects.select_related("tenant__plan").filter(prefix=prefix).first()
    if row is None or not hmac.compare_digest(bytes(row.digest), _digest(secret)) or not is_live(row):
        return None
    if row.tenant.state != Tenant.State.ACTIVE:
        return None
    unseen = Q(last_used_at=None) | Q(last_used_at__lt=timezone.now() - SEEN_EVERY)
    ProvisioningToken.objects.filter(unseen, pk=row.pk).update(last_used_at=timezone.now())
    return Bearer(row.prefix, row.tenant_id, row.tenant.rate_per_minute)
