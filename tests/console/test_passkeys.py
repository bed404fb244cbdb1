"""Passkeys through the console's pages, with an authenticator in software, and answers that are wrong on purpose."""

from __future__ import annotations

import html
import json
import re
import time
from typing import Any

import pytest
from django.test import Client

from console.account import ceremony
from tenants.accounts import passkeys, second_factor, sessions
from tenants.accounts.models import Passkey, RecoveryCode, Session, Tenant, User
from tests.conftest import Party
from tests.tenants.authenticator import PRESENT, Authenticator, encoded
from tests.tenants.people import new_member, turn_on


@pytest.fixture(autouse=True)
def _address(settings: Any) -> None:
    settings.BASE_URL = "http://localhost:8000"


@pytest.fixture
def someone(party: Party) -> Client:
    user = new_member(party.tenant, "owner", "violet staircase yodel")
    client = Client()
    client.force_login(user)
    client.user = user  # type: ignore[attr-defined]
    return client


def options_of(client: Client, path: str) -> str:
    found = re.search(r'data-options="([^"]*)"', client.get(path).content.decode())
    assert found, path
    return html.unescape(found[1])


def registered(
    client: Client, authenticator: Authenticator | None = None, name: str = "Laptop"
) -> Authenticator:
    authenticator = authenticator or Authenticator()
    response = authenticator.create(options_of(client, "/account/passkeys/new"))
    answer = client.post("/account/passkeys/new", {"name": name, "credential": response})
    assert answer.status_code in (200, 302), answer.content.decode()
    return authenticator


def sign_in(authenticator: Authenticator, **wrong: Any) -> tuple[Client, Any]:
    client = Client()
    response = authenticator.get(options_of(client, "/login/passkey"), **wrong)
    return client, client.post("/login/passkey", {"credential": response, "next": "/keys"})


def is_nobody(client: Client) -> bool:
    return "_auth_user_id" not in client.session


# --- Adding, listing, removing ---


def test_the_first_one_comes_with_recovery_codes_and_ends_other_sessions(someone: Client) -> None:
    user = someone.user  # type: ignore[attr-defined]
    other = Client()
    other.force_login(user)
    asked = json.loads(options_of(someone, "/account/passkeys/new"))
    assert asked["rp"] == {"id": "localhost", "name": "Crosslight"}
    assert asked["user"]["id"] == encoded(user.pk.bytes)
    assert asked["authenticatorSelection"]["residentKey"] == "required"
    assert asked["authenticatorSelection"]["userVerification"] == "required"
    authenticator = Authenticator()
    response = authenticator.create(options_of(someone, "/account/passkeys/new"))
    answer = someone.post("/account/passkeys/new", {"name": "Laptop", "credential": response})
    assert (answer.status_code, RecoveryCode.objects.filter(user=user).count()) == (200, 10)
    assert "Recovery codes" in answer.content.decode()
    row = Passkey.objects.get(user=user)
    assert (row.name, bytes(row.credential_id), row.transports) == (
        "Laptop",
        authenticator.credential_id,
        ["internal"],
    )
    assert second_factor.is_on(user)
    assert not second_factor.app_is_on(user)
    assert list(Session.objects.filter(user=user).values_list("pk", flat=True)) == [
        someone.session.session_key
    ]
    registered(someone, name="Phone <b>")
    page = someone.get("/account").content.decode()
    assert "Laptop" in page
    assert "Phone &lt;b&gt;" in page
    known = [
        one["id"] for one in json.loads(options_of(someone, "/account/passkeys/new"))["excludeCredentials"]
    ]
    assert encoded(authenticator.credential_id) in known


def test_removing_ends_it_and_the_last_one_takes_its_codes_along(someone: Client) -> None:
    user = someone.user  # type: ignore[attr-defined]
    first, second = registered(someone), registered(someone, name="Phone")
    rows = {row.name: row for row in user.passkeys.all()}
    assert someone.post(f"/account/passkeys/{rows['Laptop'].pk}/remove")["Location"] == "/account"
    client, answer = sign_in(first)
    assert (answer.status_code, is_nobody(client)) == (422, True)
    client, answer = sign_in(second)
    assert answer["Location"] == "/keys"
    assert RecoveryCode.objects.filter(user=user).count() == 10
    someone.post(f"/account/passkeys/{rows['Phone'].pk}/remove")
    assert RecoveryCode.objects.filter(user=user).count() == 0
    assert not second_factor.is_on(user)


def test_the_last_second_factor_stays_where_a_workspace_asks_for_one(someone: Client, party: Party) -> None:
    registered(someone)
    Tenant.objects.filter(pk=party.id).update(requires_second_factor=True)
    row = Passkey.objects.get(user=someone.user)  # type: ignore[attr-defined]
    someone.post(f"/account/passkeys/{row.pk}/remove")
    assert Passkey.objects.filter(pk=row.pk).exists()
    assert someone.get("/keys").status_code == 200, "a passkey is a second factor"


def test_nobody_removes_anothers(someone: Client, party: Party) -> None:
    registered(someone)
    row = Passkey.objects.get(user=someone.user)  # type: ignore[attr-defined]
    other = Client()
    other.force_login(new_member(party.tenant, "owner"))
    assert other.post(f"/account/passkeys/{row.pk}/remove").status_code == 404
    assert Passkey.objects.filter(pk=row.pk).exists()


def test_adding_and_removing_ask_who_it_is(someone: Client) -> None:
    registered(someone)
    row = Passkey.objects.get(user=someone.user)  # type: ignore[attr-defined]
    session = someone.session
    session["verified_at"] = time.time() - 601
    session.save()
    assert someone.get("/account/passkeys/new")["Location"] == "/verify"
    assert someone.post(f"/account/passkeys/{row.pk}/remove")["Location"] == "/verify"
    assert Passkey.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:8001"},
        {"challenge": encoded(b"x" * 64)},
        {"type": "webauthn.get"},
    ],
    ids=lambda wrong: str(wrong)[:30],
)
def test_registrations_that_are_refused(someone: Client, wrong: dict[str, str]) -> None:
    response = Authenticator().create(options_of(someone, "/account/passkeys/new"), **wrong)
    answer = someone.post("/account/passkeys/new", {"name": "x", "credential": response})
    assert answer.status_code == 422
    assert "could not be used" in answer.content.decode()
    assert not Passkey.objects.filter(user=someone.user).exists()  # type: ignore[attr-defined]


@pytest.mark.parametrize("authenticator", [Authenticator(flags=PRESENT), Authenticator(host="evil.example")])
def test_authenticators_that_are_refused(someone: Client, authenticator: Authenticator) -> None:
    response = authenticator.create(options_of(someone, "/account/passkeys/new"))
    answer = someone.post("/account/passkeys/new", {"name": "x", "credential": response})
    assert answer.status_code == 422
    assert not Passkey.objects.filter(user=someone.user).exists()  # type: ignore[attr-defined]


def test_a_credential_belongs_to_one_person(someone: Client, party: Party) -> None:
    authenticator = registered(someone)
    other = Client()
    other.force_login(new_member(party.tenant, "owner"))
    response = authenticator.create(options_of(other, "/account/passkeys/new"))
    answer = other.post("/account/passkeys/new", {"name": "x", "credential": response})
    assert answer.status_code == 422
    assert Passkey.objects.get(credential_id=authenticator.credential_id).user == someone.user  # type: ignore[attr-defined]


# --- Signing in ---


def test_a_passkey_signs_in_and_counts_as_second_factor(someone: Client, party: Party) -> None:
    user = someone.user  # type: ignore[attr-defined]
    authenticator = registered(someone)
    turn_on(user)
    Tenant.objects.filter(pk=party.id).update(requires_second_factor=True)
    client, answer = sign_in(authenticator)
    assert answer["Location"] == "/keys"
    assert client.session["_auth_user_id"] == str(user.pk)
    assert client.get("/keys").status_code == 200
    assert sessions.is_verified(client.session)
    row = Passkey.objects.get(user=user)
    assert (row.sign_count, row.used_at is not None) == (1, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "https://evil.example"},
        {"origin": "https://localhost:8000"},
        {"challenge": encoded(b"x" * 64)},
        {"type": "webauthn.create"},
    ],
    ids=lambda wrong: str(wrong)[:30],
)
def test_answers_that_sign_nobody_in(someone: Client, wrong: dict[str, str]) -> None:
    authenticator = registered(someone)
    client, answer = sign_in(authenticator, **wrong)
    assert (answer.status_code, is_nobody(client)) == (422, True)
    assert Passkey.objects.get(user=someone.user).sign_count == 0  # type: ignore[attr-defined]


def test_without_verification_of_the_person_nobody_is_signed_in(someone: Client) -> None:
    authenticator = registered(someone)
    authenticator.flags = PRESENT
    client, answer = sign_in(authenticator)
    assert (answer.status_code, is_nobody(client)) == (422, True)


def test_an_answer_works_once_and_in_its_session_alone(someone: Client) -> None:
    authenticator = registered(someone)
    client, other = Client(), Client()
    response = authenticator.get(options_of(client, "/login/passkey"))
    options_of(other, "/login/passkey")
    assert other.post("/login/passkey", {"credential": response}).status_code == 422
    assert client.post("/login/passkey", {"credential": response})["Location"] == "/"
    client.post("/logout")
    options_of(client, "/login/passkey")
    assert client.post("/login/passkey", {"credential": response}).status_code == 422
    assert is_nobody(client)


def test_a_refused_answer_uses_its_challenge_up(someone: Client) -> None:
    authenticator = registered(someone)
    client = Client()
    options = options_of(client, "/login/passkey")
    right = authenticator.get(options)
    assert client.post("/login/passkey", {"credential": "{}"}).status_code == 422
    assert client.post("/login/passkey", {"credential": right}).status_code == 422
    assert is_nobody(client)


def test_a_challenge_grows_old(someone: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator = registered(someone)
    client = Client()
    response = authenticator.get(options_of(client, "/login/passkey"))
    monkeypatch.setattr(ceremony, "LASTS_S", -1)
    answer = client.post("/login/passkey", {"credential": response})
    assert (answer.status_code, is_nobody(client)) == (422, True)
    assert "took too long" in answer.content.decode()


def test_a_count_that_goes_back_is_refused_and_logged(
    someone: Client, caplog: pytest.LogCaptureFixture
) -> None:
    authenticator = registered(someone)
    authenticator.count = 9
    assert sign_in(authenticator)[1]["Location"] == "/keys"
    # The next one is one more: 6, 10 and 0, after 10.
    for count in (5, 9, -1):
        authenticator.count = count
        client, answer = sign_in(authenticator)
        assert (answer.status_code, is_nobody(client)) == (422, True)
    assert [r.message for r in caplog.records if "counted back" in r.message] == [
        "a passkey counted back: it may have been copied"
    ] * 3
    assert Passkey.objects.get(user=someone.user).sign_count == 10  # type: ignore[attr-defined]


def test_the_handle_of_somebody_else(someone: Client, party: Party) -> None:
    authenticator = registered(someone)
    authenticator.handle = new_member(party.tenant, "owner").pk.bytes
    client, answer = sign_in(authenticator)
    assert (answer.status_code, is_nobody(client)) == (422, True)


def test_a_person_who_is_not_active_stays_out(someone: Client) -> None:
    authenticator = registered(someone)
    User.objects.filter(pk=someone.user.pk).update(is_active=False)  # type: ignore[attr-defined]
    client, answer = sign_in(authenticator)
    assert (answer.status_code, is_nobody(client)) == (422, True)


def shaped(**response: object) -> str:
    return json.dumps({"id": "AA", "rawId": "AA", "type": "public-key", "response": response})


@pytest.mark.parametrize(
    "hostile",
    [
        *("", "x", "null", "[]", "{}", "1" * 30_000, "\x00", "[" * 10_000),
        '{"id": 5, "rawId": [], "response": 7, "type": "public-key"}',
        shaped(clientDataJSON=1, authenticatorData={}, attestationObject=[]),
        shaped(clientDataJSON="AA", authenticatorData="AA", signature="AA", userHandle="é"),
        shaped(clientDataJSON="AA", attestationObject="oA", authenticatorData="//8", signature="=="),
    ],
    ids=range(12),
)
def test_hostile_answers(someone: Client, hostile: str) -> None:
    registered(someone)
    client = Client()
    options_of(client, "/login/passkey")
    assert client.post("/login/passkey", {"credential": hostile}).status_code == 422
    options_of(someone, "/account/passkeys/new")
    assert someone.post("/account/passkeys/new", {"name": "x", "credential": hostile}).status_code == 422
    assert Passkey.objects.filter(user=someone.user).count() == 1  # type: ignore[attr-defined]


def test_nobody_is_led_elsewhere(someone: Client) -> None:
    authenticator, client = registered(someone), Client()
    response = authenticator.get(options_of(client, "/login/passkey?next=https://evil.example/"))
    answer = client.post("/login/passkey", {"credential": response, "next": "https://evil.example/"})
    assert answer["Location"] == "/"


# --- As second step, and as proof ---


def halfway(user: User) -> Client:
    client = Client()
    answer = client.post(
        "/login", {"username": user.email, "password": "violet staircase yodel", "next": "/keys"}
    )
    assert answer["Location"] == "/login/code"
    return client


def test_after_a_password_a_passkey_is_the_second_step(someone: Client) -> None:
    user = someone.user  # type: ignore[attr-defined]
    authenticator = registered(someone)
    client = halfway(user)
    asked = options_of(client, "/login/code")
    assert [one["id"] for one in json.loads(asked)["allowCredentials"]] == [
        encoded(authenticator.credential_id)
    ]
    answer = client.post("/login/code", {"credential": authenticator.get(asked)})
    assert (answer["Location"], client.session["_auth_user_id"]) == ("/keys", str(user.pk))


def test_recovery_codes_stand_in_for_a_lost_passkey(someone: Client) -> None:
    user = someone.user  # type: ignore[attr-defined]
    registered(someone)
    code = second_factor.renew_recovery_codes(user=user)[0]
    client = halfway(user)
    assert client.post("/login/code", {"code": "123456"}).status_code == 200
    assert client.post("/login/code", {"code": code})["Location"] == "/keys"
    assert halfway(user).post("/login/code", {"code": code}).status_code == 200, "once"


def test_anothers_passkey_is_no_second_step(someone: Client, party: Party) -> None:
    other = Client()
    other.force_login(new_member(party.tenant, "owner"))
    theirs = registered(other)
    registered(someone)
    client = halfway(someone.user)  # type: ignore[attr-defined]
    answer = client.post("/login/code", {"credential": theirs.get(options_of(client, "/login/code"))})
    assert (answer.status_code, is_nobody(client)) == (422, True)


def test_a_passkey_proves_again_who_it_is(someone: Client, party: Party) -> None:
    authenticator = registered(someone)
    session = someone.session
    session["verified_at"] = 0
    session.save()
    response = authenticator.get(options_of(someone, "/verify"))
    # A challenge for one purpose is none for another.
    other = Client()
    other.force_login(new_member(party.tenant, "owner"))
    theirs = registered(other)
    wrong = theirs.get(options_of(someone, "/verify"))
    assert someone.post("/verify", {"credential": wrong}).status_code == 422
    assert someone.post("/verify", {"credential": response}).status_code == 422, "its challenge was replaced"
    assert not sessions.is_verified(someone.session)
    response = authenticator.get(options_of(someone, "/verify"))
    assert someone.post("/verify", {"credential": response})["Location"] == "/verify/go-on"
    assert sessions.is_verified(someone.session)


def test_operators_second_factor_may_be_a_passkey(someone: Client, settings: Any) -> None:
    settings.OPERATOR_SECOND_FACTOR = True
    user = someone.user  # type: ignore[attr-defined]
    User.objects.filter(pk=user.pk).update(is_staff=True)
    assert someone.get("/operator/")["Location"] == "/account/second-factor"
    authenticator = registered(someone)
    client, _ = sign_in(authenticator)
    assert client.get("/operator/").status_code == 200


# --- Where there are none ---


@pytest.mark.parametrize(
    ("address", "party_of"),
    [
        ("http://127.0.0.1:8000", ("localhost", "http://localhost:8000")),
        ("http://[::1]:8000", ("localhost", "http://localhost:8000")),
        ("https://crosslight.example", ("crosslight.example", "https://crosslight.example")),
        ("http://192.0.2.7:8000", None),
    ],
)
def test_whose_they_are(settings: Any, address: str, party_of: tuple[str, str] | None) -> None:
    settings.BASE_URL = address
    found = passkeys.relying_party()
    assert (found and (found.host, found.origin)) == party_of


def test_an_installation_without_a_name_has_none(someone: Client, settings: Any) -> None:
    settings.BASE_URL = "http://192.0.2.7:8000"
    assert "Passkeys need a host name" in someone.get("/account").content.decode()
    assert someone.get("/account/passkeys/new")["Location"] == "/account"
    assert "passkey" not in Client().get("/login").content.decode()
    assert Client().post("/login/passkey", {"credential": "{}"}).status_code == 422
