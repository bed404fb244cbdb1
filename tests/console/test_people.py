"""The pages about people: joining, resetting, two-factor sign-in, sessions, members, the audit log."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail as letters
from django.test import Client

from console.account import throttle
from tenants.accounts import api_admission, keys, links, mail, passwords, second_factor
from tenants.accounts.models import Invitation, KeyDigest, Membership, Session, Tenant, User
from tenants.events.models import AuditEvent
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.tenants.people import App, new_member, new_user, turn_on

PASSWORD = "correct horse battery"
LINK = re.compile(r"http://[^/]+(/[a-z/]+\?token=[A-Za-z0-9_.-]+)")


@pytest.fixture
def client(fresh_address: str) -> Client:
    """A browser from an address of its own, so that throttles of other tests do not count."""
    return Client(REMOTE_ADDR=fresh_address, HTTP_USER_AGENT="Mozilla/5.0 (X11; Linux) Firefox/130.0")


def sign_in(client: Client, user: User, password: str = PASSWORD) -> Any:
    return client.post("/login", {"username": user.email, "password": password})


def text(response: Any) -> str:
    """The page on one line, without the tokens of its forms, which are masked anew each time."""
    page = re.sub(r'(name="csrfmiddlewaretoken" value=")[^"]*', r"\1", response.content.decode())
    return re.sub(r"\s+", " ", page)


def invite(owner: Client, email: str, role: str = "editor") -> str:
    """The path of the link that is shown to who invites."""
    response = owner.post("/people/invite", {"email": email, "role": role})
    assert response.status_code == 201, response.content
    return LINK.search(response.content.decode())[1]


def fresh_email() -> str:
    return f"n-{secrets.token_hex(6)}@people.example"


# --- Invitations ---


def test_a_new_person_joins_by_the_link(owner: Client, party: Party, client: Client) -> None:
    email = fresh_email()
    path = invite(owner, email)
    opened = client.get(path)
    assert (opened.status_code, opened["Location"]) == (302, "/invitation")
    page = client.get("/invitation")
    assert faults_of(page.content.decode()) == []
    assert f"Join {party.tenant.slug}" in text(page)
    token = path.split("token=")[1]
    assert token not in page.content.decode()
    assert token not in str(dict(client.session))
    before = client.session.session_key
    joined = client.post("/invitation", {"name": "Ann", "password": PASSWORD, "again": PASSWORD})
    assert joined["Location"] == "/"
    assert client.session.session_key != before
    assert Membership.objects.get(user__email=email, tenant=party.id).role == "editor"
    assert f"Welcome to {party.tenant.slug}" in text(client.get("/"))
    late = Client(REMOTE_ADDR="2001:db8::77")
    late.get(path)
    assert late.get("/invitation").status_code == 410
    assert late.post("/invitation", {"name": "x", "password": PASSWORD, "again": PASSWORD}).status_code == 410


def test_somebody_with_an_account_signs_in_and_joins(owner: Client, party: Party, client: Client) -> None:
    user = new_user(PASSWORD)
    client.get(invite(owner, user.email, "viewer"))
    refused = client.post(
        "/invitation", {"name": "Eve", "password": "another horse battery", "again": "another horse battery"}
    )
    assert refused.status_code == 422
    assert "cannot be set up here" in text(refused)
    assert "_auth_user_id" not in client.session
    response = client.post(
        "/login?next=/invitation", {"username": user.email, "password": PASSWORD, "next": "/invitation"}
    )
    assert response["Location"] == "/invitation"
    assert not Membership.objects.filter(user=user).exists()
    assert client.post("/invitation")["Location"] == "/"
    assert Membership.objects.get(user=user).role == "viewer"


def test_somebody_else_cannot_use_the_invitation(owner: Client, client: Client) -> None:
    email = fresh_email()
    other = new_user()
    client.force_login(other)
    client.get(invite(owner, email))
    page = client.get("/invitation")
    assert f"You are signed in as {other.email}" in text(page)
    assert client.post("/invitation").status_code == 200
    assert not Membership.objects.filter(user=other).exists()
    assert Invitation.objects.get(email=email).open


def test_two_passwords_that_differ_make_no_account(owner: Client, client: Client) -> None:
    email = fresh_email()
    client.get(invite(owner, email))
    for again, words in (("other", "do not match"), ("password1234", "first that are tried")):
        first = again if words != "do not match" else PASSWORD
        response = client.post("/invitation", {"name": "Ann", "password": first, "again": again})
        assert response.status_code == 422
        assert words in text(response)
    assert not User.objects.filter(email=email).exists()


def test_tokens_cannot_be_guessed_at_length(client: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr(throttle, "WIDE", throttle.Limit(3, 30, first_s=30))
    answers = []
    for guess in range(5):
        client.get(f"/invitation?token=guess{guess}")
        answers.append(client.get("/invitation").status_code)
    assert answers == [410, 410, 410, 429, 429]
    before = Session.objects.count()
    assert client.get("/reset/new?token=guess").status_code == 429
    assert Session.objects.count() == before


def test_a_link_is_shown_again_and_the_one_before_dies(owner: Client, client: Client) -> None:
    email = fresh_email()
    first = invite(owner, email)
    (again,) = re.findall(r"/invitations/[0-9a-f-]{36}/link", owner.get("/people").content.decode())
    response = owner.post(again)
    assert response.status_code == 201
    assert faults_of(response.content.decode()) == []
    second = LINK.search(response.content.decode())[1]
    client.get(first)
    assert client.get("/invitation").status_code == 410
    client.get(second)
    joined = client.post("/invitation", {"name": "Ann", "password": PASSWORD, "again": PASSWORD})
    assert joined["Location"] == "/"
    assert owner.post(again).status_code == 404, "it was accepted"


def test_with_a_mail_server_a_new_link_is_mailed(
    owner: Client, client: Client, settings: Any, monkeypatch: Any
) -> None:
    first = invite(owner, fresh_email())
    settings.EMAIL_HOST = "mail.example"
    posted: list[str] = []
    monkeypatch.setattr(mail, "send", lambda task, argument: posted.append(argument))
    page = owner.get("/people").content.decode()
    (again,) = re.findall(r"/invitations/[0-9a-f-]{36}/link", page)
    response = owner.post(again)
    assert response["Location"] == "/people"
    assert posted == [again.split("/")[2]]
    assert "token=" not in text(owner.get("/people"))
    client.get(first)
    assert client.get("/invitation").status_code == 410


def test_with_a_mail_server_the_page_shows_no_link(
    owner: Client, party: Party, settings: Any, monkeypatch: Any
) -> None:
    settings.EMAIL_HOST = "mail.example"
    posted: list[tuple[str, str]] = []
    monkeypatch.setattr(mail, "send", lambda task, argument: posted.append((task, argument)))
    email = fresh_email()
    response = owner.post("/people/invite", {"email": email, "role": "viewer"})
    assert response["Location"] == "/people"
    assert posted == [("workers.mail_invitation", str(Invitation.objects.get(email=email).pk))]
    page = text(owner.get("/people"))
    assert "not mailed yet" in page
    assert "token=" not in page


# --- Resetting a password ---


def test_asking_for_a_reset_answers_alike_and_does_the_same(
    client: Client, settings: Any, monkeypatch: Any
) -> None:
    settings.EMAIL_HOST = "mail.example"
    posted: list[str] = []
    monkeypatch.setattr(mail, "send", lambda task, argument: posted.append(argument))
    user = new_user(PASSWORD)
    pages = [client.post("/reset", {"email": email}) for email in (user.email, "nobody@nowhere.example")]
    shown = [text(page).replace(user.email, "X").replace("nobody@nowhere.example", "X") for page in pages]
    assert shown[0] == shown[1]
    assert posted == [user.email, "nobody@nowhere.example"]


@pytest.mark.services
def test_a_mailbox_cannot_be_flooded(client: Client, settings: Any, monkeypatch: Any) -> None:
    settings.EMAIL_HOST = "mail.example"
    posted: list[str] = []
    monkeypatch.setattr(mail, "send", lambda task, argument: posted.append(argument))
    email = fresh_email()
    answers = [
        Client(REMOTE_ADDR=f"2001:db8:{n}:{secrets.token_hex(2)}::1")
        .post("/reset", {"email": email})
        .status_code
        for n in range(throttle.NARROW.free + 2)
    ]
    assert answers == [200] * throttle.NARROW.free + [429, 429]
    assert len(posted) == throttle.NARROW.free


def test_the_mailed_link_sets_the_password_once_and_ends_all_sessions(
    client: Client, fresh_address: str
) -> None:
    user = new_user("the old password")
    elsewhere = Client(REMOTE_ADDR=fresh_address)
    elsewhere.force_login(user)
    assert elsewhere.get("/account").status_code == 200
    sent = len(letters.outbox)
    passwords.mail_reset_link(email=user.email)
    path = LINK.search(letters.outbox[sent].body)[1]
    assert client.get(path)["Location"] == "/reset/new"
    page = client.get("/reset/new")
    assert faults_of(page.content.decode()) == []
    assert client.post("/reset/new", {"password": "password", "again": "password"}).status_code == 422
    done = client.post("/reset/new", {"password": PASSWORD, "again": PASSWORD})
    assert "Your password was changed" in text(done)
    assert elsewhere.get("/account")["Location"].startswith("/login")
    assert "_auth_user_id" not in client.session
    client.get(path)
    assert client.post("/reset/new", {"password": "x" * 12, "again": "x" * 12}).status_code == 410
    assert sign_in(client, user).status_code == 302


def test_without_a_mail_server_an_owner_makes_the_link(owner: Client, party: Party, client: Client) -> None:
    user = new_member(party.tenant, "editor", "the old password")
    assert "sends no e-mail" in text(client.get("/reset"))
    assert client.post("/reset", {"email": user.email}).status_code == 200
    response = owner.post(f"/people/{user.pk}/reset-link")
    assert response.status_code == 201
    client.get(LINK.search(response.content.decode())[1])
    client.post("/reset/new", {"password": PASSWORD, "again": PASSWORD})
    user.refresh_from_db()
    assert user.check_password(PASSWORD)


def test_a_reset_does_not_get_around_the_second_factor(client: Client) -> None:
    user = new_user("the old password")
    app, _ = turn_on(user)
    client.get(passwords.reset_link(user).removeprefix("http://127.0.0.1:8000"))
    client.post("/reset/new", {"password": PASSWORD, "again": PASSWORD})
    assert sign_in(client, user)["Location"] == "/login/code"
    assert "_auth_user_id" not in client.session
    assert client.post("/login/code", {"code": app.code(1)})["Location"] == "/"


# --- Two-factor sign-in ---


def test_signing_in_takes_a_code(party: Party, client: Client) -> None:
    user = new_member(party.tenant, "viewer", PASSWORD)
    app, codes = turn_on(user)
    response = client.post("/login", {"username": user.email, "password": PASSWORD, "next": "/jobs"})
    assert response["Location"] == "/login/code"
    assert client.get("/datasets")["Location"].startswith("/login")
    page = client.get("/login/code")
    assert faults_of(page.content.decode()) == []
    assert "This code is not right" in text(client.post("/login/code", {"code": "000000"}))
    before = client.session.session_key
    assert client.post("/login/code", {"code": app.code(1)})["Location"] == "/jobs"
    assert client.session.session_key != before
    assert client.get("/datasets").status_code == 200
    client.post("/logout")
    sign_in(client, user)
    assert client.post("/login/code", {"code": app.code(1)}).status_code == 200, "used already"
    assert client.post("/login/code", {"code": codes[0]}).status_code == 302
    assert client.get("/datasets").status_code == 200


def test_codes_are_throttled_from_wherever_they_come(client: Client, fresh_address: str) -> None:
    user = new_user(PASSWORD)
    app, _ = turn_on(user)
    sign_in(client, user)
    answers = [
        client.post("/login/code", {"code": "000000"}).status_code for _ in range(throttle.NARROW.free)
    ]
    assert set(answers) == {200}
    other = Client(REMOTE_ADDR="192.0.2.79")
    sign_in(other, user)
    refused = other.post("/login/code", {"code": app.code(1)})
    assert refused.status_code == 429
    assert "_auth_user_id" not in other.session


@pytest.mark.parametrize("change", ["password", "time", "inactive"])
def test_a_half_way_sign_in_ends(change: str, client: Client) -> None:
    user = new_user(PASSWORD)
    app, _ = turn_on(user)
    sign_in(client, user)
    if change == "time":
        session: Any = client.session
        session["half_way"] = {**session["half_way"], "at": 0}
        session.save()
    elif change == "password":
        passwords.change_password(user=user, password="another horse battery")
    else:
        User.objects.filter(pk=user.pk).update(is_active=False)
    assert client.post("/login/code", {"code": app.code(1)})["Location"] == "/login"
    assert "_auth_user_id" not in client.session


def test_setting_it_up_and_turning_it_off(person: Callable[..., Client], client: Client) -> None:
    user = new_user(PASSWORD)
    client.force_login(user)
    page = client.get("/account/second-factor")
    assert faults_of(page.content.decode()) == []
    assert "<svg" in page.content.decode()
    app = App(user)
    assert client.post("/account/second-factor", {"code": "000000", "current": PASSWORD}).status_code == 422
    assert client.post("/account/second-factor", {"code": app.code(), "current": "wrong"}).status_code == 422
    assert not second_factor.is_on(user)
    other = Client()
    other.force_login(user)
    shown = client.post("/account/second-factor", {"code": app.code(), "current": PASSWORD})
    assert len(set(re.findall(r"\b(?:[a-z2-7]{4}-){3}[a-z2-7]{4}\b", shown.content.decode()))) == 10
    assert second_factor.is_on(user)
    assert other.get("/account")["Location"].startswith("/login"), "it had shown no second factor"
    assert "10 recovery codes left" in text(client.get("/account"))


def test_what_weakens_the_second_factor_asks_for_it(client: Client) -> None:
    user = new_user(PASSWORD)
    app, codes = turn_on(user)
    client.force_login(user)
    dialog = text(client.get("/account"))
    assert 'name="off-code"' in dialog
    for path in ("/account/second-factor/off", "/account/second-factor/codes"):
        for fields in (
            {"off-current": PASSWORD},
            {"off-current": PASSWORD, "off-code": ""},
            {"off-current": PASSWORD, "off-code": "000000"},
            {"off-current": "wrong", "off-code": codes[0]},
        ):
            assert client.post(path, fields).status_code == 422, (path, fields)
    assert second_factor.is_on(user)
    assert user.recovery_codes.count() == 10, "a code is not used up with a wrong password"
    renewed = client.post("/account/second-factor/codes", {"off-current": PASSWORD, "off-code": app.code(1)})
    assert "New recovery codes" in text(renewed)
    used = {"off-current": PASSWORD, "off-code": app.code(1)}
    assert client.post("/account/second-factor/off", used).status_code == 422
    (fresh, *_) = re.findall(r"\b(?:[a-z2-7]{4}-){3}[a-z2-7]{4}\b", renewed.content.decode())
    gone = client.post("/account/second-factor/off", {"off-current": PASSWORD, "off-code": fresh})
    assert gone.status_code == 302
    assert not second_factor.is_on(user)


def test_codes_cannot_be_guessed_where_the_factor_is_turned_off(client: Client) -> None:
    user = new_user(PASSWORD)
    app, _ = turn_on(user)
    client.force_login(user)
    wrong = {"off-current": PASSWORD, "off-code": "000000"}
    for _ in range(throttle.NARROW.free):
        assert client.post("/account/second-factor/off", wrong).status_code == 422
    right = {"off-current": PASSWORD, "off-code": app.code(1)}
    assert client.post("/account/second-factor/off", right).status_code == 429
    assert second_factor.is_on(user)


def test_a_secret_that_was_shown_before_is_not_the_one_that_counts(person: Callable[..., Client]) -> None:
    client = person("viewer")
    secret = re.compile(r"(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}")
    pages = [client.get("/account/second-factor").content.decode() for _ in range(2)]
    seen = [secret.findall(page)[0] for page in pages]
    assert seen[0] != seen[1]
    # A wrong code shows the same one again, which the app has by now.
    again = client.post("/account/second-factor", {"code": "000000", "current": "wrong"}).content.decode()
    assert seen[1] in again


def test_a_workspace_may_ask_everybody_for_it(owner: Client, party: Party, client: Client) -> None:
    user = new_member(party.tenant, "admin", PASSWORD)
    client.force_login(user)
    assert client.get("/datasets").status_code == 200
    assert owner.post("/people/second-factor", {"required": "yes"}).status_code == 302
    assert Tenant.objects.get(pk=party.id).requires_second_factor
    for method, path in (("get", "/datasets"), ("get", "/"), ("post", "/people/second-factor")):
        assert getattr(client, method)(path)["Location"] == "/account/second-factor"
    part = client.get("/jobs", headers={"HX-Request": "true"})
    assert part.status_code == 403
    assert f"{party.tenant.slug} requires it for all members" in text(client.get("/account/second-factor"))
    shown = client.post("/account/second-factor", {"code": App(user).code(), "current": PASSWORD})
    codes = re.findall(r"\b(?:[a-z2-7]{4}-){3}[a-z2-7]{4}\b", shown.content.decode())
    assert client.get("/datasets").status_code == 200
    right = {"off-current": PASSWORD, "off-code": codes[0]}
    refused = client.post("/account/second-factor/off", right)
    assert refused.status_code == 422
    assert f"{party.tenant.slug} requires two-factor sign-in for all members" in text(refused)
    assert user.recovery_codes.count() == 10
    assert second_factor.is_on(user)
    assert client.post("/people/second-factor", {"required": "no"}).status_code == 302
    assert not Tenant.objects.get(pk=party.id).requires_second_factor


# --- One's own account ---

PERSONAL = [
    ("POST", "/account/name"),
    ("POST", "/account/password"),
    ("POST", "/account/delete"),
    ("POST", "/account/sessions/end-others"),
    ("POST", "/account/sessions/6e2de5a1-0000-4000-8000-000000000000/end"),
    ("POST", "/account/second-factor"),
    ("POST", "/account/second-factor/off"),
    ("POST", "/account/second-factor/codes"),
    ("GET", "/account"),
    ("GET", "/account/second-factor"),
]


@pytest.mark.parametrize(("method", "path"), PERSONAL)
def test_personal_pages_need_a_person_and_a_token(method: str, path: str, client: Client) -> None:
    assert client.generic(method, path)["Location"].startswith("/login?next=")
    user = new_user(PASSWORD)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)
    response = strict.generic(method, path)
    assert response.status_code == (403 if method == "POST" else 200)
    assert strict.generic("DELETE", path).status_code == 405
    assert User.objects.filter(pk=user.pk, name=user.name, password=user.password).exists()


@pytest.mark.parametrize("path", ["/invitation", "/reset", "/reset/new", "/login/code"])
def test_pages_before_signing_in_need_a_token_too(path: str) -> None:
    assert Client(enforce_csrf_checks=True).post(path, {}).status_code == 403


def test_a_new_password_ends_the_other_sessions(client: Client) -> None:
    user = new_user(PASSWORD)
    sign_in(client, user)
    other = Client()
    other.force_login(user)
    before = client.session.session_key
    fields = {"current": PASSWORD, "password": "another horse battery", "again": "another horse battery"}
    for wrong in ({"current": "wrong"}, {"again": "different"}, {"password": "short", "again": "short"}):
        assert client.post("/account/password", {**fields, **wrong}).status_code == 422
    assert client.post("/account/password", fields)["Location"] == "/account"
    assert client.session.session_key != before
    assert client.get("/account").status_code == 200
    assert other.get("/account")["Location"].startswith("/login")
    assert list(Session.objects.filter(user=user).values_list("pk", flat=True)) == [
        client.session.session_key
    ]


def test_a_borrowed_browser_cannot_try_passwords(client: Client) -> None:
    user = new_user(PASSWORD)
    client.force_login(user)
    # What is missing, or two new passwords that differ, costs no hashing and counts nothing.
    for _ in range(throttle.NARROW.free):
        client.post("/account/delete", {"delete-current": ""})
        client.post("/account/password", {"current": "wrong", "password": "x" * 12, "again": "y" * 12})
    for _ in range(throttle.NARROW.free):
        assert client.post("/account/delete", {"delete-current": "wrong"}).status_code == 422
    for path, field in (("/account/delete", "delete-current"), ("/account/password", "current")):
        response = client.post(path, {field: PASSWORD, "password": "x" * 12, "again": "x" * 12})
        assert response.status_code == 429
    user.refresh_from_db()
    assert user.check_password(PASSWORD)


def test_sessions_are_shown_and_ended(client: Client, fresh_address: str) -> None:
    user = new_user(PASSWORD)
    sign_in(client, user)
    phone = Client(REMOTE_ADDR="2001:db8::5", HTTP_USER_AGENT="Mozilla/5.0 (iPhone) Version/18 Safari/604")
    sign_in(phone, user)
    page = client.get("/account")
    assert faults_of(page.content.decode()) == []
    for words in ("Firefox on Linux", fresh_address, "Safari on iPhone", "2001:db8::5"):
        assert words in text(page)
    assert phone.session.session_key not in page.content.decode()
    stranger = Client()
    stranger.force_login(new_user())
    (end,) = re.findall(r"/account/sessions/[0-9a-f-]{36}/end", page.content.decode())
    assert stranger.post(end).status_code == 302
    assert phone.get("/account").status_code == 200
    assert client.post(end).status_code == 302
    assert phone.get("/account")["Location"].startswith("/login")
    sign_in(phone, user)
    assert client.post("/account/sessions/end-others").status_code == 302
    assert phone.get("/account")["Location"].startswith("/login")
    assert client.get("/account").status_code == 200


def test_deleting_ones_account(party: Party, client: Client) -> None:
    user = new_member(party.tenant, "editor", PASSWORD)
    client.force_login(user)
    assert client.post("/account/delete", {"delete-current": "wrong"}).status_code == 422
    assert User.objects.filter(pk=user.pk).exists()
    gone = client.post("/account/delete", {"delete-current": PASSWORD})
    assert "Your account is erased" in text(gone)
    assert not User.objects.filter(pk=user.pk).exists()
    assert client.get("/account")["Location"].startswith("/login")


def test_the_only_owner_cannot_delete_the_account(party: Party, client: Client) -> None:
    User.objects.filter(pk=party.owner.pk).update(password=new_user(PASSWORD).password)
    client.force_login(User.objects.get(pk=party.owner.pk))
    assert "You are the only owner of" in text(client.get("/account"))
    assert client.post("/account/delete", {"delete-current": PASSWORD}).status_code == 409
    assert User.objects.filter(pk=party.owner.pk).exists()


# --- Members ---


def test_the_page_of_people(owner: Client, party: Party) -> None:
    user = new_member(party.tenant, "admin")
    with tenant_scope(party.id):
        keys.create_key(name="Night import", scopes=["read"], created_by=user)
    invite(owner, fresh_email())
    page = owner.get("/people")
    assert faults_of(page.content.decode()) == []
    assert "These API keys are revoked, too: <strong>Night import</strong> (cl" in text(page)


def test_an_admin_is_offered_nothing_about_owners(person: Callable[..., Client], party: Party) -> None:
    admin = person("admin")
    page = admin.get("/people").content.decode()
    assert f"member-{party.owner.pk}" not in page
    assert 'value="owner"' not in page
    for path, fields in (
        (f"/people/{party.owner.pk}/role", {f"{party.owner.pk}-role": "viewer"}),
        (f"/people/{party.owner.pk}/remove", {}),
        (f"/people/{party.owner.pk}/reset-link", {}),
    ):
        admin.post(path, fields)
    assert Membership.objects.get(tenant=party.id, user=party.owner).role == "owner"
    refused = admin.post("/people/invite", {"email": fresh_email(), "role": "owner"})
    assert refused.status_code == 422
    assert "Your role cannot make someone owner" in text(refused)
    assert not Invitation.objects.filter(tenant=party.id).exists()


def test_changing_and_removing_a_member(owner: Client, party: Party, client: Client) -> None:
    user = new_member(party.tenant, "admin")
    client.force_login(user)
    with tenant_scope(party.id):
        _, token = keys.create_key(name="Night import", scopes=["read"], created_by=user)
    owner.post(f"/people/{user.pk}/role", {f"{user.pk}-role": "editor"})
    assert Membership.objects.get(user=user).role == "editor"
    assert client.get("/people").status_code == 403
    assert client.get("/datasets").status_code == 200
    owner.post(f"/people/{user.pk}/remove")
    assert "Revoked with it: Night import." in text(owner.get("/people"))
    assert client.get("/datasets")["Location"] == "/workspace"
    assert api_admission.identify(token) is None


# --- Keys and the audit log ---


def test_rotating_a_key_shows_the_new_one_once(owner: Client, party: Party) -> None:
    with tenant_scope(party.id):
        key, old = keys.create_key(name="robot", scopes=["read"])
    response = owner.post(f"/keys/{key.id}/rotate", {"overlap": "3600"})
    assert response.status_code == 201
    assert faults_of(response.content.decode()) == []
    (token,) = re.findall(r"cl[0-9a-f]{10}\.[A-Za-z0-9_-]{43}", response.content.decode())
    assert api_admission.identify(token).scopes == ("read",)
    assert api_admission.identify(old) is not None
    assert owner.post(f"/keys/{key.id}/rotate", {"overlap": "99999999"})["Location"] == "/keys"
    assert KeyDigest.objects.filter(tenant=party.id).count() == 3


def test_the_audit_log_names_who_did_what(owner: Client, party: Party, stranger: Party) -> None:
    user = owner.user
    User.objects.filter(pk=user.pk).update(name="Olga <Owner>")
    target = new_member(party.tenant, "viewer")
    owner.post(f"/people/{target.pk}/role", {f"{target.pk}-role": "editor"})
    owner.post("/people/second-factor", {"required": "no"})
    owner.post("/keys", {"name": "robot", "scopes": ["read"], "lifetime": "30"})
    with tenant_scope(stranger.id):
        AuditEvent.objects.create(actor="key:theirs", verb="thing.theirs")
    page = owner.get("/audit-log")
    assert faults_of(page.content.decode()) == []
    shown = text(page)
    for words in (
        "Changed a role",
        "viewer → editor",
        "Olga &lt;Owner&gt;",
        "Pat Doe",
        "Key created",
    ):
        assert words in shown
    assert "theirs" not in shown
    only = text(owner.get("/audit-log", {"verb": "key.created", "actor": str(user.pk)}))
    assert "Key created</strong>" in only
    assert "Changed a role</strong>" not in only
    for nobody in ({"actor": "key:nobody"}, {"actor": "\0nobody"}, {"verb": "\0nothing", "before": "\0"}):
        assert "No matching entries" in text(owner.get("/audit-log", nobody))


def test_the_audit_log_comes_in_pages(owner: Client, party: Party) -> None:
    with tenant_scope(party.id):
        AuditEvent.objects.bulk_create(
            AuditEvent(actor="key:x", verb="thing.done", target=f"n{n}") for n in range(60)
        )
    first = owner.get("/audit-log").content.decode()
    assert len(re.findall(r">n\d+<", first)) == 50
    older = re.search(r"\?actor=&amp;verb=&amp;before=[0-9a-f-]{36}", first)[0]
    second = owner.get(f"/audit-log{older.replace('&amp;', '&')}").content.decode()
    assert re.findall(r">n(\d+)<", second) == [str(n) for n in range(9, -1, -1)]


# --- Links lead where they say ---


def test_links_that_are_handed_out_open_these_pages(client: Client) -> None:
    for path in (links.INVITATION, links.RESET):
        assert client.get(path).status_code == 410
