"""What is in force: one policy of a tenant decides; any number of versions may run beside it in shadow.

Every change is a row that says what holds since. Rolling back is a copy of an older row, and what decided at any time
can be read from the table.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import connection
from django.utils.translation import gettext as _

from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.services import record as log_event
from tenants.moderation import record
from tenants.moderation.models import PolicyActivation, PolicyVersion
from tenants.scope import current_tenant_id, tenant_scope

OFF, SHADOW, ENFORCE = PolicyActivation.Mode.values
_STATE = ("enforced_id", "ratio", "rest_id", "shadow_id")


def activate(
    *, policy_id: uuid.UUID, number: int, mode: str, ratio: float = 1.0, actor: str = ""
) -> PolicyActivation:
    """Enforce a version, for a share of items if wanted; let it run in shadow; or take it out of force.

    A version in shadow leaves the enforced one as it is. Enforcing takes another policy out of force. While a version
    is enforced for a share, the one that was enforced for all before decides about the rest.
    Raises NotFound, Invalid, Conflict.
    """
    if not 0.0 < ratio <= 1.0:
        raise Invalid(_("A ratio is above 0 and at most 1."), pointer="/ratio")
    if ratio < 1.0 and mode != ENFORCE:
        raise Invalid(_("Only an enforced version decides for a share."), pointer="/ratio")
    with tenant_scope(current_tenant_id()):
        _lock()
        version = PolicyVersion.objects.filter(policy_id=policy_id, number=number).first()
        if version is None:
            raise NotFound(_("There is no such version of this policy."))
        now = newest()
        current = now.get(policy_id)
        row = PolicyActivation(policy_id=policy_id, version=version, mode=mode, before=current)
        if mode == ENFORCE:
            _enforce(row, current, enforcing_row(now), ratio)
        elif mode == SHADOW:
            _shadow(row, current)
        else:
            _switch_off(row, current)
        if current is not None and _state(current) == _state(row):
            return current
        return _commit(row, enforcing_row(now), "policy.activated", actor)


def roll_back(*, policy_id: uuid.UUID, actor: str = "") -> PolicyActivation:
    """Bring back what was in force before the version that is now; again, and what was before that. Raises Conflict."""
    with tenant_scope(current_tenant_id()):
        _lock()
        now = newest()
        current = now.get(policy_id)
        if current is None:
            raise Conflict(_("This policy was never in force; there is nothing to roll back."))
        back, displaced = _earlier(current)
        if back is None and displaced is None:
            raise Conflict(_("Nothing was in force before; take the version out of force with the mode off."))
        row = PolicyActivation(policy_id=policy_id, version=(back or current).version, mode=OFF)
        if back is not None:
            _copy(row, back)
        _commit(row, enforcing_row(now), "policy.rolled_back", actor)
        if displaced is not None:
            # Another policy had made way for it.
            other = PolicyActivation(policy_id=displaced.policy_id, version=displaced.version)
            _copy(other, displaced)
            _commit(other, None, "policy.rolled_back", actor)
        return row


def _earlier(current: PolicyActivation) -> tuple[PolicyActivation | None, PolicyActivation | None]:
    """The row of this policy to go back to, and the row of another policy that is to come back."""
    row: PolicyActivation | None = current
    while row is not None and (row.enforced_id, row.shadow_id) == (current.enforced_id, current.shadow_id):
        if row.displaced is not None:
            return row.before, row.displaced
        row = row.before
    if row is not None and row.enforced_id is None and row.shadow_id is None:
        return None, None
    return row, None


def _copy(row: PolicyActivation, earlier: PolicyActivation) -> None:
    """The state of an earlier row, and its past: rolling back twice goes back twice."""
    for name in (*_STATE, "version_id", "mode", "before_id", "displaced_id"):
        setattr(row, name, getattr(earlier, name))


def _lock() -> None:
    """One change at a time in a tenant: held to the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"policies:{current_tenant_id()}"]
        )


def newest() -> dict[uuid.UUID, PolicyActivation]:
    """What holds, by policy: the newest row of each that was ever active."""
    rows = PolicyActivation.objects.order_by("policy_id", "-number").distinct("policy_id")
    return {row.policy_id: row for row in rows}


def enforcing_row(now: Mapping[uuid.UUID, PolicyActivation]) -> PolicyActivation | None:
    return next((row for row in now.values() if row.enforced_id is not None), None)


def _state(row: PolicyActivation) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in _STATE)


def _enforce(
    row: PolicyActivation, current: PolicyActivation | None, enforcing: PolicyActivation | None, ratio: float
) -> None:
    row.enforced_id, row.ratio = row.version_id, ratio
    row.shadow_id = current.shadow_id if current is not None else None
    if row.shadow_id == row.version_id:
        row.shadow_id = None
    if ratio < 1.0 and enforcing is not None:
        whole = enforcing.enforced_id if enforcing.ratio >= 1.0 else enforcing.rest_id
        row.rest_id = whole if whole != row.version_id else None
    if enforcing is not None and enforcing.policy_id != row.policy_id:
        row.displaced = enforcing


def _shadow(row: PolicyActivation, current: PolicyActivation | None) -> None:
    row.shadow_id = row.version_id
    if current is not None and current.enforced_id != row.version_id:
        row.enforced_id, row.ratio, row.rest_id = current.enforced_id, current.ratio, current.rest_id


def _switch_off(row: PolicyActivation, current: PolicyActivation | None) -> None:
    if current is None or row.version_id not in (current.enforced_id, current.shadow_id):
        raise Conflict(_("This version is not in force."))
    if current.enforced_id != row.version_id:
        row.enforced_id, row.ratio, row.rest_id = current.enforced_id, current.ratio, current.rest_id
    if current.shadow_id != row.version_id:
        row.shadow_id = current.shadow_id


def _commit(
    row: PolicyActivation, enforcing: PolicyActivation | None, verb: str, actor: str
) -> PolicyActivation:
    last = PolicyActivation.objects.order_by("-number").values_list("number", flat=True).first() or 0
    if row.enforced_id is not None and enforcing is not None and enforcing.policy_id != row.policy_id:
        last += 1
        PolicyActivation.objects.create(
            policy_id=enforcing.policy_id,
            number=last,
            version_id=enforcing.enforced_id,
            mode=OFF,
            shadow_id=enforcing.shadow_id,
            before=enforcing,
            created_by=actor,
        )
    row.number, row.created_by = last + 1, actor
    row.save(force_insert=True)
    details = {
        "activation": str(row.id),
        "version": row.version.number,
        "mode": row.mode,
        "ratio": row.ratio,
        "enforced": _text(row.enforced_id),
        "shadow": _text(row.shadow_id),
    }
    log_event(actor=actor, verb=verb, target=str(row.policy_id), details=details)
    record.append(kind=verb, subject=row.id, policy_version=row.version_id, actor=actor, payload=details)
    return row


def _text(value: uuid.UUID | None) -> str | None:
    return None if value is None else str(value)
