"""API keys: made, looked up, rotated, revoked.

A key is `<prefix>.<secret>`. The secret has 256 random bits, so a fast hash keeps it as safe as a slow one would
and the look-up costs microseconds. Look-ups are cached in Valkey for a minute, where revoking overwrites the entry, and
in each process for a second: that long another process than the one that revoked a key may still let it in.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts.models import ApiKey, KeyDigest, Membership, Tenant, User
from tenants.accounts.networks import admits, are_inside, as_address, read_networks
from tenants.accounts.permissions import SCOPES
from tenants.accounts.roles import narrowing_of, scopes_in
from tenants.accounts.security import networks_of
from tenants.accounts.services import lock_members
from tenants.errors import Conflict, Invalid, MissingScope, NotAllowed, NotFound
from tenants.names import check_name
from tenants.scope import current_tenant_id, tenant_scope
from tenants.valkey import Unavailable, client

CACHE_S = 60
RECENT_S = 1.0
MAX_RECENT = 10_000
MAX_OVERLAP_S = 7 * 24 * 3600
MAX_RATE = 1_000_000


@dataclass(frozen=True)
class KeyLimits:
    """From where a key may be used (none: from anywhere) and how often a minute (None: as its tenant may)."""

    networks: list[str]
    rate_per_minute: int | None = None


@dataclass(frozen=True)
class KeyRecord:
    """What a look-up needs, without the secret."""

    prefix: str
    digest: str
    tenant_id: str
    key_id: str
    scopes: tuple[str, ...]
    expires_at: float | None
    revoked: bool
    tenant_state: str
    rate_per_minute: int | None
    request_limit: float | None
    # Both have to admit the address that asks; and requests a minute of this key alone.
    tenant_networks: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    key_rate: int | None = None
    # From when on (seconds of the epoch) its tenant may only be read.
    trial_ends_at: float | None = None

    def admits(self, address: str) -> bool:
        return admits(self.tenant_networks, address) and admits(self.networks, address)


def create_key(
    *,
    name: str,
    scopes: list[str],
    created_by: User | None = None,
    expires_at: dt.datetime | None = None,
    token: str | None = None,
    within: Iterable[str] | None = None,
    limits: KeyLimits | None = None,
    inside: Iterable[str] = (),
) -> tuple[ApiKey, str]:
    """A key for the active tenant and its token, which is shown once and kept nowhere.

    `within` are the scopes, and `inside` the networks, of the key that asks for it, if a key does. Raises Invalid for
    an unknown scope, an expiry in the past or limits that cannot be, NotAllowed if the maker's role does not reach so
    far or the key's networks do not, MissingScope if the key's scopes do not.
    """
    check_name(name)
    _check(scopes, expires_at)
    _check_within(scopes, within)
    limits = _checked_limits(limits or KeyLimits(list(inside)), inside)
    prefix, secret = token.split(".") if token else (f"cl{secrets.token_hex(5)}", secrets.token_urlsafe(32))
    with tenant_scope(current_tenant_id()):
        _check_maker(created_by, scopes)
        key = ApiKey.objects.create(name=name, prefix=prefix, created_by=created_by)
        KeyDigest.objects.create(
            prefix=prefix,
            digest=_digest(secret),
            tenant_id=key.tenant_id,
            key_id=key.id,
            scopes=sorted(set(scopes)),
            expires_at=expires_at,
            networks=limits.networks or None,
            rate_per_minute=limits.rate_per_minute,
        )
    return key, f"{prefix}.{secret}"


def _check(scopes: list[str], expires_at: dt.datetime | None) -> None:
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise Invalid(_("Choose scopes from %(names)s.") % {"names": ", ".join(SCOPES)}, pointer="/scopes")
    if expires_at is not None and expires_at <= timezone.now():
        raise Invalid(_("The expiry must be in the future."), pointer="/expires_at")


def _check_maker(maker: User | None, scopes: Iterable[str]) -> None:
    if maker is None:
        return
    # Whom a removal or a change of role has just passed makes no key that would stay.
    lock_members()
    member = Membership.objects.filter(tenant=current_tenant_id(), user=maker).first()
    if member is None or not scopes_in(member.tenant_id, member.role).issuperset(scopes):
        raise NotAllowed(_("A key cannot do more than the person who makes it."))
    if narrowing_of(member) is not None:
        raise NotAllowed(_("A key sees the whole workspace, and you see chosen datasets and queues only."))


def _check_within(scopes: Iterable[str], within: Iterable[str] | None) -> None:
    """Else a key that leaked, or whoever holds it, would make itself one that can do everything."""
    lacking = [] if within is None else sorted(set(scopes) - set(within))
    if lacking:
        raise MissingScope(
            _("A key makes and rotates only keys whose scopes it has. This one lacks: %(scopes)s.")
            % {"scopes": ", ".join(lacking)},
            scope=lacking[0],
        )


def _checked_limits(limits: KeyLimits, inside: Iterable[str]) -> KeyLimits:
    rate = limits.rate_per_minute
    if rate is not None and not 1 <= rate <= MAX_RATE:
        raise Invalid(_("1 to %(most)s requests a minute.") % {"most": MAX_RATE}, pointer="/rate_per_minute")
    networks = read_networks(limits.networks)
    _check_inside(networks, inside)
    return KeyLimits(networks, rate)


def _check_inside(networks: Iterable[str], inside: Iterable[str]) -> None:
    """Else a key that leaked would make itself one that works elsewhere, too."""
    if not are_inside(networks, inside):
        raise NotAllowed(_("A key makes and changes only keys whose networks are inside its own."))


def limit_key(*, key_id: uuid.UUID, changes: Mapping[str, Any], inside: Iterable[str] = ()) -> KeyDigest:
    """Change from where a key may be used (`networks`) or how often (`rate_per_minute`); what is absent stays.

    `inside` are the networks of the key that asks, if a key does. Raises NotFound, Invalid, NotAllowed.
    """
    with tenant_scope(current_tenant_id()):
        key = get_key(key_id)
        row = KeyDigest.objects.select_for_update().get(key_id=key.id)
        _check_inside(row.networks or [], inside)
        limits = _checked_limits(KeyLimits(**{**limits_of(row), **changes}), inside)
        row.networks, row.rate_per_minute = limits.networks or None, limits.rate_per_minute
        row.save(update_fields=["networks", "rate_per_minute"])
        transaction.on_commit(lambda: forget(key.prefix))
    return row


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def list_keys() -> list[tuple[ApiKey, KeyDigest]]:
    """The active tenant's keys, newest first, each with its digest row."""
    keys = list(ApiKey.objects.select_related("created_by").order_by("-id"))
    digests = {d.key_id: d for d in KeyDigest.objects.filter(key_id__in=[key.id for key in keys])}
    return [(key, digests[key.id]) for key in keys]


def get_key(key_id: uuid.UUID | None) -> ApiKey:
    """The active tenant's key. Raises NotFound."""
    key = ApiKey.objects.filter(pk=key_id).first()
    if key is None:
        raise NotFound(_("This key does not exist."))
    return key


def limits_of(row: KeyDigest) -> dict[str, Any]:
    """The fields of its `KeyLimits`."""
    return {"networks": row.networks or [], "rate_per_minute": row.rate_per_minute}


def digest_of(key: ApiKey) -> KeyDigest:
    return KeyDigest.objects.get(key_id=key.id)


def rotate_key(
    *,
    key_id: uuid.UUID,
    overlap_s: int,
    created_by: User | None = None,
    within: Iterable[str] | None = None,
    inside: Iterable[str] = (),
) -> tuple[ApiKey, str]:
    """A new key with the name, scopes, limits and lifetime of this one, which ends after `overlap_s` seconds.

    `within` are the scopes, and `inside` the networks, of the key that asks, if a key does. Raises NotFound, Invalid
    for an overlap that is not 0 to 7 days, Conflict for a key that has ended, MissingScope or NotAllowed for one that
    can do more than the key that asks.
    """
    now = timezone.now()
    with tenant_scope(current_tenant_id()):
        old = get_key(key_id)
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise Invalid(
                _("The overlap is 0 to %(overlap_s)s seconds (7 days).") % {"overlap_s": MAX_OVERLAP_S},
                pointer="/overlap_s",
            )
        # Before the key itself, as a removal does.
        _check_maker(created_by, ())
        row = KeyDigest.objects.select_for_update().get(key_id=old.id)
        _check_within(row.scopes, within)
        if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            raise Conflict(_("This key has ended already. Make a new one instead."))
        made = create_key(
            name=old.name,
            scopes=row.scopes,
            created_by=created_by,
            limits=KeyLimits(row.networks or [], row.rate_per_minute),
            inside=inside,
            expires_at=renewed(row.expires_at, now - old.created_at) if row.expires_at else None,
        )
        _end_in(row, now, overlap_s)
    forget(old.prefix)
    return made


def renewed(end: dt.datetime, by: dt.timedelta) -> dt.datetime:
    """The end of a successor: as long after the old one's as that has lasted."""
    try:
        return end + by
    except OverflowError:
        return end  # the calendar ends there


def _end_in(row: KeyDigest, now: dt.datetime, overlap_s: int) -> None:
    if overlap_s == 0:
        row.revoked_at = now
    else:
        end = now + dt.timedelta(seconds=overlap_s)
        row.expires_at = min(row.expires_at or end, end)
    row.save(update_fields=["revoked_at", "expires_at"])


def revoke_key(*, key_id: uuid.UUID) -> None:
    """End a key at once. Raises NotFound for a key that the active tenant does not have."""
    with tenant_scope(current_tenant_id()):
        key = get_key(key_id)
        KeyDigest.objects.filter(key_id=key.id, revoked_at=None).update(revoked_at=timezone.now())
    forget(key.prefix)


def revoke_keys_beyond(*, maker_id: uuid.UUID, scopes: frozenset[str]) -> list[ApiKey]:
    """End the keys that a person made in the active tenant and that may do more than this; returns those."""
    with tenant_scope(current_tenant_id()):
        made = live_keys_by_maker().get(maker_id, [])
        digests = KeyDigest.objects.filter(key_id__in=[key.id for key in made])
        beyond = {digest.key_id for digest in digests if not scopes.issuperset(digest.scopes)}
        ended = [key for key in made if key.id in beyond]
        for key in ended:
            revoke_key(key_id=key.id)
    return ended


@receiver(post_save, sender=User)
def revoke_keys_of_inactive(instance: User, **_: object) -> None:
    """Who may not sign in any more has no key that works either; being let in again does not bring them back."""
    if instance.is_active:
        return
    for tenant_id in Membership.objects.filter(user=instance).values_list("tenant_id", flat=True):
        with tenant_scope(tenant_id):
            revoke_keys_beyond(maker_id=instance.pk, scopes=frozenset())


def maker_of(key_id: uuid.UUID | str) -> User | None:
    """Who answers for what a key of the active tenant does; None for one that no person made."""
    key = ApiKey.objects.select_related("created_by").filter(pk=key_id).first()
    return key.created_by if key else None


def live_keys_by_maker() -> dict[uuid.UUID, list[ApiKey]]:
    """The active tenant's keys that still work, by the person who made them."""
    rows = KeyDigest.objects.filter(tenant=current_tenant_id(), revoked_at=None)
    live = rows.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now())).values_list("key_id", flat=True)
    made: dict[uuid.UUID, list[ApiKey]] = {}
    for key in ApiKey.objects.filter(pk__in=list(live)).exclude(created_by=None).order_by("name", "id"):
        made.setdefault(key.created_by_id, []).append(key)
    return made


def forget(*prefixes: str) -> None:
    """Make every process look these keys up anew.

    A marker, not a deletion: a look-up that read the row just before it changed must not cache the old answer.
    """
    for prefix in prefixes:
        _recent.pop(prefix, None)
    # With Valkey away nothing is cached either; entries written before it left expire by themselves.
    with contextlib.suppress(Unavailable):
        pipe = client().pipeline(transaction=False)
        for prefix in prefixes:
            # Also where the release before looks, as long as it runs beside this one.
            for name in (cache_key(prefix), f"key:{prefix}"):
                pipe.set(name, b"{}", ex=CACHE_S)
        pipe.execute()


def forget_tenant(tenant_id: uuid.UUID) -> None:
    """Make every process look all keys of a tenant up anew."""
    forget(*KeyDigest.objects.filter(tenant=tenant_id).values_list("prefix", flat=True))


def cache_key(prefix: str) -> str:
    """By the shape of what lies there: the release before does not know networks."""
    return f"key:2:{prefix}"


# By prefix: until when it counts, and the record. Reading and writing one entry is atomic.
_recent: dict[str, tuple[float, KeyRecord]] = {}


def recent(prefix: str) -> KeyRecord | None:
    """The key with this prefix if this process looked it up within the last second."""
    until, record = _recent.get(prefix, (0.0, None))
    return record if time.monotonic() < until else None


def remember(record: KeyRecord) -> None:
    """For a second. A look-up that began before a revocation in this process may still bring the key back so long."""
    if len(_recent) >= MAX_RECENT:
        _recent.clear()
    _recent[record.prefix] = (time.monotonic() + RECENT_S, record)


def look_up(prefix: str, cached: bytes | None) -> KeyRecord | None:
    """The key with this prefix, from the cached bytes if they hold one, else from the database."""
    if cached and cached != b"{}":
        fields = json.loads(cached)
        listed = {name: tuple(fields[name]) for name in ("scopes", "tenant_networks", "networks")}
        return KeyRecord(**{**fields, **listed})
    record = _from_database(prefix)
    if record is not None and cached is None:
        with contextlib.suppress(Unavailable):
            client().set(cache_key(prefix), json.dumps(record.__dict__), ex=CACHE_S, nx=True)
    return record


def _from_database(prefix: str) -> KeyRecord | None:
    row = KeyDigest.objects.select_related("tenant__plan", "tenant__security").filter(prefix=prefix).first()
    if row is None:
        return None
    return KeyRecord(
        prefix=row.prefix,
        digest=bytes(row.digest).hex(),
        tenant_id=str(row.tenant_id),
        key_id=str(row.key_id),
        scopes=tuple(row.scopes),
        expires_at=row.expires_at.timestamp() if row.expires_at else None,
        revoked=row.revoked_at is not None,
        tenant_state=row.tenant.state,
        rate_per_minute=row.tenant.rate_per_minute,
        request_limit=row.tenant.limits.get("requests"),
        tenant_networks=networks_of(row.tenant),
        networks=tuple(row.networks or ()),
        key_rate=row.rate_per_minute,
        trial_ends_at=row.tenant.trial_ends_at.timestamp() if row.tenant.trial_ends_at else None,
    )


def note_use(prefix: str, address: str) -> None:
    """Keep when and from where a key was used last. Called where it was looked up in the database: once a minute."""
    KeyDigest.objects.filter(pk=prefix).update(last_used_at=timezone.now(), last_address=as_address(address))


def matches(record: KeyRecord, secret: str) -> bool:
    return hmac.compare_digest(bytes.fromhex(record.digest), _digest(secret))


def usable(record: KeyRecord) -> bool:
    live = record.expires_at is None or record.expires_at > timezone.now().timestamp()
    return live and not record.revoked and record.tenant_state == Tenant.State.ACTIVE
