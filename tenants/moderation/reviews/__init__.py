"""Reviews of flags by people: the queue, deciding one or many, appeals, taking back, what follows, and figures."""

from tenants.moderation.reviews.services import (
    APPEAL_DECISIONS,
    DECISIONS,
    MAX_LABEL,
    MAX_LABELS,
    MAX_REASON,
    decide_appeal,
    decide_review,
    get_appeal,
    get_outcome,
    is_waiting,
    list_appeals,
    open_appeal,
    open_reviews,
    undo_batch,
    undo_outcome,
)

__all__ = [
    "APPEAL_DECISIONS",
    "DECISIONS",
    "MAX_LABEL",
    "MAX_LABELS",
    "MAX_REASON",
    "decide_appeal",
    "decide_review",
    "get_appeal",
    "get_outcome",
    "is_waiting",
    "list_appeals",
    "open_appeal",
    "open_reviews",
    "undo_batch",
    "undo_outcome",
]
