"""The record of decisions: append-only lines of ids, sealed by a chain of digests, and exports of it."""

from tenants.moderation.record.lines import (
    APPEAL_DECIDED,
    APPEAL_OPENED,
    REVIEW_DECIDED,
    REVIEW_UNDONE,
    RecordLine,
    append,
    append_all,
    canonical,
    digest_line,
    digest_of,
    list_records,
    record_as_dict,
)

__all__ = [
    "APPEAL_DECIDED",
    "APPEAL_OPENED",
    "REVIEW_DECIDED",
    "REVIEW_UNDONE",
    "RecordLine",
    "append",
    "append_all",
    "canonical",
    "digest_line",
    "digest_of",
    "list_records",
    "record_as_dict",
]
