"""Rates, quotas, usage, and what `/me` says of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from tenants.accounts import metering
from tenants.accounts.models import Plan
from tenants.accounts.quotas import current_period
from tenants.valkey import client
from tests.api.conftest import Api, refused, upload
from tests.conftest import Party


@pytest.fixture
def on_plan(make_party: Callable[..., Party]) -> Callable[..., Api]:
    """A client of a new tenant on a plan of its own."""

    def make(rate: int | None = None, **limits: float) -> Api:
        slug = f"p-{secrets.token_hex(6)}"
        Plan.objects.create(slug=slug, name=slug, limits=limits, rate_per_minute=rate)
        return Api(make_party(plan=slug).token)

    return make


def test_over_the_rate(on_plan: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> None:
    # One window for the whole test, whenever it runs.
    monkeypatch.setattr("tenants.accounts.gate.time.time", lambda: 1_000_000_030.0)
    api = on_plan(rate=3)
    answers = [api.get("/me") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer.headers["RateLimit"] for answer in answers] == [
        f'"default";r={left};t=50' for left in (2, 1, 0, 0, 0)
    ]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"default";q=3;w=60'}
    refused(answers[3], 429, "rate-limited")
    assert answers[3].headers["Retry-After"] == "50"


def test_a_refusal_counts_and_tells_the_rate(on_plan: Callable[..., Api]) -> None:
    api = on_plan(rate=100)
    answer = api.get("/datasets/nothing")
    refused(answer, 404, "not-found")
    assert "RateLimit" in answer.headers


def test_a_plan_without_a_rate_says_nothing(api: Api) -> None:
    assert "RateLimit" not in api.get("/me").headers


def test_over_the_requests_of_the_month(on_plan: Callable[..., Api]) -> None:
    api = on_plan(requests=2)
    assert [api.get("/me").status_code for _ in range(2)] == [200, 200]
    problem = refused(api.get("/me"), 403, "quota-exceeded")
    assert (problem["resource"], problem["limit"]) == ("requests", 2)


def test_over_a_stock(on_plan: Callable[..., Api]) -> None:
    api = on_plan(assets=1, bytes=100)
    dataset = api.post("/datasets", {"name": "x"}).json()["id"]
    path = f"/datasets/{dataset}/assets"
    big = refused(api.form(path, {"file": upload(b"x" * 101)}), 403, "quota-exceeded")
    assert big["resource"] == "bytes"
    assert api.post(path, {"text": "one"}).status_code == 202
    assert refused(api.post(path, {"text": "two"}), 403, "quota-exceeded")["resource"] == "assets"
    assert len(api.get(path).json()["results"]) == 1
    quotas = api.get("/me").json()["quotas"]
    assert quotas["assets"] == {"used": 1, "reserved": 0, "limit": 1}
    assert quotas["bytes"] == {"used": 3, "reserved": 0, "limit": 100}
    assert quotas["vectors"] == {"used": 0, "reserved": 1, "limit": None}


def test_me(api: Api, party: Party) -> None:
    me = api.get("/me").json()
    assert me["tenant"] == {"id": str(party.id), "slug": party.tenant.slug, "name": party.tenant.name}
    assert me["plan"] == {"slug": "demo", "name": "Demo", "rate_per_minute": None}
    assert me["key"]["prefix"] == party.token.partition(".")[0]
    assert "admin" in me["scopes"]
    assert api.get("/me").json()["quotas"]["requests"]["used"] == 2


def amounts(answer: Any) -> dict[str, float]:
    today = metering.today()
    return {row["kind"]: row["amount"] for row in answer.json()["results"] if row["day"] == today}


def test_usage_counts_up_to_now_and_once(api: Api, add_text: Callable) -> None:
    add_text("four", metadata={})
    before = amounts(api.get("/usage"))
    # Two calls to make the asset, and this one.
    assert before["requests"] == 3
    assert (before["assets"], before["bytes"]) == (1, 4)
    metering.flush()
    assert amounts(api.get("/usage"))["requests"] == 4
    assert amounts(api.get("/usage?to=2020-01-01")) == {}


def test_without_valkey_requests_are_served_uncounted(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    import redis

    gone = redis.Redis.from_url("redis://127.0.0.1:1", socket_connect_timeout=0.2)
    for module in ("gate", "keys", "metering", "tally"):
        monkeypatch.setattr(f"tenants.accounts.{module}.client", lambda: gone)
    assert api.get("/me").status_code == 200
    assert api.get("/usage").status_code == 200


def test_the_month_of_requests_is_counted_by_month(api: Api, party: Party) -> None:
    api.get("/me")
    assert client().get(metering.month_key(party.id, current_period())) == b"1"
