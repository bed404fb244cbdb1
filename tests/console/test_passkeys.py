"""Passkeys through the console's pages, with an authenticator in software, and answers that are wrong on purpose."""

from __future__ import annotations

import html
import json
import re
import secrets
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from console.account import ceremony, throttle
from tenants.accounts import passkeys, reauthentication, second_factor
from tenants.accounts.models import Passkey, RecoveryCode, Session, Tenant, User
from tenants.errors import Conflict
from tenants.people import members
from tenants.people.erasure import erase_user
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.authenticator import PRESENT, Authenticator, encoded
from tests.tenants.people import new_member, turn_on


@pytest.fixture(autouse=True)
def _address(settings: Any) -> None:
    settings.BASE_URL = "http://localhost:8000"


@pytest.fixture(autouse=True)
def _own_network(monkeypatch: pytest.MonkeyPatch, fresh_address: str) -> None:
    """Offers of passkeys are counted by network, and each test has its own."""
    monkeypatch.setattr(throttle, "network_of", lambda _address: fresh_address)


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


def kept(user: User, count: int) -> None:
    Passkey.objects.bulk_create(
        Passkey(user=user, name="Key", credential_id=secrets.token_bytes(16), public_key=b"x")
        for _ in range(count)
    )


def sign_in(authenticator: Authenticator, **wrong: Any) -> tuple[Client, Any]:
    client = Client()
    response = authenticator.get(options_of(client, "/login/passkey"), **wrong)
    return client, client.post("/login/passkey", {"credential": response, "next": "/keys"})


def stale(client: Client) -> None:
    """As if the person had signed in an hour ago."""
    then = timezone.now() - timedelta(hours=1)
    Session.objects.filter(pk=client.session.session_key).update(signed_in_at=then)


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The reasons that the application's log has."""
    return [r.__dict__["reason"] for r in caplog.records if r.message == "a passkey was refused"]


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
    assert "your passkey is the second step" in page
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
    stale(someone)
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
def test_registrations_that_are_refused(
    someone: Client, wrong: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    response = Authenticator().create(options_of(someone, "/account/passkeys/new"), **wrong)
    answer = someone.post("/account/passkeys/new", {"name": "x", "credential": response})
    assert answer.status_code == 422
    assert "could not be used" in answer.content.decode()
    assert not Passkey.objects.filter(user=someone.user).exists()  # type: ignore[attr-defined]
    assert len(refusals(caplog)) == 1


@pytest.mark.parametrize("authenticator", [Authenticator(flags=PRESENT), Authenticator(host="evil.example")])
def test_authenticators_that_are_refused(
    someone: Client, authenticator: Authenticator, caplog: pytest.LogCaptureFixture
) -> None:
    response = authenticator.create(options_of(someone, "/account/passkeys/new"))
    answer = someone.post("/account/passkeys/new", {"name": "x", "credential": response})
    assert answer.status_code == 422
    assert not Passkey.objects.filter(user=someone.user).exists()  # type: ignore[attr-defined]
    assert len(refusals(caplog)) == 1


def test_twenty_are_the_most(someone: Client, caplog: pytest.LogCaptureFixture) -> None:
    user = someone.user  # type: ignore[attr-defined]
    kept(user, passkeys.MOST - 1)
    options = options_of(someone, "/account/passkeys/new")
    # The twentieth, made meanwhile in another window.
    kept(user, 1)
    answer = someone.post(
        "/account/passkeys/new", {"name": "x", "credential": Authenticator().create(options)}, follow=True
    )
    assert "You have 20 passkeys already, which is the limit." in answer.content.decode()
    answer = someone.get("/account/passkeys/new", follow=True)
    assert answer.redirect_chain == [("/account", 302)]
    assert "You have 20 passkeys already, which is the limit." in answer.content.decode()
    assert user.passkeys.count() == 20
    assert set(refusals(caplog)) == {"one more than 20"}


def test_of_two_that_are_added_at_once_the_one_too_many_is_refused(someone: Client) -> None:
    user = someone.user  # type: ignore[attr-defined]
    kept(user, passkeys.MOST - 1)
    begun = [passkeys.begin_registration(user) for _ in range(2)]
    name, challenges = "x", [one.challenge for one in begun]
    answers = [Authenticator().create(one.options) for one in begun]
    passkeys.register(user=user, name=name, response=answers[0], challenge=challenges[0])
    with pytest.raises(Conflict):
        passkeys.register(user=user, name=name, response=answers[1], challenge=challenges[1])
    assert user.passkeys.count() == passkeys.MOST


def test_a_name_is_asked_for(someone: Client) -> None:
    for name in ("", "   ", "x" * 101):
        response = Authenticator().create(options_of(someone, "/account/passkeys/new"))
        answer = someone.post("/account/passkeys/new", {"name": name, "credential": response})
        assert answer.status_code == 422
    assert not someone.user.passkeys.exists()  # type: ignore[attr-defined]


def test_who_has_passkeys_alone_renews_the_recovery_codes(someone: Client) -> None:
    user = someone.user  # type: ignore[attr-defined]
    assert someone.post("/account/passkeys/codes")["Location"] == "/account", "of nothing to recover"
    assert not RecoveryCode.objects.filter(user=user).exists()
    registered(someone)
    before = {bytes(row.digest) for row in RecoveryCode.objects.filter(user=user)}
    answer = someone.post("/account/passkeys/codes").content.decode()
    assert "New recovery codes" in answer
    after = {bytes(row.digest) for row in RecoveryCode.objects.filter(user=user)}
    assert (len(after), before & after) == (10, set())
    turn_on(user)
    assert someone.post("/account/passkeys/codes")["Location"] == "/account", "the app's code is asked for"
    stale(someone)
    assert someone.post("/account/passkeys/codes")["Location"] == "/verify"


def test_without_the_app_recovery_codes_stay_for_the_passkey(someone: Client) -> None:
    user = someone.user  # type: ignore[attr-defined]
    turn_on(user)
    registered(someone)
    assert second_factor.turn_off(user=user)
    assert second_factor.factors_of(user) == second_factor.Factors(app=False, passkey=True, codes=10)
    assert second_factor.forget_all(user=user)
    assert second_factor.factors_of(user) == second_factor.Factors(app=False, passkey=False, codes=0)
    assert not second_factor.forget_all(user=user)


def test_they_end_with_the_account(someone: Client, party: Party) -> None:
    registered(someone)
    receipt = erase_user(user=someone.user)  # type: ignore[attr-defined]
    assert (receipt["passkey"], receipt["recovery_code"]) == (1, 10)


def test_the_operator_lets_somebody_in_who_lost_everything(someone: Client) -> None:
    user = someone.user  # type: ignore[attr-defined]
    registered(someone)
    out = StringIO()
    call_command("reset_password", user.email, "--forget-second-factor", stdout=out)
    assert "The second factor is forgotten." in out.getvalue()
    answer = Client().post("/login", {"username": user.email, "password": "violet staircase yodel"})
    assert answer["Location"] == "/"


def test_lists_of_people_count_it(someone: Client, party: Party) -> None:
    registered(someone)
    with tenant_scope(party.id):
        listed = {row.email: row.second_factor_on for row in members.list_people()}
    assert listed[someone.user.email] is True  # type: ignore[attr-defined]
    assert listed[party.owner.email] is False
    page = someone.get("/people").content.decode()
    assert page.count('data-name="Two-factor">on<') == 1


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
    assert reauthentication.is_verified(client.session)
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
def test_answers_that_sign_nobody_in(
    someone: Client, wrong: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    authenticator = registered(someone)
    client, answer = sign_in(authenticator, **wrong)
    assert (answer.status_code, is_nobody(client)) == (422, True)
    assert Passkey.objects.get(user=someone.user).sign_count == 0  # type: ignore[attr-defined]
    assert "This passkey could not be used." in answer.content.decode()
    assert len(refusals(caplog)) == 1


def test_an_authenticator_that_was_lured_to_another_host(
    someone: Client, caplog: pytest.LogCaptureFixture
) -> None:
    authenticator = registered(someone)
    authenticator.host = "evil.example"
    client, answer = sign_in(authenticator)
    assert (answer.status_code, is_nobody(client)) == (422, True)
    assert "RP ID" in refusals(caplog)[0]


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


def test_a_challenge_grows_old(
    someone: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    authenticator = registered(someone)
    client = Client()
    response = authenticator.get(options_of(client, "/login/passkey"))
    monkeypatch.setattr(ceremony, "LASTS_S", -1)
    answer = client.post("/login/passkey", {"credential": response})
    assert (answer.status_code, is_nobody(client)) == (422, True)
    assert "This took too long" in answer.content.decode()
    assert len(refusals(caplog)) == 1


def test_a_challenge_of_one_purpose_is_none_of_another(
    someone: Client, caplog: pytest.LogCaptureFixture
) -> None:
    user = someone.user  # type: ignore[attr-defined]
    authenticator = registered(someone)
    client = halfway(user)
    # Of the second step, used to sign in alone; and of signing in, used as the second step of somebody else.
    response = authenticator.get(options_of(client, "/login/code"))
    answer = client.post("/login/passkey", {"credential": response})
    assert (answer.status_code, is_nobody(client)) == (422, True)
    response = authenticator.get(options_of(client, "/login/passkey"))
    assert client.post("/login/code", {"credential": response}).status_code == 422
    # Of a registration, used as the proof.
    stale(someone)
    client = Client()
    client.force_login(user)
    response = authenticator.get(options_of(client, "/account/passkeys/new").replace("excludeC", "allowC"))
    stale(client)
    assert client.post("/verify", {"credential": response}).status_code == 422
    assert not reauthentication.is_verified(client.session)
    assert len(refusals(caplog)) == 3


def test_a_passkey_that_was_removed_meanwhile(
    someone: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = someone.user  # type: ignore[attr-defined]
    authenticator = registered(someone)
    client = Client()
    response = authenticator.get(options_of(client, "/login/passkey"))
    user.passkeys.all().delete()
    answer = client.post("/login/passkey", {"credential": response})
    assert (answer.status_code, is_nobody(client)) == (422, True)
    assert "This passkey could not be used." in answer.content.decode()
    assert refusals(caplog) == ["not known"]
    # Between finding and counting it.
    authenticator = registered(someone)
    plain = passkeys.verify_authentication_response

    def late(**given: Any) -> Any:
        verified = plain(**given)
        user.passkeys.all().delete()
        return verified

    monkeypatch.setattr(passkeys, "verify_authentication_response", late)
    client, answer = sign_in(authenticator)
    assert (answer.status_code, is_nobody(client)) == (422, True)
    assert refusals(caplog) == ["not known", "removed meanwhile"]


def test_a_passkey_that_was_removed_after_the_password(someone: Client) -> None:
    user = someone.user  # type: ignore[attr-defined]
    registered(someone)
    code = second_factor.renew_recovery_codes(user=user)[0]
    client = halfway(user)
    Passkey.objects.filter(user=user).delete()
    page = client.get("/login/code").content.decode()
    assert "data-passkey" not in page
    assert "use one of your recovery codes" in page
    assert client.post("/login/code", {"code": code})["Location"] == "/keys"


def test_many_of_one_network_sign_in(someone: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is offered and used is not counted, so that an office is not kept waiting by itself."""
    monkeypatch.setattr(throttle, "WIDE", replace(throttle.WIDE, free=3))
    authenticator = registered(someone)
    for _ in range(6):
        assert sign_in(authenticator)[1]["Location"] == "/keys"
    # What is not used is.
    statuses = [Client().get("/login/passkey").status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    # And so is what is wrong.
    assert Client().post("/login/passkey", {"credential": "{}"}).status_code == 429


def test_without_a_name_of_its_person_nobody_is_signed_in(
    someone: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A second step knows for whom it is, and security keys of before do without."""
    user = someone.user  # type: ignore[attr-defined]
    authenticator = registered(someone)
    client = Client()
    said = json.loads(authenticator.get(options_of(client, "/login/passkey")))
    del said["response"]["userHandle"]
    answer = client.post("/login/passkey", {"credential": json.dumps(said)})
    assert (answer.status_code, is_nobody(client)) == (422, True)
    assert refusals(caplog) == ["with the handle of somebody else"]
    client = halfway(user)
    said = json.loads(authenticator.get(options_of(client, "/login/code")))
    del said["response"]["userHandle"]
    assert client.post("/login/code", {"credential": json.dumps(said)})["Location"] == "/keys"


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


def test_the_handle_of_somebody_else(someone: Client, party: Party, caplog: pytest.LogCaptureFixture) -> None:
    authenticator = registered(someone)
    authenticator.handle = new_member(party.tenant, "owner").pk.bytes
    client, answer = sign_in(authenticator)
    assert (answer.status_code, is_nobody(client)) == (422, True)
    assert refusals(caplog) == ["with the handle of somebody else"]


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
def test_hostile_answers(someone: Client, hostile: str, caplog: pytest.LogCaptureFixture) -> None:
    registered(someone)
    client = Client()
    options_of(client, "/login/passkey")
    answer = client.post("/login/passkey", {"credential": hostile})
    assert answer.status_code == 422
    assert "This passkey could not be used." in answer.content.decode()
    options_of(someone, "/account/passkeys/new")
    assert someone.post("/account/passkeys/new", {"name": "x", "credential": hostile}).status_code == 422
    assert Passkey.objects.filter(user=someone.user).count() == 1  # type: ignore[attr-defined]
    reasons = refusals(caplog)
    assert len(reasons) == 2
    assert all(len(reason) <= 300 for reason in reasons)


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
    stale(someone)
    response = authenticator.get(options_of(someone, "/verify"))
    # A challenge for one purpose is none for another.
    other = Client()
    other.force_login(new_member(party.tenant, "owner"))
    theirs = registered(other)
    wrong = theirs.get(options_of(someone, "/verify"))
    assert someone.post("/verify", {"credential": wrong}).status_code == 422
    assert someone.post("/verify", {"credential": response}).status_code == 422, "its challenge was replaced"
    assert not reauthentication.is_verified(someone.session)
    response = authenticator.get(options_of(someone, "/verify"))
    assert someone.post("/verify", {"credential": response})["Location"] == "/verify/go-on"
    assert reauthentication.is_verified(someone.session)


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
        ("https://crosslight.example:443/", ("crosslight.example", "https://crosslight.example")),
        ("https://crosslight.example:8443", ("crosslight.example", "https://crosslight.example:8443")),
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


def test_a_changed_address_leaves_recovery_codes(someone: Client, settings: Any) -> None:
    user = someone.user  # type: ignore[attr-defined]
    registered(someone)
    code = second_factor.renew_recovery_codes(user=user)[0]
    settings.BASE_URL = "http://192.0.2.7:8000"
    client = halfway(user)
    assert "data-passkey" not in client.get("/login/code").content.decode()
    assert client.post("/login/code", {"code": code})["Location"] == "/keys"


# --- Who has none notices nothing ---


def test_all_factors_are_one_statement(someone: Client, django_assert_num_queries: Any) -> None:
    user = someone.user  # type: ignore[attr-defined]
    with django_assert_num_queries(1):
        assert second_factor.factors_of(user) == second_factor.Factors(app=False, passkey=False, codes=0)
    registered(someone)
    turn_on(user)
    with django_assert_num_queries(1):
        assert second_factor.factors_of(user) == second_factor.Factors(app=True, passkey=True, codes=10)


def test_without_script_it_is_said(someone: Client) -> None:
    for client, path in ((someone, "/account/passkeys/new"), (Client(), "/login/passkey")):
        page = client.get(path).content.decode()
        assert '<noscript><p class="muted">Passkeys need JavaScript' in page
