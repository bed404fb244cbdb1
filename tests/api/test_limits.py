"""Rates, quotas, usage, and what `/me` says of them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from api import paging
from tenants.accounts import metering, quotas
from tenants.accounts.models import Plan, Tenant
from tenants.accounts.quotas import current_period
from tenants.datasets.models import Asset
from tenants.scope import tenant_scope
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
    monkeypatch.setattr("tenants.accounts.api_admission.time.time", lambda: 1_000_000_030.0)
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
    assert me["plan"] == {
        "slug": "demo",
        "name": "Demo",
        "rate_per_minute": None,
        "trial_ends_at": None,
        "read_only": False,
    }
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
    for module in ("api_admission", "keys", "metering", "rate_counter"):
        monkeypatch.setattr(f"tenants.accounts.{module}.client", lambda: gone)
    assert api.get("/me").status_code == 200
    assert api.get("/usage").status_code == 200


def test_the_month_of_requests_is_counted_by_month(api: Api, party: Party) -> None:
    api.get("/me")
    assert client().get(metering.month_key(party.id, current_period())) == b"1"


# --- Metadata --------------------------------------------------------------------------------------------


def used(api: Api) -> float:
    return api.get("/me").json()["quotas"]["bytes"]["used"]


def test_metadata_has_a_limit(api: Api, add_text: Callable, dataset: str, party: Party) -> None:
    fits, larger = {"a": "x" * (16 * 1024 - 8)}, {"a": "x" * (16 * 1024 - 7)}
    asset = add_text("one", metadata=fits)["asset"]["id"]
    answer = api.post(f"/datasets/{dataset}/assets", {"text": "two", "metadata": larger})
    assert "16385 bytes" in refused(answer, 422, "invalid", "/metadata")["detail"]
    refused(api.call("PATCH", f"/assets/{asset}", {"metadata": larger}), 422, "invalid", "/metadata")
    # In bytes, not in characters.
    wide = {"a": "水" * 5460}
    refused(api.call("PATCH", f"/assets/{asset}", {"metadata": wide}), 422, "invalid", "/metadata")
    assert api.get(f"/assets/{asset}").json()["metadata"] == fits
    assert len(api.get(f"/datasets/{dataset}/assets").json()["results"]) == 1
    with tenant_scope(party.id):
        Asset.objects.filter(pk=asset).update(metadata={"a": "x" * 40_000, "b": 1})
    # From before the limit: it is readable, and may become smaller.
    assert len(api.get(f"/assets/{asset}").json()["metadata"]["a"]) == 40_000
    assert api.call("PATCH", f"/assets/{asset}", {"metadata": {"a": "x" * 30_000}}).status_code == 200
    refused(api.call("PATCH", f"/assets/{asset}", {"metadata": {"a": "x" * 31_000}}), 422, "invalid")


def test_a_plan_and_a_tenant_say_how_much_metadata(on_plan: Callable[..., Api]) -> None:
    api = on_plan(metadata_bytes=20)
    path = f"/datasets/{api.post('/datasets', {'name': 'x'}).json()['id']}/assets"
    assert api.post(path, {"text": "one", "metadata": {"a": "x" * 12}}).status_code == 202
    refused(api.post(path, {"text": "two", "metadata": {"a": "x" * 13}}), 422, "invalid", "/metadata")
    Tenant.objects.filter(slug=api.get("/me").json()["tenant"]["slug"]).update(
        exceptions={"metadata_bytes": None}
    )
    assert api.post(path, {"text": "two", "metadata": {"a": "x" * 99_999}}).status_code == 202


def test_metadata_is_storage(api: Api, add_text: Callable, party: Party) -> None:
    asset = add_text("four", metadata={"a": "bc"})["asset"]["id"]
    assert used(api) == 4 + len('{"a":"bc"}')
    older = add_text("five", metadata={"a": 1})["asset"]["id"]
    with tenant_scope(party.id):
        # As if it had been there before metadata was charged.
        Asset.objects.filter(pk=older).update(metadata_bytes=0)
        quotas.give_back(amounts={"bytes": len('{"a":1}')})
    for metadata in ({"a": "bcdefgh"}, {"a": "b"}, {}):
        api.call("PATCH", f"/assets/{asset}", {"metadata": metadata})
        size = len(json.dumps(metadata, separators=(",", ":"))) if metadata else 0
        assert used(api) == 4 + 4 + size
    api.call("PATCH", f"/assets/{older}", {"metadata": {"a": 12}})
    assert used(api) == 4 + 4 + len('{"a":12}')
    assert amounts(api.get("/usage"))["bytes"] == 8 + len('{"a":"bc"}{"a":1}') + 5 + len('{"a":12}')
    for each in (asset, older):
        assert api.call("DELETE", f"/assets/{each}").status_code == 204
    assert used(api) == 0


def test_metadata_over_the_storage_is_refused(on_plan: Callable[..., Api]) -> None:
    api = on_plan(bytes=100)
    path = f"/datasets/{api.post('/datasets', {'name': 'x'}).json()['id']}/assets"
    large = {"a": "x" * 100}
    body = refused(api.post(path, {"text": "one", "metadata": large}), 403, "quota-exceeded")
    assert body["resource"] == "bytes"
    asset = api.post(path, {"text": "one"}).json()["asset"]["id"]
    refused(api.call("PATCH", f"/assets/{asset}", {"metadata": large}), 403, "quota-exceeded")
    assert (api.get(f"/assets/{asset}").json()["metadata"], used(api)) == ({}, 3)


def test_a_page_of_assets_has_a_size(
    api: Api, add_text: Callable, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = [add_text(f"text {n}", metadata={"a": "x" * 3000})["asset"]["id"] for n in range(7)]
    monkeypatch.setattr(paging, "READ_AT_ONCE", 2)
    whole = api.get(f"/datasets/{dataset}/assets").json()
    assert ([asset["id"] for asset in whole["results"]], whole["next"]) == (added[::-1], None)
    monkeypatch.setattr(paging, "MAX_BYTES", 10_000)
    for limit in (1, 2, 3, 5, 50):
        pages, cursor = [], ""
        while cursor is not None:
            page = api.get(f"/datasets/{dataset}/assets?limit={limit}{cursor and f'&cursor={cursor}'}").json()
            pages.append([asset["id"] for asset in page["results"]])
            cursor = page["next"]
        assert [asset for page in pages for asset in page] == added[::-1]
        assert {len(page) for page in pages[:-1]} == {min(limit, 3)}
