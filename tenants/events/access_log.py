"""Who signed in, who could not, and who was refused: lines of the audit log of each workspace that it concerns.

A single sign-on concerns the one workspace that it opens.

An attempt at an address that nobody here has is nobody's, and stands in the log of requests only. What a program may
repeat at will is noted once a minute, so that it cannot fill the log.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping

from tenants.accounts.models import Membership, Tenant, User
from tenants.events.services import record
from tenants.scope import tenant_scope
from tenants.valkey import Unavailable, client, tenant_key

SIGNED_IN, SIGNED_OUT, SIGN_IN_FAILED, REFUSED = (
    *("session.started", "session.ended", "session.refused"),
    "access.refused",
)
QUIET_S = 60


def note_sign_in(
    user: User, *, address: str, second_factor: bool = False, connection_id: uuid.UUID | None = None
) -> None:
    """Outside of any scope, as the other two. `connection_id`: by single sign-on."""
    details = {"address": address, "second_factor": second_factor}
    for tenant_id in _workspaces(user, connection_id):
        _write(tenant_id, str(user.pk), SIGNED_IN, str(user.pk), details)


def note_sign_out(user: User, *, address: str, connection_id: uuid.UUID | None = None) -> None:
    for tenant_id in _workspaces(user, connection_id):
        _write(tenant_id, str(user.pk), SIGNED_OUT, str(user.pk), {"address": address})


def note_failed_sign_in(email: str, *, address: str, why: str) -> None:
    """`why`: password, code or waiting. Nobody has proved to be anybody, so no actor is named."""
    user = User.objects.filter(email=User.objects.normalize_email(email)).first()
    if user is None:
        return
    for tenant_id in _workspaces(user):
        if _is_news(tenant_id, SIGN_IN_FAILED, str(user.pk), address, why):
            _write(tenant_id, "", SIGN_IN_FAILED, str(user.pk), {"address": address, "why": why})


def note_refusal(
    tenant_id: uuid.UUID | str, *, actor: str, scope: str, method: str, route: str, address: str
) -> None:
    """Somebody who is known lacks the permission `scope` for what they asked for."""
    if _is_news(tenant_id, REFUSED, actor, method, route):
        details = {"scope": scope, "method": method, "address": address}
        _write(tenant_id, actor, REFUSED, route[:100], details)


def _workspaces(user: User, connection_id: uuid.UUID | None = None) -> list[uuid.UUID]:
    rows = Membership.objects.filter(user=user, tenant__state=Tenant.State.ACTIVE)
    if connection_id is not None:
        rows = rows.filter(tenant__connections=connection_id)
    return list(rows.order_by("tenant_id").values_list("tenant_id", flat=True))


def _write(
    tenant_id: uuid.UUID | str, actor: str, verb: str, target: str, details: Mapping[str, object]
) -> None:
    with tenant_scope(tenant_id):
        record(actor=actor, verb=verb, target=target, details=dict(details))


def _is_news(tenant_id: uuid.UUID | str, *about: str) -> bool:
    digest = hashlib.sha256("\n".join(about).encode("utf-8", "replace")).hexdigest()[:32]
    try:
        return bool(client().set(tenant_key(tenant_id, "noted", digest), b"1", ex=QUIET_S, nx=True))
    except Unavailable:
        return True
