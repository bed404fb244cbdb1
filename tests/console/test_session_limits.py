"""Sessions end unused, and by age: by the installation's limits and a tenant's stricter ones, on pages and streams."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tenants.accounts import sessions, watchers
from tenants.accounts.models import Session, Tenant, TenantSecurity
from tenants.accounts.security import SessionLimits, session_limits, strictest_limits
from tenants.accounts.services import set_role
from tenants.errors import Invalid
from tenants.events.models import AuditEvent
from tenants.people.security import change_security, get_security
from tenants.scope import tenant_scope
from tests.conftest import Party

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def _limits(settings: Any) -> None:
    settings.SESSION_IDLE_MINUTES, settings.SESSION_MAX_MINUTES = 60, 600


def signed_in(party: Party) -> tuple[Client, Session]:
    client = Client()
    answer = client.post("/login", {"username": party.owner.email, "password": party.password})
    assert answer.status_code == 302
    return client, Session.objects.get(pk=client.session.session_key)


def move(row: Session, *, seen: dt.timedelta = dt.timedelta(), began: dt.timedelta = dt.timedelta()) -> None:
    """As if it had been used, and begun, so long ago."""
    now = timezone.now()
    Session.objects.filter(pk=row.pk).update(seen_at=now - seen, signed_in_at=now - began)


def ask(party: Party, **minutes: int | None) -> None:
    with tenant_scope(party.id):
        change_security(actor="user:x", changes=minutes)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_limits")
def test_a_session_that_is_not_used_ends_and_its_page_says_why(party: Party) -> None:
    client, row = signed_in(party)
    move(row, seen=59 * MINUTE, began=599 * MINUTE)
    assert client.get("/keys").status_code == 200
    assert Session.objects.get(pk=row.pk).seen_at > timezone.now() - MINUTE
    move(row, seen=60 * MINUTE)
    answer = client.get("/keys?a=b")
    assert (answer.status_code, answer["Location"]) == (302, "/login?ended=idle&next=/keys%3Fa%3Db")
    assert not Session.objects.filter(pk=row.pk).exists()
    page = client.get(answer["Location"]).content.decode()
    assert "Your session has ended, as it was not used for a while." in page
    back = client.post(
        answer["Location"],
        {"username": party.owner.email, "password": party.password, "next": "/keys?a=b"},
    )
    assert back["Location"] == "/keys?a=b"


@pytest.mark.usefixtures("_limits")
def test_a_session_ends_by_age_however_much_it_is_used(party: Party) -> None:
    client, row = signed_in(party)
    move(row, began=600 * MINUTE)
    answer = client.post("/people/invite", {}, HTTP_REFERER="http://testserver/people?x=1")
    assert (answer.status_code, answer["Location"]) == (302, "/login?ended=age&next=/people%3Fx%3D1")
    assert "you signed in too long ago" in client.get(answer["Location"]).content.decode()
    assert client.get("/account")["Location"] == "/login?next=/account"


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize(
    "referer", ["http://elsewhere.example/people", "javascript:alert(1)", "//evil.example/x", ""]
)
def test_nobody_is_led_elsewhere_after_signing_in(party: Party, referer: str) -> None:
    client, row = signed_in(party)
    move(row, seen=60 * MINUTE)
    answer = client.post("/people/invite", {}, HTTP_REFERER=referer)
    assert answer["Location"] == "/login?ended=idle&next=/"


@pytest.mark.usefixtures("_limits")
def test_what_pages_ask_by_themselves_is_no_use(party: Party) -> None:
    client, row = signed_in(party)
    move(row, seen=30 * MINUTE)
    before = Session.objects.get(pk=row.pk).seen_at
    scripts: list[dict[str, str]] = [
        {"HTTP_ACCEPT": "application/json"},
        {"HTTP_HX_REQUEST": "true"},
        {"HTTP_SEC_FETCH_MODE": "cors"},
        {"HTTP_ACCEPT": "text/event-stream"},
    ]
    for headers in scripts:
        assert client.get("/jobs/states?ids=", **headers).status_code == 200
    assert Session.objects.get(pk=row.pk).seen_at == before
    move(row, seen=60 * MINUTE)
    for headers in scripts[:2]:
        assert client.get("/jobs/states?ids=", **headers).status_code == 401
    # The page is loaded again by its script, and says why.
    assert client.get("/jobs")["Location"] == "/login?ended=idle&next=/jobs"


@pytest.mark.usefixtures("_limits")
def test_pages_before_signing_in_neither_know_nor_revive_it(party: Party) -> None:
    client, row = signed_in(party)
    move(row, seen=60 * MINUTE)
    client.get("/invitation?token=made-up")
    assert not Session.objects.filter(pk=row.pk).exists()
    assert client.get("/keys")["Location"] == "/login?next=/keys"


@pytest.mark.usefixtures("_limits")
def test_what_a_page_keeps_in_a_session_is_no_use_of_it(party: Party) -> None:
    client, row = signed_in(party)
    move(row, seen=30 * MINUTE)
    before = Session.objects.get(pk=row.pk).seen_at
    kept = client.session
    kept["something"] = 1
    kept.save()
    assert Session.objects.get(pk=row.pk).seen_at == before


@pytest.mark.usefixtures("_limits")
def test_the_open_workspace_says_how_long(party: Party, stranger: Party) -> None:
    set_role(tenant=stranger.tenant, user=party.owner, role="viewer")
    ask(party, session_idle_minutes=10)
    client, row = signed_in(party)
    client.post("/workspace", {"tenant": str(stranger.id)})
    move(row, seen=30 * MINUTE)
    assert client.get("/account").status_code == 200, "the other one asks for no more than the installation"
    client.post("/workspace", {"tenant": str(party.id)})
    move(row, seen=10 * MINUTE)
    # Also where another workspace would be chosen, or else that would lead round it.
    for path in ("/account", "/workspace"):
        answer = client.get(path, HTTP_ACCEPT="application/json")
        assert answer.status_code == 401
    assert client.get("/workspace")["Location"] == "/login?ended=idle&next=/workspace"
    assert strictest_limits(party.owner) == SessionLimits(10 * MINUTE, 600 * MINUTE)


@pytest.mark.usefixtures("_limits")
def test_a_stream_ends_with_its_session(party: Party) -> None:
    client, row = signed_in(party)
    watcher = watchers.by_session(client.session.session_key)
    assert watchers.may_watch(watcher, party.id)
    ask(party, session_idle_minutes=10)
    move(row, seen=10 * MINUTE)
    assert not watchers.may_watch(watcher, party.id)
    move(row, seen=9 * MINUTE)
    assert watchers.may_watch(watcher, party.id)
    ask(party, session_max_minutes=120)
    move(row, began=120 * MINUTE)
    assert not watchers.may_watch(watcher, party.id)
    assert not watchers.may_watch(watcher, uuid.uuid4())


@pytest.mark.usefixtures("_limits")
def test_operators_pages_go_by_the_strictest_of_their_workspaces(party: Party) -> None:
    party.owner.is_staff = True
    party.owner.save()
    client, row = signed_in(party)
    ask(party, session_idle_minutes=10)
    move(row, seen=10 * MINUTE)
    answer = client.get("/operator/jobs")
    assert (answer.status_code, answer["Location"]) == (302, "/login?ended=idle&next=/operator/jobs")
    assert not Session.objects.filter(pk=row.pk).exists()


@pytest.mark.usefixtures("_limits")
def test_a_session_of_the_release_before_counts_from_when_it_was_written(party: Party, settings: Any) -> None:
    settings.SESSION_COOKIE_AGE = 600 * 60
    client, row = signed_in(party)
    now = timezone.now()
    rows = Session.objects.filter(pk=row.pk)
    rows.update(signed_in_at=None, expire_date=now + MINUTE)
    assert client.get("/keys").status_code == 200
    rows.update(signed_in_at=None, expire_date=now + dt.timedelta(seconds=1))
    assert sessions.over(rows.get(), SessionLimits(60 * MINUTE, 599 * MINUTE)) == sessions.AGE


@pytest.mark.usefixtures("_limits")
def test_the_list_of_sessions_and_the_upkeep_know(party: Party) -> None:
    _, row = signed_in(party)
    _, kept = signed_in(party)
    move(row, seen=60 * MINUTE)
    assert [one.pk for one in sessions.list_sessions(party.owner)] == [kept.pk]
    sessions.forget_expired()
    assert list(Session.objects.filter(user=party.owner).values_list("pk", flat=True)) == [kept.pk]


@pytest.mark.usefixtures("_limits")
def test_a_tenant_asks_for_less_and_never_for_more(party: Party) -> None:
    ask(party, session_idle_minutes=15, session_max_minutes=None)
    tenant = Tenant.objects.select_related("security").get(pk=party.id)
    assert session_limits(tenant) == SessionLimits(15 * MINUTE, 600 * MINUTE)
    assert session_limits(None) == SessionLimits(60 * MINUTE, 600 * MINUTE)
    for name, refused in (
        ("session_idle_minutes", (4, 61)),
        ("session_max_minutes", (14, 601)),
    ):
        for minutes in refused:
            with pytest.raises(Invalid) as error:
                ask(party, **{name: minutes})
            assert error.value.errors[0]["pointer"] == f"/{name}"
    row = TenantSecurity.objects.get(tenant=party.tenant)
    assert (row.session_idle_minutes, row.session_max_minutes) == (15, None)
    with tenant_scope(party.id):
        lines = list(AuditEvent.objects.filter(verb="security.changed").values_list("actor", "details"))
        ask(party, session_idle_minutes=15)
        assert AuditEvent.objects.filter(verb="security.changed").count() == 1, "nothing changed"
    assert lines == [("user:x", {"session_idle_minutes": [None, 15]})]


@pytest.mark.usefixtures("_limits")
def test_an_installation_that_grows_stricter_binds_a_tenant_that_asked_before(
    party: Party, settings: Any
) -> None:
    ask(party, session_idle_minutes=50)
    settings.SESSION_IDLE_MINUTES = 20
    with tenant_scope(party.id):
        assert session_limits(get_security().tenant).idle == 20 * MINUTE
