"""What was made here from words stays out of a search that does not ask for it, wherever the index lies and whatever
the search counts; and what it was made from is compared with nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tenants.datasets.models import Asset
from tenants.pipeline.assets.services import delete_asset
from tenants.retrieval.index import lifecycle
from tenants.retrieval.index.vectors import NewVector, add_vectors, remove_vectors
from tenants.retrieval.models import IndexPointer
from tenants.retrieval.query import encoding, lexical
from tenants.scope import tenant_scope
from tests.api.conftest import Api
from tests.api.test_search import ids, towards
from tests.conftest import Party
from workers.base import run_job

MODEL = encoding.model_id()


class Shop:
    """Goods and what was made here, each in a direction of its own and with words."""

    def __init__(self, api: Api, party: Party, add_text: Callable) -> None:
        self.api, self.party, self._add = api, party, add_text

    def put(self, degrees: float, *, made: bool = False, words: str = "apple", **given: Any) -> str:
        asset_id: str = self._add(uuid.uuid4().hex, **given)["asset"]["id"]
        with tenant_scope(self.party.id):
            rows = Asset.objects.filter(pk=asset_id)
            rows.update(status="ready", generation_id=uuid.uuid4() if made else None)
            asset = rows.get()
            remove_vectors(asset_ids=[asset.id])
            add_vectors(model=MODEL, vectors=[(asset, [NewVector("text", towards(degrees))])])
            lexical.index_texts([lexical.Entry(asset.id, asset.dataset_id, "text", words)])
        return asset_id

    def build(self) -> None:
        with tenant_scope(self.party.id):
            job = lifecycle.build(model=MODEL)
        assert job is not None
        run_job(str(job.id), str(self.party.id))
        with tenant_scope(self.party.id):
            assert IndexPointer.objects.get(model=MODEL).current_id is not None

    def search(self, **fields: Any) -> dict[str, Any]:
        answer = self.api.post("/search", {"vector": towards(0).tolist(), **fields})
        assert answer.status_code == 200, answer.content
        return answer.json()

    def found(self, **fields: Any) -> list[str]:
        return ids(self.search(**fields))


@pytest.fixture
def shop(api: Api, party: Party, add_text: Callable) -> Shop:
    return Shop(api, party, add_text)


@pytest.mark.parametrize("built", [False, True], ids=["array", "generation"])
def test_what_was_made_is_found_when_it_is_asked_for(shop: Shop, built: bool) -> None:
    made, good = shop.put(0, made=True), shop.put(30)
    if built:
        shop.build()
    newer = shop.put(5, made=True)
    for _twice in range(2):  # the second time nothing is new to the process
        assert shop.found() == [good]
        assert shop.found(generated="exclude") == shop.found(generated=None) == [good]
        assert shop.found(generated="include") == [made, newer, good]
        assert shop.found(generated="only") == [made, newer]
    answer = shop.search(generated="include")
    assert [one["asset"]["generated"] for one in answer["results"]] == [True, True, False]
    assert [shop.search(generated=one)["total_candidates"] for one in ("exclude", "include", "only")] == [
        1,
        3,
        2,
    ]


@pytest.mark.parametrize("built", [False, True], ids=["array", "generation"])
def test_queries_of_several_parts_leave_it_out_too(shop: Shop, built: bool) -> None:
    made, good = shop.put(0, made=True), shop.put(30)
    if built:
        shop.build()
    newer = shop.put(5, made=True)
    parts = {"vector": None, "parts": [{"vector": towards(0).tolist()}, {"vector": towards(10).tolist()}]}
    assert shop.found(**parts) == [good]
    assert set(shop.found(**parts, generated="include")) == {made, newer, good}
    assert set(shop.found(**parts, generated="only")) == {made, newer}


@pytest.mark.parametrize("built", [False, True], ids=["array", "generation"])
def test_filters_and_counts_leave_it_out_too(shop: Shop, built: bool) -> None:
    red = {"colour": "red"}
    shop.put(0, made=True, metadata=red)
    good, other = shop.put(30, metadata=red), shop.put(40, metadata={"colour": "blue"})
    if built:
        shop.build()
    newer = shop.put(50, made=True, metadata=red)
    counted = {"filter": {"colour": "red"}, "facets": ["colour"]}

    def reds(**fields: Any) -> int:
        values = shop.search(**counted, **fields)["facets"]["colour"]["values"]
        return next(int(one["count"]) for one in values if one["value"] == "red")

    assert shop.found(filter={"colour": "red"}) == [good]
    assert (reds(), reds(generated="include"), reds(generated="only")) == (1, 3, 2)
    assert shop.found(exact=True) == [good, other]
    assert shop.found(generated="only", filter={"colour": "red"})[-1] == newer
    assert shop.found(generated="only", filter={"colour": "blue"}) == []


def test_words_do_not_find_it_either(shop: Shop) -> None:
    made, good = shop.put(10, made=True, words="a wonderful apple"), shop.put(80, words="apple tree")
    words = {"text": "wonderful apple", "hybrid": True}
    assert shop.found(**words) == [good]
    assert set(shop.found(**words, generated="include")) == {made, good}
    assert shop.found(**words, generated="only") == [made]


def test_further_pages_and_groups_leave_it_out(shop: Shop) -> None:
    goods = [shop.put(10 * n) for n in range(1, 6)]
    for n in range(1, 6):
        shop.put(10 * n + 1, made=True)
    found, answer = [], shop.search(top_k=2)
    while True:
        found += ids(answer)
        if not answer["next"]:
            break
        answer = shop.api.post("/search", {"cursor": answer["next"], "top_k": 2}).json()
    assert found == goods
    grouped = shop.search(group="duplicates")
    assert {asset for one in grouped["results"] for asset in [one["asset"]["id"]]} <= set(goods)


def test_one_that_is_made_or_deleted_later_is_noticed(shop: Shop) -> None:
    good = shop.put(30)
    assert shop.found(generated="only") == []
    made = shop.put(0, made=True)
    assert (shop.found(), shop.found(generated="only")) == ([good], [made])
    shop.build()
    assert (shop.found(), shop.found(generated="only")) == ([good], [made])
    with tenant_scope(shop.party.id):
        delete_asset(asset_id=uuid.UUID(made))
    assert (shop.found(generated="include"), shop.found(generated="only")) == ([good], [])


def test_another_word_is_refused(api: Api) -> None:
    answer = api.post("/search", {"vector": towards(0).tolist(), "generated": "yes"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/generated")


def test_what_it_was_made_from_is_told_and_no_caption(shop: Shop, api: Api) -> None:
    made = shop.put(0, made=True)
    with tenant_scope(shop.party.id):
        Asset.objects.filter(pk=made).update(prompt="a red apple")
        asset = Asset.objects.get(pk=made)
        assert (asset.title, asset.captions) == ("a red apple", [])
    told = api.get(f"/assets/{made}").json()
    assert (told["generated"], told["prompt"], told["caption"], told["captions"]) == (
        True,
        "a red apple",
        "",
        [],
    )
    good = api.get(f"/assets/{shop.put(1)}").json()
    assert (good["generated"], "prompt" in good) == (False, False)
