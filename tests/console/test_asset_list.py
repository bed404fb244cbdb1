"""The assets of a dataset as a grid or a table, in every order that there is, and several of them changed at once."""

from __future__ import annotations

import html
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tenants.datasets.models import Asset, Blob, Facet
from tenants.datasets.services import create_dataset
from tenants.moderation.models import AuditRequest
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of

HX = {"hx-request": "true"}


def read(client: Client, address: str, **headers: Any) -> str:
    answer = client.get(address, headers=headers or None)
    assert answer.status_code == 200
    page = answer.content.decode()
    assert faults_of(page) == []
    return page


def shown(page: str) -> list[str]:
    return re.findall(r'id="asset-([0-9a-f-]{36})"', page)


@pytest.fixture
def shelf(party: Party) -> Any:
    """A dataset of 60 assets, of which every second one has an external id that counts down."""
    with tenant_scope(party.id):
        dataset = create_dataset(name="shelf")
        blob = Blob.objects.create(sha256=uuid.uuid4().hex, bytes=7, media_type="text/plain", references=60)
        dataset.assets_in_order = [
            Asset.objects.create(
                dataset=dataset,
                blob=blob,
                modality="text",
                status="failed" if at == 3 else "ready",
                external_id=f"id {99 - at}" if at % 2 else None,
                metadata={"price": at + 0.5, "fresh": at == 59, "tags": ["a", "b"]},
            )
            for at in range(60)
        ]
        dataset.metadata_schema = {
            "price": {"type": "number", "guessed": True},
            "fresh": {"type": "bool", "guessed": True},
        }
        dataset.save()
        return dataset


def ids(assets: list[Asset]) -> list[str]:
    return [str(one.id) for one in assets]


def following(page: str) -> str:
    [address] = re.findall(r'hx-get="([^"]+before=[^"]+)"', page)
    return html.unescape(address)


@pytest.mark.parametrize(("sort", "view", "size"), [("newest", "grid", 24), ("oldest", "table", 50)])
def test_every_order_goes_on_where_it_stopped(
    shelf: Any, owner: Client, sort: str, view: str, size: int
) -> None:
    wanted = ids(shelf.assets_in_order if sort == "oldest" else shelf.assets_in_order[::-1])
    first = read(owner, f"/datasets/{shelf.id}?sort={sort}&view={view}")
    assert shown(first) == wanted[:size]
    more = read(owner, following(first), **HX)
    assert "<html" not in more
    assert shown(more) == wanted[size : 2 * size]


def test_by_external_id_only_those_that_have_one(shelf: Any, owner: Client) -> None:
    page = read(owner, f"/datasets/{shelf.id}?sort=external_id&view=grid")
    with_id = [one for one in shelf.assets_in_order if one.external_id][::-1]
    assert shown(page) == ids(with_id)[:24]
    assert shown(read(owner, following(page), **HX)) == ids(with_id)[24:]


def test_the_view_and_its_columns_are_remembered(shelf: Any, owner: Client) -> None:
    assert "<table" not in read(owner, f"/datasets/{shelf.id}")
    chosen = f"/datasets/{shelf.id}?view=table&choose=1&column=price&column=fresh&column=unknown"
    for address in (chosen, f"/datasets/{shelf.id}"):
        page = read(owner, address)
        assert "<th>price</th><th>fresh</th>" in page
        cells = re.findall(r'<td class="cell" data-name="(\w+)">(.*?)</td>', page)
        assert cells[:4] == [("price", "59.5"), ("fresh", "yes"), ("price", "58.5"), ("fresh", "no")]
    assert "<table" not in read(owner, f"/datasets/{shelf.id}?view=grid")
    assert "<table" not in read(owner, f"/datasets/{shelf.id}?view=hexagons")


def test_odd_addresses_show_the_list(shelf: Any, owner: Client) -> None:
    for query in ("sort=x&before=x", "sort=external_id&before=%00", "sort=oldest&before=;", "status=x"):
        read(owner, f"/datasets/{shelf.id}?{query}")


def test_one_status_is_shown_alone(shelf: Any, party: Party, owner: Client) -> None:
    page = read(owner, f"/datasets/{shelf.id}?status=failed")
    assert shown(page) == ids(shelf.assets_in_order[3:4])


def test_a_longer_list_costs_no_more_queries(shelf: Any, party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        small = create_dataset(name="small")
        add_asset(dataset_id=small.id, text="one")
    counted = []
    for dataset in (small, shelf):
        read(owner, f"/datasets/{dataset.id}?view=table")
        with CaptureQueriesContext(connection) as made:
            read(owner, f"/datasets/{dataset.id}")
        counted.append(len(made))
    assert counted[0] == counted[1]


def tick(assets: list[Asset], **more: str) -> dict[str, Any]:
    return {"asset": ids(assets), **more}


def test_ticked_assets_are_deleted_and_no_others(shelf: Any, party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        other = add_asset(dataset_id=create_dataset(name="other").id, text="stays").asset
        texts = [add_asset(dataset_id=shelf.id, text=f"goes {at}").asset for at in range(2)]
    answer = owner.post(f"/datasets/{shelf.id}/assets/delete", tick([*texts, other]), follow=True)
    assert "2 assets were deleted." in answer.content.decode()
    with tenant_scope(party.id):
        assert Asset.objects.filter(pk__in=[one.id for one in texts]).count() == 0
        assert Asset.objects.filter(pk=other.id).exists()
        assert Asset.objects.filter(dataset_id=shelf.id).count() == 60


def test_a_field_is_set_as_its_type_and_the_others_stay(shelf: Any, party: Party, owner: Client) -> None:
    chosen = shelf.assets_in_order[:2]
    answer = owner.post(
        f"/datasets/{shelf.id}/assets/describe", tick(chosen, key="price", value="12.5"), follow=True
    )
    assert "2 assets were changed." in answer.content.decode()
    owner.post(f"/datasets/{shelf.id}/assets/describe", tick(chosen[:1], key="fresh", value=""))
    with tenant_scope(party.id):
        first, second, third = Asset.objects.filter(dataset_id=shelf.id).order_by("id")[:3]
        assert first.metadata == {"price": 12.5, "tags": ["a", "b"]}
        assert second.metadata == {"price": 12.5, "fresh": False, "tags": ["a", "b"]}
        assert third.metadata["price"] == 2.5


@pytest.mark.parametrize("fields", [{"key": "", "value": "1"}, {"key": "price", "value": "cheap"}])
def test_a_value_that_does_not_fit_changes_nothing(
    shelf: Any, party: Party, owner: Client, fields: dict[str, str]
) -> None:
    answer = owner.post(
        f"/datasets/{shelf.id}/assets/describe", tick(shelf.assets_in_order[:2], **fields), follow=True
    )
    assert answer.status_code == 422
    with tenant_scope(party.id):
        assert Asset.objects.filter(dataset_id=shelf.id, metadata__price=0.5).count() == 1


def test_ticked_assets_are_audited(shelf: Any, party: Party, person: Callable[..., Client]) -> None:
    reviewer = person("reviewer")
    page = reviewer.get(f"/datasets/{shelf.id}?view=table").content.decode()
    assert "/assets/audit" in page
    assert "/assets/delete" not in page
    answer = reviewer.post(f"/datasets/{shelf.id}/assets/audit", tick(shelf.assets_in_order[:3]), follow=True)
    assert "3 assets are being audited." in answer.content.decode()
    with tenant_scope(party.id):
        assert AuditRequest.objects.count() == 3


def test_nothing_ticked_is_said(shelf: Any, owner: Client) -> None:
    answer = owner.post(f"/datasets/{shelf.id}/assets/delete", {"asset": ["x", ""]}, follow=True)
    assert "Select assets first" in answer.content.decode()


def test_tags_are_added_and_removed_of_the_ticked_assets(shelf: Any, party: Party, owner: Client) -> None:
    one, two, three = shelf.assets_in_order[:3]
    address = f"/datasets/{shelf.id}/assets/tag"
    kept = {"status": "ready", "sort": "oldest", "tag": "a"}
    sent = tick([one, two], add=" New  York, needs work；b", remove="A", **kept)
    answer = owner.post(address, sent)
    assert answer.status_code == 302
    assert answer["Location"] == f"/datasets/{shelf.id}?status=ready&sort=oldest&tag=a"
    assert "2 assets were changed." in owner.get(f"/datasets/{shelf.id}").content.decode()
    with tenant_scope(party.id):
        found = {row.id: row for row in Asset.objects.filter(dataset_id=shelf.id)}
        assert found[one.id].metadata["tags"] == ["b", "New York", "needs work"]
        assert found[two.id].metadata["price"] == 1.5
        assert found[three.id].metadata["tags"] == ["a", "b"]
        facets = Facet.objects.filter(asset_id=one.id, key="tags").order_by("text")
        assert [row.text for row in facets] == ["New York", "b", "needs work"]
    page = read(owner, f"/datasets/{shelf.id}?tag=New+York&view=table")
    assert shown(page) == ids([two, one])
    assert '<option value="New York" selected>New York (2)</option>' in page
    assert shown(read(owner, f"/datasets/{shelf.id}?tag=new+york")) == []
    read(owner, f"/datasets/{shelf.id}?tag=%00x{'y' * 9000}")


@pytest.mark.parametrize(
    "fields",
    [{}, {"add": " , "}, {"add": "x" * 65}, {"add": "a\x00b"}, {"add": "a\x1bb"}, {"remove": "x" * 65}],
)
def test_tags_that_cannot_be_change_nothing(
    shelf: Any, party: Party, owner: Client, fields: dict[str, str]
) -> None:
    answer = owner.post(f"/datasets/{shelf.id}/assets/tag", tick(shelf.assets_in_order[:2], **fields))
    assert answer.status_code == 422
    with tenant_scope(party.id):
        assert Asset.objects.filter(dataset_id=shelf.id, metadata__tags=["a", "b"]).count() == 60


def test_an_asset_that_would_have_too_many_tags_is_left_and_told(
    shelf: Any, party: Party, owner: Client
) -> None:
    one, two = shelf.assets_in_order[:2]
    many = ",".join(f"t{n}" for n in range(48))
    owner.post(f"/datasets/{shelf.id}/assets/tag", tick([one], add=many))
    answer = owner.post(f"/datasets/{shelf.id}/assets/tag", tick([one, two], add="z"), follow=True)
    page = answer.content.decode()
    assert "1 asset was changed." in page
    assert "1 asset was left as it is: An asset has at most 50 tags." in page
    with tenant_scope(party.id):
        assert len(Asset.objects.get(pk=one.id).metadata["tags"]) == 50
        assert Asset.objects.get(pk=two.id).metadata["tags"] == ["a", "b", "z"]


def test_tags_on_the_page_of_an_asset(shelf: Any, party: Party, person: Callable[..., Client]) -> None:
    one = shelf.assets_in_order[0]
    editor, viewer = person("editor"), person("viewer")
    editor.post(f"/assets/{one.id}/tags", {"add": '<b>, quoted "x"'})
    editor.post(f"/assets/{one.id}/tags", {"remove": "a"})
    page = read(editor, f"/assets/{one.id}")
    assert re.findall(r'name="remove" value="([^"]*)"', page) == ["b", "&lt;b&gt;", "quoted &quot;x&quot;"]
    assert 'name="remove"' not in read(viewer, f"/assets/{one.id}")
    assert viewer.post(f"/assets/{one.id}/tags", {"add": "mine"}).status_code == 403
    with tenant_scope(party.id):
        assert Asset.objects.get(pk=one.id).metadata["tags"] == ["b", "<b>", 'quoted "x"']
