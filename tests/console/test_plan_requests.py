"""Asking for more: one request at a time, an operator grants or declines, and who asked is told once."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core import mail as letters_sent
from django.db import connection
from django.test import Client

from config.self_service import SelfService
from tenants.accounts.models import Letter, OperatorAct, Plan, PlanRequest, Tenant
from tenants.accounts.permissions import Actor
from tenants.errors import Conflict
from tenants.events.models import AuditEvent
from tenants.people import letters, plan_requests
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.console.test_trials import operator as operator  # the fixture


@pytest.fixture(autouse=True)
def _on(settings: Any, party: Party) -> Iterator[None]:
    settings.EMAIL_HOST = "mail.example"
    settings.SELF_SERVICE = SelfService(frozenset({"requests"}))
    yield
    # The operators' overview of other tests counts those that are open.
    PlanRequest.objects.filter(tenant=party.tenant).delete()


@pytest.fixture
def plan() -> Plan:
    slug = f"p-{secrets.token_hex(6)}"
    return Plan.objects.create(slug=slug, name=f"Large {slug}", limits={"assets": 9000}, offered=True)


def letters_to(email: str) -> list[Any]:
    """Those that upkeep sends now; a second round sends none."""
    sent = len(letters_sent.outbox)
    letters.send_due()
    found = [one for one in letters_sent.outbox[sent:] if one.to == [email]]
    sent = len(letters_sent.outbox)
    letters.send_due()
    assert [one for one in letters_sent.outbox[sent:] if one.to == [email]] == []
    return found


def test_off_by_default_it_is_not_there(settings: Any, owner: Client) -> None:
    settings.SELF_SERVICE = SelfService()
    assert owner.get("/plan").status_code == 404
    assert owner.post("/plan", {"note": "More."}).status_code == 404
    assert owner.post("/plan/withdraw").status_code == 404
    assert 'href="/plan"' not in owner.get("/usage").content.decode()


def test_asked_granted_and_told(party: Party, owner: Client, operator: Client, plan: Plan) -> None:
    hidden = Plan.objects.create(slug=f"h-{secrets.token_hex(6)}", name="Only for Acme")
    assert 'href="/plan"' in owner.get("/usage").content.decode()
    shown = owner.get("/plan").content.decode()
    assert faults_of(shown) == []
    assert (plan.name in shown, hidden.name in shown) == (True, False)
    assert owner.post("/plan", {"plan": hidden.slug, "note": "x"}).status_code == 422
    wanted = {"plan": plan.slug, "resource": "vectors", "amount": "70000", "note": "A larger catalogue."}
    assert owner.post("/plan", wanted)["Location"] == "/plan"
    row = PlanRequest.objects.get(tenant=party.tenant)
    assert (row.state, row.plan_id, row.resource, row.amount) == ("open", plan.slug, "vectors", 70000)
    assert owner.post("/plan", wanted).status_code == 422
    assert party.tenant.name in operator.get("/operator/requests").content.decode()
    page = operator.get(f"/operator/requests/{row.id}").content.decode()
    assert faults_of(page) == []
    assert "A larger catalogue." in page
    form = {"plan": plan.slug, "vectors": "70000", "words": "Good luck."}
    assert operator.post(f"/operator/requests/{row.id}/grant", form)["Location"] == "/operator/requests"
    tenant = Tenant.objects.get(pk=party.id)
    assert (tenant.plan_id, tenant.exceptions) == (plan.slug, {"vectors": 70000})
    assert "Good luck." in owner.get("/plan").content.decode()
    [letter] = letters_to(owner.user.email)
    assert letter.subject == "Your request was granted"
    assert "Good luck." in letter.body
    assert re.fullmatch(r"<letter-[0-9a-f-]{36}@127\.0\.0\.1>", letter.extra_headers["Message-ID"])
    again = operator.post(f"/operator/requests/{row.id}/grant", form)
    assert again.status_code == 422
    verbs = OperatorAct.objects.filter(target=party.tenant.slug).order_by("id").values_list("verb", flat=True)
    assert list(verbs) == ["tenant.plan_changed", "tenant.limits_changed", "request.granted"]
    with tenant_scope(party.id):
        told = (
            AuditEvent.objects.filter(verb__startswith="plan.").order_by("id").values_list("verb", flat=True)
        )
        assert list(told) == ["plan.requested", "plan.request_granted"]


def test_declined_with_words(party: Party, owner: Client, operator: Client) -> None:
    owner.post("/plan", {"note": "Twice as much, please."})
    row = PlanRequest.objects.get(tenant=party.tenant)
    address = f"/operator/requests/{row.id}/decline"
    assert operator.post(address, {"words": " "}).status_code == 422
    before = Tenant.objects.get(pk=party.id)
    assert operator.post(address, {"words": "Not\nthis\r\nyear."}).status_code == 302
    after = Tenant.objects.get(pk=party.id)
    assert (after.plan_id, after.exceptions) == (before.plan_id, before.exceptions)
    [letter] = letters_to(owner.user.email)
    assert "Not this year." in letter.body
    assert "Not" in owner.get("/plan").content.decode()
    # Another one can follow.
    assert owner.post("/plan", {"note": "Then a little more."}).status_code == 302


def test_withdrawn_by_the_workspace(party: Party, owner: Client, operator: Client) -> None:
    owner.post("/plan", {"note": "More."})
    row = PlanRequest.objects.get(tenant=party.tenant)
    assert owner.post("/plan/withdraw").status_code == 302
    assert owner.post("/plan/withdraw").status_code == 404
    assert operator.post(f"/operator/requests/{row.id}/decline", {"words": "No."}).status_code == 422
    assert not Letter.objects.filter(tenant=party.tenant).exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"note": ""},
        {"note": "x" * 1001},
        {"note": "x", "resource": "assets"},
        {"note": "x", "resource": "nonsense", "amount": "3"},
        {"note": "x", "amount": "3"},
        {"note": "x", "resource": "assets", "amount": "-1"},
        {"note": "x", "resource": "assets", "amount": "inf"},
        {"note": "x", "plan": "nowhere"},
    ],
)
def test_what_cannot_be_asked_for(party: Party, owner: Client, fields: dict[str, str]) -> None:
    assert owner.post("/plan", fields).status_code == 422
    assert not PlanRequest.objects.filter(tenant=party.tenant).exists()


def test_who_may_ask(party: Party, person: Callable[..., Client]) -> None:
    for role in ("editor", "reviewer", "viewer"):
        assert person(role).post("/plan", {"note": "More."}).status_code == 403
    assert person("admin").post("/plan", {"note": "More."}).status_code == 302


def test_two_at_once_leave_one_open(party: Party) -> None:
    actor = Actor(str(party.owner.pk), "owner", party.owner.pk)

    def ask(number: int) -> str:
        try:
            with tenant_scope(party.id):
                plan_requests.ask(actor=actor, note=f"More {number}.")
            return "asked"
        except Conflict:
            return "conflict"
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(ask, range(4))) == ["asked", "conflict", "conflict", "conflict"]


def test_another_tenants_requests_are_not_shown(party: Party, stranger: Party, owner: Client) -> None:
    with tenant_scope(stranger.id):
        actor = Actor(str(stranger.owner.pk), "owner", stranger.owner.pk)
        row = plan_requests.ask(actor=actor, note="A secret plan.")
    try:
        assert "A secret plan." not in owner.get("/plan").content.decode()
        assert owner.post("/plan/withdraw").status_code == 404
        assert PlanRequest.objects.get(pk=row.pk).state == "open"
    finally:
        PlanRequest.objects.filter(pk=row.pk).delete()
