"""Signing in, staying out, and guessing passwords."""

from __future__ import annotations

from django.test import Client

from console import throttle
from tests.conftest import Party


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
    assert all("do not belong together" in page.content.decode() for page in pages)
    assert "_auth_user_id" not in client.session


def test_too_many_failures_close_the_door_even_to_the_right_password(
    party: Party, fresh_address: str
) -> None:
    client = Client()
    for _ in range(throttle.PER_ACCOUNT):
        assert sign_in(client, party.owner.email, "wrong", fresh_address) == 200
    response = client.post(
        "/login", {"username": party.owner.email, "password": party.password}, REMOTE_ADDR=fresh_address
    )
    assert response.status_code == 429
    assert response["Retry-After"] == "900"
    assert "Wait 15 minutes" in response.content.decode()
    assert "_auth_user_id" not in client.session


def test_failures_count_per_account_and_address(party: Party, stranger: Party, fresh_address: str) -> None:
    client = Client()
    for _ in range(throttle.PER_ACCOUNT + 1):
        sign_in(client, party.owner.email, "wrong", fresh_address)
    assert sign_in(client, stranger.owner.email, stranger.password, fresh_address) == 302
    assert sign_in(Client(), party.owner.email, party.password, f"{fresh_address}1") == 302


def test_another_spelling_of_an_address_is_the_same_account(party: Party, fresh_address: str) -> None:
    wide = party.owner.email.replace("owner", "\uff4f\uff57\uff4e\uff45\uff52")
    for _ in range(throttle.PER_ACCOUNT):
        assert sign_in(Client(), wide, "wrong", fresh_address) == 200
    assert sign_in(Client(), wide.upper(), party.password, fresh_address) == 429
    assert sign_in(Client(), party.owner.email, party.password, fresh_address) == 429
    assert sign_in(Client(), wide, party.password, f"{fresh_address}2") == 302


def test_success_forgets_earlier_failures(party: Party, fresh_address: str) -> None:
    client = Client()
    for _ in range(2):
        for _ in range(throttle.PER_ACCOUNT - 1):
            sign_in(client, party.owner.email, "wrong", fresh_address)
        assert sign_in(client, party.owner.email, party.password, fresh_address) == 302
        client.post("/logout")


def test_one_address_cannot_try_many_accounts(fresh_address: str, monkeypatch) -> None:
    monkeypatch.setattr(throttle, "PER_ADDRESS", 3)
    client = Client()
    answers = [sign_in(client, f"{n}@many.example", "wrong", fresh_address) for n in range(5)]
    assert answers == [200, 200, 200, 429, 429]


def test_without_the_cache_people_still_get_in(party: Party, fresh_address: str, settings) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://127.0.0.1:1",
        }
    }
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
