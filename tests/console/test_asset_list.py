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

from tenants.datasets.models import Asset, Blob
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
    assert "Tick the assets" in answer.content.decode()
