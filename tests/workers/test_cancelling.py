"""A cancel ends work within seconds, also where a process of its own does it and says nothing."""

from __future__ import annotations

import stat
import sys
import threading
from pathlib import Path

import psutil
import pytest
from django.db import connection

from ml.alignment import gate_fitting
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.retrieval.index import building, lifecycle
from tenants.retrieval.query import feedback
from tenants.scope import tenant_scope
from tests.tenants.test_gate_training import chosen, stored, towards
from tests.tenants.test_index_lifecycle import MODEL, Library, library
from tests.waiting import until
from workers.base import run_job

__all__ = ["library"]
pytestmark = pytest.mark.slow
SOON_S = 8.0


def cancel_when(condition, tenant_id, job_id) -> threading.Thread:
    """Cancel from outside, as a person would, once the work is under way."""

    def act() -> None:
        try:
            until(condition)
            with tenant_scope(tenant_id):
                jobs.cancel(job_id=job_id)
        finally:
            connection.close()

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_an_index_build_that_says_nothing_is_killed(library: Library, monkeypatch, tmp_path: Path) -> None:
    library.fill()
    with tenant_scope(library.tenant_id):
        job = lifecycle.build(model=MODEL)
    pid = tmp_path / "pid"
    silent = tmp_path / "silent"
    silent.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec sleep 600\n")
    silent.chmod(silent.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(silent))
    cancelling = cancel_when(lambda: pid.exists() and pid.read_text().strip(), library.tenant_id, job.id)
    assert library.run(job).state == "cancelled"
    cancelling.join()
    assert not psutil.pid_exists(int(pid.read_text()))
    assert library.folders == set()


def test_a_builder_that_is_killed_by_nobody_who_cancelled_is_tried_again(
    library: Library, monkeypatch
) -> None:
    library.fill()
    with tenant_scope(library.tenant_id):
        job = lifecycle.build(model=MODEL)
    monkeypatch.setattr(building, "_follow", lambda claimed, builder: builder.kill() or {})
    assert library.run(job).state == "queued"


def test_a_gate_in_training_stops_at_its_next_epoch(party, monkeypatch) -> None:
    with tenant_scope(party.id):
        chosen(200, right_part="text", asset=stored("text", towards(1)))
        job = feedback.start_training(actor="key:x")
    fit, seen = gate_fitting.fit, []

    def slow(start, train, held, settings, each):
        def told(epoch: int) -> None:
            if epoch == 2:
                with tenant_scope(party.id):
                    jobs.cancel(job_id=job.id)
            seen.append(epoch)
            each(epoch)

        return fit(start, train, held, settings, told)

    monkeypatch.setattr(gate_fitting, "fit", slow)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert Job.objects.get(pk=job.id).state == "cancelled"
    assert seen == [0, 1, 2]
