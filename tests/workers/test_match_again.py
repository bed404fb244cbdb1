"""Earlier copies of what was listed: found by what their audits saw, killed half-way, cancelled, and let go again."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tenants.datasets.models import Asset
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.moderation import known_content, record
from tenants.moderation.models import Audit, Evidence, HashEntry, Record
from tenants.pipeline.audits import rescan
from tenants.scope import tenant_scope
from tests.tenants.reviewing import ANN, World, make_world, seen
from workers.base import run_job

HASH = "d8f8f0cce0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"


def prints(bits: int = 0) -> dict[str, Any]:
    """A picture whose hash differs in so many bits from `HASH`."""
    number = int(HASH, 16) ^ ((1 << bits) - 1)
    return {"pdq": f"{number:064x}", "pdq_quality": 90, "pdq_turned": []}


@pytest.fixture
def world(party: Any) -> World:
    return make_world(party)


def audited(world: World, bits: int) -> Audit:
    return world.audit([], evidence=seen(fingerprints=prints(bits)))


def block_copies(world: World, audit: Audit) -> Job:
    with tenant_scope(world.id):
        known_content.add_asset_copies(asset_id=audit.item, list_id=None, note="x", actor=ANN)
        return Job.objects.get(kind="match_again", state="queued")


def run(world: World, job: Job) -> Job:
    run_job(str(job.id), str(world.id))
    with tenant_scope(world.id):
        return Job.objects.get(pk=job.id)


def shown(world: World, *audits: Audit) -> list[str]:
    return [world.stands(audit)[0] for audit in audits]


def test_copies_are_blocked_and_nothing_else(world: World) -> None:
    origin, near, far = audited(world, 0), audited(world, 20), audited(world, 60)
    unseen = world.audit([])
    job = run(world, block_copies(world, origin))
    assert (job.state, job.result["audits"], job.result["blocked"]) == ("succeeded", 4, 1)
    # Whoever listed the origin decides about it.
    assert shown(world, origin, near, far, unseen) == ["allow", "block", "allow", "allow"]
    (line,) = [line for line in world.lines() if line.kind == "copy.blocked"]
    assert (line.item, line.audit, line.actor) == (near.item, near.id, ANN)
    assert str(line.subject) == job.result["item"]


def test_the_same_bytes_are_found_without_any_fingerprint(world: World) -> None:
    origin = world.audit([], evidence=seen(fingerprints={}))
    with tenant_scope(world.id):
        copy = world.audit([])
        Asset.objects.filter(pk=copy.item).update(blob_id=Asset.objects.get(pk=origin.item).blob_id)
    assert run(world, block_copies(world, origin)).result["blocked"] == 1
    assert shown(world, copy) == ["block"]


def test_another_tenants_copies_stay(world: World, stranger: Any) -> None:
    theirs = make_world(stranger)
    copy, origin = audited(theirs, 0), audited(world, 0)
    assert run(world, block_copies(world, origin)).result["blocked"] == 0
    assert shown(theirs, copy) == ["allow"]


@pytest.mark.guard
def test_a_killed_one_goes_on_where_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    origin, *copies = [audited(world, bits) for bits in range(7)]
    monkeypatch.setattr(rescan, "BATCH", 2)
    job, looked_at = block_copies(world, origin), []
    copies_of = rescan.copies_of

    def dies(*args: Any) -> bool:
        looked_at.append(args)
        if len(looked_at) == 4:
            raise SystemExit("killed")
        return copies_of(*args)

    monkeypatch.setattr(rescan, "copies_of", dies)
    with pytest.raises(SystemExit):
        run_job(str(job.id), str(world.id))
    assert shown(world, *copies).count("block") == 1
    with tenant_scope(world.id):
        Job.objects.filter(pk=job.id).update(lease_until=timezone.now() - timedelta(seconds=1))
    done = run(world, job)
    assert (done.state, done.result["audits"], done.result["blocked"]) == ("succeeded", 7, 6)
    assert set(shown(world, *copies)) == {"block"}
    assert len([line for line in world.lines() if line.kind == "copy.blocked"]) == 6
    # The batch that was lost is looked at again, and no other.
    assert len(looked_at) == 4 + 5


def test_a_running_one_can_be_cancelled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    origin, *copies = [audited(world, bits) for bits in range(4)]
    monkeypatch.setattr(rescan, "BATCH", 1)
    job = block_copies(world, origin)
    # Cancelled after its claim: the first batch finds out.
    monkeypatch.setattr(rescan, "_complete", lambda claimed: cancel(world, claimed.job_id))
    assert run(world, job).state == "cancelled"
    assert shown(world, *copies) == ["allow"] * 3


def cancel(world: World, job_id: uuid.UUID) -> None:
    with tenant_scope(world.id):
        jobs.cancel(job_id=job_id)


def test_one_whose_item_is_off_the_list_stops(world: World) -> None:
    origin, copy = audited(world, 0), audited(world, 1)
    job = block_copies(world, origin)
    with tenant_scope(world.id):
        known_content.remove_item(item_id=HashEntry.objects.first().item)
    done = run(world, job)
    assert (done.state, done.result["blocked"]) == ("succeeded", 0)
    assert shown(world, copy) == ["allow"]


def test_a_long_one_lets_others_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    origin, *copies = [audited(world, bits) for bits in range(3)]
    monkeypatch.setattr(rescan, "BATCH", 1)
    monkeypatch.setattr(rescan, "TURN_S", -1.0)
    job = block_copies(world, origin)
    assert [run(world, job).state for _ in range(4)] == ["queued", "queued", "queued", "succeeded"]
    assert shown(world, *copies) == ["block", "block"]


def test_odd_evidence_stops_nothing(world: World) -> None:
    origin, copy = audited(world, 0), audited(world, 1)
    odd: list[Any] = [[], "x", 3, None, {"fingerprints": [1]}, {"fingerprints": "x"}]
    with tenant_scope(world.id):
        for document in odd:
            Evidence.objects.filter(audit=world.audit([])).update(document=document or {})
    assert run(world, block_copies(world, origin)).result["blocked"] == 1
    assert shown(world, copy) == ["block"]


def test_an_undone_listing_lets_its_copies_go_but_not_what_was_decided_since(world: World) -> None:
    origin, copy, blocked_since = audited(world, 0), audited(world, 1), audited(world, 2)
    run(world, block_copies(world, origin))
    newer = world.audit(["known"], world.asset(blocked_since))
    with tenant_scope(world.id):
        record.append(kind="audit", audit=newer.id, item=newer.item, decision="block")
        item = Record.objects.filter(kind="copy.blocked").first().subject
        known_content.remove_item(item_id=item, actor=ANN, release=True)
        job = Job.objects.get(kind="match_again", state="queued")
    done = run(world, job)
    assert (done.state, done.result["released"]) == ("succeeded", 1)
    assert shown(world, copy, blocked_since) == ["allow", "block"]
    with tenant_scope(world.id):
        known_content.remove_item(item_id=item, actor=ANN, release=True)
        assert not Job.objects.filter(kind="match_again", state="queued").exists()
