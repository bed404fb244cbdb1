"""The record as CSV and JSON lines, and statements of reasons as the Digital Services Act asks for them."""

from __future__ import annotations

import csv
import datetime as dt
import heapq
import io
import json
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import QuerySet
from django.utils import translation

from tenants.datasets.models import Asset
from tenants.moderation.audits.explanations import explain
from tenants.moderation.models import Audit, Evidence, Outcome, PolicyVersion, Record, Review
from tenants.moderation.record.lines import record_as_dict
from tenants.moderation.reviews.cases import BLOCK, ENFORCE, LABEL, STRENGTH, last_appeal_day
from tenants.scope import tenant_scope

AT_ONCE = 1_000

COLUMNS = (
    "sequence",
    "created_at",
    "kind",
    "audit",
    "item",
    "subject",
    "policy_version",
    "decision",
    "actor",
    "payload_digest",
    "digest",
)

# What a spreadsheet would take for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Span:
    """From the day `since` to the day `until`, both included, in UTC; None leaves an end open."""

    since: dt.date | None = None
    until: dt.date | None = None

    def conditions(self, field: str = "created_at") -> dict[str, dt.datetime]:
        found = {}
        if self.since is not None:
            found[f"{field}__gte"] = _midnight(self.since)
        if self.until is not None:
            found[f"{field}__lt"] = _midnight(self.until) + dt.timedelta(days=1)
        return found


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def record_csv(tenant_id: uuid.UUID, span: Span) -> Iterator[bytes]:
    yield _table([COLUMNS])
    for rows in _batches(tenant_id, span):
        yield _table([[_cell(shown[name]) for name in COLUMNS] for shown in map(record_as_dict, rows)])


def record_json_lines(tenant_id: uuid.UUID, span: Span) -> Iterator[bytes]:
    for rows in _batches(tenant_id, span):
        yield "".join(json_line(record_as_dict(row)) for row in rows).encode()


def json_line(shown: dict[str, object]) -> str:
    return json.dumps(shown, ensure_ascii=False, default=_text) + "\n"


def _batches(tenant_id: uuid.UUID, span: Span) -> Iterator[list[Record]]:
    last = 0
    while True:
        with tenant_scope(tenant_id):
            rows = Record.objects.filter(sequence__gt=last, **span.conditions())
            found = list(rows.order_by("sequence")[:AT_ONCE])
        if not found:
            return
        last = found[-1].sequence
        yield found


def _cell(value: object) -> str:
    text = "" if value is None else _text(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


def _table(rows: Any) -> bytes:
    sink = io.StringIO()
    csv.writer(sink).writerows(rows)
    return sink.getvalue().encode()


STATEMENTS_AT_ONCE = 500

MAX_TEXT = 2_000

RESTRICTIONS = {
    # Nobody finds it any more; its bytes are kept, so that it can be taken back.
    BLOCK: "DECISION_VISIBILITY_CONTENT_DISABLED",
    LABEL: "DECISION_VISIBILITY_CONTENT_LABELLED",
}

CONTENT_TYPES = {
    "text": "CONTENT_TYPE_TEXT",
    "image": "CONTENT_TYPE_IMAGE",
    "audio": "CONTENT_TYPE_AUDIO",
    "video": "CONTENT_TYPE_VIDEO",
}

OTHER = "STATEMENT_CATEGORY_OTHER_VIOLATION_TC"

CATEGORIES: dict[str, tuple[str, str]] = {
    "abuse": ("STATEMENT_CATEGORY_CYBER_VIOLENCE", "KEYWORD_CYBER_HARASSMENT"),
    "hate": ("STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH", "KEYWORD_HATE_SPEECH"),
    "insult": ("STATEMENT_CATEGORY_CYBER_VIOLENCE", "KEYWORD_CYBER_HARASSMENT"),
    "threat": ("STATEMENT_CATEGORY_VIOLENCE", ""),
    "personal_data": ("STATEMENT_CATEGORY_DATA_PROTECTION_AND_PRIVACY_VIOLATIONS", ""),
    "self_harm": ("STATEMENT_CATEGORY_SELF_HARM", ""),
    "violence": ("STATEMENT_CATEGORY_VIOLENCE", ""),
    "sexual": (OTHER, "KEYWORD_ADULT_SEXUAL_MATERIAL"),
    "nudity": (OTHER, "KEYWORD_NUDITY"),
}


@dataclass(frozen=True)
class IllegalContentRules:
    """The rules that are about illegal content, and the law that it breaks."""

    rules: Collection[str] = ()
    law: str = ""


@dataclass(frozen=True)
class Restriction:
    """One decision that restricted an item: by the policy alone, or by a person."""

    id: uuid.UUID
    audit: Audit
    decision: str
    at: dt.datetime
    rules: tuple[str, ...]
    by_person: bool
    ended: dt.datetime | None


def statements_of(
    tenant_id: uuid.UUID, span: Span, illegal: IllegalContentRules = IllegalContentRules()
) -> Iterator[bytes]:
    """Every statement of a span of days, in the order of the decisions, with flat memory."""
    merged = heapq.merge(
        _batched(tenant_id, lambda after: _by_policy(after, span), illegal),
        _batched(tenant_id, lambda after: _by_people(after, span), illegal),
        key=lambda found: found[0],
    )
    for _, statement in merged:
        yield json_line(statement).encode()


def _batched(
    tenant_id: uuid.UUID, read: Any, illegal: IllegalContentRules
) -> Iterator[tuple[int, dict[str, object]]]:
    last = uuid.UUID(int=0)
    while True:
        with tenant_scope(tenant_id):
            rows, found = read(last)
            statements = _statements(found, illegal)
        # Ids begin with the time at which they were made.
        yield from zip((r.id.int for r in found), statements, strict=True)
        if not rows:
            return
        last = rows[-1].id


# --- What restricted something -----------------------------------------------------------------------------


def _by_policy(after: uuid.UUID, span: Span) -> tuple[list[Audit], list[Restriction]]:
    audits = Audit.objects.filter(
        pk__gt=after, mode=ENFORCE, decision__in=list(RESTRICTIONS), **span.conditions()
    )
    rows = list(audits.order_by("id")[:STATEMENTS_AT_ONCE])
    later = _outcomes_of(audit.item or audit.id for audit in rows)
    return rows, [
        Restriction(
            audit.id,
            audit,
            audit.decision,
            audit.created_at,
            tuple(audit.rules),
            False,
            _ended(audit.decision, audit.id, later.get(audit.item or audit.id, ())),
        )
        for audit in rows
    ]


def _by_people(after: uuid.UUID, span: Span) -> tuple[list[Outcome], list[Restriction]]:
    decided = Outcome.objects.filter(
        pk__gt=after, undoes=None, decision__in=list(RESTRICTIONS), **span.conditions()
    )
    rows = list(decided.exclude(kind=Review.Kind.SECOND).order_by("id")[:STATEMENTS_AT_ONCE])
    audits = Audit.objects.in_bulk({row.audit for row in rows})
    later = _outcomes_of(row.item for row in rows)
    return rows, [
        Restriction(
            row.id,
            audits[row.audit],
            row.decision,
            row.created_at,
            (row.rule,) if row.kind == Review.Kind.FLAG else tuple(audits[row.audit].rules),
            True,
            _ended(row.decision, row.id, later.get(row.item, ())),
        )
        for row in rows
        if audits[row.audit].mode == ENFORCE and row.decision != row.before
    ]


def _outcomes_of(items: Iterable[uuid.UUID]) -> Mapping[uuid.UUID, list[Outcome]]:
    """Undone decisions and appeals, which alone make a restriction weaker."""
    found: dict[uuid.UUID, list[Outcome]] = {}
    for outcome in Outcome.objects.filter(item__in=set(items)).order_by("id"):
        if outcome.undoes or outcome.kind == Review.Kind.APPEAL:
            found.setdefault(outcome.item, []).append(outcome)
    return found


def _ended(decision: str, decision_id: uuid.UUID, later: Iterable[Outcome]) -> dt.datetime | None:
    weaker = (o for o in later if o.id > decision_id and STRENGTH[o.decision] < STRENGTH[decision])
    return next((outcome.created_at for outcome in weaker), None)


# --- As statements -----------------------------------------------------------------------------------------


def _statements(found: list[Restriction], illegal: IllegalContentRules) -> list[dict[str, object]]:
    audits = {one.audit.id: one.audit for one in found}
    evidence = dict(Evidence.objects.filter(audit__in=audits).values_list("audit_id", "document"))
    versions = _versions(audits.values())
    items = [audit.item for audit in audits.values() if audit.item]
    dates = dict(Asset.objects.filter(pk__in=items).values_list("pk", "created_at"))
    return [
        statement_of_reasons(
            one,
            evidence.get(one.audit.id) or {},
            versions.get(one.audit.policy_version),
            dates.get(one.audit.item, one.audit.created_at),
            illegal,
        )
        for one in found
    ]


def _versions(audits: Iterable[Audit]) -> dict[uuid.UUID | None, PolicyVersion]:
    wanted = {audit.policy_version for audit in audits if audit.policy_version}
    rows: QuerySet[PolicyVersion] = PolicyVersion.objects.select_related("policy").filter(pk__in=wanted)
    return {version.id: version for version in rows}


def statement_of_reasons(
    one: Restriction,
    evidence: Mapping[str, object],
    version: PolicyVersion | None,
    content_date: dt.datetime,
    illegal: IllegalContentRules,
) -> dict[str, object]:
    category, keyword = category_of(evidence)
    shown = {
        "puid": str(one.id),
        "decision_visibility": [RESTRICTIONS[one.decision]],
        **_ground(one, version, illegal),
        "category": category,
        "content_type": _content_types(one.audit),
        "content_date": content_date.date().isoformat(),
        "application_date": one.at.date().isoformat(),
        "decision_facts": _fact_sentence(one, version, evidence.get("reasoning")),
        # Found by looking oneself, not by a notice.
        "source_type": "SOURCE_VOLUNTARY",
        "automated_detection": "Yes",
        "automated_decision": "AUTOMATED_DECISION_NOT_AUTOMATED"
        if one.by_person
        else "AUTOMATED_DECISION_FULLY",
    }
    if keyword:
        shown["category_specification"] = [keyword]
    if one.ended is not None:
        shown["end_date_visibility_restriction"] = one.ended.date().isoformat()
    return shown


def _ground(
    one: Restriction, version: PolicyVersion | None, illegal: IllegalContentRules
) -> dict[str, object]:
    rules = {rule["id"]: rule for rule in (version.document.get("rules", ()) if version else ())}
    why = " ".join(str(rules[name].get("reason", "")) for name in one.rules if name in rules).strip()
    why = (why or "The content policy of this service.")[:MAX_TEXT]
    if set(one.rules) & set(illegal.rules):
        return {
            "decision_ground": "DECISION_GROUND_ILLEGAL_CONTENT",
            "illegal_content_legal_ground": illegal.law[:500],
            "illegal_content_explanation": why,
        }
    name = f"{version.policy.name}, version {version.number}" if version else "Content policy"
    return {
        "decision_ground": "DECISION_GROUND_INCOMPATIBLE_CONTENT",
        "incompatible_content_ground": name[:500],
        "incompatible_content_explanation": why,
        "incompatible_content_illegal": "No",
    }


def _content_types(audit: Audit) -> list[str]:
    kinds = [CONTENT_TYPES.get(audit.modality, "CONTENT_TYPE_OTHER")]
    return [*kinds, "CONTENT_TYPE_SYNTHETIC_MEDIA"] if audit.verdict == "likely_synthetic" else kinds


def category_of(evidence: Mapping[str, Any]) -> tuple[str, str]:
    """Category and keyword of the flagged category with the highest score; `other` where none is, or none fits."""
    categories = evidence.get("categories") or {}
    flagged = [(found.get("score") or 0, name) for name, found in categories.items() if found.get("flagged")]
    return CATEGORIES.get(max(flagged)[1], (OTHER, "")) if flagged else (OTHER, "")


def _fact_sentence(one: Restriction, version: PolicyVersion | None, reasoning: Any) -> str:
    how = "A person looked at it and decided." if one.by_person else "It was decided automatically."
    rules = f" Rules: {', '.join(one.rules)}." if one.rules else ""
    until = last_appeal_day(one.at, version.document) if version else None
    appeal = f" An appeal can be made until {until.isoformat()} (UTC)." if until else ""
    why = ""
    if isinstance(reasoning, dict):
        with translation.override("en"):
            told = explain(reasoning, public=True)
        # Not what would change it: statements are published.
        why = "".join(f" {line}" for line in replace(told, otherwise=[]).sentences())
    facts = f"The item was examined automatically under the content policy.{rules} {how}{why}"
    return facts[: MAX_TEXT - len(appeal)] + appeal
