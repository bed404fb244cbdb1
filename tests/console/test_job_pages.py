"""Jobs: filters, timing, log, parent and children, priority."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tenants.datasets.services import create_dataset
from tenants.jobs import job_log
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.console.test_audits import read


@pytest.fixture
def make(party: Party) -> Callable[..., Job]:
    def make_job(**fields: Any) -> Job:
        with tenant_scope(party.id):
            return Job.objects.create(**{"kind": "build_index", "progress_total": 10, **fields})

    return make_job


def said(party: Party, job: Job, text: str, level: str = "info") -> None:
    with tenant_scope(party.id):
        job_log.add(job.id, text, level)


def test_the_list_is_narrowed_by_state_kind_and_priority(make: Callable[..., Job], owner: Client) -> None:
    failed = make(state="failed", error={"type": "t", "detail": "it broke"})
    hasty = make(kind="backtest_policy", priority=3)
    for query, shown, hidden in (
        ("", (failed, hasty), ()),
        ("state=failed", (failed,), (hasty,)),
        ("kind=backtest_policy", (hasty,), (failed,)),
        ("priority=3", (hasty,), (failed,)),
        ("kind=backtest_policy&state=failed", (), (failed, hasty)),
        ("kind=zzz&state=zzz&priority=9", (failed, hasty), ()),
    ):
        page = read(owner, f"/jobs?{query}")
        assert all(f"job-{job.id}" in page for job in shown), query
        assert not any(f"job-{job.id}" in page for job in hidden), query
        assert faults_of(page) == []
    assert "high priority" in read(owner, "/jobs")
    assert "No matching jobs" in read(owner, "/jobs?kind=finetune")


def test_a_page_of_jobs_costs_the_same_queries_however_many(make: Callable[..., Job], owner: Client) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as seen:
            read(owner, "/jobs")
        return len(seen)

    make()
    few = count()
    for _ in range(30):
        make()
    assert count() == few


def test_a_job_shows_its_log_and_gives_the_lines_that_are_new(
    party: Party, make: Callable[..., Job], owner: Client
) -> None:
    job = make(state="running")
    assert "No log lines yet" in read(owner, f"/jobs/{job.id}")
    said(party, job, "Reading <b>ten</b> files")
    said(party, job, "One is broken", "warning")
    page = read(owner, f"/jobs/{job.id}")
    assert "Reading &lt;b&gt;ten&lt;/b&gt; files" in page
    assert "log-warning" in page
    assert faults_of(page) == []
    said(party, job, "Done")
    fresh = read(owner, f"/jobs/{job.id}/log?after=2")
    assert "Done" in fresh
    assert "broken" not in fresh
    for odd in ("zzz", "-1", "99999999999", ""):
        assert owner.get(f"/jobs/{job.id}/log?after={odd}").status_code == 200


def test_another_tenants_log_is_not_there(stranger: Party, owner: Client) -> None:
    with tenant_scope(stranger.id):
        foreign = Job.objects.create(kind="build_index")
    assert owner.get(f"/jobs/{foreign.id}/log").status_code == 404
    assert owner.post(f"/jobs/{foreign.id}/priority", {"priority": "3"}).status_code == 404


def test_parent_and_children_are_a_tree(make: Callable[..., Job], owner: Client) -> None:
    parent = make(kind="import_assets", state="running")
    child = make(parent_id=parent.id, state="failed", error={"type": "t", "detail": "x"})
    page = read(owner, f"/jobs/{parent.id}")
    assert f"/jobs/{child.id}" in page
    page = read(owner, f"/jobs/{child.id}")
    assert f"/jobs/{parent.id}" in page
    assert faults_of(page) == []
    # A parent that was archived leaves its children readable.
    assert owner.get(f"/jobs/{make(parent_id=uuid.uuid4()).id}").status_code == 200


def test_many_children_are_cut_and_said(make: Callable[..., Job], owner: Client) -> None:
    parent = make(state="running")
    for _ in range(51):
        make(parent_id=parent.id)
    assert "and more" in read(owner, f"/jobs/{parent.id}")


def test_the_priority_is_changed_and_odd_ones_are_refused(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        job = add_asset(dataset_id=create_dataset(name="d").id, text="words").job
    answer = owner.post(f"/jobs/{job.id}/priority", {"priority": "3"}, follow=True)
    assert "The priority was changed." in answer.content.decode()
    with tenant_scope(party.id):
        assert Job.objects.get(pk=job.id).priority == 3
    for odd in ("0", "4", "", "zzz"):
        refused = owner.post(f"/jobs/{job.id}/priority", {"priority": odd}, follow=True)
        assert "Choose a priority" in refused.content.decode()


def test_a_viewer_sees_and_changes_nothing(make: Callable[..., Job], person: Callable[..., Client]) -> None:
    job = make(state="running")
    page = read(person("viewer"), f"/jobs/{job.id}")
    assert "set-priority" not in page
    assert "cancel-job" not in page


def test_the_traceback_is_for_operators_alone(make: Callable[..., Job], owner: Client) -> None:
    job = make(state="failed", error={"type": "internal", "detail": "d"}, traceback="Traceback SECRET")
    assert "SECRET" not in read(owner, f"/jobs/{job.id}")
