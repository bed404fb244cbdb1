"""Who signs in, who cannot, and who is refused stands in the audit log of the workspace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.test import Client

from tenants.events.models import AuditEvent
from tenants.people.erasure import erase_user
from tenants.scope import tenant_scope
from tests.conftest import Party


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
