"""The page that compares two versions of a document."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from django.test import Client

from tenants.datasets.services import create_dataset
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.api.test_comparisons import AFTER, BEFORE
from tests.conftest import Party

Add = Callable[..., str]


@pytest.fixture
def add(party: Party) -> Add:
    with tenant_scope(party.id):
        dataset = create_dataset(name=uuid.uuid4().hex)

    def add(text: str, status: str = "ready", **fields: str) -> str:
        with tenant_scope(party.id):
            asset = add_asset(dataset_id=dataset.id, text=text).asset
            for name, value in {"status": status, **fields}.items():
                setattr(asset, name, value)
            asset.save()
        return str(asset.id)

    return add


@pytest.fixture
def owner(client: Client, party: Party) -> Client:
    client.force_login(party.owner)
    return client


def test_what_changed_is_marked(owner: Client, add: Add) -> None:
    before, after = add(BEFORE), add(AFTER)
    said = owner.get(f"/assets/{before}/comparison?to={after}").content.decode()
    assert "within <del>30</del><ins>60</ins> days" in said
    assert "<del>2. The law of Norway applies.</del>" in said
    assert "<ins>3. Disputes go to court.</ins>" in said
    assert ">Either party may leave." not in said
    assert f'href="/assets/{after}/comparison?to={before}"' in said
    everything = owner.get(f"/assets/{before}/comparison?to={after}&all=1").content.decode()
    assert "2. Either party may leave.</div>" in everything
    assert "<span>3. → 2.</span>" in everything


def test_a_document_is_chosen_from_its_dataset(owner: Client, add: Add) -> None:
    before, ready, pending = add(BEFORE), add(AFTER), add("1. Something else.", status="pending")
    blocked = add("1. Blocked.", moderation="block")
    said = owner.get(f"/assets/{before}/comparison").content.decode()
    assert f'<option value="{ready}">' in said
    assert pending not in said
    # An owner moderates, and is told no more than that it is there.
    assert f'<option value="{blocked}">' in said
    assert "1. Blocked." not in said
    alone = owner.get(f"/assets/{ready}/comparison?to={ready}").content.decode()
    assert "Choose another document to compare this one with." in alone


def test_nothing_to_compare_with(owner: Client, add: Add) -> None:
    assert (
        "Add the other version to this dataset first."
        in owner.get(f"/assets/{add(BEFORE)}/comparison").content.decode()
    )


def test_equal_versions(owner: Client, add: Add) -> None:
    said = owner.get(f"/assets/{add(BEFORE)}/comparison?to={add(BEFORE + ' ')}").content.decode()
    assert "Every clause of both says the same." in said


def test_of_another_workspace_it_is_absent(owner: Client, add: Add, stranger: Party) -> None:
    with tenant_scope(stranger.id):
        dataset = create_dataset(name="theirs")
        theirs = add_asset(dataset_id=dataset.id, text=AFTER).asset.id
    own = add(BEFORE)
    for address in (f"/assets/{own}/comparison?to={theirs}", f"/assets/{theirs}/comparison?to={own}"):
        assert owner.get(address).status_code == 404
    assert owner.get(f"/assets/{own}/comparison?to=x").status_code == 404
