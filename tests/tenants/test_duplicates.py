"""Near-duplicates among results, over vectors that are put in directly."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from tenants.datasets import services
from tenants.datasets.models import Asset
from tenants.pipeline.assets.services import add_asset, delete_asset
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.models import Vector
from tenants.retrieval.query import encoding, result_page
from tenants.retrieval.types import Hit
from tenants.scope import tenant_scope
from tests.conftest import Party

CLOSE = float(np.degrees(np.arccos(result_page.THRESHOLD))) * 0.9


def towards(degrees: float) -> np.ndarray:
    vector = np.zeros(256, np.float32)
    vector[0], vector[1] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector


class Shop:
    """Text assets that point where they are told."""

    def __init__(self) -> None:
        self.datasets = [services.create_dataset(name=name).id for name in ("one", "two")]

    def put(self, degrees: float | None, text: str = "", dataset: int = 0, **given: Any) -> uuid.UUID:
        text = text or uuid.uuid4().hex
        asset = add_asset(dataset_id=self.datasets[dataset], text=text).asset
        vectors = [] if degrees is None else [NewVector("text", towards(degrees))]
        vectors += given.get("more", [])
        replace_vectors(asset=asset, model=encoding.model_id(), vectors=vectors)
        return asset.id


@pytest.fixture
def shop(party: Party) -> Shop:
    with tenant_scope(party.id):
        return Shop()


def groups_of(ids: list[uuid.UUID]) -> list[list[uuid.UUID]]:
    hits = [Hit(asset_id, 1 - at / 100, "text") for at, asset_id in enumerate(ids)]
    return [
        [hit.asset_id for hit in members] for members in result_page.group(hits, model=encoding.model_id())
    ]


def test_nearly_equal_directions_are_one_group_in_the_order_of_leaders(party: Party, shop: Shop) -> None:
    with tenant_scope(party.id):
        a, other, b = shop.put(0), shop.put(90), shop.put(CLOSE)
        assert groups_of([a, other, b]) == [[a, b], [other]]
        assert groups_of([other, b, a]) == [[other], [b, a]]


def test_closeness_is_not_handed_on(party: Party, shop: Shop) -> None:
    with tenant_scope(party.id):
        a, b, c = shop.put(0), shop.put(CLOSE), shop.put(2 * CLOSE)
        assert groups_of([a, b, c]) == [[a, b], [c]]
        assert groups_of([b, a, c]) == [[b, a, c]]


def test_the_same_file_is_a_duplicate_wherever_it_points(party: Party, shop: Shop) -> None:
    with tenant_scope(party.id):
        a, b, c = shop.put(0, "same", 0), shop.put(90, "same", 1), shop.put(None, "same", 1)
        alone = shop.put(None)
        assert groups_of([a, alone, b, c]) == [[a, b, c], [alone]]


def test_captions_make_no_duplicates_of_different_pictures(party: Party, shop: Shop) -> None:
    with tenant_scope(party.id):
        a = shop.put(0, more=[NewVector("image", towards(45))])
        b = shop.put(90, more=[NewVector("image", towards(45))])
        assert groups_of([a, b]) == [[a], [b]]


def test_long_assets_are_compared_by_all_their_parts(party: Party, shop: Shop) -> None:
    with tenant_scope(party.id):
        parts = [
            NewVector("text", towards(d), {"start_char": n, "end_char": n + 1}) for n, d in enumerate((0, 40))
        ]
        a, same = shop.put(None, more=parts), shop.put(None, more=parts)
        half = shop.put(0)
        assert groups_of([a, half, same]) == [[a, same], [half]]


def test_what_is_gone_is_a_group_of_its_own_until_it_is_left_out(party: Party, shop: Shop) -> None:
    with tenant_scope(party.id):
        a, b, c = shop.put(0), shop.put(0), shop.put(50)
        hits = [Hit(one, 1.0, "text") for one in (a, b, c)]
        groups = result_page.group(hits, model=encoding.model_id())
        assert [len(members) for members in groups] == [2, 1]
        delete_asset(asset_id=a)
        delete_asset(asset_id=c)
        assert [[hit.asset_id for hit in members] for members in result_page.alive(groups)] == [[b]]
        assert groups_of([a, c, b]) == [[a], [c], [b]]


def test_a_space_says_from_where_on_pictures_are_copies(
    party: Party, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding.space(), "near_duplicate", 0.9)
    with tenant_scope(party.id):
        a, b = shop.put(0), shop.put(2 * CLOSE)
        assert groups_of([a, b]) == [[a], [b]]  # of texts it says nothing
        Vector.objects.filter(asset_id__in=[a, b]).update(modality="image", asset_modality="image")
        assert groups_of([a, b]) == [[a, b]]
        monkeypatch.setattr(encoding.space(), "near_duplicate", result_page.THRESHOLD)
        assert groups_of([a, b]) == [[a], [b]]


def test_none_and_a_thousand(party: Party, shop: Shop) -> None:
    with tenant_scope(party.id):
        assert result_page.group([], model=encoding.model_id()) == []
        ids = [uuid.uuid4() for _ in range(1000)]
        assert groups_of(ids) == [[one] for one in ids]


def test_vectors_of_another_tenant_are_not_seen(party: Party, stranger: Party, shop: Shop) -> None:
    with tenant_scope(party.id):
        a, b = shop.put(0), shop.put(0)
    with tenant_scope(stranger.id):
        assert groups_of([a, b]) == [[a], [b]]
        assert not Asset.objects.exists()
