"""Reading policies, their versions, what versions in shadow would have decided, and which detectors there are."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.conf import settings
from django.db.models import Count, F, Max, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from ml.detectors.base import CATALOG, load_detector
from tenants.errors import NotFound
from tenants.ids import first_id_of
from tenants.moderation import shapes
from tenants.moderation.models import (
    Audit,
    AuditRequest,
    HashList,
    Policy,
    PolicyActivation,
    PolicyVersion,
    ShadowDecision,
    SharedHashList,
)
from tenants.moderation.policies.services import ENFORCE, OFF, SHADOW, newest
from tenants.moderation.rules.document import DETECTOR_FAILED, REVIEW
from tenants.moderation.rules.static_checks import Environment, InstalledDetector

SAMPLES = 20

# The queue of appeals, beside those of rules.
APPEAL = "appeal"


def list_policies() -> QuerySet:
    return Policy.objects.annotate(latest=Max("versions__number")).order_by("-id")


def get_policy(policy_id: uuid.UUID | None) -> Policy:
    """Raises NotFound."""
    policy = list_policies().filter(pk=policy_id).first()  # None matches no row
    if policy is None:
        raise NotFound(_("This policy does not exist."))
    return policy


def get_version(policy: Policy, number: int) -> PolicyVersion:
    """Raises NotFound."""
    version = PolicyVersion.objects.filter(policy=policy, number=number).first()
    if version is None:
        raise NotFound(_("This version of the policy does not exist."))
    return version


def list_versions(policy: Policy) -> QuerySet[PolicyVersion]:
    return PolicyVersion.objects.filter(policy=policy).order_by("-id")


def list_activations(policy: Policy) -> QuerySet[PolicyActivation]:
    return PolicyActivation.objects.filter(policy=policy).select_related("version").order_by("-number")


def list_queues() -> list[str]:
    """Names of the review queues: rules in force or in shadow that ask a person, and two of their own."""
    now = newest()
    wanted = {getattr(row, name) for row in now.values() for name in ("enforced_id", "rest_id", "shadow_id")}
    documents = PolicyVersion.objects.filter(pk__in=wanted - {None}).values_list("document", flat=True)
    asking = {rule["id"] for document in documents for rule in document["rules"] if rule["then"] == REVIEW}
    return sorted({*asking, DETECTOR_FAILED, APPEAL})


def activations_now() -> tuple[dict[uuid.UUID, PolicyActivation], dict[uuid.UUID, PolicyVersion]]:
    """What holds by policy, and the versions that it names."""
    now = newest()
    wanted = {getattr(row, name) for row in now.values() for name in ("enforced_id", "rest_id", "shadow_id")}
    named = PolicyVersion.objects.filter(pk__in=wanted - {None}).defer("document")
    return now, {version.id: version for version in named}


def policy_shape(
    policy: Any, row: PolicyActivation | None, versions: Mapping[uuid.UUID, PolicyVersion]
) -> shapes.Policy:
    """The policy in the shape of the API."""
    return shapes.Policy(
        id=str(policy.id),
        name=policy.name,
        description=policy.description,
        starter=policy.starter or None,
        latest_version=policy.latest,
        in_force=state_shape(row, versions),
        created_by=policy.created_by,
        created_at=policy.created_at,
    )


def state_shape(
    row: PolicyActivation | None, versions: Mapping[uuid.UUID, PolicyVersion]
) -> shapes.PolicyState:
    """What holds of a policy: `mode` is the strongest of what it does."""
    enforced, rest, shadow = (
        versions.get(version_id) if version_id else None
        for version_id in ((row.enforced_id, row.rest_id, row.shadow_id) if row else (None, None, None))
    )
    return shapes.PolicyState(
        mode=ENFORCE if enforced else SHADOW if shadow else OFF,
        version=enforced.number if enforced else None,
        ratio=row.ratio if row and enforced else None,
        rest=shapes.Rest(policy=str(rest.policy_id), version=rest.number) if rest else None,
        shadow=shadow.number if shadow else None,
        since=row.created_at if row else None,
    )


def version_shape(version: PolicyVersion) -> shapes.PolicyVersion:
    return shapes.PolicyVersion(
        policy=str(version.policy_id),
        version=version.number,
        digest=version.digest,
        document=version.document,
        created_by=version.created_by,
        created_at=version.created_at,
    )


def activation_shape(row: PolicyActivation) -> shapes.PolicyActivationLine:
    return shapes.PolicyActivationLine(
        id=str(row.id),
        number=row.number,
        version=row.version.number,
        mode=row.mode,
        ratio=row.ratio,
        created_by=row.created_by,
        created_at=row.created_at,
    )


def compare_shadow(version: PolicyVersion, *, newest_of: int | None = None) -> shapes.ShadowComparison:
    """What this version would have decided beside what was decided: how often each pair, and the newest that differ.

    `newest_of`: of so many audits at most, for pages, which cannot wait for all of a long history.
    """
    rows = ShadowDecision.objects.filter(version=version)
    if newest_of is not None:
        oldest = rows.order_by("-id").values_list("id", flat=True)[newest_of - 1 : newest_of].first()
        rows = rows.filter(id__gte=oldest) if oldest else rows
    counted = rows.values(decided=F("audit__decision"), shadow=F("decision")).annotate(count=Count("id"))
    pairs = sorted((row["decided"], row["shadow"], row["count"]) for row in counted)
    differ = rows.exclude(decision=F("audit__decision")).select_related("audit").order_by("-id")
    return shapes.ShadowComparison(
        version=version.number,
        audits=sum(count for _, _, count in pairs),
        changed=sum(count for decided, shadow, count in pairs if decided != shadow),
        changes=[
            shapes.PolicyChange(from_=decided, to=shadow, count=count) for decided, shadow, count in pairs
        ],
        samples=[
            shapes.ShadowSample(
                audit=str(row.audit_id), from_=row.audit.decision, to=row.decision, rules=row.rules
            )
            for row in differ[:SAMPLES]
        ],
    )


@dataclass(frozen=True)
class Held:
    """Of `audited` uploads, how many were held for review or blocked."""

    held: int
    audited: int


# For how many days, up to now, decisions about uploads are counted before something else is enforced.
COUNTED_DAYS = 7
COUNTED = {"held": Count("id", filter=Q(decision__in=("review", "block"))), "audited": Count("id")}


def held_by(version_ids: Collection[uuid.UUID]) -> Held:
    """What these versions decided about the uploads of the last days while they were enforced."""
    rows = Audit.objects.filter(_recent_uploads(), mode=ENFORCE, policy_version__in=version_ids)
    return Held(**rows.aggregate(**COUNTED))


def would_have_held(version_id: uuid.UUID) -> Held:
    """What this version would have decided about the uploads of the last days, as far as it ran in shadow."""
    alone = Audit.objects.filter(_recent_uploads(), mode=SHADOW, policy_version=version_id)
    beside = ShadowDecision.objects.filter(_recent_uploads("audit__"), version_id=version_id)
    counted = alone.aggregate(**COUNTED), beside.aggregate(**COUNTED)
    return Held(sum(each["held"] for each in counted), sum(each["audited"] for each in counted))


def _recent_uploads(audit: str = "") -> Q:
    """`audit`: how the rows that are asked refer to their audits."""
    since = first_id_of(timezone.now() - dt.timedelta(days=COUNTED_DAYS))
    return Q((f"{audit}source", AuditRequest.Source.UPLOAD), (f"{audit}id__gte", since))


log = logging.getLogger(__name__)


# These need an argument, which only the operator gives (AUDIT_DETECTORS).
CONFIGURED = ("hf-", "onnx-")


@cache
def installed_detectors() -> tuple[InstalledDetector, ...]:
    """Loads no weights; what was installed since the process began is not seen."""
    own = [name for name in CATALOG.ids() if not name.startswith(CONFIGURED)]
    return tuple(map(_installed_detector, dict.fromkeys((*own, *settings.AUDIT_DETECTORS))))


def _installed_detector(spec: str) -> InstalledDetector:
    try:
        detector = load_detector(spec)
        return InstalledDetector(spec, tuple(detector.categories), detector.missing(), detector.estimates)
    except Exception as error:
        log.warning("a detector cannot be loaded", extra={"spec": spec}, exc_info=True)
        return InstalledDetector(spec, (), f"It cannot be loaded ({type(error).__name__}).")


def installed_environment() -> Environment:
    """What a policy of the active tenant may refer to."""
    lists = {str(value) for row in HashList.objects.values_list("id", "name") for value in row}
    shared = {str(value) for row in SharedHashList.objects.values_list("id", "name") for value in row}
    return Environment(installed_detectors(), lists | shared)
