"""Appeals: somebody disagrees with a decision, and another person than the one who decided looks again.

An appeal is a flag of kind `appeal` in the same queue, claimed and decided like the others, but not by anybody who has
decided about its item before. Its outcome overrules what was decided before it (`cases`). `upheld`: the item stands as
it did; `overturned`: it does not.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.db.models import OuterRef, QuerySet
from django.utils import timezone
from msgspec.structs import asdict

from tenants.moderation import shapes
from tenants.moderation.models import Appeal, Outcome, Review
from tenants.moderation.reviews import effects, figures, queue, services
from tenants.moderation.reviews.cases import WAITING, EffectiveDecision, read_cases
from tenants.moderation.reviews.figures import Agreement, Precision


def appeal_shapes(appeals: Sequence[Appeal]) -> dict[uuid.UUID, shapes.Appeal]:
    """In the shape of the API; one query for all answers."""
    answers = services.answers_to(appeals)
    return {appeal.id: _appeal_shape(appeal, answers.get(appeal.id)) for appeal in appeals}


def appeal_shape(appeal: Appeal) -> shapes.Appeal:
    return appeal_shapes([appeal])[appeal.id]


def _appeal_shape(appeal: Appeal, answer: Outcome | None) -> shapes.Appeal:
    return shapes.Appeal(
        id=str(appeal.id),
        audit=str(appeal.audit_id),
        asset=str(appeal.asset_id) if appeal.asset_id else None,
        review=str(appeal.review_id) if appeal.review_id else None,
        reason=appeal.reason,
        state=appeal.state,
        created_by=appeal.created_by,
        created_at=appeal.created_at,
        decided_at=appeal.decided_at,
        decided_by=answer.reviewer if answer else None,
        answer=answer.reason if answer else None,
    )


State = Review.State


def review_shapes(reviews: Sequence[Review]) -> dict[uuid.UUID, shapes.Review]:
    """Flags with their audits and assets at hand; two queries for all their outcomes."""
    closed = [review.id for review in reviews if review.state == State.DECIDED]
    decided = (
        figures.live_outcomes().filter(review__in=closed).values_list("review", "decision") if closed else []
    )
    decisions = dict(decided)
    return {review.id: _shape(review, decisions.get(review.id)) for review in reviews}


def review_shape(review: Review) -> shapes.Review:
    return review_shapes([review])[review.id]


def _shape(review: Review, decision: str | None) -> shapes.Review:
    held, waiting = queue.is_held(review), review.state in WAITING
    return shapes.Review(
        id=str(review.id),
        audit=str(review.audit_id),
        asset=str(review.asset_id) if review.asset_id else None,
        dataset=str(review.asset.dataset_id) if review.asset else None,
        modality=review.audit.modality,
        kind=review.kind,
        of_review=str(review.of_review) if review.of_review else None,
        rule=review.rule,
        reason=review.reason,
        severity=review.severity,
        # A claim that ran out is free, whether or not somebody has come by.
        state=State.OPEN.value if waiting and not held else review.state,
        claimed_by=review.claimed_by if held or review.state == State.DECIDED else None,
        lease_until=review.lease_until if held else None,
        due_at=review.due_at,
        overdue=waiting and review.due_at < timezone.now(),
        created_at=review.created_at,
        decided_at=review.decided_at,
        decision=decision,
    )


def review_with_details(review: Review) -> shapes.ReviewDetail:
    """A flag with what its item stands at, its other flags, what was decided, and its sender's strikes.

    A second opinion that is not given yet is shown without what was decided: it is asked for unbiased.
    """
    case = read_cases([review.audit_id])[review.audit_id]
    blind = review.kind == Review.Kind.SECOND and review.state in WAITING
    others = (
        Review.objects.select_related("audit", "asset").filter(audit=review.audit_id).exclude(pk=review.pk)
    )
    stands = case.standing()
    return shapes.ReviewDetail(
        **asdict(review_shape(review)),
        stands=None if blind else standing_shape(stands),
        flags=[] if blind else list(review_shapes(list(others.order_by("id"))).values()),
        outcomes=[] if blind else [outcome_shape(outcome) for outcome in case.outcomes],
        strikes=effects.count_strikes(subject=effects.subject_of(review.audit_id)),
    )


def standing_shape(standing: EffectiveDecision) -> shapes.Stands:
    return shapes.Stands(decision=standing.decision, labels=list(standing.labels))


def decided_shape(outcome: Outcome, review: Review) -> shapes.ReviewDecided:
    """A flag after a decision or its undoing."""
    standing = read_cases([review.audit_id])[review.audit_id].standing()
    return shapes.ReviewDecided(
        **asdict(review_shape(review)), outcome=outcome_shape(outcome), stands=standing_shape(standing)
    )


def list_outcomes(
    *, review_id: uuid.UUID | None = None, batch: uuid.UUID | None = None, rule: str = "", actor: str
) -> QuerySet[Outcome]:
    """Outcomes, newest first, without those of items that are there and that the actor may not read."""
    hidden = queue.hidden_since(actor, OuterRef("review"))
    rows = Outcome.objects.order_by("-id").alias(hidden=hidden).filter(hidden=None)
    equal = {"review": review_id, "batch": batch, "rule": rule}
    return rows.filter(**{name: value for name, value in equal.items() if value})


def outcome_shape(outcome: Outcome) -> shapes.Outcome:
    return shapes.Outcome(
        id=str(outcome.id),
        review=str(outcome.review),
        audit=str(outcome.audit),
        kind=outcome.kind,
        rule=outcome.rule,
        decision=outcome.decision,
        before=outcome.before,
        labels=outcome.labels,
        reason=outcome.reason,
        reviewer=outcome.reviewer,
        batch=str(outcome.batch) if outcome.batch else None,
        undoes=str(outcome.undoes) if outcome.undoes else None,
        blocked_copies=outcome.copies is not None,
        created_at=outcome.created_at,
    )


def figures_shape(*, days: int) -> shapes.ReviewFigures:
    """The queue as it is now, and what the outcomes of the last days say about reviewers and rules."""
    agreed = figures.agreements(days=days)
    return shapes.ReviewFigures(
        days=days,
        queue=queue.ages(),
        agreement=shapes.Agreements(
            overall=_agreement(agreed.overall),
            pairs=[
                shapes.PairAgreement(reviewers=list(pair), **asdict(_agreement(found)))
                for pair, found in agreed.pairs.items()
            ],
        ),
        rules=[_precision(found) for found in figures.precisions(days=days)],
    )


def _agreement(found: Agreement) -> shapes.Agreement:
    return shapes.Agreement(items=found.items, agreed=found.agreed, share=found.share, kappa=found.kappa)


def _precision(found: Precision) -> shapes.RulePrecision:
    return shapes.RulePrecision(
        rule=found.rule,
        decided=found.decided,
        confirmed=found.confirmed,
        precision=found.precision,
        interval=list(found.interval) if found.interval else None,
    )
