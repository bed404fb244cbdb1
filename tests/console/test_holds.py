"""Data, Legal holds: set by whoever administers, released by an owner."""

from __future__ import annotations

from collections.abc import Callable

from django.test import Client

from tenants.datasets import holds
from tenants.datasets.models import Dataset, LegalHold
from tenants.datasets.services import create_dataset
from tenants.scope import tenant_scope
from tests.conftest import Party

PAGE = "/data/holds"


def test_a_hold_is_set_shown_and_released_by_an_owner(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="Contracts <2026>")
    assert "No legal holds." in owner.get(PAGE).content.decode()
    sent = {"dataset": str(dataset.id), "reason": "Doe v. Roe", "reference": "7 O 12/26"}
    assert owner.post(PAGE, sent)["Location"] == PAGE
    shown = owner.get(PAGE).content.decode()
    for words in ("Contracts &lt;2026&gt;", "Doe v. Roe", "7 O 12/26", "in effect"):
        assert words in shown
    refused = owner.post(f"/datasets/{dataset.id}/delete", {"name": dataset.name})
    assert refused.status_code in (302, 409)
    with tenant_scope(party.id):
        assert Dataset.objects.get(pk=dataset.id).deleted_at is None
        hold = LegalHold.objects.get()
    owner.post(f"{PAGE}/{hold.id}/release")
    with tenant_scope(party.id):
        hold.refresh_from_db()
    assert (hold.released_at is not None, hold.released_by) == (True, str(owner.user.pk))


def test_an_admin_sets_and_does_not_release(party: Party, person: Callable[..., Client]) -> None:
    admin = person("admin")
    assert admin.post(PAGE, {"reason": "Investigation"}).status_code == 302
    with tenant_scope(party.id):
        hold = LegalHold.objects.get()
    assert "/release" not in admin.get(PAGE).content.decode()
    shown = admin.post(f"{PAGE}/{hold.id}/release", follow=True).content.decode()
    assert "Only an owner of this workspace" in shown
    with tenant_scope(party.id):
        hold.refresh_from_db()
        assert hold.released_at is None
        holds.release_hold(hold_id=hold.id, actor="test", owner=True)


def test_a_hold_without_a_reason_is_not_set(party: Party, owner: Client) -> None:
    assert owner.post(PAGE, {"reason": ""}).status_code == 422
    assert owner.post(PAGE, {"reason": "x", "dataset": "no-id"}).status_code == 422
    with tenant_scope(party.id):
        assert not LegalHold.objects.exists()
