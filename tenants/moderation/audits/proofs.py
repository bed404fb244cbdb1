"""Stored proofs of decisions: reading one, and replaying all of a tenant's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from tenants.errors import NotFound
from tenants.moderation import shapes
from tenants.moderation.audits.evidence import digest
from tenants.moderation.audits.explanations import Why, explain
from tenants.moderation.models import Audit, Evidence, PolicyVersion
from tenants.moderation.rules import reasoning
from tenants.scope import tenant_scope

BATCH = 200


@dataclass(frozen=True)
class Replayed:
    """`mismatch`: what does not fit, in words; empty where everything does."""

    audit: uuid.UUID
    mismatch: str


def get_proof(audit_id: uuid.UUID | None) -> shapes.AuditProof:
    """The proof of an audit's decision, replayed. In the tenant's scope. Raises NotFound where the audit has none, or
    its evidence was erased."""
    found = Evidence.objects.select_related("audit").filter(audit_id=audit_id).first() if audit_id else None
    stored = found.document.get("reasoning") if found else None
    if found is None or not stored:
        raise NotFound(
            _("This audit has no proof: its policy had no rules over facts, or the evidence was erased.")
        )
    why = explain(stored)
    return shapes.AuditProof(
        audit=str(found.audit_id),
        rules=stored["rules"],
        evidence_digest=found.audit.evidence_digest,
        proof=stored.get("proof"),
        read=stored.get("read", {}),
        otherwise=stored.get("otherwise"),
        error=stored.get("error"),
        sentences=why.sentences(),
        mismatch=_mismatch(found, _documents([found])) or None,
    )


def explain_audit(audit_id: uuid.UUID) -> Why | None:
    """In words, why rules over facts concluded what decided, and whether the proof fits; None where there is none. In
    the tenant's scope."""
    found = Evidence.objects.select_related("audit").filter(audit_id=audit_id).first()
    stored = found.document.get("reasoning") if found else None
    if found is None or not stored:
        return None
    return replace(explain(stored), mismatch=_mismatch(found, _documents([found])))


def replay(tenant_id: uuid.UUID) -> Iterator[Replayed]:
    """Every stored proof of a tenant, oldest first, in batches of short transactions."""
    after = uuid.UUID(int=0)
    while True:
        with tenant_scope(tenant_id):
            rows = Evidence.objects.select_related("audit").filter(
                pk__gt=after, document__has_key="reasoning"
            )
            batch = list(rows.order_by("pk")[:BATCH])
            documents = _documents(batch)
        for row in batch:
            yield Replayed(row.audit_id, _mismatch(row, documents))
        if len(batch) < BATCH:
            return
        after = batch[-1].pk


def _documents(rows: list[Evidence]) -> dict[uuid.UUID | None, Mapping[str, Any]]:
    """Of the versions of policies that decided."""
    wanted = {row.audit.policy_version for row in rows}
    return dict(PolicyVersion.objects.filter(pk__in=wanted).values_list("pk", "document"))


def _mismatch(row: Evidence, documents: Mapping[uuid.UUID | None, Mapping[str, Any]]) -> str:
    audit: Audit = row.audit
    if digest(row.document) != audit.evidence_digest:
        return "The evidence is not what the record's digest is of."
    stored, document = row.document["reasoning"], documents.get(audit.policy_version)
    if document is None or not isinstance(stored, dict):
        return "There is no policy for it."
    return reasoning.check(stored, document, row.document, tuple(audit.rules))
