"""Taking decisions back: a new row points at the undone one, the flag is open again, the item stands as before."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from tenants.errors import Conflict, NotFound
from tenants.moderation import copies, effects, queue, record, second_opinions
from tenants.moderation.cases import Case, lock_cases
from tenants.moderation.models import Outcome, Review
from tenants.moderation.reviews import checked_reason, line_of, reopen
from tenants.scope import current_tenant_id, tenant_scope

State = Review.State
AT_ONCE = 100


@dataclass(frozen=True)
class Undone:
    """`left`: outcomes that could not be undone, each with the reason why."""

    batch: uuid.UUID
    undone: int
    left: tuple[tuple[uuid.UUID, str], ...]


def undo(*, outcome_id: uuid.UUID, actor: str, reason: str) -> Outcome:
    """Take one decision back. The flag is in the queue again, and what hangs on it is dropped.

    Raises NotFound, Invalid, Conflict (undone already; the item was erased; a newer audit or a later decision builds
    upon it, which has to be undone first).
    """
    said = checked_reason(reason)
    with tenant_scope(current_tenant_id()):
        outcome = get_outcome(outcome_id=outcome_id, actor=actor)
        case = lock_cases([outcome.audit]).get(outcome.audit)
        undoing, line = _undo(case, outcome, actor, said)
        record.append_all([line])
        return undoing


def get_outcome(*, outcome_id: uuid.UUID | None, actor: str) -> Outcome:
    """Raises NotFound, also for one whose item the actor may not read."""
    outcome = Outcome.objects.filter(pk=outcome_id).first() if outcome_id else None
    review = Review.objects.filter(pk=outcome.review).first() if outcome else None
    if outcome is None or (review is not None and not queue.may_review(actor, review)):
        raise NotFound(_("There is no such outcome."))
    return outcome


def undo_batch(*, tenant_id: uuid.UUID, batch: uuid.UUID, actor: str, reason: str) -> Undone:
    """Take a bulk decision back, in several transactions: cut off, it is called again and goes on.

    Opens its scopes itself, one for each part. What cannot be undone any more is left and named. Raises NotFound,
    Invalid.
    """
    said = checked_reason(reason)
    with tenant_scope(tenant_id):
        if not Outcome.objects.filter(batch=batch).exists():
            raise NotFound(_("There is no such batch."))
        wanted = _of_batch(batch)
    undone, left = 0, []
    for start in range(0, len(wanted), AT_ONCE):
        done, refused = _undo_some(tenant_id, wanted[start : start + AT_ONCE], actor, said)
        undone += done
        left += refused
    return Undone(batch, undone, tuple(left))


def _of_batch(batch: uuid.UUID) -> list[uuid.UUID]:
    """Its outcomes that are not undone, the newest first."""
    rows = Outcome.objects.filter(batch=batch)
    undone = rows.exclude(undoes=None).values("undoes")
    return list(rows.filter(undoes=None).exclude(pk__in=undone).order_by("-id").values_list("pk", flat=True))


def _undo_some(
    tenant_id: uuid.UUID, ids: Sequence[uuid.UUID], actor: str, reason: str
) -> tuple[int, list[tuple[uuid.UUID, str]]]:
    with tenant_scope(tenant_id):
        outcomes = Outcome.objects.filter(pk__in=ids).order_by("-id")
        visible = [outcome for outcome in outcomes if _may_see(actor, outcome)]
        cases = lock_cases({outcome.audit for outcome in visible})
        lines, left = [], []
        for outcome in visible:
            try:
                lines.append(_undo(cases.get(outcome.audit), outcome, actor, reason)[1])
            except Conflict as refused:
                left.append((outcome.id, refused.detail))
        record.append_all(lines)
    return len(lines), left


def _may_see(actor: str, outcome: Outcome) -> bool:
    review = Review.objects.filter(pk=outcome.review).first()
    return review is None or queue.may_review(actor, review)


def _undo(case: Case | None, outcome: Outcome, actor: str, reason: str) -> tuple[Outcome, record.Line]:
    review = case.review(outcome.review) if case else None
    if case is None or review is None:
        raise Conflict(_("The item of this decision was erased; there is nothing to undo."))
    _refuse(case, review, outcome)
    before = case.standing()
    second_opinions.drop(second_opinions.following(case, review))
    reopen(review)
    undoing = Outcome(
        review=review.id,
        audit=case.audit.id,
        item=case.item,
        kind=outcome.kind,
        of_review=outcome.of_review,
        batch=outcome.batch,
        undoes=outcome.id,
        before=before.decision,
        reviewer=actor,
        reason=reason,
        rule=outcome.rule,
    )
    case.outcomes.append(undoing)
    stands = case.standing()
    undoing.decision, undoing.labels = stands.decision, list(stands.labels)
    undoing.save(force_insert=True)
    if outcome.copies:
        copies.take_off(outcome.copies, actor=actor)
    effects.apply_standing(case, before, actor=actor, rule=outcome.rule)
    return undoing, line_of(case, undoing)


def _refuse(case: Case, review: Review, outcome: Outcome) -> None:
    """Raises Conflict where undoing would leave something without its ground."""
    if outcome.undoes is not None:
        raise Conflict(_("This row undoes a decision; decide the review again instead."))
    if outcome.id in {other.undoes for other in case.outcomes}:
        raise Conflict(_("This decision is undone already."))
    if not case.newest:
        raise Conflict(_("A newer audit has taken the place of the one that this decision is about."))
    later = [r for r in second_opinions.following(case, review) if r.state == State.DECIDED]
    if later:
        raise Conflict(
            _("A second opinion builds upon this decision. Undo that one first."), review=str(later[-1].id)
        )
