"""Deciding many flags at once: first a preview of what would change, then the same filter applied as one batch.

Only plain flags that nobody else holds: a second opinion and an appeal want a look of their own. What came after the
preview is left out when its `as_of` is given back. All that is decided in one call is one transaction; a batch may take
several calls, and is undone as a whole.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from uuid_utils.compat import uuid7

from ml.auditing import CATEGORIES
from tenants.errors import Invalid
from tenants.moderation import record
from tenants.moderation.models import Evidence, Outcome, Review
from tenants.moderation.reviews import queue
from tenants.moderation.reviews import services as reviews
from tenants.moderation.reviews.cases import WAITING, Case, lock_cases, read_cases
from tenants.scope import current_tenant_id, tenant_scope, whole_tenant

State, Kind = Review.State, Review.Kind

AT_MOST = 500

SAMPLES = 20


@dataclass(frozen=True)
class Filter:
    """Which flags are meant: every part that is given has to fit. At least one has to be given."""

    rule: str = ""
    # The item's evidence flags this category.
    category: str = ""
    modality: str = ""
    dataset_id: uuid.UUID | None = None
    older_than_h: float | None = None
    newer_than_h: float | None = None
    max_severity: int | None = None

    def check(self) -> None:
        """Raises Invalid."""
        if self == Filter():
            raise Invalid(_("Say which flags: a filter with at least one part."), pointer="/filter")
        if self.category and self.category not in CATEGORIES:
            raise Invalid(
                _("There are %(names)s.") % {"names": ", ".join(CATEGORIES)}, pointer="/filter/category"
            )

    def of(self, rows: QuerySet[Review], as_of: dt.datetime) -> QuerySet[Review]:
        equal = {"rule": self.rule, "audit__modality": self.modality, "asset__dataset": self.dataset_id}
        rows = rows.filter(**{name: value for name, value in equal.items() if value})
        if self.older_than_h is not None:
            rows = rows.filter(created_at__lte=as_of - dt.timedelta(hours=self.older_than_h))
        if self.newer_than_h is not None:
            rows = rows.filter(created_at__gte=as_of - dt.timedelta(hours=self.newer_than_h))
        if self.max_severity is not None:
            rows = rows.filter(severity__lte=self.max_severity)
        if self.category:
            flagged = Evidence.objects.filter(**{f"document__categories__{self.category}__flagged": True})
            rows = rows.filter(audit__in=flagged.values("audit"))
        return rows.filter(created_at__lte=as_of)


@dataclass(frozen=True)
class Change:
    """One flag, and what its item stands at before and after."""

    review: Review
    before: str
    after: str


@dataclass(frozen=True)
class Preview:
    """`count` flags fit; of the first `looked_at` of them, `changes` counts what the items would become."""

    count: int
    looked_at: int
    as_of: dt.datetime
    changes: Counter[tuple[str, str]]
    samples: list[Change] = field(default_factory=list)


@dataclass(frozen=True)
class Applied:
    """`left`: flags that still fit, for another call with the same batch."""

    batch: uuid.UUID
    decided: int
    left: int
    as_of: dt.datetime


def preview(*, wanted: Filter, decision: str, actor: str) -> Preview:
    """What `apply` would do now. Changes nothing. Raises Invalid."""
    wanted.check()
    reviews.checked_verdict(decision, "-")
    as_of = timezone.now()
    with tenant_scope(current_tenant_id()):
        rows = _matching(wanted, actor, as_of)
        flags = list(rows.select_related("audit", "asset").order_by("id")[:AT_MOST])
        changes = _changes(flags, decision)
        counts = Counter((change.before, change.after) for change in changes)
        return Preview(rows.count(), len(flags), as_of, counts, _sample(changes))


def _matching(wanted: Filter, actor: str, as_of: dt.datetime) -> QuerySet[Review]:
    now = timezone.now()
    free = Q(state=State.OPEN) | Q(state=State.CLAIMED, lease_until__lte=now) | Q(claimed_by=actor)
    flags = Review.objects.filter(free, kind=Kind.FLAG, of_review=None, state__in=WAITING)
    return wanted.of(queue.visible_to(actor, flags), as_of)


def _changes(flags: Sequence[Review], decision: str) -> list[Change]:
    """Deciding them one after the other, on paper."""
    with whole_tenant():
        cases = read_cases({flag.audit_id for flag in flags})
    before = {audit_id: case.standing().decision for audit_id, case in cases.items()}
    for flag in flags:
        _simulate(cases[flag.audit_id], flag, decision)
    after = {audit_id: case.standing().decision for audit_id, case in cases.items()}
    return [Change(flag, before[flag.audit_id], after[flag.audit_id]) for flag in flags]


def _simulate(case: Case, flag: Review, decision: str) -> None:
    decided = case.review(flag.id)
    if decided is not None:
        decided.state = State.DECIDED
    case.outcomes.append(Outcome(review=flag.id, audit=flag.audit_id, kind=Kind.FLAG, decision=decision))


def _sample(changes: Sequence[Change]) -> list[Change]:
    """Some to look at, from all over the list."""
    return list(changes[:: max(1, -(-len(changes) // SAMPLES))])


def apply(
    *,
    wanted: Filter,
    decision: str,
    reason: str,
    actor: str,
    labels: Sequence[str] | None = None,
    as_of: dt.datetime | None = None,
    batch: uuid.UUID | None = None,
) -> Applied:
    """Decide the flags that fit, AT_MOST in one call, the oldest first. Raises Invalid, Conflict.

    `as_of` is a preview's: what came later is left alone. `batch` goes on with an earlier call's.
    """
    wanted.check()
    checked = reviews.checked_verdict(decision, reason, labels)
    with tenant_scope(current_tenant_id()):
        batch = _batch(batch, actor)
        verdict = reviews.Verdict(*checked, batch=batch)
        as_of = as_of or timezone.now()
        fitting = _matching(wanted, actor, as_of)
        ids = list(fitting.order_by("id").values_list("pk", "audit_id")[:AT_MOST])
        with whole_tenant():
            cases = lock_cases({audit_id for _, audit_id in ids})
        # Looked at again under the lock: somebody may have claimed or decided one meanwhile.
        still = set(fitting.filter(pk__in=[review_id for review_id, _ in ids]).values_list("pk", flat=True))
        with whole_tenant():
            lines = [
                reviews.settle(cases[audit_id], flag, verdict, actor)[1]
                for review_id, audit_id in ids
                if review_id in still and (flag := _claimed(cases[audit_id], review_id, actor))
            ]
            record.append_all(lines)
        return Applied(batch, len(lines), fitting.count(), as_of)


def _claimed(case: Case, review_id: uuid.UUID, actor: str) -> Review | None:
    flag = case.review(review_id)
    if flag is not None:
        flag.claimed_by = actor
    return flag


def _batch(given: uuid.UUID | None, actor: str) -> uuid.UUID:
    if given is None:
        return uuid7()
    rows = Outcome.objects.filter(batch=given)
    if rows.filter(reviewer=actor).exists() and not rows.exclude(undoes=None).exists():
        return given
    raise Invalid(_("This is not a batch of yours that goes on."), pointer="/batch")
