"""Policies and their versions, and which of them decides about an item (`activations` says what is in force).

Versions never change: the same document is the same version.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256 as hash_of
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from tenants.datasets.metadata import check_text
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.services import record as log_event
from tenants.moderation import policy_document
from tenants.moderation.activations import ENFORCE, SHADOW, enforcing_row, newest
from tenants.moderation.decision import decide
from tenants.moderation.models import Audit, Policy, PolicyActivation, PolicyVersion, ShadowDecision
from tenants.moderation.starters import get_starter
from tenants.scope import current_tenant_id, tenant_scope

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
    document: Mapping[str, Any] | None = None,
    starter: str = "",
    actor: str = "",
) -> tuple[Policy, PolicyVersion]:
    """A policy with its first version, of `document` or of a starter. In force nowhere. Raises Invalid, Conflict."""
    for value, pointer in ((name, "/name"), (description, "/description")):
        check_text(value, pointer)
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


def _first_document(document: Mapping[str, Any] | None, starter: str) -> dict[str, Any]:
    """The starter's document with what is given laid over it. Raises Invalid."""
    if not starter:
        return policy_document.read(document or {})
    try:
        base = get_starter(starter).document
    except NotFound as error:
        raise Invalid(error.detail, pointer="/starter") from None
    return policy_document.read({**base, **(document or {})})


def add_version(*, policy_id: uuid.UUID, document: Any, actor: str = "") -> tuple[PolicyVersion, bool]:
    """The version of this document, and whether it is new. In force nowhere. Raises Invalid, NotFound."""
    normal = policy_document.read(document)
    with tenant_scope(current_tenant_id()):
        # Numbers are given one after the other.
        policy = Policy.objects.select_for_update().filter(pk=policy_id).first()
        if policy is None:
            raise NotFound(_("There is no such policy."))
        same = policy.versions.filter(digest=policy_document.digest(normal)).first()
        if same is not None:
            return same, False
        number = policy.versions.order_by("-number").values_list("number", flat=True).first() or 0
        version = _new_version(policy, normal, number + 1, actor)
        details = {"version": version.number, "digest": version.digest}
        log_event(actor=actor, verb="policy.version_added", target=str(policy.id), details=details)
        return version, True


def _new_version(policy: Policy, normal: dict[str, Any], number: int, actor: str) -> PolicyVersion:
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
        if falls_in(enforcing.policy_id, sha256, enforcing.ratio):
            return enforcing.enforced_id, ENFORCE
        return (enforcing.rest_id, ENFORCE) if enforcing.rest_id else (enforcing.enforced_id, SHADOW)
    last = max(
        (row for row in now.values() if row.shadow_id is not None), key=lambda row: row.number, default=None
    )
    return (last.shadow_id, SHADOW) if last and last.shadow_id else None


def falls_in(policy_id: uuid.UUID, sha256: str, ratio: float) -> bool:
    """Whether an item is among the share: the same content always is, and stays so when the share grows."""
    if ratio >= 1.0:
        return True
    drawn = hash_of(f"{policy_id}:{sha256}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < ratio * 2**64


def _as_in_force(decides: tuple[uuid.UUID, str] | None, modality: str) -> InForce | None:
    if decides is None:
        return None
    found = _known(current_tenant_id(), decides[0])
    if modality and modality not in found.document.get("modalities", (modality,)):
        return None
    return found if found.mode == decides[1] else InForce(**{**vars(found), "mode": decides[1]})


@lru_cache(512)
def _known(tenant_id: uuid.UUID, version_id: uuid.UUID) -> InForce:
    """A version, which never changes. Of a tenant: another one cannot see it, not even here."""
    version = PolicyVersion.objects.get(pk=version_id)
    return InForce(version.id, version.policy_id, version.number, version.document, version.digest, ENFORCE)


def note_shadows(*, audit: Audit, evidence: Mapping[str, Any]) -> int:
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
    found |= {row.enforced_id for row in now.values() if not falls_in(row.policy_id, sha256, row.ratio)}
    return found - {None}
