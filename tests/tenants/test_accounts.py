"""Keys, permissions, plans and usage."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
from django.db import connection
from django.utils import timezone

from tenants.accounts import api_admission, keys, metering, permissions, quotas, services
from tenants.accounts.models import ApiKey, KeyDigest, UsageDay
from tenants.errors import Conflict, Invalid, NotFound, QuotaExceeded
from tenants.scope import tenant_scope
from tenants.valkey import client


def test_a_key_opens_its_tenant_and_only_a_digest_is_kept(party) -> None:
    record = api_admission.identify(party.token)
    assert record.tenant_id == str(party.id)
    assert set(record.scopes) == set(permissions.SCOPES)
    prefix, secret = party.token.split(".")
    row = KeyDigest.objects.get(prefix=prefix)
    assert secret.encode() not in bytes(row.digest)
    assert secret.encode() not in client().get(keys.cache_key(prefix))


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t + "x", lambda t: "x" + t, lambda t: t.split(".")[0]]
)
def test_a_wrong_token_opens_nothing(party, change) -> None:
    assert api_admission.identify(change(party.token)) is None


@pytest.mark.parametrize("token", ["", ".", "a.b", "é.é", "a" * 5000 + ".b", "key:*.x", "a.\u0000", "cl1.é"])
def test_odd_tokens_open_nothing(token) -> None:
    assert api_admission.identify(token) is None


def test_a_revoked_key_stops_at_once_though_it_was_cached(party) -> None:
    assert api_admission.identify(party.token) is not None
    with tenant_scope(party.id):
        keys.revoke_key(key_id=ApiKey.objects.get().id)
    assert api_admission.identify(party.token) is None


def test_an_expired_key_stops_though_it_was_cached(party) -> None:
    with tenant_scope(party.id):
        _, token = keys.create_key(
            name="short", scopes=["read"], expires_at=timezone.now() + dt.timedelta(milliseconds=300)
        )
    assert api_admission.identify(token) is not None
    threading.Event().wait(0.4)
    assert api_admission.identify(token) is None


def test_keys_are_checked(party) -> None:
    with tenant_scope(party.id):
        for scopes in ([], ["everything"], ["read", "root"]):
            with pytest.raises(Invalid):
                keys.create_key(name="x", scopes=scopes)
        with pytest.raises(Invalid, match="future"):
            keys.create_key(name="x", scopes=["read"], expires_at=timezone.now())
        assert ApiKey.objects.count() == 1


def test_another_tenants_key_cannot_be_revoked(party, stranger) -> None:
    with tenant_scope(party.id):
        key_id = ApiKey.objects.get().id
    with tenant_scope(stranger.id), pytest.raises(NotFound):
        keys.revoke_key(key_id=key_id)
    assert api_admission.identify(party.token) is not None


def test_a_suspended_tenants_key_opens_nothing(party) -> None:
    party.tenant.state = "suspended"
    party.tenant.save()
    assert api_admission.identify(party.token) is None


def test_roles_are_one_table() -> None:
    assert permissions.scopes_of("viewer") == {"read", "search"}
    assert permissions.scopes_of("reviewer") == {"read", "search", "moderate"}
    assert permissions.scopes_of("owner") == set(permissions.SCOPES)
    assert permissions.scopes_of("nobody") == frozenset()


def test_tenants_and_people_are_checked(party) -> None:
    for slug in ("", "Upper", "-a", "a-", "a" * 51, "a b", "ä"):
        with pytest.raises(Invalid):
            services.create_tenant(slug=slug, name="x")
    with pytest.raises(Conflict):
        services.create_tenant(slug=party.tenant.slug, name="x")
    with pytest.raises(Conflict):
        services.create_user(email=party.owner.email.upper(), password="x")
    with pytest.raises(Invalid):
        services.create_user(email="nobody", password="x")
    with pytest.raises(Invalid):
        services.set_role(tenant=party.tenant, user=party.owner, role="king")


def test_a_rate_is_counted_per_tenant(make_party) -> None:
    party = make_party(plan="starter")
    record = api_admission.identify(party.token)
    first, second = api_admission.count(record), api_admission.count(record)
    assert (first.rate.limit, first.rate.remaining - second.rate.remaining) == (600, 1)
    assert second.requests_this_month == first.requests_this_month + 1


def test_usage_reaches_the_database_as_totals(party) -> None:
    metering.record(tenant_id=party.id, amounts={"searches": 2, "cpu_s": 0.5})
    metering.record(tenant_id=party.id, amounts={"searches": 1})
    metering.flush()
    metering.record(tenant_id=party.id, amounts={"searches": 4})
    for _ in range(2):
        metering.flush()
    with tenant_scope(party.id):
        stored = {row.kind: row.amount for row in UsageDay.objects.all()}
    assert stored == {"searches": 7, "cpu_s": 0.5}


def test_usage_survives_a_valkey_that_lost_its_memory(party) -> None:
    metering.record(tenant_id=party.id, amounts={"searches": 10})
    metering.flush()
    client().delete(metering.day_key(party.id, metering.today()))
    metering.record(tenant_id=party.id, amounts={"searches": 3})
    metering.flush()
    with tenant_scope(party.id):
        assert UsageDay.objects.get(kind="searches").amount == 13


def test_a_flush_that_dies_leaves_the_day_to_the_next_one(party, monkeypatch) -> None:
    metering.record(tenant_id=party.id, amounts={"searches": 3})
    copy = metering._copy_day

    def die(tenant_id, day) -> None:
        if tenant_id == party.id:
            raise ConnectionError
        copy(tenant_id, day)

    monkeypatch.setattr(metering, "_copy_day", die)
    with pytest.raises(ConnectionError):
        metering.flush()
    monkeypatch.setattr(metering, "_copy_day", copy)
    metering.flush()
    with tenant_scope(party.id):
        assert UsageDay.objects.get(kind="searches").amount == 3


def test_reservations_in_parallel_never_pass_the_limit(make_party) -> None:
    party = make_party(plan="starter")
    outcomes: list[bool] = []

    def reserve() -> None:
        try:
            with tenant_scope(party.id):
                quotas.charge(amounts={"vectors": 3_000})
            outcomes.append(True)
        except QuotaExceeded:
            outcomes.append(False)
        connection.close()

    threads = [threading.Thread(target=reserve) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 4 + [True] * 6
    with tenant_scope(party.id):
        assert quotas.summary()["vectors"] == {"used": 18_000, "reserved": 0, "limit": 20_000}
