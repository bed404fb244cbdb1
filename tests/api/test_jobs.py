"""Jobs over HTTP: parts, priority, and a log that can be followed."""

from __future__ import annotations

import uuid

import pytest

from api.paging import encode_cursor
from tenants.datasets.services import create_dataset
from tenants.jobs import job_log
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.api.conftest import PROBLEM, Api, refused
from tests.conftest import Party


@pytest.fixture
def job(party: Party) -> Job:
    with tenant_scope(party.id):
        return add_asset(dataset_id=create_dataset(name="d").id, text="a red apple").job


def test_a_job_tells_its_timing_and_place(api: Api, job: Job) -> None:
    told = api.get(f"/jobs/{job.id}").json()
    assert (told["priority"], told["parent"], told["cancelling"], told["log_lines"]) == (2, None, False, 0)
    assert told["queue_wait_s"] >= 0
    assert (told["rate_per_s"], told["time_left_s"]) == (None, None)


def test_the_parts_of_a_job_are_listed(api: Api, party: Party, job: Job) -> None:
    with tenant_scope(party.id):
        part = jobs.enqueue(kind="build_index", arguments={"model": "m"}, reserve={}, parent=job.id)
    found = api.get(f"/jobs?parent={job.id}").json()["results"]
    assert [(one["id"], one["parent"]) for one in found] == [(str(part.id), str(job.id))]
    for other in (uuid.uuid4(), "no-id"):
        assert api.get(f"/jobs?parent={other}").json()["results"] == []


def test_a_priority_is_set_checked_and_refused_once_it_has_ended(api: Api, job: Job) -> None:
    assert api.post(f"/jobs/{job.id}/priority", {"priority": 3}).json()["priority"] == 3
    for wrong in (0, 4, "3", True, None):
        answer = api.post(f"/jobs/{job.id}/priority", {"priority": wrong})
        assert (answer.status_code, answer.json()["type"]) == (422, f"{PROBLEM}invalid"), wrong
    api.post(f"/jobs/{job.id}/cancel")
    assert api.post(f"/jobs/{job.id}/priority", {"priority": 1}).status_code == 409
    assert api.get(f"/jobs/{job.id}").json()["priority"] == 3


def test_a_log_is_followed_to_its_end(api: Api, party: Party, job: Job) -> None:
    claimed = jobs.claim(job_id=job.id, tenant_id=party.id)
    assert claimed
    for text in ("one", "two", "three"):
        job_log.write(claimed, text)
    first = api.get(f"/jobs/{job.id}/log?limit=2").json()
    assert [line["text"] for line in first["results"]] == ["one", "two"]
    rest = api.get(f"/jobs/{job.id}/log?cursor={first['next']}").json()
    assert [(line["number"], line["level"]) for line in rest["results"]] == [(3, "info")]
    nothing_yet = api.get(f"/jobs/{job.id}/log?cursor={rest['next']}").json()
    assert (nothing_yet["results"], nothing_yet["next"]) == ([], rest["next"])
    jobs.fail(claimed, error={"type": "x", "detail": "broken"}, final=True, traceback="secret")
    last = api.get(f"/jobs/{job.id}/log?cursor={rest['next']}").json()
    assert [(line["text"], line["level"]) for line in last["results"]] == [
        ("Attempt 1 failed: broken", "error")
    ]
    assert last["next"] is None
    assert b"secret" not in api.get(f"/jobs/{job.id}").content


def test_a_cursor_from_elsewhere_is_no_error_of_ours(api: Api, job: Job) -> None:
    for number in (2**31, 2**128 - 1):
        cursor = encode_cursor(uuid.UUID(int=number))
        assert api.get(f"/jobs/{job.id}/log?cursor={cursor}").json()["results"] == []
    assert api.get(f"/jobs/{job.id}/log?cursor=x").status_code == 422


def test_how_long_to_wait_is_checked(api: Api, other: Api, job: Job) -> None:
    for wrong in ("61", "-1", "1.5", "", "x", "100", "\u0663"):
        answer = api.get(f"/jobs/{job.id}?wait={wrong}")
        body = refused(answer, 422, "invalid", "/wait")
        assert "from 0 to 60" in body["detail"], wrong
    refused(api.get(f"/jobs/{job.id}?wiat=60"), 422, "invalid", "/wiat")
    assert api.get(f"/jobs/{job.id}?wait=0").json()["state"] == "queued"
    refused(other.get(f"/jobs/{job.id}?wait=60"), 404, "not-found")
    refused(Api(None).get(f"/jobs/{job.id}?wait=60"), 401, "unauthenticated")
