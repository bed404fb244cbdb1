"""Who signs in, who cannot, and who is refused stands in the audit log of the workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from tenants.accounts.models import User
from tenants.accounts.services import set_role
from tenants.events.models import AuditEvent
from tenants.people.erasure import erase_user
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.sign_on_world import OidcForger, allow_local, come, connect_oidc, domain_name, forging


@pytest.fixture
def forger(settings: Any) -> Iterator[OidcForger]:
    allow_local(settings)
    with forging() as running:
        yield running


def lines(party: Party, verb: str) -> list[dict[str, Any]]:
    with tenant_scope(party.id):
        return list(AuditEvent.objects.filter(verb=verb).order_by("id").values("actor", "target", "details"))


def test_signing_in_and_out_and_failing_to_stand_in_the_log(party: Party) -> None:
    client, email, person = Client(REMOTE_ADDR="192.0.2.44"), party.owner.email, str(party.owner.pk)
    for _ in range(2):
        client.post("/login", {"username": email, "password": "wrong"})
    client.post("/login", {"username": "nobody@nowhere.example", "password": "wrong"})
    client.post("/login", {"username": email, "password": party.password})
    client.post("/logout")
    where = {"address": "192.0.2.44"}
    refused = [{"actor": "", "target": person, "details": {**where, "why": "password"}}]
    assert lines(party, "session.refused") == refused, "once a minute"
    started = [{"actor": person, "target": person, "details": {**where, "second_factor": False}}]
    assert lines(party, "session.started") == started
    assert lines(party, "session.ended") == [{"actor": person, "target": person, "details": where}]


def test_a_single_sign_on_stands_in_the_log_of_the_workspace_that_it_opens(
    party: Party, stranger: Party, forger: OidcForger
) -> None:
    connect_oidc(party, forger.issuer)
    client, email = Client(REMOTE_ADDR="192.0.2.44"), f"ann@{domain_name(party)}"
    come(client, forger, email)
    someone = User.objects.get(email=email)
    set_role(tenant=stranger.tenant, user=someone, role="viewer")
    come(Client(REMOTE_ADDR="192.0.2.44"), forger, email)
    client.post("/logout")
    assert [line["details"]["second_factor"] for line in lines(party, "session.started")] == [False, False]
    assert len(lines(party, "session.ended")) == 1
    assert lines(stranger, "session.started") == lines(stranger, "session.ended") == []


def test_the_address_goes_with_the_person(party: Party, person: Callable[..., Client]) -> None:
    client = person("viewer")
    client.post("/logout", REMOTE_ADDR="192.0.2.45")
    before = lines(party, "session.ended")
    assert [line["details"]["address"] for line in before] == ["192.0.2.45"]
    erase_user(user=client.user)
    (after,) = lines(party, "session.ended")
    assert after["details"] == {"address": ""}
    assert after["actor"].startswith("erased-")


def test_a_page_that_a_role_may_not_open_stands_in_the_log(
    party: Party, person: Callable[..., Client]
) -> None:
    client = person("viewer")
    for _ in range(2):
        assert client.get("/audit-log").status_code == 403
    (found,) = lines(party, "access.refused")
    assert found["actor"] == str(client.user.pk)
    assert found["target"] == "console:log"
    assert found["details"] == {"address": "127.0.0.1", "method": "GET", "scope": "admin"}
