"""Jobs of all tenants, plans, flags, the fleet, what is wrong, and the log: the operator's other pages."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import time
import uuid
from typing import Any

import pytest
from django.db import ProgrammingError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backoffice.sparkline import MOST, sparkline
from tenants.accounts import api_admission, flags
from tenants.accounts.models import FeatureFlag, OperatorAct, Plan, QuotaCounter, Tenant
from tenants.events.models import AuditEvent
from tenants.jobs import worker_registry
from tenants.jobs.models import Job, JobDispatch
from tenants.pipeline.upkeep import health
from tenants.retrieval.index import lifecycle
from tenants.scope import tenant_scope
from tenants.valkey import Unavailable
from tenants.valkey import client as valkey

SECRET = "ValueError: <script>of the file report-2026.pdf</script>"


def dead(party: Any, kind: str = "reindex_metadata", **fields: Any) -> Job:
    now = timezone.now()
    with tenant_scope(party.id):
        return Job.objects.create(
            kind=kind,
            state="failed",
            attempts=3,
            started_at=now - dt.timedelta(seconds=90),
            finished_at=now,
            error={"type": "internal-error", "detail": "ValueError in the worker."},
            traceback=SECRET,
            **fields,
        )


def state_of(party: Any, job: Job) -> str:
    with tenant_scope(party.id):
        return Job.objects.get(pk=job.pk).state


# --- Jobs ------------------------------------------------------------------------------------------------


def test_a_dead_letter_shows_its_traceback_here_and_to_no_tenant(
    party: Any, operator: Client, owner: Client
) -> None:
    job = dead(party)
    listed = operator.get(f"/operator/jobs?tenant={party.tenant.slug}").content.decode()
    assert str(job.id) in listed
    page = operator.get(f"/operator/jobs/{party.tenant.slug}/{job.id}").content.decode()
    assert "ValueError: &lt;script&gt;of the file report-2026.pdf&lt;/script&gt;" in page
    assert "report-2026" not in owner.get(f"/jobs/{job.id}").content.decode()
    answer = Client().get(f"/api/v1/jobs/{job.id}", **party.auth)
    assert "report-2026" not in answer.content.decode()


def test_one_is_retried_and_both_logs_tell(party: Any, operator: Client) -> None:
    job = dead(party)
    operator.post(f"/operator/jobs/{party.tenant.slug}/{job.id}/retry")
    assert state_of(party, job) == "queued"
    assert JobDispatch.objects.filter(job_id=job.id).exists()
    with tenant_scope(party.id):
        line = AuditEvent.objects.get(verb="job.retried")
    assert line.actor == f"operator:{operator.user.email}"
    act = OperatorAct.objects.get(target=party.tenant.slug)
    assert (act.verb, act.details) == ("job.retried", {"job": str(job.id), "kind": "reindex_metadata"})
    # Once more is told to be no use, and changes nothing.
    page = operator.post(f"/operator/jobs/{party.tenant.slug}/{job.id}/retry", follow=True)
    assert "can be retried" in page.content.decode()
    assert OperatorAct.objects.filter(target=party.tenant.slug).count() == 1


def test_many_are_retried_each_for_itself(party: Any, stranger: Any, operator: Client) -> None:
    mine, theirs = dead(party), dead(stranger)
    gone = f"{party.tenant.slug}/{uuid.uuid4()}"
    chosen = [f"{party.tenant.slug}/{mine.id}", f"{stranger.tenant.slug}/{theirs.id}", gone, "odd", "a/b/c"]
    page = operator.post("/operator/jobs/retry", {"job": chosen}, follow=True).content.decode()
    assert "2 jobs are queued again." in page
    assert "1 job could not be queued again." in page
    assert (state_of(party, mine), state_of(stranger, theirs)) == ("queued", "queued")


def test_a_job_is_found_under_its_own_tenant_only(party: Any, stranger: Any, operator: Client) -> None:
    job = dead(stranger)
    assert operator.get(f"/operator/jobs/{party.tenant.slug}/{job.id}").status_code == 404
    assert operator.post(f"/operator/jobs/{party.tenant.slug}/{job.id}/retry").status_code == 404
    assert state_of(stranger, job) == "failed"


def test_dead_letters_are_paged_and_filtered(party: Any, operator: Client) -> None:
    jobs = [dead(party) for _ in range(53)]
    dead(party, kind="build_index")
    address = f"/operator/jobs?kind=reindex_metadata&tenant={party.tenant.slug}"
    page = operator.get(address).content.decode()
    assert page.count(f'value="{party.tenant.slug}/') == 50
    older = operator.get(f"{address}&before={jobs[3].id}").content.decode()
    assert older.count(f'value="{party.tenant.slug}/') == 3
    assert operator.get(f"{address}&before=odd").status_code == 200


def test_the_slowest_and_the_dearest_stand_first(party: Any, operator: Client) -> None:
    slow, dear = dead(party), dead(party, cost_cpu_s=1e9)
    with tenant_scope(party.id):
        Job.objects.filter(pk=slow.pk).update(started_at=timezone.now() - dt.timedelta(days=900))
    for view, first in (("slow", slow), ("dear", dear)):
        page = operator.get(f"/operator/jobs?view={view}").content.decode()
        assert str(first.id) in page.split("</tr>")[1]


def test_running_jobs_are_listed(party: Any, operator: Client) -> None:
    with tenant_scope(party.id):
        job = Job.objects.create(kind="finetune", state="running", started_at=timezone.now())
    JobDispatch.objects.create(
        job_id=job.id, tenant_id=party.id, kind="finetune", queue="train", due_at=timezone.now()
    )
    assert str(job.id) in operator.get("/operator/jobs?view=running").content.decode()


# --- Plans -----------------------------------------------------------------------------------------------


@pytest.fixture
def plan() -> Plan:
    return Plan.objects.create(slug=f"p-{secrets.token_hex(4)}", name="Small", limits={"assets": 5})


def test_a_plan_is_made_changed_and_deleted(operator: Client) -> None:
    slug = f"p-{secrets.token_hex(4)}"
    operator.post("/operator/plans/new", {"slug": slug, "name": "P", "assets": "10", "rate_per_minute": "60"})
    row = Plan.objects.get(slug=slug)
    assert (row.name, row.limits, row.rate_per_minute) == ("P", {"assets": 10}, 60)
    operator.post(f"/operator/plans/{slug}", {"name": "Q", "bytes": "1024"})
    row.refresh_from_db()
    assert (row.name, row.limits, row.rate_per_minute) == ("Q", {"bytes": 1024}, None)
    operator.post(f"/operator/plans/{slug}/delete")
    assert not Plan.objects.filter(slug=slug).exists()
    verbs = OperatorAct.objects.filter(target=slug).order_by("id").values_list("verb", flat=True)
    assert list(verbs) == ["plan.created", "plan.changed", "plan.deleted"]


def test_a_plan_in_use_is_not_deleted(operator: Client, party: Any, plan: Plan) -> None:
    Tenant.objects.filter(pk=party.id).update(plan=plan)
    page = operator.post(f"/operator/plans/{plan.slug}/delete", follow=True).content.decode()
    assert "Tenants have this plan" in page
    assert party.tenant.name in page
    assert Plan.objects.filter(pk=plan.pk).exists()


def test_a_changed_plan_holds_for_its_tenants_at_once(operator: Client, party: Any, plan: Plan) -> None:
    Tenant.objects.filter(pk=party.id).update(plan=plan)
    api_admission.identify(party.token)
    operator.post(f"/operator/plans/{plan.slug}", {"name": "Small", "rate_per_minute": "3"})
    assert api_admission.identify(party.token).rate_per_minute == 3


@pytest.mark.parametrize("wrong", [{"name": ""}, {"assets": "-5"}, {"assets": "x"}, {"rate_per_minute": "0"}])
def test_a_plan_that_is_none_is_refused(operator: Client, plan: Plan, wrong: dict[str, str]) -> None:
    assert operator.post(f"/operator/plans/{plan.slug}", {"name": "Small", **wrong}).status_code == 422
    plan.refresh_from_db()
    assert (plan.name, plan.limits) == ("Small", {"assets": 5})


# --- Flags -----------------------------------------------------------------------------------------------


@pytest.fixture
def flag(monkeypatch: Any) -> Any:
    monkeypatch.setitem(flags.FLAGS, "trial", flags.Flag("trial", "For tests.", default=False))
    yield "trial"
    FeatureFlag.objects.filter(name="trial").delete()
    flags.forget()


def test_a_flag_is_set_for_some_tenants_and_back(
    operator: Client, party: Any, stranger: Any, flag: str
) -> None:
    fields = {"trial-state": "some", "trial-share": "0", "trial-tenants": party.tenant.slug}
    operator.post("/operator/flags/trial", fields)
    assert (flags.enabled(flag, party.id), flags.enabled(flag, stranger.id)) == (True, False)
    assert party.tenant.slug in operator.get("/operator/flags").content.decode()
    operator.post("/operator/flags/trial", {"trial-state": "default"})
    assert not flags.enabled(flag, party.id)


def test_a_flag_for_a_tenant_that_is_not_there_is_refused(operator: Client, flag: str) -> None:
    response = operator.post("/operator/flags/trial", {"trial-state": "some", "trial-tenants": "nobody-x"})
    assert response.status_code == 422
    assert "nobody-x" in response.content.decode()
    assert "trial" not in flags.settings()


# --- What is wrong, the fleet, the log -------------------------------------------------------------------


def whats() -> str:
    return " | ".join(f"{one.what} {one.detail}" for one in health.health_problems())


def test_a_queue_that_nobody_serves_is_told(operator: Client) -> None:
    valkey().delete("canary")
    assert "No worker serves the queues audit, default" in whats()
    for queue in health.QUEUES:
        valkey().hset("canary", queue, time.time())
    assert "No worker serves the queues" not in whats()
    valkey().hset("canary", "embed", time.time() - 500)
    assert "No worker serves the queues embed " in whats()
    assert "embed" in operator.get("/operator/").content.decode()


def test_a_tenant_near_its_quota_is_told(party: Any, operator: Client) -> None:
    with tenant_scope(party.id):
        QuotaCounter.objects.create(resource="vectors", used=599_999.0)
    assert f"{party.tenant.name} has used 100 % of its vectors" in whats()
    assert f"/operator/tenants/{party.tenant.slug}" in operator.get("/operator/").content.decode()


def test_an_upkeep_that_does_not_run_is_told_once_it_could_have(monkeypatch: Any) -> None:
    valkey().delete(lifecycle.FIGURES_KEY)
    monkeypatch.setattr(health, "BEGUN", time.monotonic())
    assert "upkeep" not in whats()
    monkeypatch.setattr(health, "BEGUN", time.monotonic() - 601)
    assert "The upkeep has not run of late" in whats()
    lifecycle.note_figures()
    assert "upkeep" not in whats()


def test_an_old_queue_and_dead_letters_are_told(party: Any) -> None:
    dead(party)
    row = JobDispatch.objects.create(
        job_id=uuid.uuid4(),
        tenant_id=party.id,
        kind="finetune",
        queue="train",
        waiting=True,
        due_at=timezone.now() - dt.timedelta(minutes=31),
    )
    assert "The oldest job of the queue train waits for 31 minutes" in whats()
    assert "failed within a day" in whats()
    row.delete()


def test_a_storage_that_takes_nothing_and_a_full_disk_are_told(monkeypatch: Any) -> None:
    class Full:
        def save(self, *args: Any) -> str:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(health, "default_storage", Full())
    monkeypatch.setattr(health.shutil, "disk_usage", lambda path: health.shutil._ntuple_diskusage(100, 98, 2))
    told = whats()
    assert "The storage takes no files" in told
    assert "The disk of the data directory is nearly full" in told


def test_a_check_that_breaks_is_trouble_itself_and_hides_no_other(monkeypatch: Any) -> None:
    def broken() -> Any:
        raise RuntimeError("no")

    monkeypatch.setitem(health.CHECKS, "disk", broken)
    assert "“disk” could not be checked" in whats()


def test_the_fleet_lists_workers_that_report_themselves(operator: Client) -> None:
    name = f"worker-{secrets.token_hex(3)}@host"
    worker_registry.report(
        worker_registry.Worker(
            name, "host", 42, "1.0", time.time(), ["embed"], threads=4, devices=["cpu × 2"]
        )
    )
    page = operator.get("/operator/fleet").content.decode()
    assert name in page
    assert "cpu × 2" in page


def test_restarts_are_listed_with_their_reason(operator: Client, settings: Any, tmp_path: Any) -> None:
    settings.DATA_DIR = tmp_path
    assert worker_registry.restarts() == []
    now = dt.datetime.now(dt.UTC)
    ended = [("beat", "exit status 1", 0.0, now - dt.timedelta(minutes=n)) for n in (3, 2, 1)]
    old = ("worker-train", "hung", 9.0, now - dt.timedelta(hours=2))
    rows = [old, *ended, ("web", "hung", 12.4, now), ("valkey", "signal SIGKILL", 0.0, now)]
    noted = [{"at": at.isoformat(), "program": p, "reason": r, "silent_s": s} for p, r, s, at in rows]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "restarts.json").write_text(json.dumps(noted))
    assert [one.program for one in worker_registry.restarts()][:2] == ["valkey", "web"]
    page = operator.get("/operator/fleet").content.decode()
    assert "No response for 12 s" in page
    assert "Exited: signal SIGKILL" in page
    told = {trouble.what: trouble.bad for trouble in health._restarts()}
    assert told == {
        "beat ended and was restarted 3 times within an hour": True,
        "web stopped answering and was restarted, 1 time within an hour": False,
    }
    (tmp_path / "run" / "restarts.json").write_text('[{"half":')
    assert operator.get("/operator/fleet").status_code == 200


def test_the_canaries_history_is_drawn(operator: Client) -> None:
    worker_registry.note_canary("media", time.time() - 100)
    page = operator.get("/operator/canaries").content.decode()
    assert "<polyline" in page


def test_a_line_keeps_its_peaks() -> None:
    drawn = sparkline([1.0] * 1000 + [5.0] + [1.0] * 1000)
    assert (drawn.top, len(drawn.points.split()) <= MOST) == (5.0, True)
    assert ",0.0" in drawn.points
    assert sparkline([]).points == ""
    assert sparkline([0, 0]).points == "0.0,36.0 300.0,36.0"


def test_the_log_is_shown_filtered_and_only_added_to(party: Any, operator: Client) -> None:
    operator.post(f"/operator/tenants/{party.tenant.slug}/suspend", {"reason": "<i>why</i>"})
    page = operator.get(f"/operator/log?target={party.tenant.slug}").content.decode()
    assert "&lt;i&gt;why&lt;/i&gt;" in page
    assert "tenant.suspended" in page
    assert "tenant.suspended" not in operator.get("/operator/log?target=nobody").content.decode()
    row = OperatorAct.objects.get(target=party.tenant.slug)
    with pytest.raises(ProgrammingError), transaction.atomic():
        OperatorAct.objects.filter(pk=row.pk).update(actor="somebody else")
    with pytest.raises(ProgrammingError), transaction.atomic():
        OperatorAct.objects.filter(pk=row.pk).delete()


def test_without_valkey_the_overview_and_the_fleet_still_come(operator: Client, monkeypatch: Any) -> None:
    def away() -> dict[str, float]:
        raise Unavailable

    monkeypatch.setattr(health, "canary_ages", away)
    for path in ("", "fleet"):
        assert operator.get(f"/operator/{path}").status_code == 200


# --- Usage -----------------------------------------------------------------------------------------------


def used(party: Any, resource: str, amount: float, period: str = "") -> None:
    with tenant_scope(party.id):
        QuotaCounter.objects.update_or_create(
            resource=resource, period=period, defaults={"used": amount}, create_defaults={"used": amount}
        )


def test_usage_of_a_month_is_shown_and_exported_by_tenant(party: Any, operator: Client) -> None:
    now = timezone.now().strftime("%Y-%m")
    before = (timezone.now().date().replace(day=1) - dt.timedelta(days=1)).strftime("%Y-%m")
    plan = Plan.objects.create(slug=f"p-{secrets.token_hex(4)}", name="Metered", limits={"requests": 100})
    Tenant.objects.filter(pk=party.id).update(plan=plan, name="=HYPERLINK(1)")
    used(party, "requests", 150, now)
    used(party, "cpu_s", 12.5, before)
    used(party, "bytes", 2048)
    lines = export_of(operator, now, plan.slug)
    common = f"{now},{party.tenant.slug},'=HYPERLINK(1),{plan.slug}"
    assert lines[0] == "month,tenant,name,plan,resource,used,included,over"
    assert sorted(lines[1:]) == [f"{common},bytes,2048,,", f"{common},requests,150,100,50"]
    # Of a month that is over, what was held then is not known.
    assert export_of(operator, before, plan.slug)[1:] == [
        f"{before},{party.tenant.slug},'=HYPERLINK(1),{plan.slug},cpu_s,12.5,,"
    ]
    page = operator.get(f"/operator/usage?plan={plan.slug}").content.decode()
    assert "=HYPERLINK(1)" in page
    assert "150" in page
    assert "2.0" in page


def export_of(operator: Client, month: str, plan: str) -> list[str]:
    response = operator.get(f"/operator/usage/export?month={month}&plan={plan}")
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    return b"".join(response).decode().splitlines()


@pytest.mark.parametrize("month", ["", "2026-13", "0000-00", "9999-01", "x\0y", "1"])
def test_a_month_that_is_none_is_this_one(operator: Client, month: str) -> None:
    now = timezone.now().strftime("%Y-%m")
    response = operator.get("/operator/usage", {"month": month, "plan": "no\0ne", "after": "\0"})
    assert (response.status_code, response.context["month"]) == (200, now)
    assert export_of(operator, "9999-01", "none") == ["month,tenant,name,plan,resource,used,included,over"]


def test_usage_takes_as_many_queries_for_more_tenants(party: Any, operator: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert operator.get("/operator/usage").status_code == 200
        return len(seen)

    operator.get("/operator/usage")
    before = queries()
    for _n in range(3):
        Tenant.objects.create(slug=f"aa-{secrets.token_hex(4)}", name="More", plan=party.tenant.plan)
    assert queries() == before
