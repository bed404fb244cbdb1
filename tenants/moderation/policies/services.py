"""Policies, their versions, and what is in force: one version decides, others may run beside it in shadow."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256 as hash_of
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils.translation import gettext as _

from tenants.datasets.metadata import check_text
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.services import record as log_event
from tenants.moderation import record
from tenants.moderation.models import Audit, Policy, PolicyActivation, PolicyVersion, ShadowDecision
from tenants.moderation.rules import document as policy_document
from tenants.moderation.rules.decision import decide
from tenants.moderation.starters import get_starter
from tenants.names import check_name
from tenants.scope import current_tenant_id, tenant_scope

OFF, SHADOW, ENFORCE = PolicyActivation.Mode.values

_STATE = ("enforced_id", "ratio", "rest_id", "shadow_id")


def activate(
    *,
    policy_id: uuid.UUID,
    number: int,
    mode: str,
    ratio: float = 1.0,
    actor: str = "",
    as_of: int | None = None,
) -> PolicyActivation:
    """Enforce a version, for a share of items if wanted; let it run in shadow; or take it out of force.

    A version in shadow leaves the enforced one as it is. Enforcing takes another policy out of force. While a version
    is enforced for a share, the one that was enforced for all before decides about the rest. `as_of`: only if no
    activation is newer than this one (`newest_number`), as somebody agreed to what it would change.
    Raises NotFound, Invalid, Conflict.
    """
    with tenant_scope(current_tenant_id()):
        lock_activations()
        now = newest()
        _check_unchanged(now, as_of)
        row = _planned(policy_id, number, mode, ratio, now)
        current = now.get(policy_id)
        if current is not None and _state(current) == _state(row):
            return current
        return _commit(row, enforcing_row(now), "policy.activated", actor)


def after_activation(
    *, policy_id: uuid.UUID, number: int, mode: str, ratio: float = 1.0
) -> dict[uuid.UUID, PolicyActivation]:
    """What would hold, by policy, as `newest` has it; nothing is stored. Raises NotFound, Invalid, Conflict."""
    now = newest()
    return _with(now, [_planned(policy_id, number, mode, ratio, now)])


def _planned(
    policy_id: uuid.UUID,
    number: int,
    mode: str,
    ratio: float,
    now: Mapping[uuid.UUID, PolicyActivation],
) -> PolicyActivation:
    """The row that an activation would add, with neither number nor actor."""
    if not 0.0 < ratio <= 1.0:
        raise Invalid(_("A ratio is above 0 and at most 1."), pointer="/ratio")
    if ratio < 1.0 and mode != ENFORCE:
        raise Invalid(_("Only an enforced version decides for a share."), pointer="/ratio")
    version = PolicyVersion.objects.filter(policy_id=policy_id, number=number).first()
    if version is None:
        raise NotFound(_("This version of the policy does not exist."))
    current = now.get(policy_id)
    row = PolicyActivation(policy_id=policy_id, version=version, mode=mode, before=current)
    if mode == ENFORCE:
        _enforce(row, current, enforcing_row(now), ratio)
    elif mode == SHADOW:
        _shadow(row, current)
    else:
        _switch_off(row, current)
    return row


def roll_back(*, policy_id: uuid.UUID, actor: str = "", as_of: int | None = None) -> PolicyActivation:
    """Bring back what was in force before the version that is now; again, and what was before that. `as_of` as in
    `activate`. Raises Conflict."""
    with tenant_scope(current_tenant_id()):
        lock_activations()
        now = newest()
        _check_unchanged(now, as_of)
        row, other = _planned_back(policy_id, now)
        _commit(row, enforcing_row(now), "policy.rolled_back", actor)
        if other is not None:
            _commit(other, None, "policy.rolled_back", actor)
        return row


def after_roll_back(policy_id: uuid.UUID) -> dict[uuid.UUID, PolicyActivation]:
    """What would hold, by policy, as `newest` has it; nothing is stored. Raises Conflict."""
    now = newest()
    return _with(now, [row for row in _planned_back(policy_id, now) if row is not None])


def _planned_back(
    policy_id: uuid.UUID, now: Mapping[uuid.UUID, PolicyActivation]
) -> tuple[PolicyActivation, PolicyActivation | None]:
    """The row that rolling back would add, and that of another policy which had made way for this one."""
    current = now.get(policy_id)
    if current is None:
        raise Conflict(_("This policy was never in effect; there is nothing to roll back."))
    back, displaced = _earlier(current)
    if back is None and displaced is None:
        raise Conflict(_("Nothing was in effect before; deactivate the version with the mode off."))
    row = PolicyActivation(policy_id=policy_id, version=(back or current).version, mode=OFF)
    if back is not None:
        _copy(row, back)
    if displaced is None:
        return row, None
    other = PolicyActivation(policy_id=displaced.policy_id, version=displaced.version)
    _copy(other, displaced)
    return row, other


def _with(
    now: Mapping[uuid.UUID, PolicyActivation], rows: Sequence[PolicyActivation]
) -> dict[uuid.UUID, PolicyActivation]:
    """`now` with planned rows laid over it; a policy that has to make way decides nothing in it."""
    after = {**now, **{row.policy_id: row for row in rows}}
    if any(row.enforced_id is not None for row in rows):
        kept = {row.policy_id for row in rows}
        after = {
            policy_id: row for policy_id, row in after.items() if policy_id in kept or row.enforced_id is None
        }
    return after


@dataclass(frozen=True)
class Decider:
    """A version that is enforced, and about which share of items it decides (0 to 1)."""

    version: PolicyVersion
    ratio: float


def deciders(now: Mapping[uuid.UUID, PolicyActivation]) -> tuple[Decider, ...]:
    """Which versions are enforced where this holds: none, one, or one for a share and another for the rest."""
    row = enforcing_row(now)
    if row is None or row.enforced_id is None:
        return ()
    shares = {row.enforced_id: row.ratio}
    if row.rest_id is not None and row.ratio < 1.0:
        shares[row.rest_id] = 1.0 - row.ratio
    versions = PolicyVersion.objects.select_related("policy").in_bulk(list(shares))
    return tuple(Decider(versions[version_id], ratio) for version_id, ratio in shares.items())


def newest_number(now: Mapping[uuid.UUID, PolicyActivation]) -> int:
    """Which activation was the last; 0 where there was none."""
    return max((row.number for row in now.values()), default=0)


def _check_unchanged(now: Mapping[uuid.UUID, PolicyActivation], as_of: int | None) -> None:
    if as_of is not None and newest_number(now) != as_of:
        raise Conflict(_("The active version was changed in the meantime; review the difference again."))


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


def lock_activations() -> None:
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


def _state(row: PolicyActivation) -> tuple[object, ...]:
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
        raise Conflict(_("This version is not in effect."))
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


MAX_POLICIES = 1_000


@dataclass(frozen=True)
class InForce:
    """A version that decides about an item: as `enforce`, or as `shadow`, which changes nothing."""

    version_id: uuid.UUID
    policy_id: uuid.UUID
    number: int
    document: Mapping[str, Any]
    digest: str
    mode: str


# --- Policies and versions -------------------------------------------------------------------------------


def create_policy(
    *,
    name: str,
    description: str = "",
    document: Mapping[str, object] | None = None,
    starter: str = "",
    actor: str = "",
) -> tuple[Policy, PolicyVersion]:
    """A policy with its first version, of `document` or of a starter. In force nowhere. Raises Invalid, Conflict."""
    for value, pointer in ((name, "/name"), (description, "/description")):
        check_text(value, pointer)
    check_name(name)
    if not name.strip():
        raise Invalid(_("A policy has a name."), pointer="/name")
    normal = _first_document(document, starter)
    with tenant_scope(current_tenant_id()):
        if Policy.objects.count() >= MAX_POLICIES:
            raise Conflict(
                _("A workspace has at most %(policies)s policies; give one of them new versions.")
                % {"policies": f"{MAX_POLICIES:,}"}
            )
        try:
            with transaction.atomic():
                policy = Policy.objects.create(
                    name=name.strip(), description=description, starter=starter, created_by=actor
                )
        except IntegrityError:
            raise Conflict(
                _("Another policy is called %(value)s.") % {"value": f"{name.strip()!r}"}
            ) from None
        version = _new_version(policy, normal, 1, actor)
        log_event(actor=actor, verb="policy.created", target=str(policy.id), details={"name": policy.name})
        return policy, version


def free_name(starter: str = "") -> str:
    """A name for a policy that was given none, which no policy of the active tenant has."""
    base, taken = starter or "policy", set(Policy.objects.values_list("name", flat=True))
    return next(
        name for number in range(1, MAX_POLICIES + 2) if (name := f"{base} {number}".lower()) not in taken
    )


def _first_document(document: Mapping[str, object] | None, starter: str) -> dict[str, object]:
    """The starter's document with what is given laid over it. Raises Invalid."""
    if not starter:
        return policy_document.read_document(document or {})
    try:
        base = get_starter(starter).document
    except NotFound as error:
        raise Invalid(error.detail, pointer="/starter") from None
    return policy_document.read_document({**base, **(document or {})})


def add_version(*, policy_id: uuid.UUID, document: object, actor: str = "") -> tuple[PolicyVersion, bool]:
    """The version of this document, and whether it is new. In force nowhere. Raises Invalid, NotFound."""
    normal = policy_document.read_document(document)
    with tenant_scope(current_tenant_id()):
        # Numbers are given one after the other.
        policy = Policy.objects.select_for_update().filter(pk=policy_id).first()
        if policy is None:
            raise NotFound(_("This policy does not exist."))
        same = policy.versions.filter(digest=policy_document.digest(normal)).first()
        if same is not None:
            return same, False
        number = policy.versions.order_by("-number").values_list("number", flat=True).first() or 0
        version = _new_version(policy, normal, number + 1, actor)
        details = {"version": version.number, "digest": version.digest}
        log_event(actor=actor, verb="policy.version_added", target=str(policy.id), details=details)
        return version, True


def _new_version(policy: Policy, normal: dict[str, object], number: int, actor: str) -> PolicyVersion:
    return PolicyVersion.objects.create(
        policy=policy,
        number=number,
        document=normal,
        digest=policy_document.digest(normal),
        created_by=actor,
    )


# --- Who decides about an item ---------------------------------------------------------------------------


def in_force(*, policy_id: uuid.UUID | None = None, modality: str = "", sha256: str = "") -> InForce | None:
    """What decides about an item, or None. One query; documents never change, so they are kept in memory.

    The tenant's enforced policy decides; without one, the version that was put into shadow last. `policy_id` asks for a
    certain policy, which decides in shadow by its newest version where it is not in force.
    """
    with tenant_scope(current_tenant_id()):
        now = newest()
        decides = _deciding(now if policy_id is None else _only(now, policy_id), sha256)
        if decides is None and policy_id is not None:
            last = PolicyVersion.objects.filter(policy_id=policy_id).order_by("-number").first()
            decides = (last.id, SHADOW) if last else None
        return _as_in_force(decides, modality)


def is_any_in_force() -> bool:
    """Whether any policy of the active tenant decides about anything, if only in shadow."""
    return any(row.enforced_id or row.shadow_id for row in newest().values())


def _only(
    now: Mapping[uuid.UUID, PolicyActivation], policy_id: uuid.UUID
) -> dict[uuid.UUID, PolicyActivation]:
    return {policy_id: now[policy_id]} if policy_id in now else {}


def _deciding(now: Mapping[uuid.UUID, PolicyActivation], sha256: str) -> tuple[uuid.UUID, str] | None:
    enforcing = enforcing_row(now)
    if enforcing is not None and enforcing.enforced_id is not None:
        if is_in_rollout(enforcing.policy_id, sha256, enforcing.ratio):
            return enforcing.enforced_id, ENFORCE
        return (enforcing.rest_id, ENFORCE) if enforcing.rest_id else (enforcing.enforced_id, SHADOW)
    last = max(
        (row for row in now.values() if row.shadow_id is not None), key=lambda row: row.number, default=None
    )
    return (last.shadow_id, SHADOW) if last and last.shadow_id else None


def is_in_rollout(policy_id: uuid.UUID, sha256: str, ratio: float) -> bool:
    """Whether an item is among the share: the same content always is, and stays so when the share grows."""
    if ratio >= 1.0:
        return True
    drawn = hash_of(f"{policy_id}:{sha256}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < ratio * 2**64


def deciding_version(now: Mapping[uuid.UUID, PolicyActivation], sha256: str) -> uuid.UUID | None:
    """The version that is carried out for an item where this holds, or None where nothing is."""
    decides = _deciding(now, sha256) if enforcing_row(now) is not None else None
    return decides[0] if decides is not None and decides[1] == ENFORCE else None


def _as_in_force(decides: tuple[uuid.UUID, str] | None, modality: str) -> InForce | None:
    if decides is None:
        return None
    found = _version(current_tenant_id(), decides[0])
    if modality and modality not in found.document.get("modalities", (modality,)):
        return None
    return found if found.mode == decides[1] else InForce(**{**vars(found), "mode": decides[1]})


@lru_cache(512)
def _version(tenant_id: uuid.UUID, version_id: uuid.UUID) -> InForce:
    """A version, which never changes. Of a tenant: another one cannot see it, not even here."""
    version = PolicyVersion.objects.get(pk=version_id)
    return InForce(version.id, version.policy_id, version.number, version.document, version.digest, ENFORCE)


def record_shadow_decisions(*, audit: Audit, evidence: Mapping[str, Any]) -> int:
    """Keep beside the audit what every version in shadow would have decided. Safe to repeat; returns how many."""
    with tenant_scope(current_tenant_id()):
        rows = [
            _shadow_row(audit, found, decide(found.document, evidence))
            for version_id in sorted(_shadows(audit.sha256) - {audit.policy_version})
            if (found := _as_in_force((version_id, SHADOW), audit.modality)) is not None
        ]
        ShadowDecision.objects.bulk_create(rows, ignore_conflicts=True)
        return len(rows)


def _shadow_row(audit: Audit, found: InForce, decision: Any) -> ShadowDecision:
    return ShadowDecision(
        audit=audit, version_id=found.version_id, decision=decision.decision, rules=list(decision.rules)
    )


def _shadows(sha256: str) -> set[Any]:
    """Versions in shadow, and one that is enforced for others than this item."""
    now = newest()
    found = {row.shadow_id for row in now.values()}
    found |= {row.enforced_id for row in now.values() if not is_in_rollout(row.policy_id, sha256, row.ratio)}
    return found - {None}
