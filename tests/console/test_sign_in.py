"""Signing in, staying out, and guessing passwords."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis
from django.contrib.auth.hashers import MD5PasswordHasher
from django.test import Client

from console.account import throttle
from tenants.valkey import client as valkey
from tests.conftest import Party
from tests.waiting import pause


def sign_in(client: Client, email: str, password: str, address: str, **fields: str) -> int:
    return client.post(
        "/login", {"username": email, "password": password, **fields}, REMOTE_ADDR=address
    ).status_code


def test_the_right_password_opens_the_console(party: Party, fresh_address: str) -> None:
    client = Client()
    assert sign_in(client, party.owner.email.upper(), party.password, fresh_address) == 302
    assert client.get("/").status_code == 200
    assert client.get("/login")["Location"] == "/"


def test_wrong_password_and_unknown_account_answer_alike(party: Party, fresh_address: str) -> None:
    client = Client()
    pages = [
        client.post("/login", {"username": email, "password": "wrong"}, REMOTE_ADDR=fresh_address)
        for email in (party.owner.email, "nobody@nowhere.example")
    ]
    assert [page.status_code for page in pages] == [200, 200]
    assert all("Wrong e-mail address or password." in page.content.decode() for page in pages)
    assert "_auth_user_id" not in client.session


def waited(email: str, address: str) -> None:
    """As if the wait for the next attempt were over."""
    keys = throttle.Attempt(email, address)._keys
    valkey().delete(*(key for key in keys if key.endswith(":wait")))


def test_the_limits() -> None:
    assert throttle.Limit(5, 15 * 60) == replace(throttle.NARROW, first_s=1)
    assert throttle.Limit(100, 30) == replace(throttle.WIDE, first_s=1)


def test_after_some_failures_each_next_one_waits_twice_as_long(party: Party, fresh_address: str) -> None:
    client, email, waits = Client(), party.owner.email, []
    for _ in range(throttle.NARROW.free):
        assert sign_in(client, email, "wrong", fresh_address) == 200
    for _ in range(6):
        fields = {"username": email, "password": party.password}
        refused = client.post("/login", fields, REMOTE_ADDR=fresh_address)
        assert refused.status_code == 429
        waits.append(int(refused["Retry-After"]))
        waited(email, fresh_address)
        assert sign_in(client, email, "wrong", fresh_address) == 200
    assert waits == [pytest.approx(wait, abs=5) for wait in (60, 120, 240, 480, 900, 900)]
    assert "_auth_user_id" not in client.session


def test_whoever_waits_gets_in_whatever_others_tried_meanwhile(
    party: Party, fresh_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "NARROW", throttle.Limit(5, 900, first_s=60))
    email = party.owner.email
    for _ in range(throttle.NARROW.free):
        sign_in(Client(), email, "wrong", fresh_address)
    keys = throttle.Attempt(email, fresh_address)._keys
    [wait] = [key for key in keys if key.endswith(":wait") and valkey().exists(key)]
    ends = valkey().pexpiretime(wait)
    # What has to wait counts nothing, so it makes no wait longer.
    assert {sign_in(Client(), email, "wrong", fresh_address) for _ in range(10)} == {429}
    assert valkey().pexpiretime(wait) == ends
    valkey().pexpire(wait, 1)
    pause(0.05, "the wait ends by the clock of Valkey")
    assert sign_in(Client(), email, party.password, fresh_address) == 302


def test_the_page_says_how_long_and_keeps_the_address(party: Party, fresh_address: str) -> None:
    fields = {"username": party.owner.email, "password": "wrong"}
    for _ in range(throttle.NARROW.free):
        Client().post("/login", fields, REMOTE_ADDR=fresh_address)
    page = Client().post("/login", fields, REMOTE_ADDR=fresh_address).content.decode()
    assert re.search(r"Too many attempts\. Wait \d\d seconds, then try again\.", page)
    assert throttle.TooManyAttempts(1).detail == "Too many attempts. Wait 1 second, then try again."
    assert f'value="{party.owner.email}"' in page
    assert throttle.TooManyAttempts(480).detail == "Too many attempts. Wait 8 minutes, then try again."


def test_unknown_accounts_wait_like_known_ones(party: Party, fresh_address: str) -> None:
    def answers(email: str) -> list[int]:
        return [sign_in(Client(), email, "wrong", fresh_address) for _ in range(throttle.NARROW.free + 2)]

    assert answers(party.owner.email) == answers("nobody@nowhere.example") == [200] * 5 + [429] * 2


def test_unknown_accounts_cost_as_much_as_known_ones(
    party: Party, fresh_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    encode = MD5PasswordHasher.encode

    def counted(self: Any, password: str, salt: str) -> str:
        hashed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    for email in (party.owner.email, "nobody@nowhere.example"):
        sign_in(Client(), email, f"wrong {email}", fresh_address)
    assert hashed == [f"wrong {party.owner.email}", "wrong nobody@nowhere.example"]


@pytest.mark.parametrize(("username", "password"), [("", "x"), ("a@b.example", ""), ("", ""), ("  ", "x")])
def test_what_is_missing_costs_and_counts_nothing(
    username: str, password: str, party: Party, fresh_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "NARROW", throttle.Limit(1, 900))
    monkeypatch.setattr(throttle, "WIDE", throttle.Limit(1, 30))
    with monkeypatch.context() as patched:
        patched.setattr(MD5PasswordHasher, "encode", lambda *_: pytest.fail("a password was hashed"))
        username = username.replace("a@b.example", party.owner.email)
        assert {sign_in(Client(), username, password, fresh_address) for _ in range(3)} == {200}
    keys = {*throttle.Attempt(username, fresh_address)._keys, *throttle.Attempt("", fresh_address)._keys}
    assert not valkey().exists(*keys)
    assert sign_in(Client(), party.owner.email, party.password, fresh_address) == 302


def test_guesses_at_one_account_keep_nobody_else_waiting(
    party: Party, stranger: Party, fresh_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "WIDE", throttle.Limit(8, 30))
    for _ in range(12):
        sign_in(Client(), party.owner.email, "wrong", fresh_address)
    assert sign_in(Client(), party.owner.email, party.password, fresh_address) == 429
    assert sign_in(Client(), stranger.owner.email, stranger.password, fresh_address) == 302
    assert sign_in(Client(), party.owner.email, party.password, "192.0.2.77") == 302


def test_another_spelling_of_an_address_is_the_same_account(party: Party, fresh_address: str) -> None:
    wide = party.owner.email.replace("owner", "\uff4f\uff57\uff4e\uff45\uff52")
    for _ in range(throttle.NARROW.free):
        assert sign_in(Client(), wide, "wrong", fresh_address) == 200
    assert sign_in(Client(), wide.upper(), party.password, fresh_address) == 429
    assert sign_in(Client(), party.owner.email, party.password, fresh_address) == 429
    assert sign_in(Client(), wide, party.password, "192.0.2.78") == 302


def test_addresses_of_one_ipv6_network_count_as_one(party: Party) -> None:
    network = f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}"
    for n in range(throttle.NARROW.free):
        assert sign_in(Client(), party.owner.email, "wrong", f"{network}::{n}") == 200
    assert sign_in(Client(), party.owner.email, party.password, f"{network}:9:9:9:9") == 429
    assert throttle.network_of("192.0.2.7") == "192.0.2.7"
    assert throttle.network_of("no address") == "no address"


def test_success_forgets_earlier_failures(party: Party, fresh_address: str) -> None:
    for _ in range(2):
        client = Client()
        for _ in range(throttle.NARROW.free - 1):
            sign_in(client, party.owner.email, "wrong", fresh_address)
        assert sign_in(client, party.owner.email, party.password, fresh_address) == 302


def test_one_address_tries_many_accounts_slowly(
    party: Party, fresh_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "WIDE", throttle.Limit(3, 30, first_s=30))
    own = [sign_in(Client(), party.owner.email, party.password, fresh_address) for _ in range(5)]
    assert own == [302] * 5, "who signs in is no guesser"
    answers = [sign_in(Client(), f"{n}@many.example", "wrong", fresh_address) for n in range(5)]
    assert answers == [200, 200, 200, 429, 429]


def test_guesses_from_everywhere_are_slow_and_never_keep_a_known_browser_out(
    party: Party, fresh_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "WIDE", throttle.Limit(3, 30, first_s=30))
    known = Client()
    assert sign_in(known, party.owner.email, party.password, fresh_address) == 302
    cookie = known.cookies[throttle.DEVICE]
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", throttle.DEVICE_S)
    answers = [sign_in(Client(), party.owner.email, "wrong", f"198.51.100.{n}") for n in range(5)]
    assert answers == [200, 200, 200, 429, 429]
    assert sign_in(Client(), party.owner.email, party.password, "198.51.100.9") == 429
    # Guesses from its own address, too.
    for _ in range(10):
        sign_in(Client(), party.owner.email, "wrong", fresh_address)
    known.post("/logout")
    assert sign_in(known, party.owner.email, party.password, fresh_address) == 302


def test_a_known_browser_is_known_to_one_account_and_guesses_slowly_too(
    party: Party, stranger: Party, fresh_address: str
) -> None:
    known = Client()
    sign_in(known, party.owner.email, party.password, fresh_address)
    known.post("/logout")
    tried = [sign_in(known, party.owner.email, "wrong", fresh_address) for _ in range(6)]
    assert tried == [200] * 5 + [429]
    for _ in range(5):
        sign_in(Client(), stranger.owner.email, "wrong", fresh_address)
    assert sign_in(known, stranger.owner.email, stranger.password, fresh_address) == 429
    forged = Client()
    forged.cookies[throttle.DEVICE] = known.cookies[throttle.DEVICE].value[:-3] + "abc"
    assert sign_in(forged, party.owner.email, "wrong", fresh_address) == 200


@pytest.mark.services
def test_attempts_at_once_gain_nothing(fresh_address: str) -> None:
    def admitted(number: int) -> bool:
        try:
            throttle.Attempt("at-once@people.example", fresh_address).admit()
        except throttle.TooManyAttempts:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(admitted, range(64))) == throttle.NARROW.free


def test_counts_are_forgotten_after_the_last_attempt(fresh_address: str) -> None:
    attempt = throttle.Attempt("forgotten@people.example", fresh_address)
    for _ in range(throttle.NARROW.free):
        attempt.admit()
    left = [valkey().ttl(key) for key in attempt._keys]
    assert left[:3] == [pytest.approx(throttle.FORGET_S, abs=5)] * 3
    assert left[3:] == [pytest.approx(60, abs=5), -2, -2]
    assert max(throttle.NARROW.longest_s, throttle.WIDE.longest_s) < throttle.FORGET_S


def test_without_the_cache_people_still_get_in(
    party: Party, fresh_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = redis.Redis.from_url("redis://127.0.0.1:1")
    monkeypatch.setattr(throttle, "client", lambda: away)
    assert sign_in(Client(), party.owner.email, party.password, fresh_address) == 302


def test_next_leads_only_to_this_site(party: Party, fresh_address: str) -> None:
    for given, expected in (("/jobs", "/jobs"), ("https://evil.example/", "/"), ("//evil.example", "/")):
        response = Client().post(
            "/login",
            {"username": party.owner.email, "password": party.password, "next": given},
            REMOTE_ADDR=fresh_address,
        )
        assert response["Location"] == expected


def test_signing_out_ends_the_session(owner: Client) -> None:
    assert owner.get("/logout").status_code == 405
    assert owner.post("/logout")["Location"] == "/login"
    assert owner.get("/")["Location"].startswith("/login")


def test_a_proxy_is_told_which_workspace_a_browser_works_in(
    party: Party, stranger: Party, person: Callable[..., Client], settings: Any
) -> None:
    settings.SESSION_COOKIE_SECURE = True
    visitor = person("viewer", tenants=(party.tenant, stranger.tenant))
    assert "tenant" not in visitor.get("/account").cookies
    for chosen in (party, stranger):
        visitor.post("/workspace", {"tenant": str(chosen.id)})
        cookie = visitor.get("/").cookies["tenant"]
        assert cookie.value == str(chosen.id)
        assert (cookie["httponly"], cookie["secure"], cookie["samesite"]) == (True, True, "Lax")
        assert (cookie["max-age"], cookie["domain"]) == ("", "")
    assert "tenant" not in visitor.get("/").cookies
    # It opens nothing: whoever writes another workspace there stays in their own.
    visitor.cookies["tenant"] = str(party.id)
    assert visitor.get("/").cookies["tenant"].value == str(stranger.id)
    assert visitor.post("/logout").cookies["tenant"].value == ""


def test_everybody_in_a_workspace_has_the_same_placement(person: Callable[..., Client]) -> None:
    one, other = person("owner"), person("viewer")
    assert one.get("/").cookies["tenant"].value == other.get("/").cookies["tenant"].value
