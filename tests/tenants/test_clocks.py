"""Hosts whose clocks are wrong, and a database whose clock is set back: no work is taken twice, and none is left."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from tenants import clock
from tenants.events import deliveries, endpoints, webhooks
from tenants.events.models import WebhookDue, WebhookLane
from tenants.jobs import claims, fair_queue
from tenants.jobs import services as jobs
from tenants.jobs.models import Job, JobDispatch
from tenants.scope import tenant_scope
from tests.conftest import Party

AN_HOUR = dt.timedelta(hours=1)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host's clock is an hour ahead; the database's is right."""
    right = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: right() + AN_HOUR)


@pytest.fixture
def job(party: Party) -> Job:
    with tenant_scope(party.id):
        return jobs.enqueue(kind="embed_asset", arguments={}, reserve={})


def claim(party: Party, job: Job) -> jobs.Claim | None:
    return jobs.claim(job_id=job.id, tenant_id=party.id)


def stored(party: Party, job: Job) -> Job:
    with tenant_scope(party.id):
        return Job.objects.get(pk=job.id)


def ahead_of_the_database(at: dt.datetime | None) -> float:
    assert at is not None
    return (at - clock.shared_now()).total_seconds()


@pytest.mark.usefixtures("ahead")
def test_a_host_ahead_holds_a_job_for_a_lease_only(party: Party, job: Job) -> None:
    assert claim(party, job) is not None
    assert 0 < ahead_of_the_database(stored(party, job).lease_until) <= settings.JOB_LEASE_S
    assert 0 < ahead_of_the_database(JobDispatch.objects.get(pk=job.id).due_at) <= settings.JOB_LEASE_S


def test_a_host_ahead_does_not_take_what_another_holds(
    party: Party, job: Job, request: pytest.FixtureRequest
) -> None:
    assert claim(party, job) is not None
    request.getfixturevalue("ahead")
    assert claim(party, job) is None
    assert stored(party, job).attempts == 1


@pytest.mark.usefixtures("ahead")
def test_a_host_ahead_tries_again_after_a_pause_only(party: Party, job: Job) -> None:
    claimed = claim(party, job)
    assert claimed is not None
    assert not claims.fail(claimed, error={"type": "unavailable"}, final=False)
    assert 0 < ahead_of_the_database(JobDispatch.objects.get(pk=job.id).due_at) <= 2


def test_a_lease_from_before_the_clock_was_set_back_holds_nobody_up(party: Party, job: Job) -> None:
    assert claim(party, job) is not None
    with tenant_scope(party.id):
        Job.objects.filter(pk=job.id).update(lease_until=timezone.now() + AN_HOUR)
    JobDispatch.objects.filter(pk=job.id).update(due_at=timezone.now() + AN_HOUR)
    fair_queue.requeue_due(limit=10_000)
    assert JobDispatch.objects.get(pk=job.id).waiting
    again = claim(party, job)
    assert again is not None
    assert again.attempt == 2


def test_a_job_that_waits_for_its_tenant_goes_on_waiting(party: Party, job: Job) -> None:
    JobDispatch.objects.filter(pk=job.id).update(waiting=False, due_at=fair_queue.NEVER)
    fair_queue.requeue_due(limit=10_000)
    found = JobDispatch.objects.get(pk=job.id)
    assert (found.waiting, found.due_at) == (False, fair_queue.NEVER)


@pytest.fixture
def hook(party: Party, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    monkeypatch.setattr(webhooks, "send", lambda *args: None)

    def make() -> Any:
        with tenant_scope(party.id):
            row, _ = endpoints.create_webhook(url="https://hooks.example/in", actor="test")
            webhooks.emit("asset.ready", {"asset": "a"})
        return row

    return make


@pytest.mark.usefixtures("ahead")
def test_a_host_ahead_tells_webhooks_now(hook: Callable[[], Any]) -> None:
    row = hook()
    assert ahead_of_the_database(WebhookLane.objects.get(pk=row.id).held_until) <= 0
    assert ahead_of_the_database(WebhookDue.objects.get(webhook_id=row.id).due_at) <= 0


def test_a_lane_held_from_before_the_clock_was_set_back_is_free(hook: Callable[[], Any]) -> None:
    row = hook()
    WebhookLane.objects.filter(pk=row.id).update(held_until=timezone.now() + AN_HOUR)
    deliveries.sweep(limit=10_000)
    assert ahead_of_the_database(WebhookLane.objects.get(pk=row.id).held_until) <= 0
