"""The list of jobs: what each is about and who asked, found by name and filters, and many at once."""

from __future__ import annotations

import datetime as dt
import re
import secrets
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from console import job_archives, job_subjects, jobs
from console.templatetags.console_tags import duration
from console.urls import urlpatterns
from tenants import observe
from tenants.accounts.models import Membership
from tenants.datasets import storage
from tenants.datasets.models import Asset, Import
from tenants.datasets.services import create_dataset
from tenants.events.models import AuditEvent
from tenants.jobs import services
from tenants.jobs.kinds import KINDS
from tenants.jobs.models import Job, JobArchive
from tenants.moderation.models import Policy
from tenants.people.erasure import erase_user
from tenants.pipeline.assets.services import add_asset
from tenants.pipeline.upkeep import job_archive
from tenants.scope import tenant_scope
from tests.api.conftest import Api
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.console.test_audits import read
from tests.tenants.learning.world import new_model
from tests.tenants.people import new_member, new_user
from workers.base import run_job


@pytest.fixture
def make(party: Party) -> Callable[..., Job]:
    def make_job(**fields: Any) -> Job:
        with tenant_scope(party.id):
            return Job.objects.create(**{"kind": "build_index", **fields})

    return make_job


@pytest.fixture
def failed(make: Callable[..., Job]) -> Callable[..., Job]:
    """A job that broke: nothing that it works on is asked for when it is tried again."""

    def break_one(**fields: Any) -> Job:
        broken = {"state": "failed", "finished_at": timezone.now(), "error": {"type": "t", "detail": "broke"}}
        return make(**{**broken, "kind": "train_gate", **fields})

    return break_one


def pears(party: Party, **fields: Any) -> Asset:
    """An asset by the name of its file."""
    with tenant_scope(party.id):
        dataset = create_dataset(name=f"Groceries {secrets.token_hex(3)}")
        asset = add_asset(dataset_id=dataset.id, text="words").asset
        Asset.objects.filter(pk=asset.pk).update(**{"filename": "pears.jpg", "excerpt": "", **fields})
        return Asset.objects.select_related("dataset").get(pk=asset.pk)


def shown(page: str) -> set[str]:
    return set(re.findall(r'id="job-([0-9a-f-]{36})"', page))


def states(party: Party, *rows: Job) -> list[str]:
    with tenant_scope(party.id):
        return [Job.objects.get(pk=row.pk).state for row in rows]


def acts(party: Party, verb: str) -> list[AuditEvent]:
    with tenant_scope(party.id):
        return list(AuditEvent.objects.filter(verb=verb))


# --- What it is about -------------------------------------------------------------------------------------


def test_each_line_says_what_it_is_about_and_leads_there(
    party: Party, make: Callable[..., Job], owner: Client
) -> None:
    asset, model = pears(party), new_model(party.id, name="Shelf labels")
    with tenant_scope(party.id):
        row = Import.objects.create(
            dataset=asset.dataset, source="upload", location="catalogue <b>.csv", format="csv"
        )
        policy = Policy.objects.create(name="House rules")
    make(kind="embed_asset", arguments={"asset": str(asset.pk)})
    make(kind="import_assets", arguments={"import": str(row.pk)})
    make(kind="delete_dataset", arguments={"dataset": str(asset.dataset_id)})
    make(kind="finetune", arguments={"model": str(model.pk)})
    make(kind="embed_beside", arguments={"model": model.space})
    make(kind="recalibrate_policy", arguments={"policy": str(policy.pk)})
    make(kind="embed_media", arguments={"asset": str(uuid.uuid4())})
    page = read(owner, "/jobs")
    for words, address in (
        ("Embed pears.jpg", f"/assets/{asset.pk}"),
        (f"Import catalogue &lt;b&gt;.csv into {asset.dataset.name}", f"/imports/{row.pk}"),
        (f"Delete the dataset {asset.dataset.name}", f"/datasets/{asset.dataset_id}"),
        ("Fine-tune the model Shelf labels", f"/models/{model.pk}"),
        ("Embed for the model Shelf labels", f"/models/{model.pk}"),
        ("Adjust thresholds of the policy House rules", f"/policies/{policy.pk}"),
        # Nothing is known of an asset that is gone.
        ("<strong>Embed sound or film</strong>", ""),
    ):
        assert words in page
        assert not address or f'<a href="{address}">' in page, address
    assert faults_of(page) == []


def test_what_somebody_may_not_open_is_not_named(
    party: Party, make: Callable[..., Job], person: Callable[..., Client]
) -> None:
    with tenant_scope(party.id):
        policy = Policy.objects.create(name="House rules")
    hidden = pears(party, moderation="block", caption="dreadful words")
    make(kind="recalibrate_policy", arguments={"policy": str(policy.pk)})
    of_asset = make(kind="embed_asset", arguments={"asset": str(hidden.pk)})
    viewer = person("viewer")
    page = read(viewer, "/jobs")
    assert "House rules" not in page
    assert "dreadful" not in page
    assert "Embed Blocked text" in page
    assert f'href="/assets/{hidden.pk}"' not in page
    # Nor is it found by its name, which would tell that there is such a thing.
    for words in ("House", "dreadful", "pears"):
        assert shown(read(viewer, f"/jobs?q={words}")) == set()
    moderator = read(person("reviewer"), "/jobs")
    assert "House rules" in moderator
    assert f'href="/assets/{hidden.pk}"' in moderator
    assert str(of_asset.pk) in shown(moderator)


def test_every_kind_of_job_says_what_it_is_about_or_has_nothing_to_name() -> None:
    worked_on = {name for name, kind in KINDS.items() if not kind.retired}
    assert worked_on - set(job_subjects.ABOUT) == job_subjects.NAMELESS


@pytest.mark.parametrize(
    ("source", "view"),
    [
        ("asset", "asset"),
        ("audit", "asset"),
        ("import", "import"),
        ("dataset", "dataset"),
        ("generation", "generation"),
        ("model", "model"),
        ("space", "model"),
        ("map", "map"),
        ("classifier", "classifier"),
        ("policy version", "policy"),
        ("policy", "policy"),
    ],
)
def test_a_thing_is_named_to_whoever_may_open_its_page(source: str, view: str) -> None:
    needs = {pattern.name: getattr(pattern.callback, "needs", "") for pattern in urlpatterns}
    assert job_subjects.SOURCES[source].scope == needs[view]


def test_a_page_costs_the_same_statements_however_many_names_it_has(
    party: Party, make: Callable[..., Job], owner: Client
) -> None:
    def count(address: str) -> int:
        with CaptureQueriesContext(connection) as seen:
            read(owner, address)
        return len(seen)

    def add() -> None:
        asset, model = pears(party), new_model(party.id)
        make(kind="embed_asset", arguments={"asset": str(asset.pk)}, requested_by=str(party.owner.pk))
        make(kind="finetune", arguments={"model": str(model.pk)}, requested_by="key:abc")
        make(kind="reindex_metadata", arguments={"dataset": str(asset.dataset_id)})

    addresses = ("/jobs", "/jobs?q=pears", "/jobs/bulk?act=cancel&all=1&state=queued", "/")
    add()
    few = [count(address) for address in addresses]
    for _ in range(6):
        add()
    assert [count(address) for address in addresses] == few
    assert few[0] < 30
    assert few[1] < 45


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "0 s"), (0.25, "250 ms"), (1.4, "1.4 s"), (59.97, "1 min"), (200, "3 min 20 s")),
        *((240, "4 min"), (3_599.7, "1 h"), (7_500, "2 h 5 min"), (360_000, "100 h"), (None, "")),
    ],
)
def test_seconds_are_readable(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_how_long_it_waited_and_runs_is_told(make: Callable[..., Job], owner: Client) -> None:
    began = timezone.now() - dt.timedelta(hours=5)
    make(
        state="succeeded",
        queued_at=began,
        started_at=began + dt.timedelta(seconds=1.4),
        finished_at=began + dt.timedelta(seconds=201.4),
    )
    page = read(owner, "/jobs")
    assert re.findall(r'data-name="(?:Waited|Ran)">(.*?)</td>', page) == ["1.4 s", "3 min 20 s"]


# --- Who asked --------------------------------------------------------------------------------------------


def test_a_job_keeps_who_asked_for_it(party: Party, owner: Client) -> None:
    """By the console, by a key, and by the system itself; the parts of a job are asked for by whoever asked for it."""
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        by_nobody = services.enqueue(kind="train_gate", arguments={}, reserve={})
    owner.post(f"/datasets/{dataset.id}/assets", {"text": "by hand"})
    made = Api(party.token).form(f"/datasets/{dataset.id}/assets", {"text": "by a key"})
    assert made.status_code in (201, 202)
    key = f"key:{party.token.partition('.')[0]}"
    with tenant_scope(party.id):
        asked = set(Job.objects.filter(kind="embed_asset").values_list("requested_by", flat=True))
        assert asked == {str(owner.user.pk), key}
        assert Job.objects.get(pk=by_nobody.pk).requested_by == ""
        job = Job.objects.filter(requested_by=key).get()

    def queue_a_part(claimed: services.Claim) -> None:
        with tenant_scope(party.id):
            services.enqueue(kind="forget_scores", arguments={}, reserve={}, parent=claimed.job_id)
            services.succeed(claimed, result={}, cpu_s=0, gpu_s=0, used={})

    run_job(str(job.pk), str(party.id), body=queue_a_part)
    with tenant_scope(party.id):
        assert Job.objects.get(parent_id=job.pk).requested_by == key
    assert observe.requester.get() == ""


def test_jobs_are_filtered_by_who_asked(
    party: Party, make: Callable[..., Job], owner: Client, stranger: Party
) -> None:
    ann = new_member(party.tenant, "editor")
    mine, hers = make(requested_by=str(owner.user.pk)), make(requested_by=str(ann.pk))
    by_key, own = make(requested_by="key:gone"), make(requested_by="")
    before = make(requested_by=None)
    for who, expected in (
        (str(owner.user.pk), mine),
        (str(ann.pk), hers),
        ("key:gone", by_key),
        ("system", own),
    ):
        assert shown(read(owner, f"/jobs?who={who}")) == {str(expected.pk)}
    page = read(owner, "/jobs")
    choices = re.findall(
        r'<option value="([^"]*)"[^>]*>', page.split('id="job-who"')[1].split("</select>")[0]
    )
    assert choices[:3] == ["", str(owner.user.pk), "system"]
    assert {str(ann.pk), "key:gone"} == set(choices[3:])
    # Whoever asked for nothing here is no condition.
    assert len(shown(read(owner, f"/jobs?who={stranger.owner.pk}"))) == 5
    assert re.findall(r'data-name="Asked by"><span[^>]*>(.*?)</span>', page).count("–") == 1
    assert "not recorded" in read(owner, f"/jobs/{before.pk}")
    assert (ann.name or ann.email) in read(owner, f"/jobs/{hers.pk}")


def test_who_was_erased_is_not_named_any_more(party: Party, make: Callable[..., Job]) -> None:
    ann = new_user()
    job = make(requested_by=str(ann.pk))
    receipt = erase_user(user=ann)
    assert receipt["job"] == 1
    with tenant_scope(party.id):
        assert Job.objects.get(pk=job.pk).requested_by.startswith("erased-")


# --- Finding ----------------------------------------------------------------------------------------------


def test_jobs_are_found_by_what_they_are_about(party: Party, make: Callable[..., Job], owner: Client) -> None:
    asset, model = pears(party, external_id="SKU-77"), new_model(party.id, name="Shelf labels")
    with tenant_scope(party.id):
        Job.objects.all().delete()
        row = Import.objects.create(
            dataset=asset.dataset, source="upload", location="catalogue.csv", format="csv"
        )
    embed = make(kind="embed_asset", arguments={"asset": str(asset.pk)})
    bring = make(kind="import_assets", arguments={"import": str(row.pk)})
    fields = make(kind="reindex_metadata", arguments={"dataset": str(asset.dataset_id)})
    tune = make(kind="finetune", arguments={"model": str(model.pk)})
    beside = make(kind="embed_beside", arguments={"model": model.space}, state="running")
    other = make(kind="train_gate", parent_id=beside.pk)
    for words, expected in (
        ("PEARS", {embed}),
        ("sku-77", {embed}),
        ("catalogue", {bring}),
        (asset.dataset.name, {bring, fields}),
        ("shelf", {tune, beside}),
        ("shelf&state=running", {beside}),
        ("Train the gate", {other}),
        (str(embed.pk), {embed}),
        (str(asset.pk), {embed}),
        (str(beside.pk), {beside, other}),
        (str(embed.pk)[:35], {embed}),
        ("no such thing", set()),
        ("%", set()),
        ("\0", None),
    ):
        page = read(owner, f"/jobs?q={words}".replace("%", "%25").replace("\0", "%00"))
        found = {str(job.pk) for job in expected} if expected is not None else shown(page)
        assert shown(page) == found, words
        assert faults_of(page) == []
    assert "Remove a filter or search for another part of the name." in read(owner, "/jobs?q=nothing")


def test_a_search_by_name_stops_at_the_newest_and_one_by_id_does_not(
    party: Party, make: Callable[..., Job], owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_subjects, "SEARCHED", 2)
    old, *new = (make(kind="train_gate") for _ in range(3))
    assert shown(read(owner, "/jobs?q=gate")) == {str(job.pk) for job in new}
    assert shown(read(owner, f"/jobs?q={old.pk}")) == {str(old.pk)}


def test_another_workspace_is_neither_found_nor_named(
    party: Party, stranger: Party, make: Callable[..., Job], owner: Client
) -> None:
    theirs = pears(stranger)
    with tenant_scope(stranger.id):
        foreign = Job.objects.get(arguments__asset=str(theirs.pk))
    # Also where a job of ours names it.
    make(kind="embed_asset", arguments={"asset": str(theirs.pk)})
    page = read(owner, "/jobs")
    assert "pears" not in page
    for words in ("pears", str(foreign.pk)):
        assert shown(read(owner, f"/jobs?q={words}")) == set()


def test_what_failed_in_the_last_day_is_one_click_away(
    failed: Callable[..., Job], make: Callable[..., Job], owner: Client
) -> None:
    now = failed()
    failed(finished_at=timezone.now() - dt.timedelta(days=2))
    make(state="succeeded", finished_at=timezone.now())
    page = read(owner, "/jobs")
    address = re.findall(r'<a href="(\?[^"]*)">Failed in the last day</a>', page)[0].replace("&amp;", "&")
    lately = read(owner, f"/jobs{address}")
    assert shown(lately) == {str(now.pk)}
    assert re.findall(r'aria-current="true">(.*?)</a>', lately.split("<main")[1]) == [
        "Failed in the last day"
    ]
    assert "Clear" in lately


def test_filters_stay_with_pages_tabs_and_live_updates(make: Callable[..., Job], owner: Client) -> None:
    for _ in range(jobs.PAGE + 1):
        make(kind="train_gate", state="running", requested_by="key:a")
    make(kind="build_index", state="running")
    page = read(owner, "/jobs?kind=train_gate&who=key:a&q=gate")
    kept = "q=gate&amp;kind=train_gate&amp;who=key%3Aa"
    assert f'hx-get="/jobs?{kept}&amp;before="' in page
    assert "?q=gate&amp;state=failed&amp;kind=train_gate&amp;who=key%3Aa" in page
    older = re.findall(r'href="(\?[^"]*before=[^"]+)"', page)[0].replace("&amp;", "&")
    assert len(shown(page)) == jobs.PAGE
    rest = read(owner, f"/jobs{older}")
    assert len(shown(rest)) == 1
    part = owner.get("/jobs?kind=train_gate&who=key:a", headers={"hx-request": "true"}).content.decode()
    assert len(shown(part)) == jobs.PAGE
    assert "<html" not in part


# --- Many at once -----------------------------------------------------------------------------------------


def test_chosen_jobs_are_tried_again_after_they_were_shown(
    party: Party, failed: Callable[..., Job], make: Callable[..., Job], owner: Client
) -> None:
    first, second = failed(), failed(state="cancelled")
    done = make(state="succeeded", finished_at=timezone.now())
    listed = read(owner, "/jobs?state=failed")
    # Without a script the form asks by itself.
    assert '<form id="bulk" method="get" action="/jobs/bulk">' in listed
    assert f'name="job" value="{first.pk}"' in listed
    query = "&".join(f"job={job.pk}" for job in (first, second, done))
    asked = read(owner, f"/jobs/bulk?act=retry&kind=train_gate&{query}&job=zzz")
    assert "<h1>Try 2 jobs again?</h1>" in asked
    assert "1 of the jobs you chose is left out" in asked
    assert faults_of(asked) == []
    assert states(party, first, second, done) == ["failed", "cancelled", "succeeded"]
    named = re.findall(r'name="job" value="([^"]+)"', asked)
    assert set(named) == {str(first.pk), str(second.pk)}
    answer = owner.post("/jobs/bulk", {"act": "retry", "job": named, "back": "kind=train_gate"}, follow=True)
    assert answer.redirect_chain == [("/jobs?kind=train_gate", 302)]
    assert "2 jobs are queued again." in answer.content.decode()
    assert states(party, first, second, done) == ["queued", "queued", "succeeded"]
    lines = acts(party, "job.retried")
    assert {(line.actor, line.target) for line in lines} == {
        (str(owner.user.pk), str(job.pk)) for job in (first, second)
    }
    assert lines[0].details == {"kind": "train_gate"}


def test_what_went_on_meanwhile_is_told_and_the_others_are_done(
    party: Party, failed: Callable[..., Job], owner: Client
) -> None:
    stays, gone, went = failed(), failed(), failed()
    with tenant_scope(party.id):
        Job.objects.filter(pk=went.pk).update(state="running")
        Job.objects.filter(pk=gone.pk).delete()
    sent = {"act": "retry", "job": [str(job.pk) for job in (stays, gone, went)]}
    page = owner.post("/jobs/bulk", sent, follow=True).content.decode()
    assert "1 job is queued again." in page
    assert "1 job was left as it is: Only a failed or cancelled job can be retried" in page
    assert "1 job was left as it is: This job does not exist." in page
    assert states(party, stays, went) == ["queued", "running"]
    assert [line.target for line in acts(party, "job.retried")] == [str(stays.pk)]


def test_waiting_and_running_jobs_are_cancelled_and_deletions_are_not(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        waits = services.enqueue(kind="train_gate", arguments={}, reserve={})
        part = services.enqueue(kind="train_gate", arguments={}, reserve={}, parent=waits.pk)
        runs = services.enqueue(kind="train_gate", arguments={}, reserve={})
        Job.objects.filter(pk=runs.pk).update(state="running")
        erases = Job.objects.create(kind="delete_dataset", arguments={})
    query = "&".join(f"job={job.pk}" for job in (waits, part, runs, erases))
    asked = read(owner, f"/jobs/bulk?act=cancel&{query}")
    assert "<h1>Cancel 3 jobs?</h1>" in asked
    named = re.findall(r'name="job" value="([^"]+)"', asked)
    page = owner.post("/jobs/bulk", {"act": "cancel", "job": named}, follow=True).content.decode()
    # A part that would stop with its parent is asked first, so that none is told to have stopped already.
    assert "3 jobs were cancelled, or stop at their next step." in page
    assert states(party, waits, part, runs, erases) == ["cancelled", "cancelled", "running", "queued"]
    assert "stopping" in page
    assert len(acts(party, "job.cancelled")) == 3
    assert "<h2>Nothing to do</h2>" in read(owner, f"/jobs/bulk?act=cancel&job={runs.pk}")


def test_all_failed_of_a_filter_are_counted_first_and_bounded(
    party: Party, failed: Callable[..., Job], owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_AT_ONCE", 3)
    monkeypatch.setattr(jobs, "SHOWN", 2)
    wanted = [failed() for _ in range(4)]
    other = failed(kind="forget_scores")
    failed(state="cancelled")
    listed = read(owner, "/jobs?state=failed&kind=train_gate")
    address = re.findall(r'id="all-retry" href="([^"]+)"', listed)[0].replace("&amp;", "&")
    asked = read(owner, address)
    assert "<h1>Try 3 jobs again?</h1>" in asked
    assert "More than 3 jobs match. These are the newest 3; come back for the rest." in asked
    assert "and 1 more" in asked
    named = re.findall(r'name="job" value="([^"]+)"', asked)
    assert named == [str(job.pk) for job in reversed(wanted[1:])]
    owner.post("/jobs/bulk", {"act": "retry", "job": named})
    assert states(party, *wanted, other) == ["failed", "queued", "queued", "queued", "failed"]
    assert "all-retry" not in read(owner, "/jobs?state=succeeded")
    assert "all-cancel" in read(owner, "/jobs?state=queued")


def test_what_takes_too_long_is_left_and_told(
    party: Party, failed: Callable[..., Job], owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PATIENCE_S", -1.0)
    old, new = failed(), failed()
    sent = {"act": "retry", "job": [str(old.pk), str(new.pk)]}
    page = owner.post("/jobs/bulk", sent, follow=True).content.decode()
    assert "1 more job was not reached in time and is unchanged." in page
    assert states(party, old, new) == ["failed", "queued"]


def test_nothing_chosen_is_said(owner: Client) -> None:
    assert "Select jobs in the list first." in read(owner, "/jobs/bulk")
    page = owner.post("/jobs/bulk", {"act": "cancel", "back": "state=zzz&q=%00"}, follow=True)
    assert "Select jobs first." in page.content.decode()


def test_who_may_not_write_is_offered_and_allowed_nothing(
    party: Party, failed: Callable[..., Job], person: Callable[..., Client]
) -> None:
    job, viewer = failed(), person("viewer")
    page = read(viewer, "/jobs?state=failed")
    assert 'type="checkbox"' not in page
    assert "/jobs/bulk?" not in page
    assert viewer.get(f"/jobs/bulk?job={job.pk}").status_code == 403
    assert viewer.post("/jobs/bulk", {"act": "retry", "job": [str(job.pk)]}).status_code == 403
    assert states(party, job) == ["failed"]


def test_another_workspaces_jobs_are_not_acted_on(
    party: Party, stranger: Party, failed: Callable[..., Job], person: Callable[..., Client]
) -> None:
    job = failed()
    outsider = person("owner", tenants=(stranger.tenant,))
    assert "No jobs selected" not in read(outsider, f"/jobs/bulk?job={job.pk}")
    assert str(job.pk) not in read(outsider, f"/jobs/bulk?job={job.pk}")
    outsider.post("/jobs/bulk", {"act": "retry", "job": [str(job.pk)]})
    assert states(party, job) == ["failed"]
    assert acts(party, "job.retried") == []


def test_one_job_is_retried_and_cancelled_with_a_line_in_the_audit_log(
    party: Party, failed: Callable[..., Job], owner: Client
) -> None:
    by_hand, by_key = failed(), failed()
    owner.post(f"/jobs/{by_hand.pk}/retry")
    owner.post(f"/jobs/{by_hand.pk}/cancel")
    assert Api(party.token).post(f"/jobs/{by_key.pk}/retry").status_code == 202
    assert Api(party.token).post(f"/jobs/{by_key.pk}/cancel").status_code == 200
    key = f"key:{party.token.partition('.')[0]}"
    for verb in ("job.retried", "job.cancelled"):
        assert {(line.actor, line.target) for line in acts(party, verb)} == {
            (str(owner.user.pk), str(by_hand.pk)),
            (key, str(by_key.pk)),
        }


# --- Archived ---------------------------------------------------------------------------------------------


def test_archived_jobs_are_listed_by_file_and_by_line(
    party: Party, stranger: Party, failed: Callable[..., Job], owner: Client, settings: Any
) -> None:
    settings.JOB_KEEP_DAYS = 90
    assert "No jobs are archived" in read(owner, "/jobs/archives")
    begun = timezone.now() - dt.timedelta(days=100)
    times = {"queued_at": begun, "started_at": begun + dt.timedelta(seconds=1.4)}
    asset = pears(party)
    gone = failed(
        kind="embed_asset",
        arguments={"asset": str(asset.pk)},
        finished_at=begun + dt.timedelta(seconds=201.4),
        **times,
    )
    assert job_archive.archive_jobs(party.id, until=time.monotonic() + 60) == 1
    listed = read(owner, "/jobs/archives")
    [address] = re.findall(r'href="(/jobs/archives/[^"]+)"', listed)
    page = read(owner, address)
    for text in (
        str(gone.pk),
        "Embed an asset",
        "1.4 s",
        "3 min 20 s",
        '<div class="small field-error">t</div>',
    ):
        assert text in page
    # Nothing of what it worked on outlives that in an archive.
    assert "pears" not in page
    assert faults_of(listed) == faults_of(page) == []
    storage.drop(job_archive.path_of(party.id, address.rpartition("/")[2]))
    assert owner.get(address).status_code == 404
    with tenant_scope(stranger.id):
        now = timezone.now()
        theirs = JobArchive.objects.create(first_at=now, last_at=now, count=1, finished_at=now)
    assert owner.get(f"/jobs/archives/{theirs.pk}").status_code == 404


def test_a_long_archive_is_paged(
    party: Party, failed: Callable[..., Job], owner: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JOB_KEEP_DAYS = 90
    monkeypatch.setattr(job_archives, "LINES", 2)
    made = [failed(finished_at=timezone.now() - dt.timedelta(days=100 - at)) for at in range(3)]
    job_archive.archive_jobs(party.id, until=time.monotonic() + 60)
    [address] = re.findall(r'href="(/jobs/archives/[^"]+)"', read(owner, "/jobs/archives"))
    first = read(owner, address)
    assert [str(job.pk) in first for job in made] == [True, True, False]
    rest = read(owner, address + re.findall(r'href="(\?after=[^"]+)"', first)[0])
    assert [str(job.pk) in rest for job in made] == [False, False, True]
    for odd in ("-1", "zzz", "99999999", "50"):
        assert owner.get(f"{address}?after={odd}").status_code == 200


# --- Who sees chosen datasets only ------------------------------------------------------------------------


def test_a_narrowed_member_sees_and_changes_no_job(
    party: Party, failed: Callable[..., Job], client: Client
) -> None:
    """Jobs are the workspace's: also those about a dataset that the member sees stay shut."""
    asset = pears(party)
    job = failed(kind="embed_asset", arguments={"asset": str(asset.pk)})
    member = new_member(party.tenant, "editor")
    Membership.objects.filter(user=member).update(datasets=[asset.dataset_id])
    client.force_login(member)
    assert client.get(f"/datasets/{asset.dataset_id}").status_code == 200
    for address in (
        *("/jobs", "/jobs?q=pears", "/jobs?state=failed&ended=day", f"/jobs?q={job.pk}"),
        *(f"/jobs/{job.pk}", f"/jobs/{job.pk}/log", f"/jobs/states?ids={job.pk}"),
        *(f"/jobs/bulk?job={job.pk}", "/jobs/bulk?act=retry&all=1&state=failed", "/jobs/archives"),
    ):
        for headers in ({}, {"hx-request": "true"}):
            answer = client.get(address, headers=headers)
            assert answer.status_code == 403, address
            assert "pears" not in answer.content.decode()
    for act in ("retry", "cancel"):
        assert client.post("/jobs/bulk", {"act": act, "job": [str(job.pk)]}).status_code == 403
        assert client.post(f"/jobs/{job.pk}/{act}").status_code == 403
    assert states(party, job) == ["failed"]
    assert acts(party, "job.retried") == []
    # The page of the asset tells of its jobs what it told before, and leads to none.
    assert f"/jobs/{job.pk}" not in client.get(f"/assets/{asset.pk}").content.decode()
