"""What rules would do, told at once: counted on the newest audits, beside what is in force.

A backtest looks at the whole history, as a job; this is for somebody who waits. It looks at the newest `SAMPLE` audits
whose evidence is kept, or at as many of them as there is time for, and says how many these were.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.db import OperationalError, connection

from tenants.moderation.models import PolicyActivation, PolicyVersion
from tenants.moderation.policies.services import deciding_version, newest
from tenants.moderation.rules.decision import Compiled, Decision, compile_policy
from tenants.moderation.rules.document import ALLOW, DECISIONS
from tenants.scope import current_tenant_id, tenant_scope

SAMPLE, BATCH, SAMPLES = 1_200, 200, 10

#: No further batch is begun after so long, and no statement takes longer.
PATIENCE_S = 2.0

_NEWEST = """
SELECT e.id, e.audit_id, a.sha256, a.modality, e.document::text
FROM audit_evidence e JOIN audit a ON a.tenant_id = e.tenant_id AND a.id = e.audit_id
WHERE e.tenant_id = %s AND (%s::uuid IS NULL OR e.id < %s::uuid)
ORDER BY e.id DESC LIMIT %s
"""

#: The policy that decides about an item of this modality and SHA-256, or None where nothing does: it is left alone.
Regime = Callable[[str, str], Compiled | None]


@dataclass
class RuleCount:
    fired: int = 0
    unclear: int = 0


@dataclass
class RecentCount:
    """`audits` were looked at; `hurried` if there are more of the newest `SAMPLE`, for which time was too short.

    `decisions`: how many of each under the regime that is tried; `before` under the one that it is compared with.
    `changes` from (before, after) to how many, and `samples` to the newest of them, as ids of audits. `rules` of the
    regime that is tried, by id.
    """

    audits: int = 0
    hurried: bool = False
    decisions: Counter[str] = field(default_factory=Counter)
    before: Counter[str] = field(default_factory=Counter)
    rules: dict[str, RuleCount] = field(default_factory=dict)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    samples: dict[tuple[str, str], list[uuid.UUID]] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        return self.changes.total()

    @property
    def rows(self) -> list[tuple[str, int, int]]:
        """Each decision, the strictest first, with how many before and now."""
        return [(name, self.before[name], self.decisions[name]) for name in reversed(DECISIONS)]

    def count(self, audit_id: uuid.UUID, tried: Decision | None, beside: Decision | None) -> None:
        self.audits += 1
        before, after = (one.decision if one else ALLOW for one in (beside, tried))
        self.decisions[after] += 1
        self.before[before] += 1
        for name in tried.rules if tried else ():
            self.rules.setdefault(name, RuleCount()).fired += 1
        for name in tried.unclear if tried else ():
            self.rules.setdefault(name, RuleCount()).unclear += 1
        if before != after:
            self.changes[before, after] += 1
            kept = self.samples.setdefault((before, after), [])
            if len(kept) < SAMPLES:
                kept.append(audit_id)


def regime_of_document(document: Mapping[str, Any]) -> Regime:
    """As if this document, in normal form, were in force for every item."""
    policy = compile_policy(document)
    modalities = document.get("modalities")
    return lambda modality, sha256: policy if not modalities or modality in modalities else None


def regime_of(rows: Mapping[uuid.UUID, PolicyActivation]) -> Regime:
    """By what holds, or would hold: `newest()`, or what `after_activation` and `after_roll_back` say."""
    named = {version for row in rows.values() for version in (row.enforced_id, row.rest_id) if version}
    documents = PolicyVersion.objects.filter(pk__in=named).values_list("id", "document")
    regimes = {version_id: regime_of_document(document) for version_id, document in documents}

    def decides(modality: str, sha256: str) -> Compiled | None:
        version_id = deciding_version(rows, sha256)
        return regimes[version_id](modality, sha256) if version_id in regimes else None

    return decides


def regime_in_force() -> Regime:
    return regime_of(newest())


def count_recent(tenant_id: uuid.UUID, tried: Regime, beside: Regime) -> RecentCount:
    """What `tried` would decide about the newest audits, beside another regime. Opens its own, short scopes."""
    found = RecentCount()
    until = time.monotonic() + PATIENCE_S
    after: uuid.UUID | None = None
    while found.audits < SAMPLE:
        if time.monotonic() > until:
            found.hurried = True
            break
        try:
            rows = _batch(tenant_id, after)
        except OperationalError:
            # The statement took longer than anybody waits.
            found.hurried = True
            break
        for audit_id, sha256, modality, evidence in _readable(rows):
            policies = tried(modality, sha256), beside(modality, sha256)
            first = policies[0].decide(evidence) if policies[0] else None
            second = (
                first if policies[1] is policies[0] else policies[1].decide(evidence) if policies[1] else None
            )
            found.count(audit_id, first, second)
        if len(rows) < BATCH:
            break
        after = rows[-1][0]
    return found


def _batch(tenant_id: uuid.UUID, after: uuid.UUID | None) -> list[tuple[Any, ...]]:
    with tenant_scope(tenant_id), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(int(PATIENCE_S * 1000))])
        cursor.execute(_NEWEST, [current_tenant_id(), after, after, BATCH])
        return list(cursor.fetchall())


def _readable(rows: list[tuple[Any, ...]]) -> Iterator[tuple[uuid.UUID, str, str, dict[str, Any]]]:
    for _id, audit_id, sha256, modality, document in rows:
        try:
            evidence = msgspec.json.decode(document)
        except (msgspec.DecodeError, RecursionError):
            continue
        yield audit_id, sha256, modality, evidence if isinstance(evidence, dict) else {}


# --- Two documents beside each other ---------------------------------------------------------------------


@dataclass(frozen=True)
class RuleChange:
    """`state`: added, removed, changed, or moved where only its place among the others is another."""

    id: str
    state: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True)
class DocumentChange:
    rules: list[RuleChange]
    #: Names of the other fields that differ, such as `thresholds`.
    fields: list[str]


def compare_documents(before: Mapping[str, Any], after: Mapping[str, Any]) -> DocumentChange:
    """What one document in normal form says otherwise than another; an empty one is no policy at all."""
    old, new = ({rule["id"]: rule for rule in one.get("rules", ())} for one in (before, after))
    common = [name for name in new if name in old]
    moved = _moved([name for name in old if name in new], common)
    changes = [
        RuleChange(name, state, old.get(name), rule)
        for name, rule in new.items()
        if (
            state := "added"
            if name not in old
            else "changed"
            if rule != old[name]
            else "moved"
            if name in moved
            else ""
        )
    ]
    changes += [RuleChange(name, "removed", rule, None) for name, rule in old.items() if name not in new]
    named = dict.fromkeys((*before, *after))
    return DocumentChange(
        changes, [name for name in named if name != "rules" and before.get(name) != after.get(name)]
    )


def _moved(old: list[str], new: list[str]) -> set[str]:
    """Those that stand elsewhere: all but the longest run that is in one order in both."""
    place = {name: at for at, name in enumerate(old)}
    longest: list[list[str]] = []
    for name in new:
        best = max((run for run in longest if place[run[-1]] < place[name]), key=len, default=[])
        longest.append([*best, name])
    kept = max(longest, key=len, default=[])
    return set(new) - set(kept)
