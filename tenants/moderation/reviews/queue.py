"""The queue of flags: who may see and decide which, in what order, and exclusive claims with a lease.

A claim that has run out is free for everybody; until somebody takes it the row still names who had it. Claims lock one
row and wait for nothing else.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts.models import ApiKey, Membership
from tenants.accounts.permissions import MODERATE
from tenants.accounts.roles import scopes_in
from tenants.errors import Conflict, NotAllowed, NotFound
from tenants.moderation import shapes
from tenants.moderation.models import Appeal, Outcome, Review
from tenants.moderation.reviews import effects
from tenants.moderation.reviews.cases import WAITING, Case
from tenants.scope import current_tenant_id, narrowing, tenant_scope, whole_tenant

State, Kind = Review.State, Review.Kind


ORDERS: dict[str, tuple[str, ...]] = {
    # The worst first, of equals the oldest.
    "severity": ("-severity", "id"),
    # What has to be decided first.
    "due": ("due_at", "id"),
    "newest": ("-id",),
}

# Hours until a flag should be decided, by how bad it is (0 to 100), where the policy's `sla_hours` says nothing.
SLA_HOURS = {"high": 4, "medium": 24, "low": 72}

HIGH, MEDIUM = 70, 40


# --- Who may -----------------------------------------------------------------------------------------------


def visible_to(actor: str, reviews: QuerySet[Review]) -> QuerySet[Review]:
    """Of these flags those whose item the actor may read: permission follows the item.

    Roles are of a whole tenant today, so what is left out is only what nobody may read: items of a dataset that is
    being deleted. Whoever gives datasets readers of their own changes this function and the next, and nothing else.
    """
    return reviews.filter(Q(asset=None) | Q(asset__dataset__deleted_at=None))


def hidden_since(actor: str, review: OuterRef) -> Subquery:
    """For what names a flag: since when the actor may not read the flag's item; NULL where they may, or it is gone.

    A value and no condition: Postgres looks it up for each row of a page, where it would join all flags that there are.
    """
    return Subquery(Review.objects.filter(pk=review).values("asset__dataset__deleted_at")[:1])


def may_review(actor: str, review: Review) -> bool:
    """Whether the actor may see this flag and its item."""
    return visible_to(actor, Review.objects.filter(pk=review.pk)).exists()


def names_of(actor: str) -> list[str]:
    """Every name under which the actor may have decided before: a key is also the person who made it, and a person
    every key that they made. Two keys of one person are two reviewers, as tools that people share hold them."""
    names, (kind, _, rest) = {actor}, actor.partition(":")
    if kind == "key":
        person = ApiKey.objects.filter(prefix=rest).values_list("created_by", flat=True).first()
    elif person := _uuid(rest or actor):
        made = ApiKey.objects.filter(created_by=person).values_list("prefix", flat=True)
        names |= {f"key:{prefix}" for prefix in made}
    # The console names people by their id alone.
    return sorted(names | ({str(person), f"user:{person}"} if person else set()))


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def decided_before(actor: str) -> Exists:
    """As a condition on a flag: something that the actor decided about its item counts, in whatever audit."""
    mine = Outcome.objects.filter(
        item=Coalesce(OuterRef("audit__item"), OuterRef("audit_id")),
        reviewer__in=names_of(actor),
        undoes=None,
    )
    return Exists(mine.exclude(Exists(Outcome.objects.filter(undoes=OuterRef("pk")))))


# Flags that must be decided by somebody who has not decided about the item before: an appeal, a second opinion, and
# what follows where the two disagree.
BY_ANOTHER = Q(kind__in=[Kind.SECOND, Kind.APPEAL]) | ~Q(of_review=None)


def claimable_by(actor: str) -> QuerySet[Review]:
    """The flags that nobody holds and that this actor may see and decide."""
    free = Review.objects.filter(state=State.OPEN)
    theirs = visible_to(actor, free).exclude(BY_ANOTHER & Q(decided_before(actor)))
    if _leaves_to_others(actor):
        theirs = theirs.exclude(pk__in=own_appeals(actor).values("review_id"))
    if narrowing() is None:
        return theirs
    # Also what they decided before in queues that they do not see any more.
    with whole_tenant():
        barred = list(free.filter(BY_ANOTHER, decided_before(actor)).values_list("pk", flat=True))
    return theirs.exclude(pk__in=barred)


def own_appeals(actor: str) -> QuerySet[Appeal]:
    """The open appeals of a person. A key has none: it speaks for whoever its owner's product lets appeal."""
    person = _uuid(actor.removeprefix("user:"))
    return Appeal.objects.filter(state=Appeal.State.OPEN, created_by=str(person) if person else None)


def _leaves_to_others(actor: str) -> bool:
    """Whether the actor has appeals that somebody else can decide. One query for who has none."""
    return own_appeals(actor).exists() and has_other_reviewers(actor)


def has_other_reviewers(actor: str) -> bool:
    """Whether another member of the tenant decides reviews of everything."""
    tenant_id, names = current_tenant_id(), names_of(actor)
    people = [person for name in names if (person := _uuid(name))]
    others = Membership.objects.filter(tenant=tenant_id, user__is_active=True, datasets=None, queues=None)
    roles = others.exclude(user__in=people).values_list("role", flat=True).distinct()
    return any(MODERATE in scopes_in(tenant_id, role) for role in roles)


def why_barred(actor: str, review: Review) -> str:
    """Why another person has to decide this flag; empty where the actor may."""
    # Also where it was in a queue that they do not see any more.
    with whole_tenant():
        barred = Review.objects.filter(BY_ANOTHER & Q(decided_before(actor)), pk=review.pk).exists()
    if barred:
        return _("You have decided about this item before; another person has to decide this.")
    if review.kind == Kind.APPEAL and own_appeals(actor).filter(review_id=review.pk).exists():
        return (
            _("This is your own appeal; another person has to decide it.")
            if has_other_reviewers(actor)
            else ""
        )
    return ""


def require_impartial(actor: str, review: Review) -> None:
    """Raises NotAllowed where another person has to decide."""
    if why := why_barred(actor, review):
        raise NotAllowed(why)


# --- Reading -----------------------------------------------------------------------------------------------


def list_reviews(
    *,
    actor: str,
    state: str = "",
    kind: str = "",
    rule: str = "",
    dataset_id: uuid.UUID | None = None,
    audit_id: uuid.UUID | None = None,
    mine: bool = False,
    overdue: bool = False,
    order: str = "severity",
) -> QuerySet[Review]:
    """The flags that the actor may see, in one of ORDERS. `state` open includes those whose claim ran out."""
    now = timezone.now()
    rows = visible_to(actor, Review.objects.select_related("audit", "asset__blob")).order_by(*ORDERS[order])
    lapsed = Q(state=State.CLAIMED, lease_until__lte=now)
    if state == State.OPEN:
        rows = rows.filter(Q(state=State.OPEN) | lapsed)
    elif state == State.CLAIMED:
        rows = rows.filter(state=State.CLAIMED, lease_until__gt=now)
    elif state:
        rows = rows.filter(state=state)
    equal = {"kind": kind, "rule": rule, "asset__dataset": dataset_id, "audit": audit_id}
    rows = rows.filter(**{name: value for name, value in equal.items() if value})
    if mine:
        rows = rows.filter(state=State.CLAIMED, claimed_by=actor, lease_until__gt=now)
    return rows.filter(state__in=WAITING, due_at__lt=now) if overdue else rows


def rows_after(rows: QuerySet[Review], order: str, after: Review) -> QuerySet[Review]:
    """The flags that come after this one in the order. `after` needs only what the order is by."""
    if order == "newest":
        return rows.filter(pk__lt=after.pk)
    if order == "due":
        return rows.filter(due_at__gte=after.due_at).filter(Q(due_at__gt=after.due_at) | Q(pk__gt=after.pk))
    return rows.filter(severity__lte=after.severity).filter(
        Q(severity__lt=after.severity) | Q(pk__gt=after.pk)
    )


def get_review(*, review_id: uuid.UUID | None, actor: str) -> Review:
    """Raises NotFound, also for one whose item the actor may not read."""
    rows = visible_to(actor, Review.objects.select_related("audit", "asset__blob"))
    found = rows.filter(pk=review_id).first() if review_id else None
    if found is None:
        raise NotFound(_("This review does not exist."))
    return found


def is_held(review: Review) -> bool:
    """Whether somebody's claim on it stands."""
    return (
        review.state == State.CLAIMED
        and review.lease_until is not None
        and review.lease_until > timezone.now()
    )


# --- Claims ------------------------------------------------------------------------------------------------


def claim(*, review_id: uuid.UUID, actor: str) -> Review:
    """Take one flag for as long as the lease lasts; again by who holds it, the lease begins anew.

    Raises NotFound, Conflict (somebody else holds it, or it is decided), NotAllowed (somebody else has to decide).
    """
    with tenant_scope(current_tenant_id()):
        review = _locked(review_id, actor)
        require_waiting(review)
        if is_held(review) and review.claimed_by != actor:
            raise Conflict(_("Someone else has claimed this review."), lease_until=review.lease_until)
        require_impartial(actor, review)
        return _take(review, actor)


def claim_next(
    *, actor: str, kind: str = "", rule: str = "", order: str = "severity", after: Review | None = None
) -> Review | None:
    """Take the first flag that is free, of those after `after` in the order; None if there is none. Two who ask at once
    get different ones."""
    with tenant_scope(current_tenant_id()):
        free_lapsed()
        rows = claimable_by(actor).order_by(*ORDERS[order])
        equal = {"kind": kind, "rule": rule}
        rows = rows.filter(**{name: value for name, value in equal.items() if value})
        if after is not None:
            rows = rows_after(rows, order, after)
        review = rows.select_for_update(skip_locked=True, of=("self",)).first()
        return None if review is None else _take(review, actor)


def free_lapsed() -> int:
    """Put flags whose claim ran out back into the queue; those that somebody just works on are left."""
    lapsed = Review.objects.filter(state=State.CLAIMED, lease_until__lte=timezone.now())
    ids = list(lapsed.select_for_update(skip_locked=True).values_list("pk", flat=True)[:1000])
    return Review.objects.filter(pk__in=ids).update(state=State.OPEN, claimed_by="", lease_until=None)


def release(*, review_id: uuid.UUID, actor: str) -> Review:
    """Give a claim back. Raises NotFound, Conflict (somebody else's)."""
    with tenant_scope(current_tenant_id()):
        review = _locked(review_id, actor)
        require_waiting(review)
        if review.state == State.CLAIMED and review.claimed_by != actor and is_held(review):
            raise Conflict(_("Someone else has claimed this review."), lease_until=review.lease_until)
        review.state, review.claimed_by, review.lease_until = State.OPEN, "", None
        review.save(update_fields=["state", "claimed_by", "lease_until"])
        return review


def require_claim(review: Review, actor: str) -> None:
    """Raises Conflict unless the actor's claim stands."""
    require_waiting(review)
    if is_held(review) and review.claimed_by == actor:
        return
    if is_held(review):
        raise Conflict(_("Someone else has claimed this review."), lease_until=review.lease_until)
    if review.claimed_by == actor:
        raise Conflict(_("Your claim on this review has run out. Claim it again; nothing was decided."))
    raise Conflict(_("Claim this review before you decide it."))


def require_waiting(review: Review) -> None:
    """Raises Conflict for what is decided or dropped."""
    if review.state not in WAITING:
        raise Conflict(_("This review is closed already."), state=review.state)


def _locked(review_id: uuid.UUID, actor: str) -> Review:
    found = visible_to(actor, Review.objects.filter(pk=review_id)).select_for_update(of=("self",)).first()
    if found is None:
        raise NotFound(_("This review does not exist."))
    return found


def _take(review: Review, actor: str) -> Review:
    review.state, review.claimed_by = State.CLAIMED, actor
    review.lease_until = timezone.now() + dt.timedelta(seconds=settings.REVIEW_LEASE_S)
    review.save(update_fields=["state", "claimed_by", "lease_until"])
    return review


# --- When it is due ----------------------------------------------------------------------------------------


def due_at(document: Mapping[str, Any], severity: int, since: dt.datetime | None = None) -> dt.datetime:
    """Until when a flag should be decided: `sla_hours` of the policy (`high`, `medium`, `low`)."""
    level = "high" if severity >= HIGH else "medium" if severity >= MEDIUM else "low"
    hours = (document.get("sla_hours") or {}).get(level, SLA_HOURS[level])
    return (since or timezone.now()) + dt.timedelta(hours=float(hours))


def ages() -> shapes.QueueAges:
    """How much waits, how much of it is late, and for how long the oldest waits (seconds)."""
    now, waiting = timezone.now(), Review.objects.filter(state__in=WAITING)
    oldest = waiting.order_by("created_at").values_list("created_at", flat=True).first()
    held = waiting.filter(state=State.CLAIMED, lease_until__gt=now).count()
    total = waiting.count()
    return shapes.QueueAges(
        open=total - held,
        claimed=held,
        overdue=waiting.filter(due_at__lt=now).count(),
        oldest_s=(now - oldest).total_seconds() if oldest else None,
    )


def is_sampled(review_id: uuid.UUID, share: float) -> bool:
    """Whether a flag is in the sample: by a hash of its id, so that it is so each time and nobody can choose."""
    drawn = int.from_bytes(hashlib.sha256(b"second opinion" + review_id.bytes).digest()[:8], "big")
    return drawn < share * 2**64


def sample_second_opinion(case: Case, review: Review, outcome: Outcome) -> None:
    """Open what an outcome asks for. The case is locked."""
    if review.kind == Kind.SECOND:
        first = case.outcome_of(review.of_review) if review.of_review else None
        if first is not None and first.decision != outcome.decision:
            _open_second_opinion(case, review, Kind.FLAG, "Two people disagree about this flag.")
    elif review.kind == Kind.FLAG and review.of_review is None and case.enforced:
        share = float(case.document.get("second_opinion") or 0)
        if is_sampled(review.id, share):
            _open_second_opinion(case, review, Kind.SECOND, review.reason)


def _open_second_opinion(case: Case, after: Review, kind: str, reason: str) -> None:
    of_review = after.of_review or after.id
    made = Review.objects.create(
        audit_id=case.audit.id,
        asset_id=after.asset_id,
        kind=kind,
        of_review=of_review,
        rule=after.rule,
        reason=reason,
        severity=after.severity,
        due_at=due_at(case.document, after.severity),
    )
    case.reviews.append(made)
    effects.emit_review_opened([made])


def second_opinions_after(case: Case, review: Review) -> list[Review]:
    """What was opened because this flag was decided: its second opinion, and what followed a disagreement."""
    if review.kind == Kind.SECOND:
        return [r for r in case.reviews if r.kind == Kind.FLAG and r.of_review == review.of_review]
    if review.kind == Kind.FLAG and review.of_review is None:
        return [r for r in case.reviews if r.of_review == review.id]
    return []


def drop_second_opinions(reviews: list[Review]) -> None:
    """Close those that nobody has decided: what they were about was undone."""
    for review in reviews:
        if review.state in WAITING:
            review.state, review.claimed_by, review.lease_until = State.DROPPED, "", None
            review.save(update_fields=["state", "claimed_by", "lease_until"])
