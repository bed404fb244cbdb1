"""What the search page shows of results that are hardly likely to be right."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tenants.datasets import services
from tenants.datasets.models import Asset
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.query import encoding
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.relevance import RELEVANCE, WORDS, at_score

HX = {"hx-request": "true"}

Put = Callable[..., str]


@pytest.fixture(autouse=True)
def _calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding.space(), "relevance", RELEVANCE)


@pytest.fixture
def put(party: Party) -> Put:
    """Add a text that has a score for WORDS; its id."""
    with tenant_scope(party.id):
        dataset = services.create_dataset(name="fruit")

    def put(score: float, **metadata: Any) -> str:
        with tenant_scope(party.id):
            asset = add_asset(dataset_id=dataset.id, text=f"Nothing at {score}", values=metadata).asset
            vectors = [NewVector("text", at_score(score))]
            replace_vectors(asset=asset, model=encoding.model_id(), vectors=vectors)
            Asset.objects.filter(pk=asset.id).update(status="ready")
        return str(asset.id)

    return put


def ask(client: Client, **fields: Any) -> str:
    """What the script is answered."""
    answer = client.post("/search/results", {"text": WORDS, **fields}, headers=HX)
    assert answer.status_code == 200, answer.content
    content = answer.content.decode()
    assert faults_of(content) == []
    return content


def shown(content: str) -> list[str]:
    return re.findall(r'id="asset-([0-9a-f-]+)"', content)


def test_likely_matches_alone_with_their_chance(owner: Client, put: Put) -> None:
    likely, weak = put(0.7), put(0.4)
    content = ask(owner)
    assert shown(content) == [likely]
    assert "Likely matches" in content
    assert re.search(r'class="score" title="Relevance; cosine similarity 0.700">88 %<', content)
    assert "Show weaker matches" in content
    every = ask(owner, weak="on")
    assert shown(every) == [likely, weak]
    assert "Weaker matches are included." in every
    assert "Show weaker matches" not in every
    # They stay until somebody hides them, and are part of the address.
    assert 'name="weak" value="on" form="search-form"' in every
    assert "weak=on" in html.unescape(re.findall(r'data-address="([^"]+)"', every)[0])
    assert shown(ask(owner, weak=["on", "off"])) == [likely]


def test_nothing_that_fits_is_told_as_that(owner: Client, put: Put) -> None:
    weak = put(0.3)
    content = ask(owner)
    assert shown(content) == []
    assert "No good matches" in content
    assert "Show weaker matches" in content
    page = owner.get("/search", {"q": WORDS, "weak": "on"}).content.decode()
    assert shown(page) == [weak]
    assert "No good matches" in owner.get("/search", {"q": WORDS}).content.decode()


def test_a_workspace_without_anything_is_not_blamed_on_the_words(owner: Client) -> None:
    content = ask(owner)
    assert "No good matches" not in content
    assert "No assets match these conditions." in content


def test_values_are_counted_over_what_is_likely(owner: Client, put: Put) -> None:
    put(0.7, colour="crimson"), put(0.72, colour="green"), put(0.3, colour="indigo")
    content = ask(owner)
    assert "crimson" in content
    assert "indigo" not in content
    assert "indigo" in ask(owner, weak="on")


def test_the_call_of_the_api_leaves_out_the_same(owner: Client, put: Put) -> None:
    put(0.7)
    assert '"min_relevance": 0.5' in html.unescape(ask(owner))
    assert '"min_relevance": 0.0' in html.unescape(ask(owner, weak="on"))


def test_a_search_that_nobody_can_judge_shows_all(
    owner: Client, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding.space(), "relevance", None)
    strong, weak = put(0.7), put(0.1)
    content = ask(owner)
    assert shown(content) == [strong, weak]
    assert "Closest first" in content
    assert "Show weaker matches" not in content
    assert 'title="Cosine similarity">0.700<' in content
