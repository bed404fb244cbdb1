"""Searching over vectors that are put in directly; with the models, see tests/flows."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.conf import settings

from ml.media.process import Child
from tenants.datasets.models import Asset
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.query import encoding, result_page
from tenants.retrieval.types import MAX_DEPTH
from tenants.scope import tenant_scope
from tenants.valkey import client, tenant_key
from tests.api.conftest import Api, picture, refused, upload
from tests.conftest import Party
from tests.waiting import PATIENCE_S, until


def towards(degrees: float) -> np.ndarray:
    vector = np.zeros(256, np.float32)
    vector[0], vector[1] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector


@pytest.fixture
def put(api: Api, party: Party, add_text: Callable) -> Callable[..., str]:
    """Add a text asset that points in a direction; its id."""

    def put(degrees: float, **fields: Any) -> str:
        asset_id = add_text(f"at {degrees}", **fields)["asset"]["id"]
        with tenant_scope(party.id):
            asset = Asset.objects.get(pk=asset_id)
            vectors = [NewVector("text", towards(degrees))]
            replace_vectors(asset=asset, model=encoding.model_id(), vectors=vectors)
            Asset.objects.filter(pk=asset_id).update(status="ready")
        return asset_id

    return put


def find(api: Api, degrees: float = 0, **fields: Any) -> dict[str, Any]:
    # Not of norm 1: the API normalises.
    answer = api.post("/search", {"vector": (towards(degrees) * 7).tolist(), **fields})
    assert answer.status_code == 200, answer.content
    return answer.json()


def ids(answer: dict[str, Any]) -> list[str]:
    return [result["asset"]["id"] for result in answer["results"]]


def test_an_answer_in_full(api: Api, dataset: str, put: Callable[..., str]) -> None:
    near, far = put(10), put(60)
    answer = find(api)
    assert ids(answer) == [near, far]
    assert [round(r["score"], 4) for r in answer["results"]] == [0.9848, 0.5]
    first = answer["results"][0]
    assert first["asset"] == api.get(f"/assets/{near}").json()
    assert first["matched"] == {"modality": "text"}
    assert (answer["next"], answer["total_candidates"], answer["weights"]) == (None, 2, {"vector": 1.0})
    assert answer["cache"] == "bypass"
    assert answer["index"] == {**answer["index"], "kind": "flat", "size": 2, "recall_estimate": 1.0}
    space = encoding.space()
    named = {"id": f"{space.id}-{space.version}", "version": space.version, "dimension": space.dimension}
    assert answer["model"] == named
    assert answer["took_ms"] > 0
    assert {"explain", "transcript"}.isdisjoint(answer)


def test_what_is_deleted_is_never_found_again(api: Api, put: Callable[..., str]) -> None:
    near, far = put(10), put(60)
    assert ids(find(api)) == [near, far]
    api.call("DELETE", f"/assets/{near}")
    assert ids(find(api)) == [far]


def test_restrictions(api: Api, dataset: str, put: Callable[..., str]) -> None:
    cheap = put(10, metadata={"price": 3, "colour": "red"})
    dear = put(20, metadata={"price": 30, "colour": ["red", "blue"]})
    bare = put(30)
    assert ids(find(api, filter={"price": {"lt": 20}})) == [cheap]
    assert ids(find(api, filter={"colour": "red"})) == [cheap, dear]
    assert ids(find(api, filter={"colour": {"in": ["blue", "green"]}})) == [dear]
    assert ids(find(api, filter={"colour": {"ne": "blue"}})) == [cheap, bare]
    assert ids(find(api, filter={"price": {"exists": False}})) == [bare]
    assert ids(find(api, modalities=["image"])) == []
    assert ids(find(api, datasets=[dataset], modalities=["text", "image"])) == [cheap, dear, bare]
    empty = api.post("/datasets", {"name": "empty"}).json()["id"]
    assert ids(find(api, datasets=[empty])) == []


def test_nulls_and_defaults(api: Api, put: Callable[..., str]) -> None:
    near = put(10)
    names = (
        "text",
        "image",
        "audio",
        "datasets",
        "modalities",
        "filter",
        "task",
        "weights",
        "hybrid",
        "top_k",
    )
    answer = find(api, **dict.fromkeys((*names, "cursor", "exact", "explain")), )  # fmt: skip
    assert ids(answer) == [near]
    assert ids(find(api, hybrid=False, exact=True, task="medical", weights={"vector": 2, "text": 0})) == [
        near
    ]


def test_explained(api: Api, put: Callable[..., str]) -> None:
    put(10, metadata={"price": 3})
    filter_ = {"price": {"gte": 3}}
    explained = find(api, explain=True, filter=filter_)["explain"]
    assert {"encode", "refresh", "filter", "search", "hydrate"} <= set(explained["timings_ms"])
    assert (explained["parts"], explained["filter"]) == ({"vector": 1.0}, filter_)
    assert explained["cache"] == {"embedding": "bypass", "candidates": "bypass"}
    asked = {"text": f"apples {uuid.uuid4()}", "explain": True}
    layers = [api.post("/search", asked).json()["explain"]["cache"]["embedding"] for _ in range(2)]
    assert layers == ["miss", "process"]
    timing = api.post("/search", {"vector": towards(0).tolist()}).headers["Server-Timing"]
    assert "total;dur=" in timing


def test_pages_are_one_snapshot(api: Api, other: Api, put: Callable[..., str], party: Party) -> None:
    wanted = [put(degrees) for degrees in (10, 20, 30, 40, 50)]
    first = find(api, top_k=2)
    put(5)
    api.call("DELETE", f"/assets/{wanted[3]}")
    second = api.post("/search", {"cursor": first["next"], "top_k": 2}).json()
    # The ranking behind the first page is made when it is asked for, of what had been there at the first.
    assert ids(first) + ids(second) == [*wanted[:3], wanted[4]]
    assert (first["search_id"], second["next"]) == (second["search_id"], None)
    again = api.post("/search", {"cursor": first["next"], "top_k": 1, "vector": towards(90).tolist()}).json()
    assert ids(again) == [wanted[2]]
    api.call("DELETE", f"/assets/{wanted[4]}")
    assert ids(api.post("/search", {"cursor": again["next"], "top_k": 2}).json()) == []
    refused(other.post("/search", {"cursor": first["next"]}), 410, "cursor-expired")
    client().delete(tenant_key(party.id, "search", first["search_id"]))
    refused(api.post("/search", {"cursor": first["next"]}), 410, "cursor-expired")
    depth = result_page.encode_cursor(first["search_id"], MAX_DEPTH)
    refused(api.post("/search", {"cursor": depth}), 422, "invalid", "/cursor")


def test_the_picture_of_an_asset(api: Api, put: Callable[..., str]) -> None:
    text = put(10)
    refused(api.post("/search", {"image": {"asset": text}}), 422, "invalid", "/image/asset")
    refused(api.post("/search", {"audio": {"asset": text}}), 422, "invalid", "/audio/asset")


def test_a_form_says_the_same_as_json(api: Api, dataset: str, put: Callable[..., str]) -> None:
    near = put(10, metadata={"price": 3})
    put(20)
    fields = {
        "vector": str(towards(0).tolist()),
        "top_k": "1",
        "filter": '{"price": 3}',
        "datasets": f'["{dataset}"]',
        "explain": "true",
    }
    answer = api.form("/search", fields).json()
    assert ids(answer) == [near]
    assert answer["explain"]["filter"] == {"price": 3}


@pytest.mark.slow
def test_words_are_encoded_once(api: Api) -> None:
    text = f"a red apple {time.time()}"
    first, again = (api.post("/search", {"text": text}).json() for _ in range(2))
    assert (first["cache"], again["cache"]) == ("miss", "hit")
    assert first["weights"] == {"text": 1.0}


@pytest.mark.parametrize("grouped", [{}, {"group": "duplicates"}])
def test_a_page_of_results_has_a_size(
    api: Api, put: Callable[..., str], monkeypatch: pytest.MonkeyPatch, grouped: dict[str, str]
) -> None:
    added = [put(10 * n, metadata={"a": "x" * 3000}) for n in range(7)]
    assert (ids(find(api, **grouped)), find(api, **grouped)["next"]) == (added, None)
    monkeypatch.setattr("tenants.retrieval.query.result_page.MAX_BYTES", 10_000)
    first = find(api, **grouped)
    assert ids(first) == added[:3]
    found, cursor = ids(first), first["next"]
    while cursor is not None:
        page = api.post("/search", {"cursor": cursor}).json()
        found += ids(page)
        cursor = page["next"]
    assert found == added


# --- By a picture: in turn --------------------------------------------------------------------------------


def test_a_workspace_that_searches_by_many_pictures_waits_for_itself(
    api: Api, other: Api, party: Party
) -> None:
    """Its places are taken and as many wait as may: one more is refused, and somebody else is served at once."""
    from tenants.retrieval.query.encoding import query_decoder

    release, entered = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        with query_decoder(party.id) as decoding, decoding.pool._turns.of(party.id):
            entered.release()
            release.wait(PATIENCE_S)

    holding, waiting = settings.DECODER_QUERY_CHILDREN - 1, settings.DECODER_QUERIES_WAITING
    threads = [threading.Thread(target=hold) for _ in range(holding + waiting)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(holding):
            assert entered.acquire(timeout=PATIENCE_S)
        with query_decoder(party.id) as decoding:
            queue = decoding.pool._turns._queues[party.id]
        until(lambda: len(queue) == waiting)
        answer = api.form("/search", {"image": upload(picture(), "a.png")})
        refused(answer, 429, "too-many-at-once")
        assert int(answer["Retry-After"]) > 0
        served = other.form("/search", {"image": upload(picture(), "a.png")})
        assert served.status_code == 200, served.content
    finally:
        release.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert api.form("/search", {"image": upload(picture(), "a.png")}).status_code == 200


def test_a_picture_whose_decoders_die_could_not_be_looked_at(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(child: Child, request: Any, path: Any = None) -> None:
        child._process.kill()

    with monkeypatch.context() as patched:
        patched.setattr(Child, "send", kill)
        answer = api.form("/search", {"image": upload(picture(), "a.png")})
    refused(answer, 503, "unavailable")
    assert answer["Retry-After"]
    assert api.form("/search", {"image": upload(picture(), "a.png")}).status_code == 200
