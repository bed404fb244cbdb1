"""The job core: leases, fences, dead letters, cancel, retry, sweep."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from tenants.accounts import quotas
from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, NotFound, QuotaExceeded
from tenants.jobs import notify_workers
from tenants.jobs import services as jobs
from tenants.jobs.models import Job, JobDispatch
from tenants.pipeline.assets.services import add_asset, delete_dataset, resume_deletions
from tenants.scope import tenant_scope
from tenants.valkey import client

pytestmark = pytest.mark.guard


@pytest.fixture
def added(party):
    """A text asset of `party` with its queued job."""
    with tenant_scope(party.id):
        return add_asset(dataset_id=create_dataset(name="d").id, text="a red apple")


def _claim(party, job) -> jobs.Claim | None:
    return jobs.claim(job_id=job.id, tenant_id=party.id)


def _expire_lease(party, job) -> None:
    with tenant_scope(party.id):
        Job.objects.filter(pk=job.id).update(lease_until=timezone.now() - timedelta(seconds=1))


def _job(party, job) -> Job:
    with tenant_scope(party.id):
        return Job.objects.get(pk=job.id)


def _asset(party, asset) -> Asset:
    with tenant_scope(party.id):
        return Asset.objects.get(pk=asset.id)


def test_enqueue_writes_the_job_and_its_dispatch(party, added) -> None:
    job = _job(party, added.job)
    assert (job.state, job.attempts, job.fence, job.progress_total) == ("queued", 0, 0, 1)
    assert JobDispatch.objects.get(job_id=job.id).queue == "embed"
    with tenant_scope(party.id):
        assert quotas.summary()["vectors"] == {"used": 0, "reserved": 1, "limit": 600_000}


def test_what_passes_costs_no_try_for_a_while(party, added) -> None:
    """A database that restarts, or a disk that is full for a minute, would use up three tries in seconds."""
    waits = []
    for minutes in (0, 1, 5, 14):
        claimed = _claim(party, added.job)
        assert claimed is not None and claimed.attempt == 1
        with tenant_scope(party.id):
            begun = timezone.now() - timedelta(minutes=minutes)
            Job.objects.filter(pk=added.job.id).update(started_at=begun)
        assert not jobs.fail(claimed, error={"type": "storage-full"}, final=False, passes=True)
        due = JobDispatch.objects.get(pk=added.job.id).due_at
        waits.append(round((due - timezone.now()).total_seconds()))
    assert waits == [pytest.approx(wait, abs=1) for wait in (2, 15, 60, 60)]
    # Then it does, and at last the job says what is wrong.
    with tenant_scope(party.id):
        Job.objects.filter(pk=added.job.id).update(started_at=timezone.now() - timedelta(minutes=16))
    ends = []
    while (claimed := _claim(party, added.job)) is not None:
        ends.append(jobs.fail(claimed, error={"type": "storage-full"}, final=False, passes=True))
    assert ends == [False, False, True]
    assert (_job(party, added.job).state, _job(party, added.job).error) == (
        "failed",
        {"type": "storage-full"},
    )


def test_one_claim_holds_the_job(party, added) -> None:
    first = _claim(party, added.job)
    assert first is not None and (first.fence, first.attempt) == (1, 1)
    assert _claim(party, added.job) is None
    assert _job(party, added.job).attempts == 1


def test_a_worker_that_comes_back_from_the_dead_cannot_write(party, added) -> None:
    dead = _claim(party, added.job)
    _expire_lease(party, added.job)
    alive = _claim(party, added.job)
    assert alive.fence == 2
    with pytest.raises(jobs.LeaseLost):
        jobs.succeed(dead, result={"by": "the dead"}, cpu_s=0, gpu_s=0, used={})
    with pytest.raises(jobs.LeaseLost):
        jobs.progress(dead, done=1, total=1)
    with pytest.raises(jobs.LeaseLost):
        jobs.heartbeat(dead)
    assert _job(party, added.job).state == "running"
    jobs.succeed(alive, result={"by": "the living"}, cpu_s=1.5, gpu_s=0, used={"vectors": 1})
    job = _job(party, added.job)
    assert (job.state, job.result, job.cost_cpu_s) == ("succeeded", {"by": "the living"}, 1.5)


def test_settling_happens_once(party, added) -> None:
    claimed = _claim(party, added.job)
    jobs.succeed(claimed, result={}, cpu_s=2.0, gpu_s=0, used={"vectors": 1})
    with pytest.raises(jobs.LeaseLost):
        jobs.succeed(claimed, result={}, cpu_s=2.0, gpu_s=0, used={"vectors": 1})
    with tenant_scope(party.id):
        summary = quotas.summary()
    assert summary["vectors"] == {"used": 1, "reserved": 0, "limit": 600_000}
    assert summary["cpu_s"]["used"] == 2.0


def test_work_that_kills_its_worker_becomes_a_dead_letter(party, added) -> None:
    for attempt in (1, 2, 3):
        assert _claim(party, added.job).attempt == attempt
        _expire_lease(party, added.job)
    assert _claim(party, added.job) is None
    job = _job(party, added.job)
    assert (job.state, job.error["type"]) == ("failed", "dead-letter")
    assert "3 attempts" in job.error["detail"]
    assert not JobDispatch.objects.filter(job_id=job.id).exists()
    asset = _asset(party, added.asset)
    assert (asset.status, asset.error["type"]) == ("failed", "dead-letter")
    with tenant_scope(party.id):
        assert quotas.summary()["vectors"]["reserved"] == 0


def test_a_failed_attempt_is_queued_again_until_tries_run_out(party, added) -> None:
    error = {"type": "internal-error", "detail": "x"}
    for _ in range(2):
        assert jobs.fail(_claim(party, added.job), error=error, final=False) is False
        assert _job(party, added.job).state == "queued"
    assert jobs.fail(_claim(party, added.job), error=error, final=False) is True
    assert _job(party, added.job).state == "failed"


def test_a_final_failure_ends_at_once_and_shows_on_the_asset(party, added) -> None:
    error = {"type": "corrupt", "detail": "cut short"}
    assert jobs.fail(_claim(party, added.job), error=error, final=True) is True
    asset = _asset(party, added.asset)
    assert (asset.status, asset.error) == ("failed", error)


def test_cancel_ends_a_queued_job_and_asks_a_running_one(party, added) -> None:
    claimed = _claim(party, added.job)
    with tenant_scope(party.id):
        assert jobs.cancel(job_id=added.job.id).state == "running"
    assert jobs.heartbeat(claimed) is False
    with pytest.raises(jobs.Cancelled):
        jobs.progress(claimed, done=0, total=1)
    jobs.stop_cancelled(claimed)
    assert _job(party, added.job).state == "cancelled"
    assert _asset(party, added.asset).error["type"] == "cancelled"
    with tenant_scope(party.id), pytest.raises(Conflict):
        jobs.cancel(job_id=added.job.id)


def test_retry_queues_again_with_its_quota(party, added) -> None:
    with tenant_scope(party.id):
        with pytest.raises(Conflict):
            jobs.retry(job_id=added.job.id)
        jobs.cancel(job_id=added.job.id)
        assert quotas.summary()["vectors"]["reserved"] == 0
        jobs.retry(job_id=added.job.id)
        assert quotas.summary()["vectors"]["reserved"] == 1
    assert _asset(party, added.asset).status == "pending"
    assert _claim(party, added.job).attempt == 1


def test_a_retry_is_charged_for_itself_only(party, added) -> None:
    jobs.fail(_claim(party, added.job), error={"type": "x"}, cpu_s=10, final=True)
    with tenant_scope(party.id):
        jobs.retry(job_id=added.job.id)
    jobs.succeed(_claim(party, added.job), result={}, cpu_s=1, gpu_s=0, used={"vectors": 1})
    with tenant_scope(party.id):
        assert quotas.summary()["cpu_s"]["used"] == 11


def test_a_deletion_cannot_be_cancelled_and_is_taken_up_again(party, added) -> None:
    with tenant_scope(party.id):
        job = delete_dataset(dataset_id=added.asset.dataset_id)
        with pytest.raises(Conflict, match="goes on to its end"):
            jobs.cancel(job_id=job.id)
        assert resume_deletions() == 0
    jobs.fail(_claim(party, job), error={"type": "x"}, final=True)
    with tenant_scope(party.id):
        assert resume_deletions() == 1


def test_a_rung_queue_is_not_rung_again_and_keeps_no_job_from_waiting(party, added) -> None:
    """The broker holds a handful of messages, whatever waits; another queue gets its own."""
    store = client()
    for queue in ("embed", "default"):
        store.delete(queue)
    with tenant_scope(party.id):
        for _ in range(3 * notify_workers.MESSAGES):
            add_asset(dataset_id=added.asset.dataset_id, text="another")
        delete_dataset(dataset_id=added.asset.dataset_id)
    notify_workers.sweep()
    assert store.llen("embed") == notify_workers.MESSAGES
    assert 1 <= store.llen("default") <= notify_workers.MESSAGES


def test_another_tenants_job_is_not_found(party, stranger, added) -> None:
    with tenant_scope(stranger.id):
        with pytest.raises(NotFound):
            jobs.cancel(job_id=added.job.id)
        with pytest.raises(NotFound):
            jobs.retry(job_id=added.job.id)
    assert jobs.claim(job_id=added.job.id, tenant_id=stranger.id) is None
    assert _job(party, added.job).state == "queued"


def test_the_sweeper_rings_for_what_the_broker_lost(party, added) -> None:
    client().delete("embed")
    notify_workers.sweep()
    assert client().llen("embed") == 1


def test_a_job_whose_worker_died_waits_again(party, added) -> None:
    assert _claim(party, added.job)
    assert JobDispatch.objects.get(job_id=added.job.id).waiting is False
    _expire_lease(party, added.job)
    JobDispatch.objects.filter(job_id=added.job.id).update(due_at=timezone.now() - timedelta(seconds=1))
    assert notify_workers.sweep(limit=1_000_000) >= 1
    assert JobDispatch.objects.get(job_id=added.job.id).waiting is True
    assert _claim(party, added.job).fence == 2


def test_over_quota_nothing_is_written(make_party) -> None:
    party = make_party(plan="starter")
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        plan = party.tenant.plan
        plan.limits = {**plan.limits, "assets": 1}
        plan.pk, plan.slug = "one-asset", "one-asset"
        plan.save(force_insert=not type(plan).objects.filter(pk="one-asset").exists())
        party.tenant.plan = plan
        party.tenant.save()
        add_asset(dataset_id=dataset.id, text="first")
        with pytest.raises(QuotaExceeded, match="allows 1 assets"):
            add_asset(dataset_id=dataset.id, text="second")
        assert Asset.objects.count() == 1
        assert Job.objects.count() == 1
        assert quotas.summary()["assets"]["used"] == 1
