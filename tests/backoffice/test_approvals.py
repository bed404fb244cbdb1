"""Operators who need the tenant's approval: who asks for it, who gives it, and what stays shut without."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from tenants.accounts import keys
from tenants.accounts.models import Acting, Invitation, Membership, OperatorAct, OperatorRequest, Tenant
from tenants.accounts.operators import label_of
from tenants.accounts.permissions import Actor
from tenants.errors import NotAllowed
from tenants.events.models import AuditEvent, Export, TenantErasure
from tenants.jobs.models import Job
from tenants.people import approvals, impersonation
from tenants.scope import tenant_scope
from tests.tenants.people import acting, new_member

ASKED = {"access": "full", "reason": "Ticket 12.", "minutes": "45"}


def events(party: Any) -> list[tuple[str, str]]:
    with tenant_scope(party.id):
        return list(AuditEvent.objects.order_by("id").values_list("actor", "verb"))


@pytest.fixture
def asking(party: Any, owner: Client) -> Any:
    """A tenant that requires approval."""
    assert owner.post("/security/operators", {"asked": "yes"})["Location"] == "/security/operators"
    return party


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


# --- What is shut ---


def test_without_the_setting_nothing_changes(party: Any, operator: Client) -> None:
    assert begin(operator, party) == 302
    assert operator.post(f"{page(party)}/ask", ASKED).status_code == 422
    assert not OperatorRequest.objects.filter(tenant=party.tenant).exists()


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
        assert "requires approval" in refused.content.decode(), name
    refused = operator.get(f"{page(asking)}/exports/{export.id}")
    assert (refused.status_code, "requires approval" in refused.content.decode()) == (403, True)
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


def test_what_jobs_say_is_hidden_until_it_is_approved(asking: Any, operator: Client, owner: Client) -> None:
    with tenant_scope(asking.id):
        job = Job.objects.create(
            kind="embed_asset",
            state="failed",
            error={"type": "bad", "detail": "secret-holiday.png is broken"},
            traceback="ValueError: secret-holiday.png",
            finished_at=timezone.now(),
        )
    addresses = (
        page(asking), f"/operator/jobs/{asking.tenant.slug}/{job.id}", f"/operator/jobs?tenant={asking.tenant.slug}"
    )  # fmt: skip
    for address in addresses:
        shown = operator.get(address).content.decode()
        assert "secret-holiday" not in shown, address
    answer(owner, ask(operator, asking, access="read"), "approve")
    assert "secret-holiday" in operator.get(addresses[1]).content.decode()
    assert "secret-holiday" in operator.get(addresses[0]).content.decode()


def test_a_tenant_without_an_owner_binds_nobody(asking: Any, operator: Client) -> None:
    """Else nobody could ever help it."""
    Membership.objects.filter(tenant=asking.tenant, role="owner").delete()
    assert operator.post(f"{page(asking)}/owner", {"email": "new@people.example"}).status_code in (200, 302)
    assert Invitation.objects.filter(tenant=asking.tenant, role="owner").count() == 1


# --- From the request to its end ---


def test_an_approved_operator_acts_until_it_ends(asking: Any, operator: Any, owner: Client) -> None:
    row = ask(operator, asking)
    assert begin(operator, asking) == 422
    assert "ticket 12" in owner.get("/security/operators").content.decode().lower()
    assert "asks for an owner’s approval" in owner.get("/").content.decode()
    answer(owner, row, "approve")
    assert row.answered_by == str(asking.owner.pk)
    assert dt.timedelta(minutes=44) < row.until - timezone.now() <= dt.timedelta(minutes=45)
    assert begin(operator, asking, "full") == 302
    assert operator.get("/datasets").status_code == 200
    OperatorRequest.objects.filter(pk=row.pk).update(until=timezone.now())
    operator.post("/operator/stop-acting")
    assert begin(operator, asking) == 422
    assert OperatorRequest.objects.get(pk=row.pk).state == "expired"
    told = [event for event in events(asking) if event[1].startswith("operators.")]
    who = str(asking.owner.pk)
    assert told == [
        (who, "operators.approval_asked"),
        (label_of(operator.user), "operators.requested"),
        (who, "operators.approved"),
    ]


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
    assert begin(operator, asking, "read") == 302


def test_an_approval_is_one_operators_own(
    asking: Any, owner: Client, make_operator: Callable[[], Client]
) -> None:
    asked, another = make_operator(), make_operator()
    answer(owner, ask(asked, asking), "approve")
    assert begin(another, asking) == 422
    assert begin(asked, asking) == 302


def test_a_denied_request_opens_nothing(asking: Any, operator: Client, owner: Client) -> None:
    row = ask(operator, asking)
    answer(owner, row, "deny")
    assert row.state == "denied"
    assert begin(operator, asking) == 422
    answer(owner, row, "approve")  # too late
    assert row.state == "denied"
    assert "declined your last request" in operator.get(page(asking)).content.decode()


def test_taking_it_back_ends_the_acting_at_once(asking: Any, operator: Client, owner: Client) -> None:
    row = ask(operator, asking)
    answer(owner, row, "approve")
    begin(operator, asking)
    assert operator.get("/datasets").status_code == 200
    answer(owner, row, "revoke")
    assert row.state == "revoked"
    assert not is_acting(asking)
    assert operator.get("/datasets").status_code == 302
    assert begin(operator, asking) == 422


def test_asking_for_it_ends_who_acts_without(party: Any, operator: Client, owner: Client) -> None:
    begin(operator, party)
    assert is_acting(party)
    owner.post("/security/operators", {"asked": "yes"})
    assert not is_acting(party)
    assert operator.get("/datasets").status_code == 302


def test_a_request_that_nobody_answers_ends(asking: Any, operator: Client, owner: Client) -> None:
    row = ask(operator, asking)
    OperatorRequest.objects.filter(pk=row.pk).update(until=timezone.now())
    answer(owner, row, "approve")
    assert row.state == "expired"
    assert begin(operator, asking) == 422


def test_a_second_request_takes_the_place_of_one_that_waits(asking: Any, operator: Client) -> None:
    first, second = ask(operator, asking), ask(operator, asking, access="read")
    assert [row.id for row in OperatorRequest.objects.filter(tenant=asking.tenant)] == [second.id]
    assert first.id != second.id


# --- Who decides ---


@pytest.mark.parametrize("role", ["admin", "editor", "reviewer", "viewer"])
def test_only_owners_decide(asking: Any, operator: Client, role: str) -> None:
    row = ask(operator, asking)
    person = new_member(asking.tenant, role)
    client = Client()
    client.force_login(person)
    client.post(f"/security/operators/{row.id}", {"answer": "approve"})
    client.post("/security/operators", {"asked": "no"})
    row.refresh_from_db()
    assert row.state == "pending"
    with tenant_scope(asking.id):
        assert approvals.is_asked(asking.tenant)
        with pytest.raises(NotAllowed):
            approvals.answer(actor=acting(asking.tenant, person), request_id=row.id, approve=True)


def test_an_operator_who_acts_approves_nothing(asking: Any, operator: Client, owner: Client) -> None:
    answer(owner, ask(operator, asking), "approve")
    begin(operator, asking, "full")
    row = ask(operator, asking)
    operator.post(f"/security/operators/{row.id}", {"answer": "approve"})
    operator.post("/security/operators", {"asked": "no"})
    row.refresh_from_db()
    assert row.state == "pending"
    assert approvals.is_asked(asking.tenant)


def test_a_key_answers_for_the_owner_who_made_it(asking: Any, operator: Client) -> None:
    row = ask(operator, asking)
    with tenant_scope(asking.id):
        maker = keys.maker_of(keys.list_keys()[0][0].id)
        assert maker == asking.owner
        with pytest.raises(NotAllowed):
            approvals.answer(actor=Actor("key:x", "admin"), request_id=row.id, approve=True)
        approvals.answer(actor=Actor("key:x", "admin", maker.pk), request_id=row.id, approve=True)
    row.refresh_from_db()
    assert (row.state, row.answered_by) == ("approved", "key:x")


def test_another_workspaces_request_is_absent(asking: Any, operator: Client, make_party: Any) -> None:
    row, other = ask(operator, asking), make_party()
    client = Client()
    client.force_login(other.owner)
    assert client.post(f"/security/operators/{row.id}", {"answer": "approve"}).status_code == 404
    row.refresh_from_db()
    assert row.state == "pending"


def test_owners_are_told_by_mail(asking: Any, operator: Any, settings: Any) -> None:
    from workers import tasks

    new_member(asking.tenant, "admin")
    row = ask(operator, asking)
    mail.outbox.clear()
    tasks.mail_operator_request.run(str(row.id))
    assert [message.to for message in mail.outbox] == [[asking.owner.email]]
    assert operator.user.email in mail.outbox[0].body
    assert "Ticket 12." in mail.outbox[0].body
    assert f"{settings.BASE_URL}/security/operators" in mail.outbox[0].body
