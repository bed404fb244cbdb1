"""Flags: how they come to be, and what a person decides about one.

What the item stands at after each step is the rule in `cases`; what follows from that is in `effects`. Every step
takes its locks in one order: the asset, the flags of the audit, whatever the asset's change needs, and last the
record's counter.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.datasets.metadata import check_text
from tenants.datasets.models import Asset
from tenants.errors import Conflict, Invalid, NotFound
from tenants.moderation import copies, effects, event_payloads, queue, record, second_opinions
from tenants.moderation.cases import ALLOW, BLOCK, ENFORCE, LABEL, REVIEW, WAITING, Case, lock_cases
from tenants.moderation.decision import Decision
from tenants.moderation.models import Appeal, Audit, Outcome, PolicyVersion, Review
from tenants.scope import current_tenant_id, tenant_scope

State, Kind = Review.State, Review.Kind

DECISIONS = (ALLOW, LABEL, BLOCK)
MAX_REASON, MAX_LABELS, MAX_LABEL = 2000, 20, 60
OTHERS_FIRST = gettext_noop("Another flag of this item is open. Decide that one first.")


@dataclass(frozen=True)
class Verdict:
    """What a person says about a flag, checked."""

    decision: str
    reason: str
    labels: tuple[str, ...] | None = None
    batch: uuid.UUID | None = None


# --- Flags come to be --------------------------------------------------------------------------------------


def open_reviews(*, audit: Audit, asset: Asset | None, decision: Decision) -> list[Review]:
    """One flag for each rule that fired and asks for a review; `detector-failed` is one where something could not look.

    Again for the same audit it opens nothing more. Flags of older audits of the item are dropped, as this audit has
    taken their place; an appeal that is open follows the item. A shadowed audit opens nothing. In the caller's
    transaction; writes no line of the record, as that is locked last.
    """
    if audit.mode != ENFORCE:
        return []
    with tenant_scope(current_tenant_id()):
        _replace_older(audit)
        if decision.decision != REVIEW:
            return []
        document = _document_of(audit)
        flags = [
            Review(
                audit=audit,
                asset=asset,
                rule=rule.id,
                reason=rule.reason,
                severity=rule.severity,
                due_at=queue.due_at(document, rule.severity),
            )
            for rule in decision.fired
            if rule.then == REVIEW
        ]
        Review.objects.bulk_create(flags, ignore_conflicts=True)
        found = list(Review.objects.filter(audit=audit, kind=Kind.FLAG).order_by("id"))
        new = {flag.id for flag in flags}
        event_payloads.opened(review for review in found if review.id in new)
        return found


def _document_of(audit: Audit) -> Mapping[str, Any]:
    version = PolicyVersion.objects.filter(pk=audit.policy_version).first() if audit.policy_version else None
    return version.document if version else {}


def _replace_older(audit: Audit) -> None:
    if audit.item is None:
        return
    older = Review.objects.filter(state__in=WAITING, audit__item=audit.item).exclude(audit=audit)
    # Locked in one order, as those who decide do.
    for review in list(older.select_for_update(of=("self",)).order_by("id")):
        if review.kind == Kind.APPEAL:
            review.audit = audit
            Appeal.objects.filter(review_id=review.id).update(audit=audit)
        else:
            review.state, review.claimed_by, review.lease_until = State.DROPPED, "", None
        review.save(update_fields=["audit", "state", "claimed_by", "lease_until"])


def is_waiting(*, asset_id: uuid.UUID) -> bool:
    """Whether a person still has to decide about this asset."""
    return Review.objects.filter(asset_id=asset_id, state__in=WAITING).exists()


# --- What a person decides ---------------------------------------------------------------------------------


def decide(
    *,
    review_id: uuid.UUID,
    decision: str,
    reason: str,
    actor: str,
    labels: Sequence[str] | None = None,
    block_copies: bool = False,
    list_id: uuid.UUID | None = None,
) -> Outcome:
    """Close one flag, and only that, as its holder; the item becomes what all its flags together say (`cases`).

    `decision` is allow, label or block. `labels` are what the item is shown with, by default those of the flag's rule.
    `block_copies` puts a blocked item on a hash list (`list_id`, or the tenant's own), so that its copies are found,
    also those that came before.
    Raises NotFound, Invalid, NotAllowed (another person has to decide), Conflict (not claimed, the claim ran out,
    decided already).
    """
    verdict = Verdict(*checked(decision, reason, labels))
    if block_copies and decision != BLOCK:
        raise Invalid(_("Only what is blocked can be put on a list."), pointer="/block_copies")
    with tenant_scope(current_tenant_id()):
        review = queue.get_review(review_id=review_id, actor=actor)
        case, review = _locked(review)
        queue.require_claim(review, actor)
        added = None
        if block_copies:
            added = copies.add(case=case, list_id=list_id, actor=actor, note=verdict.reason)
        outcome, line = settle(case, review, verdict, actor, copies_id=added)
        record.append_all([line])
        return outcome


def checked(
    decision: str, reason: str, labels: Sequence[str] | None = None
) -> tuple[str, str, tuple[str, ...] | None]:
    """Raises Invalid."""
    if decision not in DECISIONS:
        raise Invalid(
            _("decision is one of %(names)s.") % {"names": ", ".join(DECISIONS)}, pointer="/decision"
        )
    return decision, checked_reason(reason), _checked_labels(labels)


def checked_reason(reason: str) -> str:
    """Raises Invalid."""
    check_text(reason, "/reason")
    if not reason.strip():
        raise Invalid(_("Say why: a decision without a reason helps nobody."), pointer="/reason")
    if len(reason) > MAX_REASON:
        raise Invalid(
            _("A reason has at most %(reason)s characters.") % {"reason": MAX_REASON}, pointer="/reason"
        )
    return reason.strip()


def _checked_labels(labels: Sequence[str] | None) -> tuple[str, ...] | None:
    if labels is None:
        return None
    for label in labels:
        check_text(label, "/labels")
    if len(labels) > MAX_LABELS or any(not 1 <= len(label) <= MAX_LABEL for label in labels):
        raise Invalid(
            _("At most %(labels)s labels of 1 to %(label)s characters.")
            % {"labels": MAX_LABELS, "label": MAX_LABEL},
            pointer="/labels",
        )
    return tuple(dict.fromkeys(labels))


def _locked(found: Review) -> tuple[Case, Review]:
    """The flag as it is once it is locked; its item may have been erased meanwhile. Raises NotFound."""
    case = lock_cases([found.audit_id])[found.audit_id]
    review = case.review(found.id)
    if review is None:
        raise NotFound(_("There is no such review."))
    return case, review


def settle(
    case: Case,
    review: Review,
    verdict: Verdict,
    actor: str,
    *,
    copies_id: uuid.UUID | None = None,
) -> tuple[Outcome, record.Line]:
    """Write the outcome and what follows from it. The case is locked; the record's line is the caller's to append."""
    queue.require_impartial(actor, review)
    before = case.standing()
    if review.kind == Kind.APPEAL and before.decision == REVIEW:
        raise Conflict(_(OTHERS_FIRST))
    outcome = Outcome.objects.create(
        review=review.id,
        audit=case.audit.id,
        item=case.item,
        kind=review.kind,
        of_review=review.of_review,
        batch=verdict.batch,
        decision=verdict.decision,
        before=before.decision,
        labels=list(_labels_of(case, review, verdict)),
        copies=copies_id,
        reviewer=actor,
        reason=verdict.reason,
        rule=review.rule,
    )
    case.outcomes.append(outcome)
    review.state, review.decided_at, review.lease_until = State.DECIDED, timezone.now(), None
    review.save(update_fields=["state", "decided_at", "lease_until", "claimed_by"])
    if review.kind == Kind.APPEAL:
        _answer_appeal(review, Appeal.State.UPHELD if unchanged(outcome) else Appeal.State.OVERTURNED)
    event_payloads.decided(review, outcome)
    second_opinions.follow(case, review, outcome)
    effects.apply_standing(case, before, actor=actor, rule=review.rule)
    return outcome, line_of(case, outcome)


def unchanged(outcome: Outcome) -> bool:
    return outcome.decision == outcome.before


def _answer_appeal(review: Review, state: str) -> None:
    Appeal.objects.filter(review_id=review.id).update(state=state, decided_at=review.decided_at)


def reopen(review: Review) -> None:
    """Put a flag back into the queue, whose decision was undone."""
    review.state, review.claimed_by = State.OPEN, ""
    review.lease_until = review.decided_at = None
    review.save(update_fields=["state", "claimed_by", "lease_until", "decided_at"])
    if review.kind == Kind.APPEAL:
        _answer_appeal(review, Appeal.State.OPEN)
    event_payloads.opened([review])


def _labels_of(case: Case, review: Review, verdict: Verdict) -> Sequence[str]:
    if verdict.decision == BLOCK:
        return ()
    if verdict.labels is None:
        rule = case.rules.get(review.rule, {})
        return tuple(rule.get("labels") or ()) if verdict.decision == LABEL else ()
    return verdict.labels


def line_of(case: Case, outcome: Outcome) -> record.Line:
    kind = record.REVIEW_UNDONE if outcome.undoes else record.REVIEW_DECIDED
    if outcome.kind == Kind.APPEAL and not outcome.undoes:
        kind = record.APPEAL_DECIDED
    said = {
        "outcome": outcome.id,
        "reason": outcome.reason,
        "labels": outcome.labels,
        "before": outcome.before,
        "stands": case.standing().decision,
        "undoes": outcome.undoes,
        "batch": outcome.batch,
    }
    return record.Line(
        kind=kind,
        audit=case.audit.id,
        item=case.audit.item,
        subject=outcome.review,
        policy_version=case.audit.policy_version,
        decision=outcome.decision,
        actor=outcome.reviewer,
        payload=said,
    )
