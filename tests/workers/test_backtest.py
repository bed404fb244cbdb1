"""The backtest's task on the real database: what it counts, killed half-way, cancelled, and apart for each tenant."""

from __future__ import annotations

import json
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tenants.errors import Conflict
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.moderation import policies
from tenants.moderation.models import Backtest, Evidence, PolicyVersion
from tenants.moderation.policies import backtests
from tenants.scope import tenant_scope
from tests.tenants.policy_world import category, document, evidence, new_audit, new_policy, rule
from workers.base import run_job

ABUSE = rule("abuse", "categories.abuse.flagged", "block")
NUDITY = rule("nudity", "categories.nudity.score > 0.5", "review")


@pytest.fixture
def version(party: Any) -> PolicyVersion:
    """A policy, with a history of ten audits: four abusive ones, of which one was blocked."""
    with tenant_scope(party.id):
        for place in range(10):
            nudity = {"nudity": category(None, "not_examined")} if place >= 5 else {}
            abuse = {"abuse": category(0.9)} if place < 4 else {}
            new_audit(evidence(categories={**abuse, **nudity}), "block" if place == 0 else "allow")
        return new_policy(ABUSE, NUDITY).versions.get()


def start(party: Any, version: PolicyVersion) -> Job:
    with tenant_scope(party.id):
        return backtests.start_backtest(version=version, actor="key:x")


def run(party: Any, job: Job) -> Job:
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        return Job.objects.get(pk=job.id)


def test_it_tells_what_would_have_changed(party: Any, version: PolicyVersion) -> None:
    job = run(party, start(party, version))
    assert (job.state, job.progress_done, job.progress_total, job.progress_failed) == ("succeeded", 10, 10, 0)
    result = job.result
    assert (result["version"], result["audits"], result["changed"], result["unreadable"]) == (1, 10, 3, 0)
    assert result["changes"] == [
        {"from": "allow", "to": "allow", "count": 6},
        {"from": "allow", "to": "block", "count": 3},
        {"from": "block", "to": "block", "count": 1},
    ]
    assert result["rules"] == [
        {"id": "abuse", "fired": 4, "unclear": 0, "changed": 3},
        {"id": "nudity", "fired": 0, "unclear": 5, "changed": 0},
    ]
    assert [(sample["from"], sample["to"], len(sample["audits"])) for sample in result["samples"]] == [
        ("allow", "block", 3)
    ]
    with tenant_scope(party.id):
        assert Backtest.objects.get(job_id=job.id).finished_at is not None


def test_thresholds_of_the_draft_are_what_flags(party: Any, version: PolicyVersion) -> None:
    with tenant_scope(party.id):
        lax, _ = policies.add_version(
            policy_id=version.policy_id, document=document(ABUSE, thresholds={"abuse": 0.95})
        )
    assert run(party, start(party, lax)).result["changes"] == [
        {"from": "allow", "to": "allow", "count": 9},
        {"from": "block", "to": "allow", "count": 1},
    ]


def test_nothing_to_look_at(party: Any) -> None:
    with tenant_scope(party.id):
        version = new_policy(ABUSE).versions.get()
    job = run(party, start(party, version))
    assert (job.state, job.result["audits"], job.result["changes"]) == ("succeeded", 0, [])


@pytest.mark.guard
def test_a_killed_one_goes_on_where_it_was(
    party: Any, version: PolicyVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(party, start(party, version)).result
    monkeypatch.setattr(backtests, "BATCH", 3)
    job = start(party, version)
    looked_at: list[str] = []
    count = backtests.BacktestCounter.count

    def dies(tally: Any, *args: Any) -> None:
        looked_at.append(str(args[1]))
        if len(looked_at) == 5:
            raise SystemExit("killed")
        count(tally, *args)

    monkeypatch.setattr(backtests.BacktestCounter, "count", dies)
    with pytest.raises(SystemExit):
        run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert Job.objects.get(pk=job.id).progress_done == 3
        Job.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    done = run(party, job)
    assert (done.state, done.result) == ("succeeded", whole)
    # The batch that was lost is looked at again, and no other.
    assert len(looked_at) == 5 + 7


def test_a_running_one_can_be_cancelled(
    party: Any, version: PolicyVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtests, "BATCH", 2)
    job = start(party, version)
    count, seen = backtests.BacktestCounter.count, []

    def cancels(tally: Any, *args: Any) -> None:
        seen.append(args)
        if len(seen) == 3:
            with tenant_scope(party.id):
                jobs.cancel(job_id=job.id)
        count(tally, *args)

    monkeypatch.setattr(backtests.BacktestCounter, "count", cancels)
    assert run(party, job).state == "cancelled"
    assert len(seen) == 4


def test_a_long_one_lets_others_pass(
    party: Any, version: PolicyVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtests, "BATCH", 4)
    monkeypatch.setattr(backtests, "TURN_S", -1.0)
    job = start(party, version)
    states = [run(party, job).state for _ in range(4)]
    assert states == ["queued", "queued", "queued", "succeeded"]


def test_what_comes_later_is_not_looked_at(party: Any, version: PolicyVersion) -> None:
    job = start(party, version)
    with tenant_scope(party.id):
        new_audit()
    assert run(party, job).result["audits"] == 10


def test_evidence_of_other_tenants_is_not_seen(party: Any, version: PolicyVersion, stranger: Any) -> None:
    with tenant_scope(stranger.id):
        other = new_policy(ABUSE).versions.get()
        new_audit(evidence(categories={"abuse": category(1.0)}))
    assert run(stranger, start(stranger, other)).result["audits"] == 1
    assert run(party, start(party, version)).result["audits"] == 10


def test_odd_evidence_is_decided_all_the_same(party: Any, version: PolicyVersion) -> None:
    with tenant_scope(party.id):
        odd: list[Any] = [[], "x", 3, {"categories": 1, "could_not_look": "yes", "item": []}]
        for document_ in odd:
            audit = new_audit()
            Evidence.objects.filter(audit=audit).update(document=document_)
    result = run(party, start(party, version)).result
    assert (result["audits"], result["unreadable"]) == (14, 0)


def test_few_run_at_once(party: Any, version: PolicyVersion) -> None:
    for _ in range(backtests.AT_ONCE):
        start(party, version)
    with pytest.raises(Conflict):
        start(party, version)


def test_samples_are_few_spread_and_always_the_same() -> None:
    audits = [f"0192{number:04d}" for number in range(2_000)]
    one, other = backtests.BacktestCounter(), backtests.BacktestCounter()
    for audit in audits:
        one._sample("allow>block", audit)
    for audit in reversed(audits):
        other._sample("allow>block", audit)
    kept = [audit for _, audit in one.samples["allow>block"]]
    assert one.samples == other.samples
    assert len(kept) == backtests.SAMPLES
    assert len({audits.index(audit) // 500 for audit in kept}) == 4


def test_memory_does_not_grow_with_the_history(party: Any, version: PolicyVersion) -> None:
    policy = backtests.compile_policy(version.document)
    tally, text = backtests.BacktestCounter(), json.dumps(evidence(categories={"abuse": category(0.9)}))
    tracemalloc.start()
    try:
        for number in range(500):
            tally.count(policy, number, "allow", text)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(500, 3_000):
            tally.count(policy, number, "allow", text)
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()
