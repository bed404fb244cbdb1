"""Webhooks' events about reviews: ids and decisions, never reasons or content."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tenants.events import webhooks
from tenants.moderation.models import Outcome, Review


def opened(reviews: Iterable[Review]) -> None:
    """Somebody is asked: about a flag, for a second opinion, by an appeal, or again after an undoing."""
    webhooks.emit_all("review.opened", map(_named, reviews))


def decided(review: Review, outcome: Outcome) -> None:
    webhooks.emit("review.decided", {**_named(review), "outcome": outcome.id, "decision": outcome.decision})


def _named(review: Review) -> dict[str, Any]:
    return {
        "review": review.id,
        "audit": review.audit_id,
        "asset": review.asset_id,
        "kind": str(review.kind),
        "rule": review.rule,
    }
