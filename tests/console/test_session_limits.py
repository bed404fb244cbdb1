"""Sessions end unused, and by age: by the installation's limits and a tenant's stricter ones, on pages and streams."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import uuid
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from tenants.accounts import sessions, watchers
from tenants.accounts.models import Acting, Session, Tenant, TenantSecurity
from tenants.accounts.operators import Operator
from tenants.accounts.security import SessionLimits, session_limits, strictest_limits
from tenants.accounts.services import set_role
from tenants.errors import Invalid
from tenants.events.models import AuditEvent
from tenants.people import impersonation
from tenants.people.security import change_security, get_security
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.people import new_member, new_user

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
        {"HTTP_SEC_FETCH_MODE": "no-cors"},
        {"HTTP_ACCEPT": "text/event-stream"},
    ]
    for headers in scripts:
        assert client.get("/jobs/states?ids=", **headers).status_code == 200
    assert Session.objects.get(pk=row.pk).seen_at == before
    move(row, seen=60 * MINUTE)
    for headers in scripts[:4]:
        # A picture is not led to the sign-in page either, which would lead it back.
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
def test_two_tabs_are_one_session(party: Party) -> None:
    client, row = signed_in(party)
    move(row, seen=50 * MINUTE)
    slow = sessions.SessionStore(row.pk)
    slow["something"] = 1
    # While one tab's request is under way, the other tab is used.
    assert client.get("/keys").status_code == 200
    used = Session.objects.get(pk=row.pk).seen_at
    slow.save()
    assert Session.objects.get(pk=row.pk).seen_at == used
    move(row, seen=60 * MINUTE)
    assert client.get("/jobs", HTTP_ACCEPT="application/json").status_code == 401
    assert client.get("/jobs")["Location"] == "/login?ended=idle&next=/jobs"
    # The other tab finds that nobody is signed in, and is led back, too.
    assert client.get("/keys")["Location"] == "/login?next=/keys"


@pytest.mark.usefixtures("_limits")
def test_hosts_whose_clocks_differ(party: Party) -> None:
    """A host that is three minutes ahead has noted sign-in and use; a use noted by it is not taken back."""
    client, row = signed_in(party)
    move(row, seen=-3 * MINUTE, began=-3 * MINUTE)
    noted = Session.objects.get(pk=row.pk).seen_at
    assert client.get("/keys").status_code == 200
    store = sessions.SessionStore(row.pk)
    store.load()
    assert sessions.over(store, SessionLimits(5 * MINUTE, 15 * MINUTE)) == ""
    # It was read before the other host noted it.
    store.seen_at = timezone.now() - 2 * MINUTE
    sessions.touch(store)
    assert Session.objects.get(pk=row.pk).seen_at == noted
    # And three minutes behind: the shortest limits leave room for it.
    move(row, seen=3 * MINUTE, began=3 * MINUTE)
    assert sessions.over(Session.objects.get(pk=row.pk), SessionLimits(5 * MINUTE, 15 * MINUTE)) == ""


@pytest.mark.usefixtures("_limits")
def test_a_limit_that_is_shortened_ends_open_sessions(party: Party) -> None:
    client, row = signed_in(party)
    move(row, seen=20 * MINUTE, began=30 * MINUTE)
    watcher = watchers.by_session(row.pk)
    assert watchers.may_watch(watcher, party.id)
    ask(party, session_idle_minutes=20)
    assert not watchers.may_watch(watcher, party.id)
    ask(party, session_idle_minutes=None)
    assert watchers.may_watch(watcher, party.id)
    ask(party, session_max_minutes=30)
    assert client.get("/keys")["Location"] == "/login?ended=age&next=/keys"


def test_a_new_password_is_a_new_sign_in(party: Party) -> None:
    client, row = signed_in(party)
    move(row, began=dt.timedelta(days=6))
    new = f"violet {secrets.token_hex(8)}"
    answer = client.post("/account/password", {"current": party.password, "password": new, "again": new})
    assert answer["Location"] == "/account"
    [now] = sessions.list_sessions(party.owner)
    assert (now.pk != row.pk, timezone.now() - now.signed_in_at < MINUTE) == (True, True)
    assert (now.device, now.address) == (row.device, row.address)


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
def test_a_session_of_the_release_before_begins_with_the_upgrade_and_ends(party: Party) -> None:
    """That release knows nothing of `signed_in_at`, neither when it makes a row nor when it writes one."""
    client, row = signed_in(party)
    names = [field.column for field in Session._meta.concrete_fields if field.column != "signed_in_at"]
    found = Session.objects.filter(pk=row.pk).values_list(*names).get()
    Session.objects.filter(pk=row.pk).delete()
    with connection.cursor() as cursor:
        places = ", ".join(["%s"] * len(names))
        cursor.execute(f"INSERT INTO session ({', '.join(names)}) VALUES ({places})", found)
    assert client.get("/keys").status_code == 200
    kept = Session.objects.get(pk=row.pk)
    assert abs(timezone.now() - kept.signed_in_at) < MINUTE
    move(kept, began=600 * MINUTE)
    # Written again and again, as pages do.
    written = client.session
    written["something"] = 1
    written.save()
    assert client.get("/keys")["Location"] == "/login?ended=age&next=/keys"


@pytest.mark.usefixtures("_limits")
def test_an_operator_who_acts_is_bound_by_the_workspace(party: Party) -> None:
    operator = new_user()
    operator.is_staff = True
    operator.save()
    client = Client()
    client.force_login(operator)
    row = Session.objects.get(pk=client.session.session_key)
    by = Operator(operator.email)
    impersonation.begin(
        by=by,
        user=operator,
        session_key=row.pk,
        slug=party.tenant.slug,
        access=Acting.Access.READ,
        reason="x",
    )
    ask(party, session_idle_minutes=10)
    watcher = watchers.by_session(row.pk)
    move(row, seen=9 * MINUTE)
    assert watchers.may_watch(watcher, party.id)
    move(row, seen=10 * MINUTE)
    assert not watchers.may_watch(watcher, party.id)
    assert client.get("/datasets")["Location"] == "/login?ended=idle&next=/datasets"


@pytest.mark.usefixtures("_limits")
def test_the_list_of_sessions_and_the_upkeep_know(party: Party) -> None:
    rows = [signed_in(party)[1] for _ in range(3)]
    kept = rows[2]
    move(rows[0], seen=60 * MINUTE)
    move(rows[1], began=600 * MINUTE)
    assert [one.pk for one in sessions.list_sessions(party.owner)] == [kept.pk]
    # One of nobody waits for an invitation to be accepted.
    nobody = sessions.SessionStore()
    nobody["invitation"] = "x"
    nobody.save()
    Session.objects.filter(pk=nobody.session_key).update(seen_at=timezone.now() - 60 * MINUTE)
    sessions.forget_expired()
    assert list(Session.objects.filter(user=party.owner).values_list("pk", flat=True)) == [kept.pk]
    assert Session.objects.filter(pk=nobody.session_key).exists()


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


@pytest.mark.usefixtures("_limits")
def test_networks_are_changed_although_a_limit_of_before_is_too_wide_now(party: Party, settings: Any) -> None:
    ask(party, session_idle_minutes=50)
    settings.SESSION_IDLE_MINUTES = 20
    with tenant_scope(party.id):
        change_security(actor="user:x", changes={"allowed_networks": ["192.0.2.0/24"]})
        assert get_security().allowed_networks == ["192.0.2.0/24"]


# --- The API, and the page ---


def call(party: Party, method: str, body: Any = None) -> Any:
    sent = "" if body is None else json.dumps(body)
    return Client().generic(method, "/api/v1/security", sent, content_type="application/json", **party.auth)


@pytest.mark.usefixtures("_limits")
def test_by_the_api(party: Party) -> None:
    none = {"session_idle_minutes": None, "session_max_minutes": None, "allowed_networks": []}
    assert call(party, "GET").json() == {**none, "sessions": {"idle_minutes": 60, "max_minutes": 600}}
    answer = call(party, "PATCH", {"session_idle_minutes": 30, "session_max_minutes": 120}).json()
    assert answer["sessions"] == {"idle_minutes": 30, "max_minutes": 120}
    answer = call(party, "PATCH", {"session_idle_minutes": None}).json()
    assert (answer["session_idle_minutes"], answer["session_max_minutes"]) == (None, 120)
    assert answer["sessions"] == {"idle_minutes": 60, "max_minutes": 120}
    refused = call(party, "PATCH", {"session_idle_minutes": 61, "session_max_minutes": 14})
    assert refused.status_code == 422
    assert refused.json()["errors"] == [
        {
            "pointer": "/session_idle_minutes",
            "detail": "Choose 5 to 60 minutes. This installation allows no more.",
        },
        {
            "pointer": "/session_max_minutes",
            "detail": "Choose 15 to 600 minutes. This installation allows no more.",
        },
    ]
    for odd in ("30", 30.5, True, -1, 10**30):
        refused = call(party, "PATCH", {"session_idle_minutes": odd})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/session_idle_minutes")
    assert call(party, "GET").json() == answer


@pytest.mark.usefixtures("_limits")
def test_on_its_page(party: Party) -> None:
    client, _ = signed_in(party)
    page = client.get("/security").content.decode()
    assert "At most 60, which is also the default." in page
    assert "600 minutes" in page
    answer = client.post("/security", {"session_idle_minutes": "61", "session_max_minutes": "x"})
    assert answer.status_code == 422
    answer = client.post("/security", {"session_idle_minutes": "61", "session_max_minutes": ""})
    assert (answer.status_code, "Choose 5 to 60 minutes." in answer.content.decode()) == (422, True)
    assert not TenantSecurity.objects.filter(tenant=party.id).exists()
    answer = client.post("/security", {"session_idle_minutes": "30", "session_max_minutes": ""})
    assert (answer.status_code, answer["Location"]) == (302, "/security")
    page = client.get("/security").content.decode()
    assert "30 minutes" in page
    assert 'value="30"' in page
    client.force_login(new_member(party.tenant, "editor"))
    assert client.get("/security").status_code == 403
    assert client.post("/security", {"session_idle_minutes": "5"}).status_code == 403
