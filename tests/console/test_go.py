"""Going anywhere by name."""

from __future__ import annotations

import html
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tenants.datasets import services
from tenants.datasets.models import Asset
from tenants.moderation.models import Policy
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval.query import entry_of, find_named, index_texts
from tenants.scope import Narrowing, narrowed, tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.tenants.learning.world import new_model

HX = {"hx-request": "true"}


def places(client: Client, typed: str = "") -> dict[str, str]:
    """Addresses by what stands there."""
    answer = client.get("/go", {"q": typed}, headers=HX)
    assert answer.status_code == 200
    content = answer.content.decode()
    assert faults_of(content) == []
    found = re.findall(r'<li><a href="([^"]+)">.*?<span class="clip">(.*?)</span>', content)
    return {html.unescape(label): html.unescape(address) for address, label in found}


def test_pages_by_what_the_navigation_and_others_call_them(owner: Client) -> None:
    every = places(owner)
    assert every["Home"] == "/"
    assert every["Golden queries"] == "/models/golden-queries"
    assert next(iter(places(owner, "hold"))) == "Legal holds"
    assert places(owner, "xyzzy") == {
        "Search for “xyzzy”": "/search?q=xyzzy",
        "Jobs with “xyzzy”": "/jobs?q=xyzzy",
    }


def test_things_by_name_and_by_id(owner: Client, party: Party) -> None:
    with tenant_scope(party.id):
        dataset = services.create_dataset(name="Harvest <2026>")
        added = add_asset(dataset_id=dataset.id, text="pears", external_id="sku-7")
    assert places(owner, "harvest")["Harvest <2026>"] == f"/datasets/{dataset.id}"
    asset = f"/assets/{added.asset.id}"
    assert asset in places(owner, "sku-7").values()
    assert asset in places(owner, str(added.asset.id)).values()
    assert f"/datasets/{dataset.id}" in places(owner, str(dataset.id)).values()
    assert places(owner, str(added.job.id))[str(added.job.id)] == f"/jobs/{added.job.id}"
    assert len(places(owner, str(uuid.uuid4()))) == 2


def test_nothing_of_another_workspace(owner: Client, stranger: Party) -> None:
    with tenant_scope(stranger.id):
        dataset = services.create_dataset(name="Secret harvest")
        added = add_asset(dataset_id=dataset.id, text="pears", external_id="sku-7")
    for typed in ("harvest", "sku-7", str(dataset.id), str(added.asset.id), str(added.job.id)):
        assert len(places(owner, typed)) == 2, typed


def test_only_what_the_role_opens(person: Callable[..., Client], party: Party) -> None:
    viewer = places(person("viewer"))
    assert "Home" in viewer
    assert not {"API keys", "Roles", "Legal holds", "Policies", "Hash lists"} & viewer.keys()
    assert {"API keys", "Roles", "Policies", "Hash lists"} <= places(person("owner")).keys()


def shelved(dataset: Any, text: str, caption: str = "") -> Asset:
    """An asset as it is once its words were indexed."""
    asset = add_asset(dataset_id=dataset.id, text=text).asset
    Asset.objects.filter(pk=asset.pk).update(caption=caption)
    said = [caption, text]
    index_texts([entry_of(asset, {}, said)])
    return asset


def test_assets_by_words_of_their_name(owner: Client, party: Party) -> None:
    with tenant_scope(party.id):
        dataset = services.create_dataset(name="shelf")
        stove = shelved(dataset, "one", "Red kettles on <a> stove")
        chinese = shelved(dataset, "two", "红色水壶")
        bicycle = shelved(dataset, "Rote Kettenschaltung am Fahrrad")
        shelved(dataset, "kettles are only in these words of it", "A pan")

    def found(typed: str) -> set[str]:
        return {address for address in places(owner, typed).values() if address.startswith("/assets/")}

    one, two, three = (f"/assets/{asset.id}" for asset in (stove, chinese, bicycle))
    assert places(owner, "red KETT")["Red kettles on <a> stove"] == one
    for typed in ("kettle", "stove kettles", "the kettle sto", "kettle:*", "' | kettle"):
        assert found(typed) == {one}, typed
    assert found("kett") == {one, three}
    assert found("水壶") == {two}
    for typed in ("ke", "the", "kettle pan", "a\0b", "x" * 300, "& | ! <-> ()", "'"):
        assert found(typed) == set(), typed
    with tenant_scope(party.id):
        Asset.objects.filter(pk=stove.pk).update(moderation="quarantined")
    assert found("stove") == set()


def test_a_few_of_many_assets_and_of_what_one_sees(party: Party, stranger: Party) -> None:
    with tenant_scope(stranger.id):
        shelved(services.create_dataset(name="theirs"), "kettle of theirs")
    with tenant_scope(party.id):
        seen, hidden = (services.create_dataset(name=name) for name in ("seen", "hidden"))
        for number in range(9):
            shelved(hidden, f"kettle number {number}")
        one = shelved(seen, "kettle that is seen")
        assert len(find_named("kettle", 6)) == 6
        assert len(find_named("kettle", 100)) == 10
    with narrowed(Narrowing((seen.id,))), tenant_scope(party.id):
        assert find_named("kettle", 6) == [one.id]
    with narrowed(Narrowing(())), tenant_scope(party.id):
        assert find_named("kettle", 6) == []


def test_models_and_policies_by_name(owner: Client, party: Party) -> None:
    with tenant_scope(party.id):
        Policy.objects.create(name="Harvest rules")
    new_model(party.id, name="Harvest model")
    assert {"Harvest rules", "Harvest model"} <= places(owner, "harvest").keys()


def test_without_a_script_it_is_a_page(owner: Client) -> None:
    content = owner.get("/go", {"q": "log"}).content.decode()
    assert faults_of(content) == []
    assert ">Audit log<" in content
    # Each page has the way there.
    assert 'href="/go"' in owner.get("/").content.decode()


@pytest.mark.parametrize("typed", ["\0", "%", "'", "a" * 5000, "<script>", "\u202e", "\\", "100%_"])
def test_odd_words_find_nothing_and_break_nothing(owner: Client, typed: Any) -> None:
    places(owner, typed)
    assert owner.get("/go", {"q": typed}).status_code == 200
