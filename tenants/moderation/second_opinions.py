"""Second opinions by sampling: some decided flags are looked at by another person, who is not told the first answer.

Where the two agree nothing happens but that agreement is counted. Where they disagree the flag is open again, as a new
one, for a third person: neither of the two may decide it, and what that person says counts instead of the first answer.
"""

from __future__ import annotations

import hashlib
import uuid

from tenants.moderation import event_payloads, queue
from tenants.moderation.cases import WAITING, Case
from tenants.moderation.models import Outcome, Review

State, Kind = Review.State, Review.Kind


def is_sampled(review_id: uuid.UUID, share: float) -> bool:
    """Whether a flag is in the sample: by a hash of its id, so that it is so each time and nobody can choose."""
    drawn = int.from_bytes(hashlib.sha256(b"second opinion" + review_id.bytes).digest()[:8], "big")
    return drawn < share * 2**64


def follow(case: Case, review: Review, outcome: Outcome) -> None:
    """Open what an outcome asks for. The case is locked."""
    if review.kind == Kind.SECOND:
        first = case.outcome_of(review.of_review) if review.of_review else None
        if first is not None and first.decision != outcome.decision:
            _open(case, review, Kind.FLAG, "Two people disagree about this flag.")
    elif review.kind == Kind.FLAG and review.of_review is None and case.enforced:
        share = float(case.document.get("second_opinion") or 0)
        if is_sampled(review.id, share):
            _open(case, review, Kind.SECOND, review.reason)


def _open(case: Case, after: Review, kind: str, reason: str) -> None:
    of_review = after.of_review or after.id
    made = Review.objects.create(
        audit_id=case.audit.id,
        asset_id=after.asset_id,
        kind=kind,
        of_review=of_review,
        rule=after.rule,
        reason=reason,
        severity=after.severity,
        due_at=queue.due_at(case.document, after.severity),
    )
    case.reviews.append(made)
    event_payloads.opened([made])


def following(case: Case, review: Review) -> list[Review]:
    """What was opened because this flag was decided: its second opinion, and what followed a disagreement."""
    if review.kind == Kind.SECOND:
        return [r for r in case.reviews if r.kind == Kind.FLAG and r.of_review == review.of_review]
    if review.kind == Kind.FLAG and review.of_review is None:
        return [r for r in case.reviews if r.of_review == review.id]
    return []


def drop(reviews: list[Review]) -> None:
    """Close those that nobody has decided: what they were about was undone."""
    for review in reviews:
        if review.state in WAITING:
            review.state, review.claimed_by, review.lease_until = State.DROPPED, "", None
            review.save(update_fields=["state", "claimed_by", "lease_until"])
