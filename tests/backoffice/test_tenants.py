"""What operators do with tenants: open, suspend, resume, plans and limits, take out, delete."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tenants.accounts import api_admission, leases
from tenants.accounts.models import Invitation, KeyDigest, OperatorAct, Tenant
from tenants.accounts.operators import Operator
from tenants.accounts.permissions import Actor
from tenants.accounts.services import ensure_plan
from tenants.datasets.models import Dataset
from tenants.datasets.services import create_dataset
from tenants.errors import QuotaExceeded
from tenants.events.models import AuditEvent, Export, TenantErasure
from tenants.jobs import fair_queue
from tenants.jobs import services as jobs
from tenants.jobs.models import Job, JobDispatch
from tenants.people import invitations, tenancies
from tenants.pipeline.upkeep import operator_acts
from tenants.scope import tenant_scope
from tests.tenants.people import new_member

BY = Operator("ann@operators.example", "127.0.0.1")
ACT = {"by": BY, "label": "operator:ann@operators.example"}


def post(client: Client, party: Any, what: str, **fields: Any) -> Any:
    return client.post(f"/operator/tenants/{party.tenant.slug}/{what}", fields)


def state_of(party: Any) -> str:
    return Tenant.objects.get(pk=party.id).state


def events(party: Any, verb: str) -> list[AuditEvent]:
    with tenant_scope(party.id):
        return list(AuditEvent.objects.filter(verb=verb).order_by("id"))


def acts(party: Any) -> list[tuple[str, str]]:
    rows = OperatorAct.objects.filter(target=party.tenant.slug).order_by("id")
    return list(rows.values_list("verb", "reason"))


# --- Suspending ------------------------------------------------------------------------------------------


def test_a_suspended_tenants_key_and_people_are_refused_at_once(
    party: Any, operator: Client, owner: Client
) -> None:
    api = Client()
    assert api.get("/api/v1/me", **party.auth).status_code == 200
    assert owner.get("/").status_code == 200
    assert post(operator, party, "suspend", reason="Unpaid since June.").status_code == 302
    assert state_of(party) == "suspended"
    assert api.get("/api/v1/me", **party.auth).status_code == 401
    assert owner.get("/")["Location"] == "/workspace"
    assert owner.get("/workspace").status_code == 403
    assert acts(party) == [("tenant.suspended", "Unpaid since June.")]
    [line] = events(party, "tenant.suspended")
    assert line.actor == f"operator:{operator.user.email}"
    assert line.details == {"reason": "Unpaid since June."}


def test_its_data_stays_and_all_works_again_when_it_is_resumed(
    party: Any, operator: Client, owner: Client
) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="kept")
    post(operator, party, "suspend", reason="x")
    post(operator, party, "resume", reason="Paid.")
    assert state_of(party) == "active"
    assert Client().get("/api/v1/me", **party.auth).status_code == 200
    assert owner.get(f"/datasets/{dataset.id}").status_code == 200
    assert acts(party)[-1] == ("tenant.resumed", "Paid.")


def test_without_a_reason_nobody_is_suspended(party: Any, operator: Client) -> None:
    for reason in ("", "   ", "x" * 301):
        assert post(operator, party, "suspend", reason=reason).status_code == 422
    assert (state_of(party), acts(party)) == ("active", [])


def test_twice_is_a_conflict_that_is_shown(party: Any, operator: Client) -> None:
    post(operator, party, "suspend", reason="x")
    assert post(operator, party, "suspend", reason="y").status_code == 422
    assert acts(party) == [("tenant.suspended", "x")]
    post(operator, party, "resume")
    assert post(operator, party, "resume").status_code == 422


def test_others_notice_nothing(party: Any, stranger: Any, operator: Client) -> None:
    post(operator, party, "suspend", reason="x")
    assert state_of(stranger) == "active"
    assert Client().get("/api/v1/me", **stranger.auth).status_code == 200


def queue(party: Any, kind: str) -> Job:
    with tenant_scope(party.id):
        return jobs.enqueue(kind=kind, arguments={}, reserve={})


def test_its_jobs_do_not_start_and_start_again_later(party: Any) -> None:
    before = queue(party, "reindex_metadata")
    tenancies.suspend_tenant(**ACT, slug=party.tenant.slug, reason="x")
    after = queue(party, "reindex_metadata")
    for job in (before, after):
        assert jobs.claim(job_id=job.id, tenant_id=party.id) is None
        assert not JobDispatch.objects.get(pk=job.id).waiting
    with tenant_scope(party.id):
        assert set(Job.objects.values_list("state", "attempts")) == {("queued", 0)}
    tenancies.resume_tenant(**ACT, slug=party.tenant.slug)
    fair_queue.requeue_due(limit=1000)
    assert JobDispatch.objects.filter(tenant_id=party.id, waiting=True).count() == 2
    assert jobs.claim(job_id=after.id, tenant_id=party.id) is not None


def test_what_was_promised_goes_on_while_it_is_suspended(party: Any) -> None:
    tenancies.suspend_tenant(**ACT, slug=party.tenant.slug, reason="x")
    for kind in ("delete_dataset", "erase_subject", "export_tenant"):
        job = queue(party, kind)
        assert jobs.claim(job_id=job.id, tenant_id=party.id) is not None


# --- Opening ---------------------------------------------------------------------------------------------


def test_a_new_tenant_comes_with_its_owners_invitation(operator: Client) -> None:
    slug = f"n-{secrets.token_hex(5)}"
    fields = {"slug": slug, "name": "New Shop", "plan": "demo", "owner": f"o@{slug}.example"}
    ensure_plan("demo")
    response = operator.post("/operator/tenants/new", fields)
    tenant = Tenant.objects.get(slug=slug)
    invitation = Invitation.objects.get(tenant=tenant)
    assert (invitation.email, invitation.role) == (f"o@{slug}.example", "owner")
    link = response.content.decode().split("/invitation?token=")[1].split("<")[0]
    guest = Client()
    guest.get(f"/invitation?token={link}")
    joined = guest.post(
        "/invitation", {"name": "Olga", **dict.fromkeys(("password", "again"), "long-enough-for-all-1")}
    )
    assert joined.status_code == 302
    assert guest.get("/people").status_code == 200
    assert OperatorAct.objects.get(target=slug).verb == "tenant.opened"


def test_people_see_an_owner_whom_an_operator_invites(operator: Client, owner: Client, party: Any) -> None:
    fields = {"email": f"second@{party.tenant.slug}.example"}
    assert operator.post(f"/operator/tenants/{party.tenant.slug}/owner", fields).status_code == 200
    with tenant_scope(party.id):
        invitations.invite(actor=Actor("key:gone", "admin"), email="other@people.example", role="viewer")
    page = owner.get("/people")
    assert page.status_code == 200
    assert fields["email"] in page.content.decode()
    assert f"Operator {operator.user.email}" in page.content.decode()
    invitation = Invitation.objects.get(email=fields["email"])
    admin = Client()
    admin.force_login(new_member(party.tenant, "admin"))
    shown = admin.get("/people").content.decode()
    assert fields["email"] in shown
    assert f"/invitations/{invitation.pk}/link" not in shown
    assert admin.post(f"/invitations/{invitation.pk}/link").status_code == 302
    before = bytes(invitation.digest)
    invitation.refresh_from_db()
    assert bytes(invitation.digest) == before


@pytest.mark.parametrize(
    "wrong", [{"slug": "Not A Slug"}, {"plan": "nothing"}, {"owner": "nobody"}, {"name": ""}]
)
def test_what_is_wrong_opens_no_tenant(operator: Client, wrong: dict[str, str]) -> None:
    slug = f"n-{secrets.token_hex(5)}"
    fields = {"slug": slug, "name": "x", "plan": "demo", "owner": "o@x.example", **wrong}
    assert operator.post("/operator/tenants/new", fields).status_code == 422
    assert not Tenant.objects.filter(slug__in=[slug, fields["slug"]]).exists()


def test_a_slug_that_is_taken_is_told(operator: Client, party: Any) -> None:
    fields = {"slug": party.tenant.slug, "name": "x", "plan": "demo", "owner": "o@x.example"}
    response = operator.post("/operator/tenants/new", fields)
    assert response.status_code == 422
    assert "exists already" in response.content.decode()


# --- Plans and limits ------------------------------------------------------------------------------------


def test_another_plan_holds_from_the_next_request_on(party: Any, operator: Client) -> None:
    ensure_plan("starter")
    assert api_admission.identify(party.token).rate_per_minute is None
    post(operator, party, "plan", plan="starter")
    assert api_admission.identify(party.token).rate_per_minute == 600
    assert Client().get("/api/v1/me", **party.auth).json()["plan"]["slug"] == "starter"
    assert events(party, "tenant.plan_changed")[0].details == {"from": "demo", "to": "starter"}
    assert post(operator, party, "plan", plan="nothing").status_code == 422


def test_limits_of_its_own_are_kept_to(party: Any, operator: Client) -> None:
    post(operator, party, "limits", assets="1", vectors="none", rate_per_minute="7")
    row = Tenant.objects.select_related("plan").get(pk=party.id)
    assert row.exceptions == {"assets": 1, "vectors": None, "rate_per_minute": 7}
    assert (row.limits["assets"], "vectors" in row.limits, "bytes" in row.limits) == (1, False, True)
    assert api_admission.identify(party.token).rate_per_minute == 7
    with tenant_scope(party.id):
        jobs.enqueue(kind="reindex_metadata", arguments={}, reserve={"assets": 1})
        with pytest.raises(QuotaExceeded):
            jobs.enqueue(kind="reindex_metadata", arguments={}, reserve={"assets": 1})
    post(operator, party, "limits")
    assert Tenant.objects.get(pk=party.id).exceptions == {}


@pytest.mark.parametrize(
    "wrong",
    [{"assets": "-1"}, {"bytes": "many"}, {"rate_per_minute": "0"}, {"assets": "1e300"}, {"cpu_s": "nan"}],
)
def test_a_limit_that_is_none_changes_nothing(party: Any, operator: Client, wrong: dict[str, str]) -> None:
    assert post(operator, party, "limits", **wrong).status_code == 422
    assert Tenant.objects.get(pk=party.id).exceptions == {}


# --- Taking out and deleting -----------------------------------------------------------------------------


def test_an_export_is_asked_for_and_both_logs_tell(party: Any, operator: Client) -> None:
    assert post(operator, party, "export").status_code == 302
    with tenant_scope(party.id):
        export = Export.objects.get()
    assert export.requested_by == f"operator:{operator.user.email}"
    assert acts(party) == [("tenant.exported", "")]
    # A second one while it is made is refused, in words.
    page = operator.post(f"/operator/tenants/{party.tenant.slug}/export", follow=True)
    assert "is being made already" in page.content.decode()
    content = operator.get(f"/operator/tenants/{party.tenant.slug}/exports/{export.id}")
    assert content.status_code == 409


def test_another_tenants_export_is_absent(party: Any, stranger: Any, operator: Client) -> None:
    with tenant_scope(stranger.id):
        export = Export.objects.create()
    assert operator.get(f"/operator/tenants/{party.tenant.slug}/exports/{export.id}").status_code == 404


def test_only_with_its_slug_typed_and_a_reason_it_is_deleted(party: Any, operator: Client) -> None:
    for fields in ({}, {"slug": "wrong", "reason": "x"}, {"slug": party.tenant.slug}):
        assert post(operator, party, "delete", **fields).status_code == 422
    assert (state_of(party), acts(party)) == ("active", [])


def test_a_deletion_closes_erases_and_leaves_its_receipt(
    party: Any, stranger: Any, operator: Client, owner: Client, monkeypatch: Any
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(operator_acts, "_send", sent.append)
    slug = party.tenant.slug
    with tenant_scope(party.id):
        create_dataset(name="gone")
    response = post(operator, party, "delete", slug=slug, reason="They asked.")
    receipt = TenantErasure.objects.get(slug=slug)
    assert response["Location"] == f"/operator/erasures/{receipt.id}"
    assert (state_of(party), sent) == ("suspended", [slug])
    assert Client().get("/api/v1/me", **party.auth).status_code == 401
    assert "in progress" in operator.get(response["Location"]).content.decode()
    assert post(operator, party, "resume").status_code == 422
    operator_acts.run_erasure(slug)
    receipt.refresh_from_db()
    assert receipt.verified
    assert not Tenant.objects.filter(pk=party.id).exists()
    page = operator.get(response["Location"])
    assert "Nothing was found afterwards" in page.content.decode()
    shown = operator.get(f"{response['Location']}?json=1").json()
    assert (shown["slug"], shown["verified"], shown["removed"]["rows"]["dataset"]) == (slug, True, 1)
    assert acts(party) == [("tenant.erased", "They asked.")]
    assert Tenant.objects.filter(pk=stranger.id).exists()
    # Run once more, by a message that came late, nothing happens.
    operator_acts.run_erasure(slug)


def test_an_erasure_whose_worker_was_stopped_is_sent_for_again(party: Any, monkeypatch: Any) -> None:
    sent: list[str] = []
    monkeypatch.setattr(operator_acts, "_send", sent.append)
    receipt = operator_acts.request_erasure(**ACT, slug=party.tenant.slug, reason="x")
    sent.clear()
    operator_acts.resume_erasures()
    assert party.tenant.slug in sent
    receipt.delete()


def test_two_workers_do_not_erase_the_same_tenant(party: Any, monkeypatch: Any) -> None:
    ran: list[str] = []
    monkeypatch.setattr(operator_acts.tenant_erasure, "erase_tenant", lambda slug: ran.append(slug))
    slug = party.tenant.slug
    with leases.held(f"erase:{slug}") as mine:
        assert mine
        operator_acts.run_erasure(slug)
    assert ran == []
    operator_acts.run_erasure(slug)
    assert ran == [slug]


# --- Lists -----------------------------------------------------------------------------------------------


def test_the_list_is_searched_filtered_and_paged(party: Any, stranger: Any, operator: Client) -> None:
    Tenant.objects.filter(pk=party.id).update(name="<b>Zebra</b> & Co", state="suspended")
    page = operator.get("/operator/tenants?q=zebra").content.decode()
    assert "&lt;b&gt;Zebra&lt;/b&gt; &amp; Co" in page
    assert stranger.tenant.slug not in page
    assert party.tenant.slug in operator.get("/operator/tenants?state=suspended&q=zebra").content.decode()
    assert party.tenant.slug not in operator.get("/operator/tenants?state=active&q=zebra").content.decode()
    assert operator.get("/operator/tenants?q=%00&state=odd&plan=odd&after=zzz").status_code == 200


def test_pages_take_as_many_queries_for_many_as_for_few(operator: Client, make_party: Any) -> None:
    first = make_party()
    paths = ("", "tenants", f"tenants/{first.tenant.slug}", "plans", "plans/demo", "jobs", "flags", "log")

    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as made:
            assert operator.get(f"/operator/{path}").status_code == 200
        return len(made)

    for path in paths:
        queries(path)
    few = {path: queries(path) for path in paths}
    for _ in range(6):
        make_party()
    assert {path: queries(path) for path in paths} == few
    assert max(few.values()) <= 40


def test_no_content_of_a_tenant_is_shown(party: Any, operator: Client) -> None:
    with tenant_scope(party.id):
        create_dataset(name="secret-dataset-name")
        assert Dataset.objects.count() == 1
    for path in ("", "tenants", f"tenants/{party.tenant.slug}", "jobs", "log"):
        assert "secret-dataset-name" not in operator.get(f"/operator/{path}").content.decode()
    secret = party.token.split(".")[1]
    assert secret not in operator.get(f"/operator/tenants/{party.tenant.slug}").content.decode()
    assert KeyDigest.objects.filter(tenant=party.tenant).count() == 1
