"""A version tried on the tenant's history: what would have changed, and audits to look at.

The job reads stored evidence in batches by key, decides outside of any transaction, and keeps how far it has come after
each batch: a job that is killed goes on from there, and memory stays flat. What is compared is the decision of the
policy at the time, not what people made of it.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.errors import Conflict, NotFound
from tenants.events.services import record as log_event
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.moderation.models import Audit, Backtest, Evidence, PolicyVersion
from tenants.moderation.rules.decision import Compiled, Decision, Rule, compile_policy
from tenants.scope import current_tenant_id, tenant_scope

BATCH, SAMPLES, AT_ONCE = 250, 20, 4

#: After so long others of the queue come in between.
TURN_S = 30.0

_NOTHING = uuid.UUID(int=0)


_SPAN = "SELECT count(*), max(id::text) FROM audit_evidence WHERE tenant_id = %s"

_BATCH = """
SELECT e.id, e.audit_id, a.decision, e.document::text
FROM audit_evidence e JOIN audit a ON a.tenant_id = e.tenant_id AND a.id = e.audit_id
WHERE e.tenant_id = %s AND e.id > %s AND e.id <= %s
ORDER BY e.id LIMIT %s
"""


def start_backtest(*, version: PolicyVersion, actor: str = "") -> Job:
    """Queue the job. Raises Conflict where as many as may run at once are under way."""
    with tenant_scope(current_tenant_id()):
        if Job.objects.filter(jobs.UNFINISHED, kind="backtest_policy").count() >= AT_ONCE:
            raise Conflict(
                _("%(at_once)s backtests are in progress; wait for one of them, or cancel it.")
                % {"at_once": AT_ONCE}
            )
        total, until = _span()
        job = jobs.enqueue(
            kind="backtest_policy",
            arguments={"version": str(version.id)},
            total=max(1, total),
            reserve={},
        )
        state = BacktestCounter(total=total, until=str(until)).as_state()
        Backtest.objects.create(version=version, job_id=job.id, state=state, created_by=actor)
        details = {"version": version.number, "job": str(job.id)}
        log_event(actor=actor, verb="policy.backtested", target=str(version.policy_id), details=details)
        return job


def _span() -> tuple[int, uuid.UUID]:
    """How many audits have evidence, and the last of them: what comes later is not looked at."""
    with connection.cursor() as cursor:
        cursor.execute(_SPAN, [current_tenant_id()])
        count, last = cursor.fetchone()
    return int(count), uuid.UUID(last) if last else _NOTHING


@job("backtest_policy", queue="default", label=gettext_lazy("Try a policy on the history"), kept=True)
def backtest_policy(claimed: jobs.Claim) -> None:
    """Go through the history from where an earlier try has come to. Raises LeaseLost, Cancelled."""
    begun = time.monotonic()
    with tenant_scope(claimed.tenant_id):
        row = Backtest.objects.select_related("version").get(job_id=claimed.job_id)
    policy, tally = compile_policy(row.version.document), BacktestCounter.of(row.state)
    while True:
        cpu = time.thread_time()
        with tenant_scope(claimed.tenant_id):
            batch = _batch(tally)
        if not batch:
            break
        for audit_id, decided, document in batch:
            tally.count(policy, audit_id, decided, document)
        with tenant_scope(claimed.tenant_id):
            total = max(tally.total, tally.done)
            jobs.progress(claimed, done=tally.done, total=total, failed=tally.unreadable, renew=True)
            jobs.spend(claimed, cpu_s=time.thread_time() - cpu)
            Backtest.objects.filter(pk=row.pk).update(state=tally.as_state())
        if time.monotonic() - begun > TURN_S:
            jobs.give_turn(claimed)
            return
    with tenant_scope(claimed.tenant_id):
        result = tally.result(row.version.number)
        jobs.succeed(claimed, result=result, cpu_s=0, gpu_s=0, used={})
        Backtest.objects.filter(pk=row.pk).update(state=tally.as_state(), finished_at=timezone.now())


def _batch(tally: BacktestCounter) -> list[tuple[uuid.UUID, str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(_BATCH, [current_tenant_id(), tally.after, tally.until, BATCH])
        rows = cursor.fetchall()
    if rows:
        tally.after = str(rows[-1][0])
    return [(audit_id, decided, document) for _, audit_id, decided, document in rows]


@dataclass
class BacktestCounter:
    """What has been counted. `matrix` from `old>new` to how many; `rules` from a rule's id to how often it `fired`, was
    `unclear`, and stood in a `changed` decision; `samples` from a change to the audits with the smallest digests."""

    total: int = 0
    until: str = str(_NOTHING)
    after: str = str(_NOTHING)
    done: int = 0
    unreadable: int = 0
    matrix: dict[str, int] = field(default_factory=dict)
    rules: dict[str, dict[str, int]] = field(default_factory=dict)
    samples: dict[str, list[list[str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> BacktestCounter:
        return cls(**state)

    def as_state(self) -> dict[str, object]:
        return dict(vars(self))

    def count(self, policy: Compiled, audit_id: uuid.UUID, decided: str, document: str) -> None:
        self.done += 1
        try:
            evidence = msgspec.json.decode(document)
        except (msgspec.DecodeError, RecursionError):
            self.unreadable += 1
            return
        decision = policy.decide(evidence if isinstance(evidence, dict) else {})
        change = f"{decided}>{decision.decision}"
        self.matrix[change] = self.matrix.get(change, 0) + 1
        changed = decided != decision.decision
        for rule in decision.rules:
            self._rule(rule, "fired")
            if changed:
                self._rule(rule, "changed")
        for rule in decision.unclear:
            self._rule(rule, "unclear")
        if changed:
            self._sample(change, str(audit_id))

    def _rule(self, rule: str, what: str) -> None:
        counts = self.rules.setdefault(rule, {"fired": 0, "unclear": 0, "changed": 0})
        counts[what] += 1

    def _sample(self, change: str, audit_id: str) -> None:
        """Keep the smallest digests: spread over the whole history, and the same audits every time."""
        kept = self.samples.setdefault(change, [])
        drawn = hashlib.blake2b(audit_id.encode(), digest_size=8).hexdigest()
        if len(kept) < SAMPLES or drawn < kept[-1][0]:
            kept.append([drawn, audit_id])
            kept.sort()
            del kept[SAMPLES:]

    def result(self, number: int) -> dict[str, Any]:
        """In the shape of the API."""
        changes = [{**_pair(change), "count": count} for change, count in sorted(self.matrix.items())]
        return {
            "version": number,
            "audits": self.done,
            "changed": sum(change["count"] for change in changes if change["from"] != change["to"]),
            "unreadable": self.unreadable,
            "changes": changes,
            "rules": [{"id": rule, **counts} for rule, counts in sorted(self.rules.items())],
            "samples": [
                {**_pair(change), "audits": [audit_id for _, audit_id in kept]}
                for change, kept in sorted(self.samples.items())
            ],
        }


def _pair(change: str) -> dict[str, object]:
    before, _, after = change.partition(">")
    return {"from": before, "to": after}


FIRED, SILENT, UNCLEAR, NOT_ASKED = "fired", "silent", "unclear", "not_asked"

MAX_SEEN, MAX_TEXT = 12, 120


@dataclass(frozen=True)
class RuleOutcome:
    """A rule: its `state`, and what it reads, as far as that is a single value or a list's length."""

    id: str
    then: str
    reason: str
    state: str
    seen: list[tuple[str, str]]


@dataclass(frozen=True)
class Trial:
    """`decision` is what the document decides, beside `audit.decision`, which was decided then."""

    audit: Audit
    decision: Decision
    lines: list[RuleOutcome]


def try_document(*, document: Mapping[str, object], audit: Audit) -> Trial:
    """`document` in normal form. Raises NotFound where the audit's evidence was erased."""
    evidence = Evidence.objects.filter(audit=audit).values_list("document", flat=True).first()
    if evidence is None:
        raise NotFound(_("The evidence of this audit was erased, so nothing can be tried on it."))
    policy = compile_policy(document)
    decision = policy.decide(evidence)
    seen = {**evidence, "categories": policy.judged(evidence.get("categories"))}
    states = _states(policy, decision)
    lines = [_line(rule, state, seen) for rule, state in zip(policy.rules, states, strict=True)]
    return Trial(audit, decision, lines)


def _states(policy: Compiled, decision: Decision) -> list[str]:
    fired, unclear, states, stopped = set(decision.rules), set(decision.unclear), [], False
    for rule in policy.rules:
        name = rule.fired.id
        state = FIRED if name in fired else UNCLEAR if name in unclear else SILENT
        states.append(NOT_ASKED if stopped else state)
        stopped = stopped or (rule.stop and state == FIRED)
    return states


def _line(rule: Rule, state: str, evidence: Mapping[str, Any]) -> RuleOutcome:
    paths = sorted(rule.expression.inspection.paths) if rule.expression else []
    seen = [
        (".".join(path), _format_value(evidence, path))
        for path in paths
        if "*" not in path and "" not in path
    ]
    return RuleOutcome(rule.fired.id, rule.fired.then, rule.fired.reason, state, seen[:MAX_SEEN])


def _format_value(evidence: Mapping[str, object], path: tuple[str, ...]) -> str:
    value: object = evidence
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, list):
        return f"[{len(value)}]"
    if isinstance(value, Mapping):
        return "{…}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:MAX_TEXT]
