"""Reviews of flags, appeals against decisions, and taking decisions back."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.datasets.metadata import check_text
from tenants.datasets.models import Asset
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.services import record as log
from tenants.moderation import record
from tenants.moderation.models import Appeal, Audit, Outcome, PolicyVersion, Review
from tenants.moderation.reviews import cases, effects, queue
from tenants.moderation.reviews.cases import (
    ALLOW,
    BLOCK,
    ENFORCE,
    LABEL,
    REVIEW,
    WAITING,
    Case,
    lock_cases,
    newest_audits,
    read_cases,
)
from tenants.moderation.reviews.figures import live_outcomes
from tenants.moderation.rules.decision import Decision
from tenants.scope import current_tenant_id, narrowing, tenant_scope, whole_tenant

State, Kind = Review.State, Review.Kind


DECISIONS = (ALLOW, LABEL, BLOCK)

MAX_REASON, MAX_LABELS, MAX_LABEL = 2000, 20, 60

COPIES_ELSEWHERE = gettext_noop(
    "Copies may be in datasets you cannot see. Block this item alone, and ask someone with access to "
    "the whole workspace to block its copies."
)
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
        effects.emit_review_opened(review for review in found if review.id in new)
        return found


def _document_of(audit: Audit) -> Mapping[str, object]:
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


def decide_review(
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
    verdict = Verdict(*checked_verdict(decision, reason, labels))
    if block_copies and decision != BLOCK:
        raise Invalid(_("Only what is blocked can be put on a list."), pointer="/block_copies")
    if block_copies and narrowing() is not None:
        raise NotAllowed(_(COPIES_ELSEWHERE))
    with tenant_scope(current_tenant_id()):
        review = queue.get_review(review_id=review_id, actor=actor)
        # Who may see the flag decides it; what follows is of all flags of the item, and of the tenant's record.
        return _decide(review, verdict, actor, block_copies=block_copies, list_id=list_id)


def _decide(
    review: Review, verdict: Verdict, actor: str, *, block_copies: bool, list_id: uuid.UUID | None
) -> Outcome:
    with whole_tenant():
        case, review = _locked(review)
        queue.require_claim(review, actor)
        added = None
        if block_copies:
            added = effects.block_copies(case=case, list_id=list_id, actor=actor, note=verdict.reason)
        outcome, line = settle(case, review, verdict, actor, copies_id=added)
        record.append_all([line])
        return outcome


def checked_verdict(
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
        raise Invalid(_("Give a reason: a decision without one helps no one."), pointer="/reason")
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
        raise NotFound(_("This review does not exist."))
    return case, review


def settle(
    case: Case,
    review: Review,
    verdict: Verdict,
    actor: str,
    *,
    copies_id: uuid.UUID | None = None,
) -> tuple[Outcome, record.RecordLine]:
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
        state = Appeal.State.UPHELD if is_unchanged(outcome) else Appeal.State.OVERTURNED
        _answer_appeal(review, state, actor=actor, outcome=outcome)
    effects.emit_review_decided(review, outcome)
    queue.sample_second_opinion(case, review, outcome)
    effects.apply_standing(case, before, actor=actor, rule=review.rule)
    return outcome, record_line_of(case, outcome)


def is_unchanged(outcome: Outcome) -> bool:
    return outcome.decision == outcome.before


def _answer_appeal(review: Review, state: str, *, actor: str = "", outcome: Outcome | None = None) -> None:
    for appeal in Appeal.objects.filter(review_id=review.id):
        appeal.state, appeal.decided_at, appeal.seen_at = state, review.decided_at, None
        appeal.save(update_fields=["state", "decided_at", "seen_at"])
        effects.emit_appeal(appeal)
        if outcome is not None:
            details = _about(appeal, state=str(state), decision=outcome.decision)
            log(actor=actor, verb="appeal.decided", target=str(appeal.id), details=details)


def reopen(review: Review) -> None:
    """Put a flag back into the queue, whose decision was undone."""
    review.state, review.claimed_by = State.OPEN, ""
    review.lease_until = review.decided_at = None
    review.save(update_fields=["state", "claimed_by", "lease_until", "decided_at"])
    if review.kind == Kind.APPEAL:
        _answer_appeal(review, Appeal.State.OPEN)
    effects.emit_review_opened([review])


def _labels_of(case: Case, review: Review, verdict: Verdict) -> Sequence[str]:
    if verdict.decision == BLOCK:
        return ()
    if verdict.labels is None:
        rule = case.rules.get(review.rule, {})
        return tuple(rule.get("labels") or ()) if verdict.decision == LABEL else ()
    return verdict.labels


def record_line_of(case: Case, outcome: Outcome) -> record.RecordLine:
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
    return record.RecordLine(
        kind=kind,
        audit=case.audit.id,
        item=case.audit.item,
        subject=outcome.review,
        policy_version=case.audit.policy_version,
        decision=outcome.decision,
        actor=outcome.reviewer,
        payload=said,
    )


AppealState = Appeal.State

UPHELD, OVERTURNED = AppealState.UPHELD, AppealState.OVERTURNED

# Not above what the policy finds grave, not below what it asks people about.
SEVERITY = 60

RULE = "appeal"

# Of one person, that wait. Keys are limited by their rates.
MAX_OPEN_APPEALS = 50

# What an appeal may be decided as: by its result, or by what becomes of the item.
APPEAL_DECISIONS = (UPHELD.value, OVERTURNED.value, *DECISIONS)


def open_appeal(*, audit_id: uuid.UUID | None, reason: str, actor: str) -> Appeal:
    """Disagree with what an item stands at, by the id of its audit; the appeal is in the queue at once.

    Raises NotFound, Invalid, Conflict (nothing was enforced, a newer audit decides, a flag of the item is still open,
    or an appeal is, the policy's time for it is over, or the person has MAX_OPEN_APPEALS).
    """
    check_text(reason, "/reason")
    if not reason.strip() or len(reason) > MAX_REASON:
        raise Invalid(
            _("A reason has 1 to %(reason)s characters.") % {"reason": MAX_REASON}, pointer="/reason"
        )
    with tenant_scope(current_tenant_id()):
        if audit_id is None or not Audit.objects.filter(pk=audit_id).exists():
            raise NotFound(_("This audit does not exist."))
        if queue.own_appeals(actor)[:MAX_OPEN_APPEALS].count() == MAX_OPEN_APPEALS:
            raise Conflict(
                _("You have %(count)s appeals that wait. Wait until some of them are decided.")
                % {"count": MAX_OPEN_APPEALS}
            )
        # Who sees the item may disagree; what it stands at is by all flags, also of queues that they do not see.
        with whole_tenant():
            return _open_appeal(audit_id, reason.strip(), actor)


def _open_appeal(audit_id: uuid.UUID, reason: str, actor: str) -> Appeal:
    case = lock_cases([audit_id])[audit_id]
    _refuse_appeal(case)
    appeal = _create_appeal(case, reason, actor)
    decision = case.standing().decision
    log(actor=actor, verb="appeal.opened", target=str(appeal.id), details=_about(appeal, decision=decision))
    record.append(
        kind=record.APPEAL_OPENED,
        audit=audit_id,
        item=case.audit.item,
        subject=appeal.id,
        decision=decision,
        actor=actor,
        payload={"reason": appeal.reason},
    )
    return appeal


def _about(appeal: Appeal, **details: str) -> dict[str, str | None]:
    asset = str(appeal.asset_id) if appeal.asset_id else None
    return {"audit": str(appeal.audit_id), "asset": asset, **details}


def newest_audit(asset_id: uuid.UUID) -> uuid.UUID | None:
    """The audit that decides about an asset, by which one appeals."""
    return newest_audits([asset_id]).get(asset_id)


@dataclass(frozen=True)
class AppealWindow:
    """Whether somebody could appeal now, until which day (UTC; None: no limit), and whether only that is why not."""

    is_open: bool
    until: dt.date | None = None
    is_over: bool = False


def appeal_window(audit_id: uuid.UUID | None) -> AppealWindow:
    """For appeals against what the item of this audit stands at."""
    if audit_id is None:
        return AppealWindow(is_open=False)
    with whole_tenant():
        case = read_cases([audit_id]).get(audit_id)
        if case is None or case.audit.mode != ENFORCE:
            return AppealWindow(is_open=False)
        until = case.appealable_until()
        try:
            _refuse_appeal(case)
        except TooLate:
            return AppealWindow(is_open=False, until=until, is_over=True)
        except Conflict:
            return AppealWindow(is_open=False, until=until)
        waits = Appeal.objects.filter(audit=audit_id, state=AppealState.OPEN).exists()
        return AppealWindow(is_open=not waits, until=until)


class TooLate(Conflict):
    """The days are over in which the policy lets people appeal."""


def _refuse_appeal(case: Case) -> None:
    if case.audit.mode != ENFORCE:
        raise Conflict(_("This audit changed nothing, so there is nothing to appeal against."))
    if not case.newest:
        raise Conflict(_("A newer audit decides about this item. Appeal against that one."))
    if case.audit.item and case.asset_id is None:
        raise Conflict(_("The item was erased; there is nothing left to decide."))
    if case.standing().decision == REVIEW:
        raise Conflict(_("A person still has to decide on this item."))
    until = case.appealable_until()
    if until is not None and cases.today() > until:
        day = until.isoformat()
        raise TooLate(
            _("Appeals against this decision could be made until %(day)s (UTC).") % {"day": day},
            appealable_until=day,
        )


def _create_appeal(case: Case, reason: str, actor: str) -> Appeal:
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
    effects.emit_review_opened([review])
    appeal = Appeal.objects.create(
        audit=case.audit, asset_id=case.asset_id, review_id=review.id, reason=reason, created_by=actor
    )
    effects.emit_appeal(appeal)
    return appeal


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
        with whole_tenant():
            case = lock_cases([review.audit_id])[review.audit_id]
            held = case.review(review.id)
            if held is None:
                raise Conflict(_("The appeal was moved to a newer audit just now. Try again."))
            queue.require_waiting(held)
            if queue.is_held(held):
                queue.require_claim(held, actor)
            held.claimed_by = actor
            outcome, line = settle(case, held, _appeal_verdict(case, decision, reason, labels), actor)
            record.append_all([line])
        appeal.refresh_from_db()
        return appeal, outcome


def _appeal_verdict(case: Case, decision: str, reason: str, labels: list[str] | None) -> Verdict:
    stands = case.standing()
    if decision == OVERTURNED and stands.decision == ALLOW:
        raise Invalid(
            _("The item is allowed already: say what becomes of it, or uphold."), pointer="/decision"
        )
    becomes = {UPHELD.value: stands.decision, OVERTURNED.value: ALLOW}.get(decision, decision)
    if becomes == REVIEW:
        raise Conflict(_(OTHERS_FIRST))
    if labels is None and becomes == stands.decision:
        labels = list(stands.labels)
    return Verdict(*checked_verdict(becomes, reason, labels))


def list_appeals(
    *, actor: str, state: str = "", audit_id: uuid.UUID | None = None, own: bool = False
) -> QuerySet[Appeal]:
    """Appeals whose item the actor may read, newest first. `own`: only those that the actor made, whatever queues of
    reviews they see."""
    if own:
        there = Q(asset=None) | Q(asset__dataset__deleted_at=None)
        rows = Appeal.objects.filter(there, created_by=actor).order_by("-id")
    else:
        seen = queue.visible_to(actor, Review.objects.filter(kind=Review.Kind.APPEAL)).values("pk")
        rows = Appeal.objects.filter(review_id__in=seen).order_by("-id")
    if state:
        rows = rows.filter(state=state)
    return rows.filter(audit=audit_id) if audit_id else rows


def get_appeal(*, appeal_id: uuid.UUID | None, actor: str, own: bool = False) -> Appeal:
    """Raises NotFound."""
    found = list_appeals(actor=actor, own=own).filter(pk=appeal_id).first() if appeal_id else None
    if found is None:
        raise NotFound(_("This appeal does not exist."))
    return found


def answers_to(appeals: Collection[Appeal]) -> dict[uuid.UUID, Outcome]:
    """What was answered to those that are decided, by the appeal's id. Who may read an appeal may read its answer."""
    wanted = {
        appeal.review_id: appeal.id
        for appeal in appeals
        if appeal.review_id and appeal.state != AppealState.OPEN
    }
    if not wanted:
        return {}
    with whole_tenant():
        rows = live_outcomes(Kind.APPEAL).filter(review__in=list(wanted)).order_by("id")
        return {wanted[outcome.review]: outcome for outcome in rows}


def unread_answers(*, actor: str) -> QuerySet[Appeal]:
    """The actor's appeals that were decided and whose answer they have not read, the newest first."""
    # By one index, without a look at the assets: the first page asks this each time.
    rows = Appeal.objects.filter(created_by=actor, seen_at=None)
    return rows.exclude(state=AppealState.OPEN).order_by("-id")


def mark_answer_read(appeal: Appeal, *, actor: str) -> None:
    """Who appealed has read the answer; nothing for others, or where it was read before."""
    rows = unread_answers(actor=actor).filter(pk=appeal.pk)
    Appeal.objects.filter(pk__in=rows.values("pk")).update(seen_at=timezone.now())


AT_ONCE = 100


@dataclass(frozen=True)
class UndoneBatch:
    """`left`: outcomes that could not be undone, each with the reason why."""

    batch: uuid.UUID
    undone: int
    left: tuple[tuple[uuid.UUID, str], ...]


def undo_outcome(*, outcome_id: uuid.UUID, actor: str, reason: str) -> Outcome:
    """Take one decision back. The flag is in the queue again, and what hangs on it is dropped.

    Raises NotFound, Invalid, Conflict (undone already; the item was erased; a newer audit or a later decision builds
    upon it, which has to be undone first).
    """
    said = checked_reason(reason)
    with tenant_scope(current_tenant_id()):
        outcome = get_outcome(outcome_id=outcome_id, actor=actor)
        if outcome.copies and narrowing() is not None:
            raise NotAllowed(_(COPIES_ELSEWHERE))
        with whole_tenant():
            case = lock_cases([outcome.audit]).get(outcome.audit)
            undoing, line = _undo(case, outcome, actor, said)
            record.append_all([line])
        return undoing


def get_outcome(*, outcome_id: uuid.UUID | None, actor: str) -> Outcome:
    """Raises NotFound, also for one whose item the actor may not read."""
    outcome = Outcome.objects.filter(pk=outcome_id).first() if outcome_id else None
    review = Review.objects.filter(pk=outcome.review).first() if outcome else None
    if outcome is None or (review is not None and not queue.may_review(actor, review)):
        raise NotFound(_("This outcome does not exist."))
    return outcome


def undo_batch(*, tenant_id: uuid.UUID, batch: uuid.UUID, actor: str, reason: str) -> UndoneBatch:
    """Take a bulk decision back, in several transactions: cut off, it is called again and goes on.

    Opens its scopes itself, one for each part. What cannot be undone any more is left and named. Raises NotFound,
    Invalid.
    """
    said = checked_reason(reason)
    with tenant_scope(tenant_id):
        if not Outcome.objects.filter(batch=batch).exists():
            raise NotFound(_("This batch does not exist."))
        wanted = _of_batch(batch)
    undone, left = 0, []
    for start in range(0, len(wanted), AT_ONCE):
        done, refused = _undo_some(tenant_id, wanted[start : start + AT_ONCE], actor, said)
        undone += done
        left += refused
    return UndoneBatch(batch, undone, tuple(left))


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
        with whole_tenant():
            return _undo_seen(visible, actor, reason)


def _undo_seen(
    outcomes: Sequence[Outcome], actor: str, reason: str
) -> tuple[int, list[tuple[uuid.UUID, str]]]:
    cases = lock_cases({outcome.audit for outcome in outcomes})
    lines, left = [], []
    for outcome in outcomes:
        try:
            lines.append(_undo(cases.get(outcome.audit), outcome, actor, reason)[1])
        except Conflict as refused:
            left.append((outcome.id, refused.detail))
    record.append_all(lines)
    return len(lines), left


def _may_see(actor: str, outcome: Outcome) -> bool:
    review = Review.objects.filter(pk=outcome.review).first()
    return review is None or queue.may_review(actor, review)


def _undo(case: Case | None, outcome: Outcome, actor: str, reason: str) -> tuple[Outcome, record.RecordLine]:
    review = case.review(outcome.review) if case else None
    if case is None or review is None:
        raise Conflict(_("The item of this decision was erased; there is nothing to undo."))
    _refuse_undo(case, review, outcome)
    before = case.standing()
    queue.drop_second_opinions(queue.second_opinions_after(case, review))
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
        effects.unblock_copies(outcome.copies, actor=actor)
    effects.apply_standing(case, before, actor=actor, rule=outcome.rule)
    return undoing, record_line_of(case, undoing)


def _refuse_undo(case: Case, review: Review, outcome: Outcome) -> None:
    """Raises Conflict where undoing would leave something without its ground."""
    if outcome.undoes is not None:
        raise Conflict(_("This row undoes a decision; decide the review again instead."))
    if outcome.id in {other.undoes for other in case.outcomes}:
        raise Conflict(_("This decision is undone already."))
    if not case.newest:
        raise Conflict(_("A newer audit has taken the place of the one that this decision is about."))
    later = [r for r in queue.second_opinions_after(case, review) if r.state == State.DECIDED]
    if later:
        raise Conflict(
            _("A second opinion builds upon this decision. Undo that one first."), review=str(later[-1].id)
        )
