"""What outcomes say about reviewers, rules and detectors: agreement, precision, and labelled scores to calibrate with.

Figures count outcomes that were not undone. They need neither the flags nor the content, so an erasure changes none of
them but the labelled scores, which need the evidence.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, QuerySet
from django.utils import timezone

from tenants.moderation.models import Evidence, Outcome, Review
from tenants.moderation.reviews.cases import ALLOW, Case, read_cases, strongest
from tenants.scope import tenant_scope

Kind = Review.Kind

Z95 = 1.959963984540054

BATCH = 500


def live_outcomes(kind: str = "") -> QuerySet[Outcome]:
    """Outcomes that were not undone, without those that undo."""
    # Sets that are read once: asked row by row, the planner may walk the table for each of its rows.
    undone = Outcome.objects.exclude(undoes=None).order_by().values("undoes")
    rows = Outcome.objects.filter(undoes=None).exclude(pk__in=undone)
    return rows.filter(kind=kind) if kind else rows


# --- Agreement ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """`kappa` is None where it is undefined: nothing compared, or chance alone explains all agreement."""

    items: int
    agreed: int
    kappa: float | None

    @property
    def share(self) -> float | None:
        return self.agreed / self.items if self.items else None


def cohens_kappa(pairs: Iterable[tuple[str, str]]) -> Agreement:
    """Of pairs (first rater's answer, second rater's): (observed - chance) / (1 - chance), Cohen 1960.

    Undefined, and so None, if both raters only ever gave one and the same answer.
    """
    table = Counter(pairs)
    total = sum(table.values())
    agreed = sum(count for (a, b), count in table.items() if a == b)
    if not total:
        return Agreement(0, 0, None)
    first, second = Counter[str](), Counter[str]()
    for (a, b), count in table.items():
        first[a] += count
        second[b] += count
    chance = sum(first[answer] * second[answer] for answer in first) / total**2
    kappa = (agreed / total - chance) / (1 - chance) if chance < 1 else None
    return Agreement(total, agreed, kappa)


@dataclass(frozen=True)
class Agreements:
    overall: Agreement
    # By the two reviewers, in the order of their names.
    pairs: dict[tuple[str, str], Agreement]


def agreements(*, days: int = 90) -> Agreements:
    """How far first and second opinions agree: over all, and for each two reviewers who looked at the same flags."""
    since = timezone.now() - dt.timedelta(days=days)
    seconds = live_outcomes(Kind.SECOND).filter(created_at__gte=since).exclude(of_review=None)
    given = list(seconds.values_list("of_review", "reviewer", "decision"))
    wanted = live_outcomes(Kind.FLAG).filter(review__in=[row[0] for row in given])
    firsts = {r: (who, what) for r, who, what in wanted.values_list("review", "reviewer", "decision")}
    answers = [(*firsts[r], who, what) for r, who, what in given if r in firsts]
    by_pair: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for who, what, other, said in answers:
        # Always the same of the two first, so that the two rows of a table are two people.
        by_pair[min((who, other), (other, who))].append((what, said) if who <= other else (said, what))
    return Agreements(
        cohens_kappa((what, said) for _, what, _, said in answers),
        {pair: cohens_kappa(pairs) for pair, pairs in sorted(by_pair.items())},
    )


# --- Precision ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Precision:
    """Of `decided` flags of a rule people confirmed `confirmed`: labelled or blocked the item."""

    rule: str
    decided: int
    confirmed: int

    @property
    def precision(self) -> float | None:
        return self.confirmed / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float] | None:
        return wilson(self.confirmed, self.decided)


def wilson(hits: int, total: int, z: float = Z95) -> tuple[float, float] | None:
    """The Wilson score interval of a share, 95 % by default; None of nothing."""
    if not total:
        return None
    share, spread = hits / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def precisions(*, days: int = 90) -> list[Precision]:
    """Per rule, what people made of its flags; of one about which two disagreed, what the third said."""
    since = timezone.now() - dt.timedelta(days=days)
    overruled = live_outcomes(Kind.FLAG).exclude(of_review=None).order_by().values("of_review")
    rows = live_outcomes(Kind.FLAG).filter(created_at__gte=since).exclude(review__in=overruled)
    counts: dict[str, Counter[bool]] = defaultdict(Counter)
    grouped = rows.order_by().values("rule", "decision").annotate(count=Count("id"))
    for rule, decision, count in grouped.values_list("rule", "decision", "count"):
        counts[rule][decision != ALLOW] += count
    return [Precision(rule, found.total(), found[True]) for rule, found in sorted(counts.items())]


# --- For calibration ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """A detector's score of one item, and whether people found something in it."""

    audit: uuid.UUID
    score: float
    violating: bool


def labelled_scores(
    tenant_id: uuid.UUID, *, detector: str, category: str = "", rules: Collection[str] = ()
) -> Iterator[Labelled]:
    """Every score of a detector beside what people decided, in batches of short scopes and a flat memory.

    The score is the one that the detector estimates of the whole item or, with `category`, of that category.
    `rules`: only flags of these, so that a detector is not judged by what another one saw.
    """
    for case, document in decided_evidence(tenant_id):
        decided = [o.decision for o in case.counted() if not rules or o.rule in rules]
        score = _score(document, detector, category)
        if decided and score is not None:
            yield Labelled(case.audit.id, score, strongest(decided) != ALLOW)


def decided_evidence(tenant_id: uuid.UUID) -> Iterator[tuple[Case, Mapping[str, Any]]]:
    """Audits with a decided flag, and what they saw, the oldest first; in batches of short scopes and a flat memory."""
    last = uuid.UUID(int=0)
    while True:
        with tenant_scope(tenant_id):
            audits = _next_decided(last)
            cases = read_cases(audits)
            kept = Evidence.objects.filter(audit__in=audits).order_by("audit_id")
            found = [(cases[audit], document) for audit, document in kept.values_list("audit_id", "document")]
        if not audits:
            return
        last = audits[-1]
        yield from found


def _next_decided(after: uuid.UUID) -> list[uuid.UUID]:
    flags = Review.objects.filter(kind=Kind.FLAG, state=Review.State.DECIDED, audit__gt=after)
    return list(flags.order_by("audit_id").values_list("audit_id", flat=True).distinct()[:BATCH])


def _score(document: Mapping[str, Any], detector: str, category: str) -> float | None:
    if category:
        found = document["categories"].get(category) or {}
        return found.get("score") if found.get("detector") == detector else None
    scores = [part["score"] for part in document["detectors"] if part["name"] == detector]
    return scores[0] if scores else None
