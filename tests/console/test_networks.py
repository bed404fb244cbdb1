"""From which networks a tenant and a key may be used, how often a key may ask, and who used it last from where."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tenants.accounts import api_admission, keys, watchers
from tenants.accounts.keys import KeyLimits
from tenants.accounts.models import KeyDigest, TenantSecurity
from tenants.accounts.networks import admits, are_inside, read_networks
from tenants.accounts.services import set_role
from tenants.errors import Invalid, NotAllowed
from tenants.events.models import AuditEvent
from tenants.people.security import change_security
from tenants.scope import tenant_scope
from tenants.valkey import client
from tests.conftest import Party
from tests.tenants.people import new_member

HERE, ELSEWHERE = "192.0.2.7", "198.51.100.7"


class From:
    """Calls of the API with one key from one address."""

    def __init__(self, token: str, address: str) -> None:
        self.token, self.address, self.http = token, address, Client()

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        # Another process, which has not just looked the key up.
        keys._recent.clear()
        return self.http.generic(
            method,
            f"/api/v1{path}",
            json.dumps(body) if body is not None else "",
            content_type="application/json",
            headers={"Authorization": f"Bearer {self.token}"},
            REMOTE_ADDR=self.address,
        )


def allow(party: Party, *networks: str) -> None:
    with tenant_scope(party.id):
        change_security(actor="user:x", changes={"allowed_networks": list(networks)})


def new_key(party: Party, networks: list[str] | None = None, rate: int | None = None) -> tuple[Any, str]:
    with tenant_scope(party.id):
        return keys.create_key(
            name="bound", scopes=["read", "admin", "search"], limits=KeyLimits(networks or [], rate)
        )


def digest_of(token: str) -> KeyDigest:
    return KeyDigest.objects.get(prefix=token.partition(".")[0])


# --- Reading and comparing ---


def test_spellings() -> None:
    given = ["192.0.2.7/24", " 2001:DB8::1/32", "192.0.2.0/24", "198.51.100.7", "::1"]
    assert read_networks(given) == ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32", "::1/128"]
    with pytest.raises(Invalid) as error:
        read_networks(["192.0.2.0/33", "10.0.0.0/8", "example.org", ""])
    assert [one["pointer"] for one in error.value.errors] == ["/networks/0", "/networks/2", "/networks/3"]
    with pytest.raises(Invalid, match="At most 100"):
        read_networks([f"10.0.{n}.0/24" for n in range(101)])


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        *(("192.0.2.255", True), ("192.0.3.0", False), ("2001:db8:ffff::1", True), ("2001:db9::1", False)),
        *(("", False), ("unknown", False), ("::ffff:192.0.2.7", False), ("192.0.2.7 ", False)),
    ],
)
def test_addresses(address: str, admitted: bool) -> None:
    assert admits(("192.0.2.0/24", "2001:db8::/32"), address) is admitted
    assert admits((), address) is True


def test_reach() -> None:
    assert are_inside(["10.1.0.0/16"], ["10.0.0.0/8", "::/0"])
    assert are_inside([], [])
    assert not are_inside([], ["10.0.0.0/8"]), "from everywhere is no part of a network"
    assert not are_inside(["10.1.0.0/16", "192.0.2.0/24"], ["10.0.0.0/8"])
    assert not are_inside(["::/0"], ["0.0.0.0/0"])


# --- The tenant's networks ---


def test_a_tenants_networks_bind_its_keys_within_a_second(party: Party) -> None:
    inside, outside = From(party.token, HERE), From(party.token, ELSEWHERE)
    assert outside("GET", "/me").status_code == 200
    allow(party, "192.0.2.0/24")
    answer = outside("GET", "/me")
    assert answer.status_code == 403
    problem = answer.json()
    assert problem["type"] == "urn:crosslight:problem:network-not-allowed"
    assert problem["address"] == ELSEWHERE
    assert ELSEWHERE in problem["detail"]
    assert inside("GET", "/me").status_code == 200
    before = digest_of(party.token).last_address
    for path in ("/datasets", "/jobs", "/security"):
        assert outside("GET", path).status_code == 403
    assert outside("POST", "/datasets", {"name": "x"}).status_code == 403
    assert inside("GET", "/datasets").json()["results"] == []
    assert digest_of(party.token).last_address == before
    # A wrong secret is refused as everywhere, and learns nothing.
    assert From(party.token[:-1] + "!", ELSEWHERE)("GET", "/me").status_code == 401
    allow(party)
    assert outside("GET", "/me").status_code == 200


def test_nobody_shuts_themselves_out_unawares(party: Party) -> None:
    call = From(party.token, HERE)
    answer = call("PATCH", "/security", {"allowed_networks": ["198.51.100.0/24"]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/allowed_networks"
    assert HERE in answer.json()["errors"][0]["detail"]
    assert not TenantSecurity.objects.filter(tenant=party.id).exists()
    sent = {"allowed_networks": ["198.51.100.9/24"], "shut_myself_out": True}
    assert call("PATCH", "/security", sent).json()["allowed_networks"] == ["198.51.100.0/24"]
    assert call("GET", "/security").status_code == 403
    assert From(party.token, ELSEWHERE)("PATCH", "/security", {"allowed_networks": []}).status_code == 200
    assert call("GET", "/security").json()["allowed_networks"] == []
    with tenant_scope(party.id):
        details = list(
            AuditEvent.objects.filter(verb="security.changed")
            .order_by("id")
            .values_list("details", flat=True)
        )
    assert details[0] == {"allowed_networks": [None, ["198.51.100.0/24"]]}


def test_the_console_is_bound_too_and_another_workspace_is_not(party: Party, stranger: Party) -> None:
    set_role(tenant=stranger.tenant, user=party.owner, role="viewer")
    allow(party, "192.0.2.0/24")
    person = Client(REMOTE_ADDR=ELSEWHERE)
    person.force_login(party.owner)
    person.post("/workspace", {"tenant": str(party.id)})
    for path in ("/", "/datasets", "/keys", "/security/networks", "/jobs/states?ids="):
        answer = person.get(path)
        assert answer.status_code == 403, path
        assert "cannot be opened from 198.51.100.7" in answer.content.decode()
    assert person.post("/datasets/new", {"name": "x"}).status_code == 403
    part = person.get("/jobs", HTTP_ACCEPT="application/json")
    assert (part.status_code, part.json()["type"]) == (403, "network-not-allowed")
    # Pages about the person show nothing of the workspace.
    assert "No workspace chosen" in person.get("/account").content.decode()
    person.post("/workspace", {"tenant": str(stranger.id)})
    assert person.get("/datasets").status_code == 200
    person.post("/workspace", {"tenant": str(party.id)})
    assert person.get("/datasets", REMOTE_ADDR=HERE).status_code == 200


def test_the_page_of_networks(party: Party) -> None:
    person = Client(REMOTE_ADDR=HERE)
    person.force_login(party.owner)
    assert HERE in person.get("/security/networks").content.decode()
    answer = person.post("/security/networks", {"allowed_networks": "198.51.100.0/24"})
    assert (answer.status_code, "is in none of these networks" in answer.content.decode()) == (422, True)
    answer = person.post("/security/networks", {"allowed_networks": "nonsense\n192.0.2.0/24"})
    assert (answer.status_code, "This is no network: nonsense" in answer.content.decode()) == (422, True)
    assert not TenantSecurity.objects.filter(tenant=party.id).exists()
    person.post("/security/networks", {"allowed_networks": "192.0.2.0/24\r\n2001:db8::/32"})
    assert TenantSecurity.objects.get(tenant=party.id).allowed_networks == ["192.0.2.0/24", "2001:db8::/32"]
    assert "2001:db8::/32" in person.get("/security/networks").content.decode()


def test_streams_end_where_a_network_is_no_longer_allowed(party: Party) -> None:
    session = Client()
    session.force_login(party.owner)
    prefix = party.token.partition(".")[0]
    by_key = watchers.by_key(prefix, "2001:db8::7")
    by_session = watchers.by_session(session.session.session_key or "", "2001:db8::7")
    for watcher in (by_key, by_session):
        assert " " not in watcher
        assert watchers.may_watch(watcher, party.id)
    allow(party, "192.0.2.0/24")
    for watcher in (by_key, by_session):
        assert not watchers.may_watch(watcher, party.id)
    allow(party, "2001:db8::/32")
    for watcher in (by_key, by_session):
        assert watchers.may_watch(watcher, party.id)


# --- A key's own networks and rate ---


def test_a_keys_own_networks(party: Party) -> None:
    key, token = new_key(party, ["192.0.2.0/25"])
    assert From(token, HERE)("GET", "/me").status_code == 200
    assert From(token, "192.0.2.200")("GET", "/me").status_code == 403
    assert From(party.token, "192.0.2.200")("GET", "/me").status_code == 200, "another key is not bound"
    admin = From(party.token, HERE)
    answer = admin("PATCH", f"/keys/{key.id}", {"networks": ["198.51.100.0/24"], "rate_per_minute": 5})
    assert (answer.json()["networks"], answer.json()["rate_per_minute"]) == (["198.51.100.0/24"], 5)
    assert From(token, HERE)("GET", "/me").status_code == 403
    assert From(token, ELSEWHERE)("GET", "/me").status_code == 200
    assert admin("PATCH", f"/keys/{key.id}", {"networks": []}).json()["rate_per_minute"] == 5
    assert admin("PATCH", f"/keys/{key.id}", {"networks": ["x"]}).status_code == 422
    with tenant_scope(party.id):
        assert AuditEvent.objects.filter(verb="key.limited", target=str(key.id)).count() == 2
        made, _ = keys.rotate_key(key_id=key.id, overlap_s=0)
        assert keys.digest_of(made).rate_per_minute == 5, "a rotated key keeps its limits"


def test_a_bound_key_makes_no_key_that_works_elsewhere(party: Party) -> None:
    _, token = new_key(party, ["192.0.2.0/24"])
    free, _ = new_key(party)
    call = From(token, HERE)
    wide = {"name": "wide", "scopes": ["read"], "networks": ["0.0.0.0/0"]}
    assert call("POST", "/keys", wide).status_code == 403
    assert call("POST", "/keys", {**wide, "networks": []}).status_code == 403
    assert call("POST", f"/keys/{free.id}/rotate", {"overlap_s": 0}).status_code == 403
    assert call("PATCH", f"/keys/{free.id}", {"networks": ["192.0.2.7"]}).status_code == 403
    with tenant_scope(party.id):
        assert not KeyDigest.objects.filter(tenant=party.id, networks=["0.0.0.0/0"]).exists()
        assert keys.digest_of(free).networks is None
        with pytest.raises(NotAllowed):
            keys.limit_key(key_id=free.id, limits=KeyLimits([]), inside=["192.0.2.0/24"])
    made = call("POST", "/keys", {"name": "same", "scopes": ["read"]}).json()
    assert made["networks"] == ["192.0.2.0/24"], "without saying so it inherits them"
    narrow = call("POST", "/keys", {"name": "narrow", "scopes": ["read"], "networks": ["192.0.2.7"]}).json()
    assert narrow["networks"] == ["192.0.2.7/32"]


def test_a_keys_own_rate(party: Party) -> None:
    _, token = new_key(party, rate=3)
    call = From(token, HERE)
    answers = [call("GET", "/me") for _ in range(4)]
    # A minute may end in between, then the count begins anew.
    windows = {answer.headers["RateLimit"].rpartition("t=")[2] for answer in answers}
    assert windows
    assert [answer.status_code for answer in answers][:3] == [200] * 3
    if answers[3].status_code == 429:
        assert "This key allows 3 requests a minute." in answers[3].json()["detail"]
        assert int(answers[3].headers["Retry-After"]) > 0
    assert answers[0].headers["RateLimit-Policy"] == '"default";q=3;w=60'
    assert From(party.token, HERE)("GET", "/me").status_code == 200


def test_keys_in_the_console(party: Party) -> None:
    person = Client(REMOTE_ADDR=HERE)
    person.force_login(party.owner)
    sent = {
        "name": "n",
        "scopes": ["read"],
        "lifetime": "30",
        "networks": "192.0.2.0/24",
        "rate_per_minute": "9",
    }
    assert person.post("/keys", {**sent, "networks": "nonsense"}).status_code == 422
    assert person.post("/keys", sent).status_code == 201
    row = KeyDigest.objects.get(tenant=party.id, rate_per_minute=9)
    assert row.networks == ["192.0.2.0/24"]
    name = str(row.key_id)
    bad = person.post(f"/keys/{name}/limits", {f"{name}-networks": "nonsense", f"{name}-rate_per_minute": ""})
    assert (bad.status_code, "This is no network" in bad.content.decode()) == (422, True)
    person.post(f"/keys/{name}/limits", {f"{name}-networks": "", f"{name}-rate_per_minute": "7"})
    row.refresh_from_db()
    assert (row.networks, row.rate_per_minute) == (None, 7)
    other = new_member(party.tenant, "editor")
    person.force_login(other)
    assert person.post(f"/keys/{name}/limits", {f"{name}-networks": ""}).status_code == 403


# --- The last use, and what a request costs ---


def test_the_last_use_tells_address_and_minute_of_whoever_had_the_secret(party: Party) -> None:
    token = party.token
    assert From(token[:-1] + "!", ELSEWHERE)("GET", "/me").status_code == 401
    assert (digest_of(token).last_used_at, digest_of(token).last_address) == (None, None)
    client().delete(keys.cache_key(token.partition(".")[0]))
    From(token, "2001:db8::7")("GET", "/me")
    first = digest_of(token)
    assert (first.last_address, first.last_used_at is not None) == ("2001:db8::7", True)
    From(token, ELSEWHERE)("GET", "/me")
    assert digest_of(token).last_used_at == first.last_used_at, "at most once a minute"
    listed = From(token, HERE)("GET", "/keys").json()["results"]
    assert [one["last_address"] for one in listed] == ["2001:db8::7"]


@pytest.mark.parametrize("networks", [[], ["192.0.2.0/24"]])
def test_a_key_is_looked_up_with_as_few_statements_as_before(
    make_party: Callable[..., Party], networks: list[str]
) -> None:
    party = make_party()
    _, token = new_key(party, networks)
    allow(party, *networks)

    def statements() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert api_admission.identify(token, HERE) is not None
        return len(asked)

    client().delete(keys.cache_key(token.partition(".")[0]))
    assert statements() == 2, "the key with its tenant, and its last use"
    assert statements() == 0, "this process knows it"
    keys._recent.clear()
    assert statements() == 0, "Valkey knows it"


def test_what_the_release_before_cached_is_not_read(party: Party) -> None:
    prefix = party.token.partition(".")[0]
    client().set(f"key:{prefix}", b'{"scopes": []}', ex=60)
    assert From(party.token, HERE)("GET", "/me").status_code == 200
    with tenant_scope(party.id):
        keys.revoke_key(key_id=digest_of(party.token).key_id)
    assert client().get(f"key:{prefix}") == b"{}", "and learns of revocations"
