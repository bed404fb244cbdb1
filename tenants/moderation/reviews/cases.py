"""One audit with its flags and what people decided about them, and the rule of what the item stands at.

**What an item stands at.** It is the strongest (allow < label < review < block) of:

1. what the policy decided by itself: the audit's decision or, where that is `review`, the strongest of the fired rules
   that do not ask for a review (a rule that labels still labels when a person has let the item go);
2. what was decided about each flag. A flag about which two people disagreed counts as the third decided;
3. `review` for each flag that is still open: an item with two flags is held until nobody asks for more.

An appeal overrules: once decided, it takes the place of the policy's decision and of all that was decided before it;
flags that are open, or decided later, count beside it. A second opinion by itself counts nothing. What was undone does
not count. So each step can be taken back, and what the item stands at is computed anew from the rows, never kept.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.utils import timezone

from tenants.datasets.models import Asset
from tenants.moderation.models import Audit, Outcome, PolicyVersion, Review

ALLOW, LABEL, REVIEW, BLOCK = "allow", "label", "review", "block"

STRENGTH = {ALLOW: 0, LABEL: 1, REVIEW: 2, BLOCK: 3}

ENFORCE = "enforce"

WAITING = (Review.State.OPEN, Review.State.CLAIMED)

Kind = Review.Kind


@dataclass(frozen=True)
class EffectiveDecision:
    decision: str
    labels: tuple[str, ...] = ()


@dataclass
class Case:
    """`outcomes` in the order in which they were written; `document` is the policy version's, or empty."""

    audit: Audit
    document: Mapping[str, Any]
    reviews: list[Review]
    outcomes: list[Outcome]
    # The asset if it is still there, and whether no later audit decides about it.
    asset_id: uuid.UUID | None = None
    newest: bool = True

    @property
    def enforced(self) -> bool:
        """Whether what is decided here changes the item."""
        return self.audit.mode == ENFORCE and self.newest

    @property
    def item(self) -> uuid.UUID:
        return self.audit.item or self.audit.id

    @cached_property
    def rules(self) -> dict[str, Mapping[str, Any]]:
        return {rule["id"]: rule for rule in self.document.get("rules", ())}

    def appealable_until(self) -> dt.date | None:
        """The last day of appeals against what was decided last; None where the policy sets no limit."""
        decided = [self.audit.created_at, *(o.created_at for o in self.outcomes if o.kind != Kind.SECOND)]
        return last_appeal_day(max(decided), self.document)

    def review(self, review_id: uuid.UUID | None) -> Review | None:
        return next((review for review in self.reviews if review.id == review_id), None)

    def live(self) -> list[Outcome]:
        """Outcomes that were not undone, without those that undo."""
        undone = {outcome.undoes for outcome in self.outcomes}
        return [o for o in self.outcomes if o.undoes is None and o.id not in undone]

    def outcome_of(self, review_id: uuid.UUID) -> Outcome | None:
        return next((o for o in reversed(self.live()) if o.review == review_id), None)

    def counted(self) -> list[Outcome]:
        """What was decided about flags; of one about which two people disagreed, what the third said."""
        flags = [o for o in self.live() if o.kind == Kind.FLAG]
        overruled = {o.of_review for o in flags}
        return [o for o in flags if o.review not in overruled]

    def standing(self) -> EffectiveDecision:
        live, counted = self.live(), self.counted()
        appeal = next((o for o in reversed(live) if o.kind == Kind.APPEAL), None)
        if appeal is None:
            votes = [self.by_policy()]
        else:
            votes, counted = [_vote(appeal)], counted_after(appeal, live, counted)
        votes += [_vote(outcome) for outcome in counted]
        votes += [
            EffectiveDecision(REVIEW) for r in self.reviews if r.kind == Kind.FLAG and r.state in WAITING
        ]
        return combined(votes)

    def by_policy(self) -> EffectiveDecision:
        """What the policy decided without a person."""
        fired = [self.rules[name] for name in self.audit.rules if name in self.rules]
        if self.audit.decision == REVIEW:
            fired = [rule for rule in fired if rule["then"] != REVIEW]
            return combined([EffectiveDecision(rule["then"], _labels(rule)) for rule in fired])
        return combined(
            [
                EffectiveDecision(self.audit.decision),
                *(EffectiveDecision(ALLOW, _labels(rule)) for rule in fired),
            ]
        )


def last_appeal_day(decided_at: dt.datetime, document: Mapping[str, Any]) -> dt.date | None:
    """The last day (UTC) on which a decision by this policy can be appealed against; None: there is none."""
    days = document.get("appeal_days")
    return (decided_at.astimezone(dt.UTC) + dt.timedelta(days)).date() if days else None


def today() -> dt.date:
    return timezone.now().astimezone(dt.UTC).date()


def counted_after(appeal: Outcome, live: Sequence[Outcome], counted: Sequence[Outcome]) -> list[Outcome]:
    """Those of `counted` that were written after the appeal was decided."""
    later = {outcome.id for outcome in live[live.index(appeal) + 1 :]}
    return [outcome for outcome in counted if outcome.id in later]


def strongest(decisions: Iterable[str]) -> str:
    return max(decisions, key=STRENGTH.__getitem__, default=ALLOW)


def combined(votes: Iterable[EffectiveDecision]) -> EffectiveDecision:
    votes = list(votes)
    labels = sorted({label for vote in votes for label in vote.labels})
    return EffectiveDecision(strongest(vote.decision for vote in votes), tuple(labels))


def _vote(outcome: Outcome) -> EffectiveDecision:
    return EffectiveDecision(outcome.decision, tuple(outcome.labels))


def _labels(rule: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(rule.get("labels") or ())


# --- Reading them ------------------------------------------------------------------------------------------


def lock_cases(audit_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Case]:
    """The cases of audits, until the caller's transaction ends: assets first, as an erasure takes them, then flags."""
    flagged = Review.objects.filter(audit_id__in=audit_ids)
    assets = Asset.objects.filter(pk__in=flagged.exclude(asset=None).values("asset_id"))
    list(assets.select_for_update(of=("self",)).order_by("id").values_list("pk"))
    list(flagged.select_for_update(of=("self",)).order_by("id").values_list("pk"))
    return read_cases(audit_ids)


def read_cases(audit_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Case]:
    audits = Audit.objects.in_bulk(list(audit_ids))
    documents = _documents(audits.values())
    items = [audit.item for audit in audits.values() if audit.item]
    newest = newest_audits(items)
    present = set(Asset.objects.filter(pk__in=items).values_list("pk", flat=True))
    cases = {
        audit.id: Case(
            audit,
            documents.get(audit.policy_version, {}),
            [],
            [],
            audit.item if audit.item in present else None,
            newest.get(audit.item, audit.id) == audit.id,
        )
        for audit in audits.values()
    }
    for review in Review.objects.filter(audit_id__in=cases).order_by("id"):
        cases[review.audit_id].reviews.append(review)
    # By the item, as that is what the index is by.
    by_item = Outcome.objects.filter(item__in=[case.item for case in cases.values()], audit__in=list(cases))
    for outcome in by_item.order_by("created_at", "id"):
        cases[outcome.audit].outcomes.append(outcome)
    return cases


def _documents(audits: Iterable[Audit]) -> dict[uuid.UUID | None, Mapping[str, object]]:
    wanted = {audit.policy_version for audit in audits if audit.policy_version}
    return dict(PolicyVersion.objects.filter(pk__in=wanted).values_list("id", "document"))


def newest_audits(items: Collection[uuid.UUID]) -> dict[uuid.UUID | None, uuid.UUID]:
    """The last enforced audit of each item."""
    rows = Audit.objects.filter(item__in=items, mode=ENFORCE).order_by("item", "-id").distinct("item")
    return dict(rows.values_list("item", "id"))
