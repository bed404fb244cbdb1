"""Operators who need the tenant's approval: who asks for it, who gives it, and what stays shut without."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tenants.accounts import keys
from tenants.accounts import mail as letters
from tenants.accounts.models import (
    Acting,
    Invitation,
    Membership,
    OperatorAct,
    OperatorRequest,
    Tenant,
    TenantSecurity,
    User,
)
from tenants.accounts.operators import Operator, label_of
from tenants.accounts.permissions import SCOPES, Actor
from tenants.accounts.services import set_role
from tenants.accounts.watchers import by_session, may_watch
from tenants.errors import Conflict, NotAllowed
from tenants.events.models import AuditEvent, Export, TenantErasure
from tenants.jobs.models import Job
from tenants.people import approvals, impersonation, members, tenancies
from tenants.scope import tenant_scope
from tests.tenants.people import acting, new_member
from workers import tasks

ASKED = {"access": "full", "reason": "Ticket 12.", "minutes": "45"}


@pytest.fixture
def secret() -> str:
    """What no page may show; the jobs of other tests are on the same pages."""
    return f"secret-{uuid.uuid4().hex}.png"


def events(party: Any) -> list[tuple[str, str]]:
    with tenant_scope(party.id):
        return list(AuditEvent.objects.order_by("id").values_list("actor", "verb"))


@pytest.fixture
def asking(party: Any, owner: Client) -> Any:
    """A tenant that requires approval."""
    assert owner.post("/security/operators", {"required": "yes"})["Location"] == "/security/operators"
    return party


def signed_in(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def page(party: Any) -> str:
    return f"/operator/tenants/{party.tenant.slug}"


def ask(operator: Client, party: Any, **fields: str) -> OperatorRequest:
    assert operator.post(f"{page(party)}/ask", {**ASKED, **fields})["Location"] == page(party)
    return OperatorRequest.objects.filter(tenant=party.tenant).order_by("-id")[0]


def answer(owner: Client, row: OperatorRequest, given: str) -> None:
    assert owner.post(f"/security/operators/{row.id}", {"answer": given}).status_code == 302
    row.refresh_from_db()


def begin(operator: Client, party: Any, access: str = "read") -> int:
    fields = {"access": access, "reason": "Ticket 12."}
    return operator.post(f"{page(party)}/act", fields).status_code


def is_acting(party: Any) -> bool:
    return Acting.objects.filter(tenant=party.tenant, ended_at=None, until__gt=timezone.now()).exists()


def call(token: str, method: str, path: str, body: Any = None) -> Any:
    return Client().generic(
        method,
        f"/api/v1{path}",
        json.dumps(body) if body is not None else "",
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )


def key_of(party: Any, maker: User | None) -> str:
    with tenant_scope(party.id):
        return keys.create_key(name="k", scopes=list(SCOPES), created_by=maker)[1]


def failed_job(party: Any, detail: str, **fields: Any) -> Job:
    with tenant_scope(party.id):
        return Job.objects.create(
            kind="embed_asset",
            state="failed",
            error={"type": "bad", "detail": detail},
            finished_at=timezone.now(),
            **fields,
        )


# --- What is shut ---


def test_without_the_setting_nothing_changes(party: Any, operator: Client) -> None:
    assert begin(operator, party) == 302
    assert operator.post(f"{page(party)}/ask", ASKED).status_code == 422
    assert "Ask its owners" not in operator.get(page(party)).content.decode()
    assert not OperatorRequest.objects.filter(tenant=party.tenant).exists()


def test_without_the_setting_nobody_pays_for_it(
    party: Any, operator: Client, owner: Client, secret: str
) -> None:
    job = failed_job(party, secret)
    slug = party.tenant.slug
    for client, path in (
        (owner, "/"),
        (owner, "/security"),
        (operator, page(party)),
        (operator, f"/operator/jobs?tenant={slug}"),
        (operator, f"/operator/jobs/{slug}/{job.id}"),
    ):
        client.get(path)
        with CaptureQueriesContext(connection) as made:
            assert client.get(path).status_code == 200
        asked = [query["sql"] for query in made if "operator_request" in query["sql"]]
        # It comes with the tenant.
        alone = [query["sql"] for query in made if 'FROM "tenant_security"' in query["sql"]]
        assert (asked, alone) == ([], []), path


def test_what_touches_content_is_refused_and_says_how_to_ask(asking: Any, operator: Client) -> None:
    with tenant_scope(asking.id):
        export = Export.objects.create(job_id=uuid.uuid4(), finished_at=timezone.now())
    slug = asking.tenant.slug
    acts = {
        "act": {"access": "read", "reason": "Ticket 12."},
        "export": {},
        "owner": {"email": "new@people.example"},
        "delete": {"slug": slug, "reason": "They left."},
    }
    before = OperatorAct.objects.filter(target=slug).count()
    for name, fields in acts.items():
        refused = operator.post(f"{page(asking)}/{name}", fields)
        assert refused.status_code in (403, 422), name
        assert "requires approval first" in refused.content.decode(), name
    refused = operator.get(f"{page(asking)}/exports/{export.id}")
    assert (refused.status_code, "requires approval first" in refused.content.decode()) == (403, True)
    assert not is_acting(asking)
    assert not Invitation.objects.filter(tenant=asking.tenant).exists()
    assert not TenantErasure.objects.filter(erased_tenant=asking.id).exists()
    assert Tenant.objects.get(pk=asking.id).state == "active"
    assert OperatorAct.objects.filter(target=slug).count() == before
    with tenant_scope(asking.id):
        assert Export.objects.count() == 1


def test_what_keeps_the_installation_alive_stays_possible(asking: Any, operator: Client) -> None:
    for name, fields in (
        ("suspend", {"reason": "It floods the queue."}),
        ("resume", {"reason": ""}),
        ("plan", {"plan": asking.tenant.plan_id}),
        ("limits", {"assets": "10"}),
    ):
        assert operator.post(f"{page(asking)}/{name}", fields)["Location"] == page(asking), name


def test_a_suspended_tenant_is_no_way_in(asking: Any, operator: Client) -> None:
    operator.post(f"{page(asking)}/suspend", {"reason": "To look inside."})
    assert Tenant.objects.get(pk=asking.id).state == "suspended"
    assert begin(operator, asking) == 422
    assert operator.post(f"{page(asking)}/export").status_code == 403


def test_what_jobs_say_is_hidden_until_it_is_approved(
    asking: Any, operator: Client, owner: Client, secret: str
) -> None:
    job = failed_job(
        asking, f"{secret} is broken", traceback=f"ValueError: {secret}", started_at=timezone.now()
    )
    one = f"/operator/jobs/{asking.tenant.slug}/{job.id}"
    listed = f"/operator/jobs?tenant={asking.tenant.slug}"
    shown = (page(asking), one, listed)
    for path in (*shown, "/operator/jobs?view=slow", "/operator/jobs?view=dear", "/operator/"):
        assert secret not in operator.get(path).content.decode(), path
    assert "requires approval before operators read this" in operator.get(one).content.decode()
    row = ask(operator, asking, access="read")
    assert secret not in operator.get(one).content.decode()
    answer(owner, row, "approve")
    for path in shown:
        assert secret in operator.get(path).content.decode(), path
    answer(owner, row, "revoke")
    for path in shown:
        assert secret not in operator.get(path).content.decode(), path


def test_jobs_of_other_tenants_are_read_as_ever(
    asking: Any, operator: Client, make_party: Any, secret: str
) -> None:
    other, public = make_party(), f"open-{secret}"
    for one, said in ((asking, f"hidden-{secret}"), (other, public)):
        failed_job(one, said)
    shown = operator.get("/operator/jobs").content.decode()
    assert (f"hidden-{secret}" in shown, public in shown) == (False, True)


def test_a_tenant_without_an_owner_binds_nobody(asking: Any, operator: Client) -> None:
    """Else nobody could ever help it."""
    Membership.objects.filter(tenant=asking.tenant, role="owner").delete()
    assert operator.post(f"{page(asking)}/owner", {"email": "new@people.example"}).status_code in (200, 302)
    assert Invitation.objects.filter(tenant=asking.tenant, role="owner").count() == 1


def test_an_owner_who_may_not_sign_in_is_none(asking: Any, operator: Client, owner: Client) -> None:
    row, second = ask(operator, asking), new_member(asking.tenant, "owner")
    User.objects.filter(pk=second.pk).update(is_active=False)
    with tenant_scope(asking.id), pytest.raises(NotAllowed):
        approvals.answer(actor=acting(asking.tenant, second), request_id=row.id, approve=True)
    assert begin(operator, asking) == 422
    User.objects.filter(pk=asking.owner.pk).update(is_active=False)
    assert begin(operator, asking) == 302


def test_a_link_from_before_makes_no_owner(party: Any, operator: Client, owner: Client) -> None:
    """Who keeps one would get in past the approval."""
    operator.post(f"{page(party)}/owner", {"email": "me@operators.example"})
    with tenant_scope(party.id):
        by_member = {"email": "x@people.example", "role": "owner"}
    owner.post("/people/invite", by_member)
    owner.post("/security/operators", {"required": "yes"})
    rows = Invitation.objects.filter(tenant=party.tenant)
    assert {row.email: row.open for row in rows} == {"me@operators.example": False, "x@people.example": True}


# --- From the request to its end ---


def test_an_approved_operator_acts_until_it_ends(asking: Any, operator: Any, owner: Client) -> None:
    row = ask(operator, asking)
    assert begin(operator, asking) == 422
    assert "Ticket 12." in owner.get("/security/operators").content.decode()
    assert "asks for an owner’s approval" in owner.get("/").content.decode()
    answer(owner, row, "approve")
    assert "asks for an owner’s approval" not in owner.get("/").content.decode()
    assert dt.timedelta(minutes=44) < row.until - timezone.now() <= dt.timedelta(minutes=45)
    assert begin(operator, asking, "full") == 302
    assert operator.get("/datasets").status_code == 200
    OperatorRequest.objects.filter(pk=row.pk).update(until=timezone.now())
    operator.post("/operator/stop-acting")
    assert begin(operator, asking) == 422
    assert OperatorRequest.objects.get(pk=row.pk).state == "expired"
    told = [event for event in events(asking) if event[1].startswith(("operators.", "security."))]
    who = str(asking.owner.pk)
    assert told == [
        (who, "security.changed"),
        (label_of(operator.user), "operators.requested"),
        (who, "operators.approved"),
    ]
    said = owner.get("/audit-log").content.decode()
    assert "Operator asked for approval" in said
    assert "Operator’s request approved" in said


def test_an_acting_lasts_no_longer_than_the_approval(asking: Any, operator: Any, owner: Client) -> None:
    row = ask(operator, asking, minutes="5")
    answer(owner, row, "approve")
    assert begin(operator, asking) == 302
    made = Acting.objects.get(tenant=asking.tenant)
    assert made.until == row.until
    assert made.until - timezone.now() < impersonation.LIFETIME


def test_an_approval_to_look_does_not_reach_further(asking: Any, operator: Client, owner: Client) -> None:
    answer(owner, ask(operator, asking, access="read"), "approve")
    assert begin(operator, asking, "full") == 422
    assert operator.post(f"{page(asking)}/export").status_code == 403
    assert operator.post(f"{page(asking)}/owner", {"email": "me@operators.example"}).status_code == 422
    assert begin(operator, asking, "read") == 302
    assert operator.post("/datasets/new", {"name": "x"}).status_code == 403


def test_an_approval_to_change_opens_the_rest(asking: Any, operator: Client, owner: Client) -> None:
    answer(owner, ask(operator, asking), "approve")
    assert operator.post(f"{page(asking)}/export")["Location"] == page(asking)
    assert operator.post(f"{page(asking)}/owner", {"email": "new@people.example"}).status_code in (200, 302)
    slug = asking.tenant.slug
    assert operator.post(f"{page(asking)}/delete", {"slug": slug, "reason": "They left."}).status_code == 302
    assert TenantErasure.objects.filter(erased_tenant=asking.id).exists()


def test_an_approval_is_one_operators_own(
    asking: Any, owner: Client, make_operator: Callable[[], Client]
) -> None:
    asked, another = make_operator(), make_operator()
    answer(owner, ask(asked, asking), "approve")
    assert begin(another, asking) == 422
    assert begin(asked, asking) == 302


def test_who_is_no_operator_any_more_has_no_approval(asking: Any, operator: Any, owner: Client) -> None:
    answer(owner, ask(operator, asking), "approve")
    begin(operator, asking)
    User.objects.filter(pk=operator.user.pk).update(is_staff=False)
    assert operator.get("/datasets").status_code == 302
    assert begin(operator, asking) == 403
    with pytest.raises(NotAllowed):
        tenancies.invite_owner(
            by=Operator(operator.user.email),
            label=label_of(operator.user),
            slug=asking.tenant.slug,
            email="me@operators.example",
        )


def test_a_denied_request_opens_nothing(asking: Any, operator: Client, owner: Client) -> None:
    row = ask(operator, asking)
    answer(owner, row, "deny")
    assert row.state == "denied"
    assert begin(operator, asking) == 422
    answer(owner, row, "approve")  # too late
    answer(owner, row, "revoke")  # never approved
    assert row.state == "denied"
    assert "declined your last request" in operator.get(page(asking)).content.decode()


def test_revoking_ends_the_acting_at_once(asking: Any, operator: Any, owner: Client) -> None:
    row = ask(operator, asking)
    answer(owner, row, "approve")
    begin(operator, asking, "full")
    operator.post("/people/invite", {"email": "friend@operators.example", "role": "admin"})
    watcher = by_session(operator.session.session_key)
    assert operator.get("/datasets").status_code == 200
    assert may_watch(watcher, asking.id)
    answer(owner, row, "revoke")
    assert row.state == "revoked"
    assert not is_acting(asking)
    assert operator.get("/datasets").status_code == 302
    assert not may_watch(watcher, asking.id), "event streams end as well"
    assert not Invitation.objects.get(tenant=asking.tenant).open, "and what was left open"
    assert begin(operator, asking) == 422
    assert impersonation.end_expired() >= 1
    assert (label_of(operator.user), "acting.ended") in events(asking)


def test_an_acting_leaves_no_password(
    asking: Any, operator: Any, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link for a member's password would let the operator in for good, as that member."""
    target = new_member(asking.tenant, "admin")
    answer(owner, ask(operator, asking), "approve")
    begin(operator, asking, "full")
    made = operator.post(f"/people/{target.pk}/reset-link").content.decode()
    assert "/reset" not in made or "token=" not in made
    row = Acting.objects.get(tenant=asking.tenant)
    actor = Actor(label_of(operator.user), "admin", acting_id=row.id)
    with tenant_scope(asking.id), pytest.raises(NotAllowed):
        members.make_reset_link(actor=actor, user_id=target.pk)
    assert "member.reset_link_made" not in [verb for _, verb in events(asking)]


def test_requiring_it_ends_who_acts_without(party: Any, operator: Any, owner: Client) -> None:
    begin(operator, party)
    watcher = by_session(operator.session.session_key)
    assert (is_acting(party), may_watch(watcher, party.id)) == (True, True)
    owner.post("/security/operators", {"required": "yes"})
    assert (is_acting(party), may_watch(watcher, party.id)) == (False, False)
    assert operator.get("/datasets").status_code == 302


def test_a_request_that_nobody_answers_ends(asking: Any, operator: Client, owner: Client) -> None:
    row = ask(operator, asking)
    OperatorRequest.objects.filter(pk=row.pk).update(until=timezone.now())
    answer(owner, row, "approve")
    assert row.state == "expired"
    assert begin(operator, asking) == 422


def test_nobody_approves_what_they_have_not_read(asking: Any, operator: Client, owner: Client) -> None:
    """Another request takes the place of one that waits, and has an id of its own."""
    first, second = ask(operator, asking, access="read"), ask(operator, asking, access="full")
    assert [row.id for row in OperatorRequest.objects.filter(tenant=asking.tenant)] == [second.id]
    assert owner.post(f"/security/operators/{first.id}", {"answer": "approve"}).status_code == 404
    second.refresh_from_db()
    assert second.state == "pending"


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": ""},
        {"reason": "x" * 301},
        {"reason": "\x00"},
        {"minutes": "4"},
        {"minutes": "10081"},
        {"minutes": "9" * 4000},
        {"minutes": "soon"},
        {"access": "owner"},
    ],
)
def test_odd_requests_are_refused(asking: Any, operator: Client, fields: dict[str, str]) -> None:
    assert operator.post(f"{page(asking)}/ask", {**ASKED, **fields}).status_code == 422
    assert not OperatorRequest.objects.filter(tenant=asking.tenant).exists()


# --- Who decides ---


@pytest.mark.parametrize("role", ["admin", "editor", "reviewer", "viewer"])
def test_only_owners_decide(asking: Any, operator: Client, role: str) -> None:
    row = ask(operator, asking)
    person = new_member(asking.tenant, role)
    client = signed_in(person)
    client.post(f"/security/operators/{row.id}", {"answer": "approve"})
    client.post("/security/operators", {"required": "no"})
    row.refresh_from_db()
    assert row.state == "pending"
    assert TenantSecurity.objects.get(tenant=asking.tenant).operator_approval
    with tenant_scope(asking.id), pytest.raises(NotAllowed):
        approvals.answer(actor=acting(asking.tenant, person), request_id=row.id, approve=True)


def test_a_demoted_owner_decides_nothing(asking: Any, operator: Client) -> None:
    row, second = ask(operator, asking), new_member(asking.tenant, "owner")
    token, actor = key_of(asking, second), acting(asking.tenant, second)
    with tenant_scope(asking.id):
        members.change_role(actor=acting(asking.tenant, asking.owner), user_id=second.pk, role="admin")
        with pytest.raises(NotAllowed):  # of a request that was let in before
            approvals.answer(actor=actor, request_id=row.id, approve=True)
    signed_in(second).post(f"/security/operators/{row.id}", {"answer": "approve"})
    assert call(token, "PATCH", f"/operator-requests/{row.id}", {"answer": "deny"}).status_code == 403
    row.refresh_from_db()
    assert row.state == "pending"


def test_an_operator_who_acts_approves_nothing(
    asking: Any, operator: Client, owner: Client, make_operator: Callable[[], Client]
) -> None:
    answer(owner, ask(operator, asking), "approve")
    begin(operator, asking, "full")
    for row in (ask(operator, asking), ask(make_operator(), asking)):
        operator.post(f"/security/operators/{row.id}", {"answer": "approve"})
        operator.post("/security/operators", {"required": "no"})
        row.refresh_from_db()
        assert row.state == "pending"
    assert TenantSecurity.objects.get(tenant=asking.tenant).operator_approval


def test_an_owner_who_is_an_operator_does_not_approve_their_own_request(
    asking: Any, operator: Any, owner: Client, make_operator: Callable[[], Client]
) -> None:
    set_role(tenant=asking.tenant, user=operator.user, role="owner")
    mine, anothers = ask(operator, asking), ask(make_operator(), asking)
    assert "Another owner has to approve" in operator.get("/security/operators").content.decode()
    answer(operator, mine, "approve")
    assert mine.state == "pending"
    answer(operator, anothers, "approve")
    assert anothers.state == "approved"
    answer(owner, mine, "approve")
    assert mine.state == "approved"
    # While they act they are nobody's member, and taking away is theirs as an owner alone.
    begin(operator, asking, "full")
    answer(operator, anothers, "revoke")
    assert anothers.state == "approved"
    operator.post("/operator/stop-acting")
    answer(operator, mine, "revoke")
    assert mine.state == "revoked"


def test_another_workspaces_request_is_absent(asking: Any, operator: Client, make_party: Any) -> None:
    row, other = ask(operator, asking), make_party()
    client = signed_in(other.owner)
    assert client.post(f"/security/operators/{row.id}", {"answer": "approve"}).status_code == 404
    token = key_of(other, other.owner)
    assert call(token, "PATCH", f"/operator-requests/{row.id}", {"answer": "deny"}).status_code == 404
    assert call(token, "GET", "/operator-requests").json()["results"] == []
    row.refresh_from_db()
    assert row.state == "pending"


def test_an_approval_opens_no_other_workspace(
    asking: Any, operator: Client, owner: Client, make_party: Any
) -> None:
    other = make_party()
    signed_in(other.owner).post("/security/operators", {"required": "yes"})
    answer(owner, ask(operator, asking), "approve")
    assert begin(operator, other) == 422


def test_of_two_owners_the_second_sees_the_answer_of_the_first(asking: Any, operator: Client) -> None:
    """Whoever answers holds the tenant before the request is read, so that two at once come one after the other."""
    second, row = new_member(asking.tenant, "owner"), ask(operator, asking)
    with CaptureQueriesContext(connection) as made, tenant_scope(asking.id):
        approvals.answer(actor=acting(asking.tenant, asking.owner), request_id=row.id, approve=True)
    said = [query["sql"] for query in made]
    held = next(at for at, sql in enumerate(said) if "FOR NO KEY UPDATE" in sql)
    assert held < next(at for at, sql in enumerate(said) if "operator_request" in sql)
    with tenant_scope(asking.id), pytest.raises(Conflict):
        approvals.answer(actor=acting(asking.tenant, second), request_id=row.id, approve=False)
    row.refresh_from_db()
    assert row.state == "approved"


# --- Keys ---


def test_a_key_lists_denies_and_revokes_and_never_approves(asking: Any, operator: Any, owner: Client) -> None:
    token = key_of(asking, asking.owner)
    row = ask(operator, asking)
    listed = call(token, "GET", "/operator-requests").json()["results"]
    assert [(one["id"], one["state"], one["operator"]) for one in listed] == [
        (str(row.id), "pending", operator.user.email)
    ]
    path = f"/operator-requests/{row.id}"
    assert call(token, "PATCH", path, {"answer": "approve"}).status_code == 422
    with tenant_scope(asking.id), pytest.raises(NotAllowed):
        approvals.answer(actor=Actor("key:x", "admin", asking.owner.pk), request_id=row.id, approve=True)
    with tenant_scope(asking.id), pytest.raises(NotAllowed):
        approvals.require_approval(actor=Actor("key:x", "admin", asking.owner.pk), required=False)
    assert call(token, "PATCH", path, {"answer": "revoke"}).status_code == 409
    answer(owner, row, "approve")
    begin(operator, asking)
    assert call(token, "PATCH", path, {"answer": "revoke"}).json()["state"] == "revoked"
    assert not is_acting(asking)
    waits = ask(operator, asking)
    denied = call(token, "PATCH", f"/operator-requests/{waits.id}", {"answer": "deny"}).json()
    assert denied["state"] == "denied"
    assert events(asking)[-1] == (f"key:{token.partition('.')[0]}", "operators.denied")


def test_a_key_that_no_owner_made_answers_nothing(asking: Any, operator: Client) -> None:
    row = ask(operator, asking)
    for maker in (None, new_member(asking.tenant, "admin")):
        token = key_of(asking, maker)
        refused = call(token, "PATCH", f"/operator-requests/{row.id}", {"answer": "deny"})
        assert refused.status_code == 403
    row.refresh_from_db()
    assert row.state == "pending"


# --- Letters ---


def test_owners_are_told_by_mail(asking: Any, operator: Any, owner: Client, settings: Any) -> None:
    new_member(asking.tenant, "admin")
    gone = new_member(asking.tenant, "owner")
    User.objects.filter(pk=gone.pk).update(is_active=False)
    row = ask(operator, asking)
    mail.outbox.clear()
    tasks.mail_operator_request.run(str(row.id))
    assert [message.to for message in mail.outbox] == [[asking.owner.email]]
    said = mail.outbox[0].body
    assert operator.user.email in said
    assert "Ticket 12." in said
    assert f"{settings.BASE_URL}/security/operators" in said
    answer(owner, row, "deny")
    tasks.mail_operator_request.run(str(row.id))
    tasks.mail_operator_request.run(str(uuid.uuid4()))
    assert len(mail.outbox) == 1, "what is answered, or gone, is not told"


@pytest.mark.parametrize(("host", "sent"), [("", 0), ("mail.example", 1)])
def test_a_letter_is_asked_for_where_e_mail_works(
    asking: Any, operator: Client, settings: Any, monkeypatch: pytest.MonkeyPatch, host: str, sent: int
) -> None:
    settings.EMAIL_HOST = host
    queued: list[tuple[str, ...]] = []
    monkeypatch.setattr(letters, "send", lambda *given: queued.append(given))
    row = ask(operator, asking)
    assert queued == [(approvals.TASK, str(row.id))] * sent
