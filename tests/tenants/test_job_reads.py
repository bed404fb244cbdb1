"""What is told about a job: log, timing, version; priority, parts, traceback, archive."""

from __future__ import annotations

import gzip
import json
import time
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, Invalid
from tenants.jobs import (
    archiving,
    ending,
    job_counters,
    job_log,
    selectors,
    server_sent_events,
    stopping,
    timing,
    worker_registry,
)
from tenants.jobs import services as jobs
from tenants.jobs.models import Job, JobArchive, JobDispatch, JobNote
from tenants.pipeline.assets.services import add_asset
from tenants.pipeline.care.erasure_receipts import scrub_jobs
from tenants.pipeline.upkeep import job_archive
from tenants.scope import tenant_scope
from tests.waiting import pause


@pytest.fixture
def job(party) -> Job:
    with tenant_scope(party.id):
        return add_asset(dataset_id=create_dataset(name="d").id, text="a red apple").job


@pytest.fixture
def claimed(party, job) -> jobs.Claim:
    return jobs.claim(job_id=job.id, tenant_id=party.id)


def _read(party, job) -> Job:
    with tenant_scope(party.id):
        return Job.objects.get(pk=job.id)


def _log(party, job) -> list[str]:
    with tenant_scope(party.id):
        return [note.text for note in selectors.log_of(job.id)]


# --- Log -------------------------------------------------------------------------------------------------


def test_a_log_is_bounded_and_keeps_both_ends(party, job, claimed, monkeypatch) -> None:
    monkeypatch.setattr(job_log, "FIRST", 2)
    monkeypatch.setattr(job_log, "LAST", 3)
    for number in range(1, 10):
        job_log.write(claimed, f"line {number}")
    assert _log(party, job) == [f"line {number}" for number in (1, 2, 7, 8, 9)]
    assert _read(party, job).notes == 9
    with tenant_scope(party.id):
        assert [note.number for note in selectors.log_of(job.id, after=7)] == [8, 9]


def test_hostile_text_is_one_plain_line() -> None:
    assert (
        job_log.single_line("a\r\nlevel=error\x1b[31m\u202egpj.exe\x00 \ud800 b")
        == "a level=error [31m gpj.exe b"
    )
    assert len(job_log.single_line("x" * 10_000)) == job_log.LENGTH


@pytest.mark.guard
def test_a_worker_that_lost_its_job_writes_nothing(party, job, claimed) -> None:
    with tenant_scope(party.id):
        Job.objects.filter(pk=job.id).update(fence=claimed.fence + 1)
    job_log.write(claimed, "from the dead")
    assert _log(party, job) == []


def test_attempts_and_why_they_failed_are_told(party, job, claimed) -> None:
    error = {"type": "internal-error", "detail": "no room"}
    jobs.fail(claimed, error=error, final=False, traceback="Traceback: secret")
    jobs.claim(job_id=job.id, tenant_id=party.id)
    assert _log(party, job) == ["Attempt 1 failed: no room", "Attempt 2 began."]
    seen = _read(party, job)
    assert seen.traceback == "Traceback: secret"
    assert "secret" not in repr(selectors.job_shape(seen))


def test_tenths_of_long_work_are_told(party, job, claimed) -> None:
    for done in (10, 19, 45, 100):
        jobs.progress(claimed, done=done, total=100, failed=1)
    assert _log(party, job) == ["10 of 100 done, 1 failed.", "45 of 100 done, 1 failed."]


def test_the_log_goes_with_what_it_tells_of(party, job, claimed) -> None:
    with tenant_scope(party.id):
        job_log.write(claimed, "about the asset")
        Job.objects.filter(pk=job.id).update(
            state="failed", arguments={"asset": "0197c0de-0000-7000-8000-000000000001", "revision": 1}
        )
        assert scrub_jobs().total() == 1
        assert not JobNote.objects.exists()


# --- Timing ----------------------------------------------------------------------------------------------


def _moved(job: Job, done: int, after_s: float, monkeypatch, at) -> None:
    monkeypatch.setattr(timing.timezone, "now", lambda: at + timedelta(seconds=after_s))
    job.progress_done = done
    timing.move(job)


def test_the_rate_is_of_late_and_knows_no_pauses(monkeypatch) -> None:
    at = timezone.now()
    job = Job(state="running", queued_at=at - timedelta(seconds=5), started_at=at, progress_total=1_000)
    monkeypatch.setattr(timing.timezone, "now", lambda: at)
    timing.start(job)
    _moved(job, 100, 10, monkeypatch, at)
    assert (timing.timing_of(job).rate_per_s, timing.timing_of(job).left_s) == (10.0, 90.0)
    # An hour's pause between two attempts, then half as fast.
    monkeypatch.setattr(timing.timezone, "now", lambda: at + timedelta(hours=1))
    timing.start(job)
    for step in range(1, 61):
        _moved(job, 100 + 5 * step, 3600 + step, monkeypatch, at)
    assert 5 < timing.timing_of(job).rate_per_s < 7.5
    assert timing.timing_of(job).queue_wait_s == 5


def test_nobody_guesses_while_nothing_moves(monkeypatch) -> None:
    at = timezone.now()
    job = Job(state="running", queued_at=at, started_at=at, progress_total=10, rate_per_s=1.0, paced_at=at)
    assert timing.timing_of(job, at).left_s == 10
    assert timing.timing_of(job, at + timedelta(minutes=5)).left_s is None
    # All is counted, and what still follows has no measure.
    job.progress_done = 10
    assert timing.timing_of(job, at).left_s is None
    job.state = "queued"
    assert timing.timing_of(job, at).rate_per_s is None


def test_a_listener_hears_of_lines_priority_and_cancelling(party, job, claimed) -> None:
    versions = [server_sent_events.version(_read(party, job))]
    job_log.write(claimed, "a line")
    versions.append(server_sent_events.version(_read(party, job)))
    with tenant_scope(party.id):
        jobs.set_priority(job_id=job.id, priority=3)
    versions.append(server_sent_events.version(_read(party, job)))
    with tenant_scope(party.id):
        jobs.cancel(job_id=job.id)
    versions.append(server_sent_events.version(_read(party, job)))
    assert len(set(versions)) == 4
    assert selectors.job_shape(_read(party, job)).cancelling is True


# --- Priority and parts ----------------------------------------------------------------------------------


def test_a_priority_moves_the_place(party, job) -> None:
    before = JobDispatch.objects.get(job_id=job.id).place
    with tenant_scope(party.id):
        assert jobs.set_priority(job_id=job.id, priority=3).priority == 3
        with pytest.raises(Invalid):
            jobs.set_priority(job_id=job.id, priority=4)
    assert JobDispatch.objects.get(job_id=job.id).place == before - timedelta(days=1)


def test_an_ended_job_has_no_priority(party, job) -> None:
    with tenant_scope(party.id):
        jobs.cancel(job_id=job.id)
        with pytest.raises(Conflict):
            jobs.set_priority(job_id=job.id, priority=3)


def test_a_cancel_reaches_the_parts_but_no_audit(party, job) -> None:
    with tenant_scope(party.id):
        parts = [
            jobs.enqueue(kind=kind, arguments={"asset": "x", "revision": 1}, reserve={}, parent=job.id)
            for kind in ("reindex_metadata", "build_index", "delete_dataset", "audit_item")
        ]
        running = jobs.claim(job_id=parts[1].id, tenant_id=party.id)
        assert set(selectors.children(job.id)) == set(parts)
        jobs.cancel(job_id=job.id)
        states = [selectors.get_job(part.id).state for part in parts]
    assert states == ["cancelled", "running", "queued", "queued"]
    assert jobs.is_wanted(running) is False


# --- Stopping --------------------------------------------------------------------------------------------


def test_what_is_to_be_stopped_is_called_once(claimed) -> None:
    called = []
    with stopping.on_stop(claimed.key, lambda: called.append(1)) as stopped:
        stopping.stop((claimed.job_id, claimed.fence + 1))
        assert not stopped.is_set()
        stopping.stop(claimed.key)
        stopping.stop(claimed.key)
        assert stopped.is_set()
    stopping.stop(claimed.key)
    assert called == [1]


# --- Archive ---------------------------------------------------------------------------------------------


@pytest.fixture
def old(party, settings) -> list[Job]:
    """Three jobs that ended long ago, one of them an import, and one that ended now."""
    settings.JOB_KEEP_DAYS = 90
    with tenant_scope(party.id):
        made = [
            Job.objects.create(
                kind=kind,
                state="failed",
                arguments={"secret": "no"},
                error={"type": "corrupt", "detail": "secret"},
                finished_at=timezone.now() - timedelta(days=days),
            )
            for kind, days in (
                ("embed_asset", 99),
                ("build_index", 98),
                ("import_assets", 97),
                ("embed_asset", 1),
            )
        ]
        job_log.add(made[0].id, "a line")
    return made


def _archived(party) -> list[dict]:
    with tenant_scope(party.id):
        return [line for archive in JobArchive.objects.all() for line in job_archive.read(archive)]


def _archive(party) -> int:
    return job_archive.archive_jobs(party.id, until=time.monotonic() + 10)


def test_old_jobs_become_lines_of_a_file(party, old) -> None:
    assert _archive(party) == 2
    assert _archive(party) == 0
    lines = _archived(party)
    assert [(line["id"], line["kind"], line["error"]) for line in lines] == [
        (str(old[0].id), "embed_asset", "corrupt"),
        (str(old[1].id), "build_index", "corrupt"),
    ]
    assert "secret" not in json.dumps(lines)
    with tenant_scope(party.id):
        assert list(Job.objects.order_by("id")) == old[2:]
        assert not JobNote.objects.exists()


@pytest.mark.guard
@pytest.mark.parametrize("dies_at", ["put", "finish"])
def test_a_killed_run_loses_and_doubles_nothing(party, old, monkeypatch, dies_at) -> None:
    class Killed(BaseException):
        pass

    def die(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(job_archive.storage if dies_at == "put" else archiving, dies_at, die)
        with pytest.raises(Killed):
            _archive(party)
    with tenant_scope(party.id):
        assert Job.objects.count() == 4
    assert _archive(party) == 2
    assert [line["id"] for line in _archived(party)] == [str(job.id) for job in old[:2]]
    path = job_archive.path_of(party.id, "")[: -len(".jsonl.gz")]
    names = default_storage.listdir(path)[1]
    assert len(names) == 1
    with default_storage.open(f"{path}{names[0]}") as stored:
        assert gzip.decompress(stored.read()).count(b"\n") == 2


def test_what_is_about_to_be_archived_is_not_retried(party, old) -> None:
    with tenant_scope(party.id), pytest.raises(Conflict, match="archived"):
        jobs.retry(job_id=old[1].id)


def test_nothing_is_archived_where_jobs_are_kept(party, old, settings) -> None:
    settings.JOB_KEEP_DAYS = 0
    assert _archive(party) == 0


# --- Fleet -----------------------------------------------------------------------------------------------


def _worker(name: str) -> worker_registry.Worker:
    return worker_registry.Worker(name, "host", 7, "1", 0.0, ["embed"], 4, ["cpu x2"], ["a-job"])


def test_a_dead_worker_is_not_listed(monkeypatch) -> None:
    monkeypatch.setattr(worker_registry, "LOST_S", 1.0)
    worker = _worker("w-dies")
    worker_registry.report(worker)
    assert [one.running for one in worker_registry.workers() if one.name == "w-dies"] == [["a-job"]]
    pause(1.2, "what it said ends by the clock of Valkey")
    assert not [one for one in worker_registry.workers() if one.name == "w-dies"]


def test_a_worker_that_stops_is_gone_at_once() -> None:
    worker_registry.report(_worker("w-stops"))
    worker_registry.leave(_worker("w-stops"))
    assert not [one for one in worker_registry.workers() if one.name == "w-stops"]


def test_queues_tell_depth_age_and_tenants(job) -> None:
    JobDispatch.objects.filter(job_id=job.id).update(due_at=timezone.now() - timedelta(days=3000))
    embed = next(queue for queue in worker_registry.queues() if queue.name == "embed")
    assert embed.waiting >= 1 and embed.tenants >= 1
    assert embed.oldest_s >= 3000 * 86400
    JobDispatch.objects.filter(job_id=job.id).delete()


def test_what_ended_is_counted_and_timed(job, claimed) -> None:
    def failed() -> int:
        return sum(m.failed for m in worker_registry.throughput() if m.kind == "embed_asset")

    before, counted = failed(), job_counters.read().ended.get(("embed_asset", "failed"), 0)
    jobs.fail(claimed, error={"type": "x"}, final=True)
    assert failed() == before + 1
    after = job_counters.read()
    assert after.ended["embed_asset", "failed"] == counted + 1
    assert sum(after.seconds[job_counters.RAN, "embed_asset"].counts) >= 1


def test_canaries_of_a_day_are_kept_one_a_minute() -> None:
    sent = time.time() - 3
    for _ in range(3):
        worker_registry.note_canary("train", sent)
    mine = [one for one in worker_registry.canaries()["train"] if one.sent_at == sent]
    assert len(mine) == 1
    assert 3 <= mine[0].took_s < 30


def test_ending_saves_no_stale_number_of_lines(party, job, claimed) -> None:
    with tenant_scope(party.id):
        held = jobs.held(claimed)
        job_log.write(claimed, "between")
        ending.end(held, Job.State.CANCELLED)
    assert _read(party, job).notes == 1
