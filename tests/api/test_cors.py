"""Calls from browsers: preflights as they send them, and who may read the answer."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import pytest

from tenants.accounts import origins
from tenants.accounts.models import AllowedOrigin, Tenant
from tenants.errors import Invalid
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party

ALLOW = "Access-Control-Allow-Origin"


def allow(party: Party, *allowed: str) -> None:
    with tenant_scope(party.id):
        origins.replace_origins(origins=allowed)
    origins._forget()


def preflight(api: Api, origin: str, path: str = "/search", method: str = "POST") -> Any:
    """As Chromium sends it: no key, no body."""
    return api.http.options(
        f"/api/v1{path}",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )


def own(party: Party, tail: str = "") -> str:
    """An origin that no other test knows."""
    return f"https://{party.tenant.slug}.example{tail}"


def test_a_preflight_is_answered_for_an_allowed_origin(party: Party, api: Api) -> None:
    allow(party, own(party))
    answer = preflight(api, own(party))
    assert answer.status_code == 200
    assert answer[ALLOW] == own(party)
    assert "authorization" in answer["Access-Control-Allow-Headers"]
    assert "POST" in answer["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in answer
    assert answer["Access-Control-Max-Age"] == "600"
    assert "origin" in answer["Vary"].lower()
    for path, method in (("/uploads", "POST"), ("/origins", "PUT"), ("/no-such-thing", "GET")):
        assert preflight(api, own(party), path, method)[ALLOW] == own(party)


@pytest.mark.parametrize("odd", ["null", "https://evil.example", "http://localhost:9", "", "*", "https://"])
def test_a_preflight_of_another_origin_gets_no_permission(odd: str, party: Party, api: Api) -> None:
    allow(party, own(party))
    answer = preflight(api, odd)
    assert ALLOW not in answer
    assert "Access-Control-Allow-Headers" not in answer


@pytest.mark.parametrize("near", [":8443", ".evil.example", "/"])
def test_an_origin_is_compared_exactly(near: str, party: Party, api: Api) -> None:
    allow(party, own(party))
    assert ALLOW not in preflight(api, own(party, near))
    assert ALLOW not in preflight(api, own(party).replace("https", "http"))
    assert ALLOW not in api.get("/me", Origin=own(party, near))


def test_the_answer_is_for_the_origins_of_the_keys_own_tenant(
    party: Party, stranger: Party, api: Api, other: Api
) -> None:
    allow(party, own(party))
    allow(stranger, own(stranger))
    mine = api.get("/me", Origin=own(party))
    assert mine[ALLOW] == own(party)
    assert {"Location", "RateLimit", "Retry-After", "X-Request-Id"} <= set(
        mine["Access-Control-Expose-Headers"].split(", ")
    )
    assert "Access-Control-Allow-Credentials" not in mine
    # The preflight passes, as it cannot know the key; the answer stays unreadable.
    assert preflight(other, own(party))[ALLOW] == own(party)
    foreign = other.get("/me", Origin=own(party))
    assert foreign.status_code == 200
    assert ALLOW not in foreign
    assert "origin" in foreign["Vary"].lower()


def test_an_error_of_an_allowed_origin_can_be_read(party: Party, api: Api) -> None:
    allow(party, own(party))
    answer = api.post("/search", {"nonsense": 1}, Origin=own(party))
    assert answer.status_code == 422
    assert answer[ALLOW] == own(party)


def test_without_a_valid_key_nothing_is_told(party: Party) -> None:
    allow(party, own(party))
    for token in (None, "clwrong.secret", f"{party.token}x"):
        answer = Api(token).get("/me", Origin=own(party))
        assert answer.status_code == 401
        assert ALLOW not in answer


def test_null_is_never_an_origin(party: Party, api: Api) -> None:
    with tenant_scope(party.id):
        # As if it had come in past the check.
        AllowedOrigin.objects.create(origin="https://null")
    origins._forget()
    assert ALLOW not in api.get("/me", Origin="null")


def test_a_suspended_tenants_origins_are_gone(make_party: Callable[..., Party]) -> None:
    party = make_party()
    allow(party, own(party))
    assert preflight(Api(party.token), own(party))[ALLOW] == own(party)
    Tenant.objects.filter(pk=party.id).update(state=Tenant.State.SUSPENDED)
    origins._forget()
    assert ALLOW not in preflight(Api(party.token), own(party))
    assert ALLOW not in Api(party.token).get("/me", Origin=own(party))


def test_pages_and_operations_have_no_cross_origin_answers(party: Party, api: Api) -> None:
    allow(party, own(party))
    for path in ("/healthz", "/api/schema", "/workspace"):
        assert ALLOW not in api.http.get(path, headers={"Origin": own(party)})
        asked = {"Origin": own(party), "Access-Control-Request-Method": "GET"}
        assert ALLOW not in api.http.options(path, headers=asked)


def test_every_answer_varies_by_origin_and_one_without_is_not_looked_up(
    party: Party, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origins, "_allowed", lambda: pytest.fail("asked without an origin"))
    answer = api.get("/me")
    assert "origin" in answer["Vary"].lower()
    assert ALLOW not in answer


def test_made_up_origins_cost_one_query_a_while(
    party: Party, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(party, own(party))
    loads = []
    load = origins._load
    monkeypatch.setattr(origins, "_load", lambda: loads.append(1) or load())
    for number in range(20):
        preflight(api, f"https://n{number}.example")
    assert len(loads) == 1


def test_what_was_known_serves_while_the_database_is_away(
    party: Party, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    allow(party, own(party))
    assert origins.anybody_allows(own(party))

    def fail() -> Any:
        raise OperationalError

    monkeypatch.setattr(origins, "_load", fail)
    origins._forget()
    assert preflight(api, own(party))[ALLOW] == own(party)


# --- What may be allowed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://shop.example", "https://shop.example"),
        (" HTTPS://Shop.Example:443/ ", "https://shop.example"),
        ("https://shop.example:8443", "https://shop.example:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_one_spelling_of_an_origin_is_kept(given: str, kept: str) -> None:
    assert origins.normalise(given) == kept
    assert origins.normalise(kept) == kept


@pytest.mark.parametrize(
    "odd",
    [
        *("*", "null", "", "https://*", "https://*.shop.example", "http://shop.example", "shop.example"),
        *("https://shop.example/path", "https://shop.example?x", "https://shop.example#x", "https://a@shop.example"),
        *("https://", "file://x", "javascript:alert(1)", "https://bücher.example", "https://shop.example:99999"),
        *("https://shop.example:x", "https://shop", "https://-a.example", "https://a b.example", "ftp://localhost"),
        *("https://shop.example\n.evil.example", "https://[::2]", "https://" + "a" * 300 + ".example", "https://a..b"),
        "http://localhost.evil.example",
    ],
)  # fmt: skip
def test_what_is_no_exact_origin_is_refused(odd: str) -> None:
    with pytest.raises(Invalid):
        origins.normalise(odd)


def test_the_list_is_set_as_a_whole(party: Party, api: Api) -> None:
    wanted = {"origins": ["https://B.example", "https://a.example", "https://a.example:443"]}
    answer = api.call("PUT", "/origins", wanted)
    assert answer.json() == {"origins": ["https://a.example", "https://b.example"]}
    assert api.get("/origins").json() == answer.json()
    assert api.call("PUT", "/origins", {"origins": []}).json() == {"origins": []}


def test_what_cannot_be_allowed_is_named_and_changes_nothing(party: Party, api: Api) -> None:
    allow(party, own(party))
    answer = api.call("PUT", "/origins", {"origins": [own(party), "*", "http://x.example"]})
    refused(answer, 422, "invalid")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/origins/1", "/origins/2"]
    many = [f"https://n{number}.example" for number in range(21)]
    refused(api.call("PUT", "/origins", {"origins": many}), 422, "invalid")
    assert api.get("/origins").json() == {"origins": [own(party)]}


def test_there_are_at_most_twenty(party: Party) -> None:
    allow(party, *(f"https://n{number}.example" for number in range(20)))
    with tenant_scope(party.id):
        with pytest.raises(Invalid):
            origins.change_origins(add="https://more.example")
        assert len(origins.change_origins(remove="https://n3.example")) == 19


def test_another_tenants_list_is_its_own(party: Party, stranger: Party, api: Api, other: Api) -> None:
    allow(party, own(party))
    assert other.get("/origins").json() == {"origins": []}
    assert other.call("PUT", "/origins", {"origins": []}).status_code == 200
    assert api.get("/origins").json() == {"origins": [own(party)]}


def test_a_call_without_an_origin_pays_next_to_nothing(rf: Any) -> None:
    """Less than 20 µs, where a small request takes a millisecond."""
    from django.http import HttpResponse

    from config.cors import ApiOrigins

    answer = HttpResponse()
    middleware = ApiOrigins(lambda request: answer)
    request = rf.get("/api/v1/me")
    assert min(timeit.repeat(lambda: middleware(request), number=200, repeat=20)) / 200 < 20e-6
