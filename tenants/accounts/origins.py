"""Origins of web pages whose scripts may call the API with a tenant's keys (CORS).

A preflight carries no key, so it is answered for what any active tenant allows, without telling which; the answer to
the call itself is readable only where the key's own tenant allows the origin. All allowed origins are kept in each
process for some seconds and read as one list: made-up origins cost no query.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from django.db import DatabaseError, transaction
from django.utils.translation import gettext as _

from tenants.accounts.models import AllowedOrigin, Tenant
from tenants.accounts.services import lock_members
from tenants.errors import Invalid
from tenants.scope import current_tenant_id, operator_scope, tenant_scope

log = logging.getLogger(__name__)

MAX_ORIGINS = 20
MAX_LENGTH = 200
#: How long another process may go by what was allowed before.
FRESH_S = 15.0
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{1,62}[a-z0-9]\Z")
# What an origin does not have; the parser drops line breaks without a word.
_MORE = re.compile(r"[@?#\\\s\x00-\x1f]")
_PORTS = {"https": 443, "http": 80}


def normalise(origin: str) -> str:
    """The one spelling that browsers send: scheme, host in small letters, the port unless it is the usual one.

    Raises Invalid for what is no exact origin: paths, wildcards, `null`, and http anywhere but on this machine.
    """
    given = origin.strip()
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError:
        raise Invalid(_("This is no origin: {origin}").format(origin=given[:MAX_LENGTH])) from None
    scheme, host = parts.scheme.lower(), _host(parts.netloc)
    odd = len(given) > MAX_LENGTH or _MORE.search(given) or parts.path not in ("", "/")
    if odd or not scheme or not host:
        raise Invalid(_("An origin is a scheme and a host, such as https://shop.example, without a path."))
    if host not in LOCAL and not _HOST.fullmatch(host):
        raise Invalid(_("Name one host exactly, without wildcards; letters of other scripts as Punycode."))
    if scheme != "https" and (scheme != "http" or host not in LOCAL):
        raise Invalid(_("Only https, or http on localhost."))
    return as_origin(scheme, host, port)


def as_origin(scheme: str, host: str, port: int | None) -> str:
    """As browsers write it: without the port that is the scheme's own."""
    return f"{scheme}://{host}" if port in (None, _PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


def _host(netloc: str) -> str:
    host = netloc.lower()
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:]*)(?::[0-9]*)?", host)
    return found[1] if found else ""


def list_origins() -> list[str]:
    """The active tenant's, by name."""
    return list(AllowedOrigin.objects.order_by("origin").values_list("origin", flat=True))


def replace_origins(*, origins: Iterable[str]) -> list[str]:
    """Allow exactly these. Raises Invalid with a pointer for each that cannot be allowed, and for too many."""
    wanted = _read(list(origins))
    with tenant_scope(current_tenant_id()):
        # One change at a time: two at once would add up to more than there may be.
        lock_members()
        AllowedOrigin.objects.exclude(origin__in=wanted).delete()
        known = set(list_origins())
        AllowedOrigin.objects.bulk_create(AllowedOrigin(origin=one) for one in wanted if one not in known)
        transaction.on_commit(_forget)
    return sorted(wanted)


def change_origins(*, add: str = "", remove: str = "") -> list[str]:
    """Allow one more, or one less. Raises Invalid."""
    with tenant_scope(current_tenant_id()):
        lock_members()
        kept = [one for one in list_origins() if one != remove]
        return replace_origins(origins=[*kept, normalise(add)] if add else kept)


def _read(origins: list[str]) -> list[str]:
    wanted: list[str] = []
    problems = []
    for place, origin in enumerate(origins):
        try:
            wanted.append(normalise(origin))
        except Invalid as error:
            problems.append({"pointer": f"/origins/{place}", "detail": error.detail})
    if problems:
        refusal = Invalid(problems[0]["detail"])
        refusal.errors = problems
        raise refusal
    kept = list(dict.fromkeys(wanted))
    if len(kept) > MAX_ORIGINS:
        raise Invalid(_("At most {count} origins.").format(count=MAX_ORIGINS), pointer="/origins")
    return kept


# --- For every request that names an origin --------------------------------------------------------------

_known: tuple[float, Mapping[str, frozenset[uuid.UUID]]] = (float("-inf"), {})


def anybody_allows(origin: str) -> bool:
    """Whether some active tenant does."""
    return origin in _allowed()


def tenant_allows(tenant_id: uuid.UUID | str, origin: str) -> bool:
    return uuid.UUID(str(tenant_id)) in _allowed().get(origin, ())


def _allowed() -> Mapping[str, frozenset[uuid.UUID]]:
    """By origin, which active tenants allow it. Where the database is away, what was known before."""
    global _known
    if time.monotonic() - _known[0] > FRESH_S:
        try:
            _known = (time.monotonic(), _load())
        except DatabaseError:
            log.warning("allowed origins cannot be read", exc_info=True)
            _known = (time.monotonic(), _known[1])
    return _known[1]


def _load() -> Mapping[str, frozenset[uuid.UUID]]:
    with operator_scope("allowed origins of all tenants"):
        rows = AllowedOrigin.objects.filter(tenant__state=Tenant.State.ACTIVE)
        by_origin: dict[str, set[uuid.UUID]] = {}
        for origin, tenant_id in rows.values_list("origin", "tenant_id"):
            by_origin.setdefault(origin, set()).add(tenant_id)
    return {origin: frozenset(tenants) for origin, tenants in by_origin.items()}


def _forget() -> None:
    global _known
    _known = (float("-inf"), _known[1])
