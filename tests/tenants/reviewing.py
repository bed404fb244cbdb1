"""Audits with flags to review, as the audit job leaves them behind."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenants.datasets.models import Asset, Dataset
from tenants.datasets.services import create_dataset
from tenants.jobs.models import Job
from tenants.moderation import reviews
from tenants.moderation.models import (
    Audit,
    AuditRequest,
    Evidence,
    Policy,
    PolicyVersion,
    Record,
    Review,
)
from tenants.moderation.reviews import effects
from tenants.moderation.rules import document as policy_document
from tenants.moderation.rules.decision import Decision, FiredRule
from tenants.pipeline.assets import services
from tenants.scope import tenant_scope

ANN, BOB, CAROL = "user:ann", "user:bob", "user:carol"

RULES = (
    {"id": "rude", "when": "true", "then": "review", "reason": "It may be rude.", "severity": 50},
    {"id": "naked", "when": "true", "then": "review", "reason": "It may be naked.", "severity": 90},
    {"id": "made", "when": "true", "then": "label", "reason": "It is made.", "labels": ["ai-generated"]},
    {"id": "known", "when": "true", "then": "block", "reason": "It is known."},
)


def document(**fields: Any) -> dict[str, Any]:
    return policy_document.read_document({"rules": list(RULES), **fields})


@dataclass
class World:
    """One tenant with a dataset and a policy of four rules."""

    party: Any
    dataset: Dataset
    version: PolicyVersion

    @property
    def id(self) -> uuid.UUID:
        return self.party.id

    def add(self, **fields: Any) -> Asset:
        """A shown asset."""
        with tenant_scope(self.id):
            added = services.add_asset(dataset_id=self.dataset.id, text=uuid.uuid4().hex, **fields)
            Asset.objects.filter(pk=added.asset.id).update(status="ready")
            Job.objects.filter(pk=added.job.id).update(state="succeeded")
            return Asset.objects.get(pk=added.asset.id)

    def audit(
        self,
        fired: Sequence[str] = ("rude",),
        asset: Asset | None = None,
        *,
        mode: str = "enforce",
        source: str = "request",
        subject: str = "",
        evidence: dict[str, Any] | None = None,
        version: PolicyVersion | None = None,
    ) -> Audit:
        """An audit of an asset (a new one by default) by which these rules fired, with what follows."""
        asset = asset or self.add()
        version = version or self.version
        decision = decided(fired, version.document)
        with tenant_scope(self.id):
            request = AuditRequest.objects.create(
                source=source, asset=asset, modality=asset.modality, subject=subject
            )
            audit = Audit.objects.create(
                id=request.id,
                item=asset.id,
                sha256=asset.blob.sha256,
                modality=asset.modality,
                source=source,
                decision=decision.decision,
                mode=mode,
                policy_version=version.id,
                rules=list(decision.rules),
                verdict="no_evidence",
                severity=decision.severity,
                evidence_digest="0" * 64,
            )
            Evidence.objects.create(audit=audit, asset=asset, document=evidence or seen())
            if mode == "enforce":
                effects.apply_decision(
                    audit_id=audit.id, asset_id=asset.id, decision=decision.decision, labels=decision.labels
                )
                reviews.open_reviews(audit=audit, asset=asset, decision=decision)
        return audit

    def flags(self, audit: Audit, kind: str = "flag") -> dict[str, Review]:
        with tenant_scope(self.id):
            return {
                review.rule: review for review in Review.objects.filter(audit=audit, kind=kind).order_by("id")
            }

    def flag(self, fired: Sequence[str] = ("rude",), **fields: Any) -> Review:
        """The flag of a new audit with one."""
        return next(iter(self.flags(self.audit(fired, **fields)).values()))

    def asset(self, audit: Audit) -> Asset:
        with tenant_scope(self.id):
            return Asset.objects.get(pk=audit.item)

    def stands(self, audit: Audit) -> tuple[str, list[str]]:
        """What the item of an audit is shown as."""
        asset = self.asset(audit)
        return asset.moderation, asset.labels

    def lines(self) -> list[Record]:
        with tenant_scope(self.id):
            return list(Record.objects.order_by("sequence"))


def decided(fired: Sequence[str], policy: dict[str, Any]) -> Decision:
    rules = {rule["id"]: rule for rule in policy["rules"]}
    found = tuple(
        FiredRule(
            name,
            rules[name]["then"],
            rules[name]["reason"],
            rules[name]["severity"],
            tuple(rules[name]["labels"]),
        )
        for name in fired
    )
    order = ("allow", "label", "review", "block")
    return Decision(max((rule.then for rule in found), key=order.index, default="allow"), found)


def seen(**fields: Any) -> dict[str, Any]:
    return {"item": {"subject": ""}, "categories": {}, "detectors": [], "matches": [], **fields}


def make_world(party: Any, **fields: Any) -> World:
    with tenant_scope(party.id):
        dataset = create_dataset(name=uuid.uuid4().hex)
        policy = Policy.objects.create(name=uuid.uuid4().hex)
        return World(party, dataset, make_version(policy, **fields))


def make_version(policy: Policy, **fields: Any) -> PolicyVersion:
    content = document(**fields)
    number = PolicyVersion.objects.filter(policy=policy).count() + 1
    return PolicyVersion.objects.create(
        policy=policy, number=number, document=content, digest=policy_document.digest(content)
    )
