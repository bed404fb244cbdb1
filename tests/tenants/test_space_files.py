"""Tenants' own spaces: kept in the storage, fetched once, and never used where a byte of them is wrong."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings
from django.core.files.storage import default_storage

from ml.alignment.space import SpaceError
from tenants.datasets import storage
from tenants.errors import Invalid, ModelUnavailable
from tenants.pipeline.care.tenant_erasure import files_of
from tenants.retrieval import model_routing, model_store
from tenants.retrieval.model_store import Spaces, path_of
from tenants.retrieval.query import encoding
from tests.tenants.second_model import keep_turned, turned_space


def here(tenant_id: uuid.UUID, model: str) -> Path:
    return settings.SPACES_DIR / str(tenant_id) / model.replace(":", ".")


def overwrite(path: str, content: bytes) -> None:
    default_storage.delete(path)
    storage.put(path, content)


def test_a_space_comes_back_as_it_was_kept(party, tmp_path) -> None:
    model = keep_turned(party.id, tmp_path)
    space = Spaces().get(model, party.id)
    assert model_store.model_of(space) == model
    texts = ["a red apple", "a cat on a sofa"]
    own, shipped = space.embed_texts(texts), encoding.space().embed_texts(texts)
    assert np.allclose(own @ own.T, shipped @ shipped.T, atol=1e-3)
    assert abs(float(own[0] @ shipped[0])) < 0.9
    assert sorted(path.name for path in here(party.id, model).iterdir()) == [
        "files.json",
        "manifest.json",
        "space.safetensors",
    ]


def test_it_is_fetched_once_and_opened_from_this_machine(party, tmp_path) -> None:
    model = keep_turned(party.id, tmp_path)
    some = Spaces()
    assert some.get(model, party.id) is some.get(model, party.id)
    for path in list(storage.files_below(path_of(party.id, model))):
        default_storage.delete(path)
    assert model_store.model_of(Spaces().get(model, party.id)) == model
    shutil.rmtree(here(party.id, model))
    with pytest.raises(ModelUnavailable, match="missing"):
        Spaces().get(model, party.id)


def test_nobody_has_another_tenants_space(party, stranger, tmp_path) -> None:
    model = keep_turned(party.id, tmp_path)
    assert model_routing.space(model, party.id)
    with pytest.raises(ModelUnavailable):
        model_routing.space(model, stranger.id)
    with pytest.raises(ModelUnavailable):
        model_routing.space(model)


@pytest.mark.parametrize("name", ["space.safetensors", "manifest.json", "files.json"])
def test_a_damaged_file_is_an_error_and_never_another_space(party, tmp_path, name: str) -> None:
    model = keep_turned(party.id, tmp_path)
    path = path_of(party.id, model, name)
    with storage.open_blob(path) as stream:
        content = bytearray(stream.read())
    content[len(content) // 2] ^= 1
    overwrite(path, bytes(content))
    with pytest.raises(ModelUnavailable):
        Spaces().get(model, party.id)
    assert not here(party.id, model).exists()


def test_a_local_copy_that_is_damaged_is_fetched_anew(party, tmp_path) -> None:
    model = keep_turned(party.id, tmp_path)
    Spaces().get(model, party.id)
    (here(party.id, model) / "space.safetensors").write_bytes(b"")
    assert model_store.model_of(Spaces().get(model, party.id)) == model
    assert (here(party.id, model) / "space.safetensors").stat().st_size > 1_000_000


@pytest.mark.parametrize("name", ["../../stolen", "/etc/passwd", "a/b", ".."])
def test_what_names_files_elsewhere_is_refused(party, tmp_path, name: str) -> None:
    model = keep_turned(party.id, tmp_path)
    listed = {name: {"bytes": 0, "digest": "0"}}
    overwrite(path_of(party.id, model, "files.json"), json.dumps(listed).encode())
    with pytest.raises(ModelUnavailable):
        Spaces().get(model, party.id)


def test_what_is_kept_is_checked(party, tmp_path) -> None:
    model = turned_space(tmp_path / "a")
    other = f"cman-{uuid.uuid4()}:1"
    for wrong in (other, "prior:1", "cman-1:1", "../cman:1"):
        with pytest.raises(Invalid):
            model_routing.keep_space(tenant_id=party.id, model=wrong, folder=tmp_path / "a")
    (tmp_path / "a" / "space.safetensors").write_bytes(b"x")
    with pytest.raises(SpaceError):
        model_routing.keep_space(tenant_id=party.id, model=model, folder=tmp_path / "a")
    assert list(storage.files_below(path_of(party.id, model))) == []


@pytest.mark.parametrize("model", ["", "prior:99", "prior", "cman-x:1", "prior:1/../prior-1"])
def test_a_model_that_is_not_there(party, model: str) -> None:
    with pytest.raises(ModelUnavailable):
        model_routing.space(model, party.id)


def test_a_process_holds_so_many_bytes_of_them(party, tmp_path) -> None:
    models = [keep_turned(party.id, tmp_path, seed) for seed in (1, 2)]
    some = Spaces(budget_bytes=20 << 20)
    first = some.get(models[0], party.id)
    assert 4 << 20 < some.bytes() < 20 << 20
    some.get(models[1], party.id)
    assert some.bytes() < 20 << 20
    assert some.get(models[0], party.id) is not first


def test_they_belong_to_what_is_erased_of_a_tenant(party, tmp_path) -> None:
    model = keep_turned(party.id, tmp_path)
    model_routing.space(model, party.id)
    mine = [path for path in files_of(party.id) if f"/{model_store.KIND}/" in path]
    assert sorted(path.rsplit("/", 1)[1] for path in mine) == [
        "files.json",
        "manifest.json",
        "space.safetensors",
    ]
    model_routing.drop_space(tenant_id=party.id, model=model)
    assert not here(party.id, model).exists()
    assert [path for path in files_of(party.id) if f"/{model_store.KIND}/" in path] == []
    with pytest.raises(ModelUnavailable):
        model_routing.space(model, party.id)


def test_the_default_is_the_best_whose_encoders_are_here(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    choose = model_store.default_model.__wrapped__
    assert choose() == "prior:2"  # as the tests are set
    settings.DEFAULT_MODEL = ""
    assert choose() == "open:2"
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path))
    assert choose() == "prior:2"
