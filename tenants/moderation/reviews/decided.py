"""Assets that people decided about, as examples for classifiers: what stands of their decisions, the newest first."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from ml.classification import MAX_EXAMPLES
from tenants.learning.classifiers.providers import PROVIDERS
from tenants.moderation.models import Outcome, Review
from tenants.moderation.reviews.cases import ALLOW, BLOCK
from tenants.moderation.reviews.figures import live_outcomes

Kind = Review.Kind
# Outcomes that are read, the newest: an asset may have several, and what is no asset has some, too.
MOST_READ = 4 * MAX_EXAMPLES


@dataclass
class _Decided:
    """What counts of an item: the outcomes about its newest audit that has some, the newest first."""

    audit: uuid.UUID
    outcomes: list[Outcome] = field(default_factory=list)


def read_decided(*, rule: str, label: str) -> dict[uuid.UUID, bool]:
    """By asset whether people found what is asked for; the newest decision first. In the tenant's scope.

    Asked are flags of `rule`, or of all rules where it is empty. A yes is an item that was given `label` or, where that
    is empty, one whose flag was confirmed: labelled or blocked. What was undone does not count, nor do second opinions
    by themselves; of a flag about which two people disagreed counts what the third said. An appeal that changed what
    the item stood at takes the place of what was decided before it. Whether what is blocked has a label, nobody said:
    it is left out then.
    """
    found = _by_item(rule)
    for appeal in _appeals(found):
        decided = found[appeal.item]
        if appeal.audit == decided.audit and appeal.id > decided.outcomes[0].id:
            decided.outcomes = [appeal]
    answers = {item: _answer(decided.outcomes, label) for item, decided in found.items()}
    return {item: answer for item, answer in answers.items() if answer is not None}


def _by_item(rule: str) -> dict[uuid.UUID, _Decided]:
    rows = live_outcomes(Kind.FLAG)
    if rule:
        rows = rows.filter(rule=rule)
    wanted = ("audit", "item", "review", "of_review", "decision", "labels")
    found: dict[uuid.UUID, _Decided] = {}
    overruled: set[uuid.UUID | None] = set()
    for outcome in rows.only(*wanted).order_by("-id")[:MOST_READ]:
        # The third opinion is newer than the first, which it overrules.
        overruled.add(outcome.of_review)
        decided = found.setdefault(outcome.item, _Decided(outcome.audit))
        if outcome.audit == decided.audit and outcome.review not in overruled:
            decided.outcomes.append(outcome)
    return found


def _appeals(found: dict[uuid.UUID, _Decided]) -> list[Outcome]:
    """Those that changed something, of these items, the oldest first."""
    rows = live_outcomes(Kind.APPEAL).filter(item__in=list(found)).order_by("id")
    return [outcome for outcome in rows if outcome.decision != outcome.before]


def _answer(outcomes: list[Outcome], label: str) -> bool | None:
    if not label:
        return any(outcome.decision != ALLOW for outcome in outcomes)
    if any(outcome.decision == BLOCK for outcome in outcomes):
        return None
    return any(label in outcome.labels for outcome in outcomes)


PROVIDERS.read_decided = read_decided
