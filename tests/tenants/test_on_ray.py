"""Embedding on Ray as far as no cluster is needed; with one: tests/hosts/test_ray.py."""

from __future__ import annotations

import importlib.util
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ml import bulk
from tenants.datasets import storage
from tenants.pipeline.assets import on_ray
from tenants.pipeline.assets.reembed import page_of
from tenants.retrieval import model_routing
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.corpus import Corpus

without_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")


@pytest.fixture
def corpus(party: Party, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    settings.RAY_ADDRESS = "127.0.0.1:1"
    monkeypatch.setattr(on_ray, "LEAST", 2)
    return Corpus(party, tmp_path)


@without_ray
def test_without_the_package_the_job_says_what_to_install(corpus: Corpus) -> None:
    corpus.add("text", [b"one", b"two"])
    job = corpus.begin()
    corpus.run(job).join()
    ended = corpus.ended(job)
    assert (ended.state, ended.attempts) == ("failed", 1)
    assert ended.error["type"] == "ray-missing"
    assert "pip install 'crosslight[ray]'" in ended.error["detail"]


@without_ray
def test_a_cluster_that_is_away_leaves_the_job_waiting(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    corpus.add("text", [b"one", b"two"])
    job = corpus.begin()
    # The child starts, and ends over its import.
    monkeypatch.setattr(on_ray, "find_spec", lambda name: object())
    corpus.run(job).join()
    ended = corpus.ended(job)
    assert (ended.state, ended.error["type"]) == ("queued", "unavailable")
    # What a cluster says is for the log, not for the tenant.
    assert "ray" not in ended.error["detail"].replace("Ray", "")
    (told,) = [one for one in caplog.records if one.name == on_ray.__name__]
    assert "No module named 'ray'" in told.__dict__["said"]
    assert corpus.rows() == []


def test_few_assets_and_films_are_not_for_the_cluster(corpus: Corpus, settings: Any) -> None:
    corpus.add("text", [b"only one"])
    job = corpus.begin()
    corpus.run(job).join()
    assert corpus.ended(job).state == "succeeded"
    assert len(corpus.rows()) == 1


def test_a_row_that_comes_twice_or_is_not_of_the_manifest_is_passed_over(corpus: Corpus) -> None:
    assets = corpus.add("text", [b"one", b"two"])
    corpus.begin()
    spaces = {corpus.model: model_routing.space(corpus.model, corpus.id)}
    with tenant_scope(corpus.id):
        items = page_of(corpus.model, spaces, above=model_routing.FIRST, count=10)
    unit = np.eye(256, dtype="<f4")[0].tobytes()
    vectors = [{"modality": "text", "segment": '{"start_char": 0, "end_char": 2}', "data": unit}]
    ids = [str(assets[0].id), str(uuid.uuid4()), str(assets[0].id)]
    rows = [{"id": one, "error": "", "cpu_s": 0.5, "vectors": vectors} for one in ids]
    waiting = {str(item.asset.id): item for item in items}
    taken = on_ray._taken(pa.Table.from_pylist(rows, schema=bulk.PART), corpus.model, waiting)
    assert [item.asset.id for item in taken] == [assets[0].id]
    assert taken[0].reason == ""
    (vector,) = taken[0].prepared.vectors
    assert (vector.model, vector.segment) == (corpus.model, {"start_char": 0, "end_char": 2})
    assert taken[0].prepared.cpu_s == 0.5
    assert set(waiting) == {str(assets[1].id)}


def test_a_node_reads_a_bucket_by_links_that_are_signed_for_one_file(bucket: str, party: Party) -> None:
    path = storage.path_of(party.id, "ab" * 32)
    storage.put(path, b"an apple")
    link = storage.link_to(path, 60)
    assert path in link
    assert "Signature=" in link
    rows = [{"id": "a", "kind": "text", "source": link, "bytes": 8, "captions": []}]
    block = bulk.Decode(1 << 30, 20.0)(pa.Table.from_pylist(rows, schema=bulk.MANIFEST))
    assert block.column("texts").to_pylist() == [[{"text": "an apple", "segment": None}]]


def test_in_a_folder_storage_the_link_is_a_path(party: Party) -> None:
    path = storage.path_of(party.id, "ab" * 32)
    storage.put(path, b"an apple")
    assert Path(storage.link_to(path, 60)).read_bytes() == b"an apple"
