"""Closing a workspace: the owner, who proves it is them, types its name; a time to take it back; then its erasure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail as letters_sent
from django.test import Client
from django.utils import timezone

from config.self_service import SelfService
from tenants.accounts.models import Letter, Membership, OperatorAct, Tenant, User
from tenants.accounts.permissions import Actor
from tenants.datasets import holds
from tenants.errors import NotAllowed
from tenants.events.models import AuditEvent, TenantErasure
from tenants.people import letters
from tenants.pipeline.care import closing
from tenants.pipeline.upkeep import operator_acts
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.console.test_access import Things
from tests.console.test_trials import operator as operator  # the fixture


@pytest.fixture(autouse=True)
def _on(settings: Any, party: Party, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.EMAIL_HOST = "mail.example"
    settings.SELF_SERVICE = SelfService(frozenset({"closing"}))
    Letter.objects.filter(done_at=None).update(done_at=timezone.now())
    yield
    Tenant.objects.filter(pk=party.id).update(closes_at=None)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Slugs whose erasure was handed to a worker."""
    slugs: list[str] = []
    monkeypatch.setattr(operator_acts, "_send", slugs.append)
    return slugs


def close(client: Client, party: Party, name: str = "") -> Any:
    return client.post("/data/close", {"name": name or party.tenant.name})


def pass_time(party: Party) -> None:
    Tenant.objects.filter(pk=party.id).update(closes_at=timezone.now())


def told() -> list[tuple[str, str]]:
    before = len(letters_sent.outbox)
    letters.send_due()
    return sorted((one.to[0], one.subject) for one in letters_sent.outbox[before:])


def test_off_by_default_it_is_not_there(settings: Any, party: Party, owner: Client) -> None:
    settings.SELF_SERVICE = SelfService()
    assert owner.get("/data/close").status_code == 404
    assert close(owner, party).status_code == 404
    assert owner.post("/data/close/cancel").status_code == 404
    assert 'href="/data/close"' not in owner.get("/data").content.decode()
    assert Tenant.objects.get(pk=party.id).closes_at is None


def test_closed_told_and_erased(
    party: Party, owner: Client, operator: Client, person: Callable[..., Client], sent: list[str]
) -> None:
    viewer = person("viewer").user
    Things(party)
    page = owner.get("/data/close").content.decode()
    assert faults_of(page) == []
    assert "No exports yet." in page
    for wrong in ("", "another"):
        assert owner.post("/data/close", {"name": wrong}).status_code == 422
    before = timezone.now()
    assert close(owner, party)["Location"] == "/data/close"
    at = Tenant.objects.get(pk=party.id).closes_at
    assert timedelta(days=7) <= at - before < timedelta(days=7, minutes=1)
    assert faults_of(owner.get("/data/close").content.decode()) == []
    assert "This workspace is being closed" in owner.get("/").content.decode()
    people = sorted(Membership.objects.filter(tenant=party.tenant).values_list("user__email", flat=True))
    assert viewer.email in people
    assert [email for email, _subject in told()] == people
    assert party.tenant.slug in operator.get("/operator/requests").content.decode()
    assert close(owner, party).status_code == 409
    operator_acts.close_due()
    assert party.tenant.slug not in sent
    pass_time(party)
    operator_acts.close_due()
    assert sent.count(party.tenant.slug) == 1
    tenant = Tenant.objects.get(pk=party.id)
    receipt = TenantErasure.objects.get(erased_tenant=party.id)
    assert (tenant.state, receipt.finished_at) == (Tenant.State.SUSPENDED, None)
    # A second round, or a worker that died after the commit: the receipt goes on.
    operator_acts.close_due()
    assert sent.count(party.tenant.slug) == 1
    operator_acts.resume_erasures()
    assert sent.count(party.tenant.slug) == 2
    operator_acts.run_erasure(party.tenant.slug)
    receipt.refresh_from_db()
    assert receipt.verified
    assert not Tenant.objects.filter(pk=party.id).exists()
    assert not User.objects.filter(pk=viewer.pk).exists()
    acts = OperatorAct.objects.filter(target=party.tenant.slug).order_by("id")
    assert list(acts.values_list("actor", "verb")) == [
        ("self-service", "tenant.closing"),
        ("self-service", "tenant.erased"),
    ]


def test_taken_back(party: Party, owner: Client, sent: list[str]) -> None:
    close(owner, party)
    assert owner.post("/data/close/cancel").status_code == 302
    assert owner.post("/data/close/cancel").status_code == 404
    assert Tenant.objects.get(pk=party.id).closes_at is None
    # The first letter is not true any more.
    people = Membership.objects.filter(tenant=party.tenant).values_list("user__email", flat=True)
    assert told() == sorted((email, "A workspace is not closed") for email in people)
    operator_acts.close_due()
    assert party.tenant.slug not in sent
    with tenant_scope(party.id):
        verbs = AuditEvent.objects.filter(verb__startswith="tenant.closing").order_by("id")
        assert list(verbs.values_list("verb", flat=True)) == ["tenant.closing", "tenant.closing_cancelled"]


def test_owners_alone_and_no_operator(party: Party, person: Callable[..., Client]) -> None:
    assert close(person("admin"), party).status_code == 403
    with pytest.raises(NotAllowed), tenant_scope(party.id):
        closing.begin(actor=Actor("operator:x@example.org", "owner"))
    # Who was an owner a moment ago.
    client = person("owner")
    Membership.objects.filter(user=client.user, tenant=party.tenant).update(role="admin")
    assert close(client, party).status_code == 403
    assert Tenant.objects.get(pk=party.id).closes_at is None


def test_it_takes_a_proof_of_who_sits_there(party: Party, owner: Client, settings: Any) -> None:
    settings.REAUTHENTICATION_MINUTES = 0
    assert close(owner, party)["Location"] == "/verify"
    assert Tenant.objects.get(pk=party.id).closes_at is None


def test_a_legal_hold_stops_it_at_the_beginning_and_at_the_end(
    party: Party, owner: Client, operator: Client, sent: list[str]
) -> None:
    with tenant_scope(party.id):
        hold = holds.set_hold(reason="A court says so.", actor="x")
    answer = close(owner, party)
    assert answer.status_code == 409
    assert "under legal hold" in answer.content.decode()
    assert "legal hold" in owner.get("/data/close").content.decode()
    Tenant.objects.filter(pk=party.id).update(closes_at=timezone.now())
    operator_acts.close_due()
    assert (party.tenant.slug in sent, Tenant.objects.get(pk=party.id).state) == (False, "active")
    assert "kept by a legal hold" in operator.get("/operator/requests").content.decode()
    with tenant_scope(party.id):
        holds.release_hold(hold_id=hold.id, actor="x", owner=True)
    operator_acts.close_due()
    assert party.tenant.slug in sent


def test_who_is_suspended_waits(party: Party, owner: Client, sent: list[str]) -> None:
    close(owner, party)
    Tenant.objects.filter(pk=party.id).update(state=Tenant.State.SUSPENDED)
    pass_time(party)
    operator_acts.close_due()
    assert party.tenant.slug not in sent


def test_what_has_begun_can_be_taken_back_where_it_was_turned_off(
    party: Party, owner: Client, settings: Any
) -> None:
    close(owner, party)
    settings.SELF_SERVICE = SelfService()
    assert owner.get("/data/close").status_code == 200
    assert owner.post("/data/close/cancel").status_code == 302
    assert owner.get("/data/close").status_code == 404
