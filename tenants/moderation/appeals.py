"""Appeals: somebody disagrees with a decision, and another person than the one who decided looks again.

An appeal is a flag of kind `appeal` in the same queue, claimed and decided like the others, but not by anybody who has
decided about its item before. Its outcome overrules what was decided before it (`cases`). `upheld`: the item stands as
it did; `overturned`: it does not.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from tenants.datasets.metadata import check_text
from tenants.errors import Conflict, Invalid, NotFound
from tenants.moderation import event_payloads, queue, record, reviews
from tenants.moderation.cases import ALLOW, ENFORCE, REVIEW, Case, lock_cases
from tenants.moderation.models import Appeal, Audit, Outcome, Review
from tenants.scope import current_tenant_id, tenant_scope

State = Appeal.State
UPHELD, OVERTURNED = State.UPHELD, State.OVERTURNED
# Not above what the policy finds grave, not below what it asks people about.
SEVERITY = 60
RULE = "appeal"
# What an appeal may be decided as: by its result, or by what becomes of the item.
DECISIONS = (UPHELD.value, OVERTURNED.value, *reviews.DECISIONS)


def open_appeal(*, audit_id: uuid.UUID | None, reason: str, actor: str) -> Appeal:
    """Disagree with what an item stands at, by the id of its audit; the appeal is in the queue at once.

    Raises NotFound, Invalid, Conflict (nothing was enforced, a newer audit decides, a flag of the item is still open,
    or an appeal is).
    """
    check_text(reason, "/reason")
    if not reason.strip() or len(reason) > reviews.MAX_REASON:
        raise Invalid(
            _("A reason has 1 to %(reason)s characters.") % {"reason": reviews.MAX_REASON}, pointer="/reason"
        )
    with tenant_scope(current_tenant_id()):
        if audit_id is None or not Audit.objects.filter(pk=audit_id).exists():
            raise NotFound(_("There is no such audit."))
        case = lock_cases([audit_id])[audit_id]
        _refuse(case)
        appeal = _create(case, reason.strip(), actor)
        record.append(
            kind=record.APPEAL_OPENED,
            audit=audit_id,
            item=case.audit.item,
            subject=appeal.id,
            decision=case.standing().decision,
            actor=actor,
            payload={"reason": appeal.reason},
        )
        return appeal


def _refuse(case: Case) -> None:
    if case.audit.mode != ENFORCE:
        raise Conflict(_("This audit changed nothing, so there is nothing to appeal against."))
    if not case.newest:
        raise Conflict(_("A newer audit decides about this item. Appeal against that one."))
    if case.audit.item and case.asset_id is None:
        raise Conflict(_("The item was erased; there is nothing left to decide."))
    if case.standing().decision == REVIEW:
        raise Conflict(_("A person still has to decide about this item; there is no decision yet."))


def _create(case: Case, reason: str, actor: str) -> Appeal:
    severity = max(case.audit.severity, SEVERITY)
    try:
        with transaction.atomic():
            review = Review.objects.create(
                audit=case.audit,
                asset_id=case.asset_id,
                kind=Review.Kind.APPEAL,
                rule=RULE,
                reason=reason,
                severity=severity,
                due_at=queue.due_at(case.document, severity),
            )
    except IntegrityError as error:
        raise Conflict(_("There is an open appeal about this item.")) from error
    event_payloads.opened([review])
    return Appeal.objects.create(
        audit=case.audit, asset_id=case.asset_id, review_id=review.id, reason=reason, created_by=actor
    )


def decide_appeal(
    *, appeal_id: uuid.UUID, decision: str, reason: str, actor: str, labels: list[str] | None = None
) -> tuple[Appeal, Outcome]:
    """Decide an appeal as its holder; one that nobody holds is claimed with the decision.

    `decision`: upheld, overturned (the item is allowed), or what becomes of the item; then the appeal is upheld if that
    is what it stood at. Raises NotFound, Invalid, NotAllowed (decided about it before), Conflict (held by somebody
    else, decided already).
    """
    with tenant_scope(current_tenant_id()):
        appeal = get_appeal(appeal_id=appeal_id, actor=actor)
        review = Review.objects.filter(pk=appeal.review_id).first()
        if review is None:
            raise Conflict(_("The item was erased; there is nothing left to decide."))
        case = lock_cases([review.audit_id])[review.audit_id]
        held = case.review(review.id)
        if held is None:
            raise Conflict(_("The appeal was moved to a newer audit just now. Try again."))
        queue.require_waiting(held)
        if queue.is_held(held):
            queue.require_claim(held, actor)
        held.claimed_by = actor
        outcome, line = reviews.settle(case, held, _verdict(case, decision, reason, labels), actor)
        record.append_all([line])
        appeal.refresh_from_db()
        return appeal, outcome


def _verdict(case: Case, decision: str, reason: str, labels: list[str] | None) -> reviews.Verdict:
    stands = case.standing()
    if decision == OVERTURNED and stands.decision == ALLOW:
        raise Invalid(
            _("The item is allowed already: say what becomes of it, or uphold."), pointer="/decision"
        )
    becomes = {UPHELD.value: stands.decision, OVERTURNED.value: ALLOW}.get(decision, decision)
    if becomes == REVIEW:
        raise Conflict(_(reviews.OTHERS_FIRST))
    if labels is None and becomes == stands.decision:
        labels = list(stands.labels)
    return reviews.Verdict(*reviews.checked(becomes, reason, labels))


def list_appeals(*, actor: str, state: str = "", audit_id: uuid.UUID | None = None) -> QuerySet[Appeal]:
    """Appeals whose item the actor may read, newest first."""
    seen = queue.visible_to(actor, Review.objects.filter(kind=Review.Kind.APPEAL)).values("pk")
    rows = Appeal.objects.filter(review_id__in=seen).order_by("-id")
    if state:
        rows = rows.filter(state=state)
    return rows.filter(audit=audit_id) if audit_id else rows


def get_appeal(*, appeal_id: uuid.UUID | None, actor: str) -> Appeal:
    """Raises NotFound."""
    found = list_appeals(actor=actor).filter(pk=appeal_id).first() if appeal_id else None
    if found is None:
        raise NotFound(_("There is no such appeal."))
    return found


def as_dict(appeal: Appeal) -> dict[str, Any]:
    """The appeal in the shape of the API."""
    return {
        "id": str(appeal.id),
        "audit": str(appeal.audit_id),
        "asset": str(appeal.asset_id) if appeal.asset_id else None,
        "review": str(appeal.review_id) if appeal.review_id else None,
        "reason": appeal.reason,
        "state": appeal.state,
        "created_by": appeal.created_by,
        "created_at": appeal.created_at,
        "decided_at": appeal.decided_at,
    }
