"""Results in another order, and as lines instead of tiles."""

from __future__ import annotations

import datetime as dt
import html
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.utils import timezone

from tenants.datasets import services
from tenants.datasets.models import Asset
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval import Query, search
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.query import encoding, searcher
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.relevance import RELEVANCE, WORDS, at_score

HX = {"hx-request": "true"}
START = timezone.now() - dt.timedelta(days=10)

Put = Callable[..., str]


@pytest.fixture(autouse=True)
def _calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding.space(), "relevance", RELEVANCE)


@pytest.fixture
def put(party: Party) -> Put:
    """Add a text with a name, that has a score for WORDS and is so many days younger than START; its id."""
    with tenant_scope(party.id):
        dataset = services.create_dataset(name="fruit")

    def put(name: str, score: float, days: float, vector: Any = None, **metadata: Any) -> str:
        with tenant_scope(party.id):
            asset = add_asset(dataset_id=dataset.id, text=f"{name} at {score}", values=metadata).asset
            vectors = [NewVector("text", at_score(score) if vector is None else vector)]
            replace_vectors(asset=asset, model=encoding.model_id(), vectors=vectors)
            made = START + dt.timedelta(days=days)
            Asset.objects.filter(pk=asset.id).update(status="ready", caption=name, created_at=made)
        return str(asset.id)

    return put


def page_of(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    content = answer.content.decode()
    assert faults_of(content) == []
    return content


def shown(content: str) -> list[str]:
    return re.findall(r'id="asset-([0-9a-f-]+)"', content)


def test_an_order_is_of_what_reaches_the_line(owner: Client, party: Party, put: Put) -> None:
    best, middle, least = put("Äpfel", 0.9, 2), put("birnen", 0.8, 3), put("Zitronen", 0.7, 1)
    hidden = put("aaa", 0.05, 9)
    orders = {
        "": [best, middle, least],
        "newest": [middle, best, least],
        "oldest": [least, best, middle],
        "name": [middle, least, best],
        "unknown": [best, middle, least],
    }
    for sort, wanted in orders.items():
        page = page_of(
            owner, f"/search?q={WORDS.replace(' ', '+')}&group=off" + (f"&sort={sort}" if sort else "")
        )
        assert shown(page) == wanted, sort
        assert hidden not in page
    found = page_of(owner, f"/search?q={WORDS.replace(' ', '+')}&sort=oldest&weak=on&group=off")
    assert shown(found) == [least, best, middle, hidden]
    assert '<option value="oldest" selected>' in found
    api = Api(party.token)
    answer = api.post("/search", {"text": WORDS, "min_relevance": 0.6, "sort": "name"}).json()
    assert [one["asset"]["id"] for one in answer["results"]] == orders["name"]
    assert answer["sorted"] == {"by": "name", "results": 3, "more": False}
    assert "sorted" not in api.post("/search", {"text": WORDS, "sort": "relevance"}).json()
    assert refused(api.post("/search", {"text": WORDS, "sort": "price"}), 422, "invalid")["errors"]


def test_pages_follow_the_order(party: Party, put: Put) -> None:
    made = [put(f"n{number}", 0.99 - number / 100, number * 7 % 11) for number in range(11)]
    wanted = [made[n] for n in sorted(range(11), key=lambda n: -(n * 7 % 11))]
    api, seen = Api(party.token), []
    sent: dict[str, Any] = {"text": WORDS, "min_relevance": 0.6, "sort": "newest", "top_k": 4}
    for _ in range(3):
        answer = api.post("/search", sent).json()
        seen += [one["asset"]["id"] for one in answer["results"]]
        sent = {"cursor": answer["next"], "top_k": 4}
    assert seen == wanted
    assert answer["next"] is None


def test_what_lies_deeper_than_is_sorted_is_said(
    owner: Client, party: Party, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searcher, "MAX_DEPTH", 3)
    made = [put(f"n{number}", 0.9 - number / 50, number) for number in range(5)]
    answer = search(tenant_id=party.id, query=Query(text=WORDS, sort="newest", min_relevance=0.6, top_k=2))
    # The three most relevant are in order, and no others.
    assert [str(asset.id) for asset, _ in answer.results] == [made[2], made[1]]
    assert answer.meta["sorted"] == {"by": "newest", "results": 3, "more": True}
    rest = search(tenant_id=party.id, query=Query(cursor=answer.next or "", top_k=2))
    assert ([str(asset.id) for asset, _ in rest.results], rest.next) == ([made[0]], None)
    page = page_of(owner, f"/search?q={WORDS.replace(' ', '+')}&sort=newest&group=off")
    assert "The 3 most relevant results are in this order; there are more." in page


def test_words_of_what_is_hidden_do_not_put_it_in_order(party: Party, put: Put) -> None:
    first, last = put("bbb", 0.9, 1), put("aaa", 0.9, 2)
    with tenant_scope(party.id):
        Asset.objects.filter(pk=last).update(moderation="block")
    answer = search(tenant_id=party.id, query=Query(text=WORDS, sort="name"))
    assert [str(asset.id) for asset, _ in answer.results] == [first, last]


def test_tiles_or_lines_close_together_or_not_as_they_were_left(owner: Client, put: Put) -> None:
    vector = np.zeros(256, np.float32)
    one = put("Äpfel & <b>", 0.9, 1, price=1.5, colour="red", crop="x", size="XL", **{"odd key": True})
    put("nothing", 0.0, 1, vector=np.roll(vector + np.eye(1, 256, 9, dtype=np.float32)[0], 0))
    address = f"/search?q={WORDS.replace(' ', '+')}"
    assert "<table" not in page_of(owner, address)
    answer = owner.post("/search/results", {"text": WORDS, "view": "list", "dense": "on"}, headers=HX)
    part = answer.content.decode()
    assert faults_of(part) == []
    for page in (part, page_of(owner, address)):
        assert shown(page) == [one]
        [line] = re.findall(r'<tr class="hit".*?</tr>', page, re.DOTALL)
        words = html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", line)))
        assert words.startswith(" Äpfel & <b> text fruit > 99 % red x yes 19 bytes ")
        assert 'class="table cards asset-table hit-table dense"' in page
        assert re.findall(r"<th>(\w[\w ]*)</th>", page) == [
            "Name",
            "Kind",
            "Dataset",
            "colour",
            "crop",
            "odd key",
        ]
    choice = {"text": WORDS, "choose": "1", "column": ["price", "no such key", "size"]}
    page = owner.post("/search/results", choice, headers=HX).content.decode()
    assert re.findall(r"<th>(\w[\w ]*)</th>", page)[3:] == ["price", "size"]
    # Somebody else looks at it as ever; what is not known changes nothing.
    assert "<table" in page_of(owner, f"{address}&view=odd&dense=odd")
    page = page_of(owner, f"{address}&view=grid&dense=off")
    assert "<table" not in page
    assert 'class="tiles"' in page


def test_more_lines_follow(owner: Client, put: Put) -> None:
    made = [put(f"n{number:02}", 0.95 - number / 200, number) for number in range(26)]
    fields = {"text": WORDS, "view": "list", "sort": "name"}
    page = owner.post("/search/results", fields, headers=HX).content.decode()
    assert shown(page) == made[:24]
    [cursor] = re.findall(r'name="cursor" value="([^"]+)"', page)
    more = owner.post("/search/results", {"cursor": cursor}, headers=HX).content.decode()
    assert shown(more) == made[24:]
    assert more.lstrip().startswith("<tr")
