"""Operators who act in a tenant: every way in, what they may do there, and what is seen of it."""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tenants.accounts import flags, services
from tenants.accounts.models import Acting, FeatureFlag, Invitation, OperatorAct, User
from tenants.accounts.operators import Operator
from tenants.accounts.sessions import handle_of
from tenants.accounts.watchers import by_session, may_watch
from tenants.datasets.models import Dataset
from tenants.datasets.services import create_dataset
from tenants.events.models import AuditEvent
from tenants.people import impersonation, tenancies
from tenants.scope import tenant_scope

LINK = re.compile(r"/invitation\?token=[\w-]+")


def act(client: Client, party: Any, *, access: str = "read", reason: str = "Ticket 12.") -> Any:
    fields = {"access": access, "reason": reason}
    return client.post(f"/operator/tenants/{party.tenant.slug}/act", fields)


def log_of(party: Any) -> list[tuple[str, str]]:
    with tenant_scope(party.id):
        return list(AuditEvent.objects.order_by("id").values_list("actor", "verb"))


def label(client: Any) -> str:
    return f"operator:{client.user.email}"


def test_an_operator_without_membership_gets_in_by_no_other_way(party: Any, operator: Client) -> None:
    assert operator.get("/datasets")["Location"] == "/workspace"
    operator.post("/workspace", {"tenant": str(party.id)})
    session: Any = operator.session
    session["tenant"] = str(party.id)
    session["acting"] = str(party.id)
    session.save()
    assert operator.get("/datasets")["Location"] == "/workspace"


def test_they_look_and_change_nothing_by_default(party: Any, operator: Client) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="theirs")
    assert act(operator, party)["Location"] == "/"
    assert "theirs" in operator.get("/datasets").content.decode()
    assert operator.get(f"/datasets/{dataset.id}").status_code == 200
    for path, status in (
        ("/datasets/new", 403),
        ("/keys", 403),
        ("/people/invite", 403),
        ("/search/feedback", 403),
    ):
        assert operator.post(path, {"name": "x"}).status_code == status, path
    with tenant_scope(party.id):
        assert Dataset.objects.count() == 1


def test_with_full_access_what_they_do_stands_under_their_name(party: Any, operator: Client) -> None:
    act(operator, party, access="full")
    with tenant_scope(party.id):
        dataset = create_dataset(name="theirs")
    operator.post(f"/datasets/{dataset.id}/delete", {"name": "theirs"})
    assert (label(operator), "dataset.deleted") in log_of(party)
    assert not any(str(operator.user.pk) in actor for actor, _verb in log_of(party))


def test_no_key_that_would_stay_is_made(party: Any, operator: Client) -> None:
    act(operator, party, access="full")
    response = operator.post("/keys", {"name": "mine", "scopes": ["read"], "lifetime": "30"})
    assert response.status_code in (200, 403, 422)
    assert "key.created" not in [verb for _, verb in log_of(party)]


def test_they_do_not_make_themselves_or_others_owners(party: Any, operator: Client) -> None:
    act(operator, party, access="full")
    operator.post("/people/invite", {"email": "me@operators.example", "role": "owner"})
    assert "member.invited" not in [verb for _, verb in log_of(party)]


# --- What they make ends with it ---


def invited(operator: Client, email: str) -> str:
    """The path of the link that an operator who acts is shown."""
    page = operator.post("/people/invite", {"email": email, "role": "admin"}).content.decode()
    return LINK.findall(page)[0]


def opens(path: str) -> tuple[int, str]:
    guest = Client(REMOTE_ADDR=f"198.51.100.{secrets.randbelow(256)}")
    guest.get(path)
    page = guest.get("/invitation")
    return page.status_code, page.content.decode()


@pytest.mark.parametrize("end", ["stop", "sign out", "time"])
def test_an_invitation_ends_with_the_acting(end: str, party: Any, operator: Client, owner: Client) -> None:
    act(operator, party, access="full")
    path = invited(operator, "me@friends.example")
    row = Invitation.objects.get(tenant=party.tenant)
    assert row.expires_at == Acting.objects.get(tenant=party.tenant).until
    assert opens(path)[0] == 200
    assert "me@friends.example" in owner.get("/people").content.decode()
    if end == "stop":
        operator.post("/operator/stop-acting")
    elif end == "sign out":
        operator.post("/logout")
    else:
        Acting.objects.filter(tenant=party.tenant).update(until=timezone.now() - dt.timedelta(seconds=1))
    status, page = opens(path)
    assert status == 410
    assert "ended when the operator who made it left the workspace" in page
    joining = {"name": "Me", "password": "a long enough one", "again": "a long enough one"}
    guest = Client()
    guest.get(path)
    assert guest.post("/invitation", joining).status_code == 410
    assert not User.objects.filter(email="me@friends.example").exists()
    assert "me@friends.example" not in owner.get("/people").content.decode()
    assert operator.post(f"/invitations/{row.pk}/link").status_code in (302, 404)
    assert owner.post(f"/invitations/{row.pk}/link").status_code == 404


def test_a_link_that_an_operator_renews_ends_too_and_one_that_a_member_renews_stays(
    party: Any, operator: Client, owner: Client
) -> None:
    page = owner.post("/people/invite", {"email": "a@friends.example", "role": "viewer"}).content.decode()
    first = LINK.findall(page)[0]
    row = Invitation.objects.get(tenant=party.tenant)
    act(operator, party, access="full")
    second = LINK.findall(operator.post(f"/invitations/{row.pk}/link").content.decode())[0]
    assert [opens(path)[0] for path in (first, second)] == [410, 200]
    third = LINK.findall(owner.post(f"/invitations/{row.pk}/link").content.decode())[0]
    operator.post(f"/invitations/{row.pk}/link")
    fourth = LINK.findall(owner.post(f"/invitations/{row.pk}/link").content.decode())[0]
    operator.post("/operator/stop-acting")
    assert [opens(path)[0] for path in (second, third, fourth)] == [410, 410, 200]
    row.refresh_from_db()
    assert row.invited_by == party.owner
    assert row.expires_at - timezone.now() > dt.timedelta(days=6)


def test_every_page_says_so_until_it_is_stopped(party: Any, operator: Client) -> None:
    act(operator, party)
    page = operator.get("/").content.decode()
    assert operator.user.email in page
    assert "/operator/stop-acting" in page
    assert operator.post("/operator/stop-acting")["Location"] == f"/operator/tenants/{party.tenant.slug}"
    assert operator.get("/datasets")["Location"] == "/workspace"
    assert log_of(party) == [(label(operator), "acting.started"), (label(operator), "acting.ended")]
    verbs = list(OperatorAct.objects.filter(target=party.tenant.slug).values_list("verb", flat=True))
    assert sorted(verbs) == ["acting.ended", "acting.started"]


def test_the_tenant_sees_who_why_and_until_when(party: Any, operator: Client, owner: Client) -> None:
    act(operator, party, reason="A search that finds nothing.")
    page = owner.get("/audit-log").content.decode()
    assert label(operator) in page
    assert "A search that finds nothing." in page
    assert operator.user.email not in owner.get("/").content.decode()


def test_it_holds_for_this_session_alone(
    party: Any, operator: Client, make_operator: Callable[[], Client]
) -> None:
    act(operator, party)
    other = Client()
    other.force_login(operator.user)
    for client in (other, make_operator()):
        assert client.get("/datasets")["Location"] == "/workspace"
        client.post("/operator/stop-acting")
    assert operator.get("/datasets").status_code == 200


def test_a_row_of_another_persons_session_opens_nothing(party: Any, operator: Client, owner: Client) -> None:
    act(operator, party)
    Acting.objects.filter(tenant=party.tenant).update(session=handle_of(owner.session.session_key or ""))
    assert impersonation.current(owner.user, owner.session.session_key) is None
    assert operator.get("/datasets")["Location"] == "/workspace"


def test_it_ends_with_its_time(party: Any, operator: Client) -> None:
    act(operator, party)
    row = Acting.objects.get(tenant=party.tenant)
    assert dt.timedelta(minutes=29) < row.until - timezone.now() <= dt.timedelta(minutes=30)
    assert may_watch(by_session(operator.session.session_key or ""), party.id)
    Acting.objects.filter(pk=row.pk).update(until=timezone.now() - dt.timedelta(seconds=1))
    assert operator.get("/datasets")["Location"] == "/workspace"
    assert not may_watch(by_session(operator.session.session_key or ""), party.id)
    impersonation.end_expired()
    impersonation.end_expired()
    assert log_of(party)[-1] == (label(operator), "acting.ended")
    assert len(log_of(party)) == 2


def test_it_ends_with_signing_out(party: Any, operator: Client) -> None:
    act(operator, party)
    operator.post("/logout")
    assert Acting.objects.get(tenant=party.tenant).ended_at is not None
    operator.force_login(operator.user)
    assert operator.get("/datasets")["Location"] == "/workspace"
    assert log_of(party)[-1] == (label(operator), "acting.ended")


def test_it_ends_at_once_with_the_tenants_suspension_the_flag_or_the_office(
    party: Any, operator: Client
) -> None:
    by = Operator(operator.user.email)
    who = {"by": by, "label": label(operator), "slug": party.tenant.slug, "reason": "x"}
    watcher = by_session(operator.session.session_key or "")
    act(operator, party)
    tenancies.suspend_tenant(**who)
    assert operator.get("/datasets")["Location"] == "/workspace"
    # Opened again, they do not act again by themselves.
    tenancies.resume_tenant(**who)
    assert operator.get("/datasets")["Location"] == "/workspace"
    impersonation.end_expired()
    assert log_of(party)[-1] == (label(operator), "acting.ended")
    act(operator, party)
    assert may_watch(watcher, party.id)
    flags.set_flag(by=by, name=flags.ACTING, state="off")
    assert operator.get("/datasets")["Location"] == "/workspace"
    assert not may_watch(watcher, party.id)
    flags.reset_flag(by=by, name=flags.ACTING)
    assert operator.get("/datasets").status_code == 200
    User.objects.filter(pk=operator.user.pk).update(is_staff=False)
    assert operator.get("/datasets")["Location"] == "/workspace"
    assert not may_watch(watcher, party.id)


@pytest.fixture
def nobody_acts() -> Any:
    by = Operator("f@x.example")
    flags.set_flag(by=by, name="acting-as", state="off")
    yield
    FeatureFlag.objects.filter(name="acting-as").delete()
    flags.forget()


def test_where_the_flag_is_off_nobody_acts(party: Any, operator: Client, nobody_acts: None) -> None:
    assert act(operator, party).status_code == 422
    assert log_of(party) == []
    assert operator.get("/datasets")["Location"] == "/workspace"


@pytest.mark.parametrize("wrong", [{"reason": ""}, {"reason": " "}, {"access": "all"}])
def test_what_is_wrong_begins_nothing(party: Any, operator: Client, wrong: dict[str, str]) -> None:
    assert act(operator, party, **wrong).status_code == 422
    assert (log_of(party), Acting.objects.filter(tenant=party.tenant).count()) == ([], 0)


def test_another_tenant_takes_the_place_of_the_first(party: Any, stranger: Any, operator: Client) -> None:
    act(operator, party)
    act(operator, stranger)
    with tenant_scope(party.id):
        mine = create_dataset(name="d")
    assert operator.get(f"/datasets/{mine.id}").status_code == 404
    assert [verb for _, verb in log_of(party)] == ["acting.started", "acting.ended"]


def test_an_operator_who_is_a_member_too_looks_only_while_acting(party: Any, operator: Client) -> None:
    services.set_role(tenant=party.tenant, user=operator.user, role="owner")
    assert operator.get("/keys").status_code == 200
    act(operator, party)
    assert operator.get("/keys").status_code == 403
    operator.post("/operator/stop-acting")
    assert operator.get("/keys").status_code == 200


def test_the_name_of_one_request_does_not_stay_for_the_next(
    party: Any, operator: Client, owner: Client
) -> None:
    act(operator, party, access="full")
    operator.post("/datasets/new", {"name": "by the operator"})
    owner.post("/datasets/new", {"name": "by the owner"})
    with tenant_scope(party.id):
        mine = Dataset.objects.get(name="by the owner")
    owner.post(f"/datasets/{mine.id}/delete", {"name": "by the owner"})
    assert log_of(party)[-1] == (str(party.owner.pk), "dataset.deleted")


def test_people_who_are_no_operators_cost_no_query(
    party: Any, owner: Client, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        assert impersonation.current(party.owner, "anything") is None
