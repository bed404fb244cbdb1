"""Assets as queries: what they have in common, and what is taken away."""

from __future__ import annotations

import uuid
from itertools import pairwise

import numpy as np
import pytest

from tenants.datasets import services
from tenants.errors import Invalid
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval.index.vectors import NewVector, replace_vectors, sampled
from tenants.retrieval.query import encoding
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.test_duplicates import towards

HUB = 127


def put(*vectors: NewVector) -> uuid.UUID:
    name = uuid.uuid4().hex
    asset = add_asset(dataset_id=services.create_dataset(name=name).id, text=name).asset
    replace_vectors(asset=asset, model=encoding.model_id(), vectors=vectors)
    return asset.id


def degrees_of(vector: np.ndarray) -> float:
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    return round(float(np.degrees(np.arctan2(vector[1], vector[0]))), 2)


def test_each_asset_counts_the_same(party: Party) -> None:
    with tenant_scope(party.id):
        one = put(NewVector("text", towards(0)))
        many = put(*(NewVector("text", towards(60), {"start_char": n, "end_char": n + 1}) for n in range(9)))
        assert degrees_of(encoding.of_assets([one], "/x", space=encoding.space())) == 0
        assert degrees_of(encoding.of_assets([one, many], "/x", space=encoding.space())) == 30
        assert degrees_of(encoding.of_assets([one, many, many], "/x", space=encoding.space())) == 30


def test_a_caption_counts_as_much_as_all_frames(party: Party) -> None:
    with tenant_scope(party.id):
        frames = [NewVector("video", towards(60), {"start_s": n, "end_s": n + 1}) for n in range(9)]
        film = put(NewVector("text", towards(0)), *frames)
        assert degrees_of(encoding.of_assets([film], "/x", space=encoding.space())) == 30
        assert degrees_of(encoding.of_part(film, "video", "/x", "no", space=encoding.space())) == 60
        assert degrees_of(encoding.of_part(film, "text", "/x", "no", space=encoding.space())) == 0


def test_pictures_are_queries_without_the_correction_for_texts(party: Party) -> None:
    values = towards(20)
    values[HUB] = 0.5
    values /= np.linalg.norm(values)
    with tenant_scope(party.id):
        picture, words = put(NewVector("image", values)), put(NewVector("text", values))
        assert encoding.of_assets([picture], "/x", space=encoding.space())[HUB] == 0
        assert encoding.of_assets([words], "/x", space=encoding.space())[HUB] > 0.4


def test_what_has_no_vectors_is_named(party: Party, stranger: Party) -> None:
    with tenant_scope(party.id):
        ready, bare = put(NewVector("text", towards(0))), put()
        with pytest.raises(Invalid) as refusal:
            encoding.of_assets([ready, bare], "/like/assets", space=encoding.space())
        assert refusal.value.errors[0]["pointer"] == "/like/assets/1"
        # Named twice, an asset counts once, and places are those of the request.
        with pytest.raises(Invalid) as refusal:
            encoding.of_assets([ready, ready, bare], "/like/assets", space=encoding.space())
        assert refusal.value.errors[0]["pointer"] == "/like/assets/2"
        with pytest.raises(Invalid, match="not a film"):
            encoding.of_part(ready, "video", "/video/asset", "not a film", space=encoding.space())
        opposite = put(NewVector("text", towards(180)))
        with pytest.raises(Invalid, match="cancel"):
            encoding.of_assets([ready, opposite], "/like/assets", space=encoding.space())
    with tenant_scope(stranger.id), pytest.raises(Invalid):
        encoding.of_assets([ready], "/like/assets", space=encoding.space())


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 127, 128, 129, 300])
def test_long_assets_are_sampled_evenly(party: Party, count: int) -> None:
    with tenant_scope(party.id):
        film = put(*(NewVector("video", towards(n), {"start_s": n, "end_s": n + 1}) for n in range(count)))
        found = sampled([film], model=encoding.model_id(), most=64)
        assert min(count, 32) <= len(found) <= 64
        angles = [degrees_of(one.values) % 360 for one in found]
        steps = {round(b - a) for a, b in pairwise(angles)}
        assert len(steps) <= 1
        assert count - 1 - angles[-1] < max(steps, default=1)


def test_what_is_shared_with_the_unwanted_is_taken_away() -> None:
    query, unwanted = towards(0), towards(60)
    assert np.allclose(encoding.without(query, unwanted, 0), query)
    assert encoding.without(query, unwanted, 1) @ unwanted == pytest.approx(0, abs=1e-6)
    half = encoding.without(query, unwanted, 0.5)
    assert half @ unwanted == pytest.approx(0.25, abs=1e-6)


def test_what_points_elsewhere_changes_nothing() -> None:
    for degrees in (90, 120, 180):
        assert np.allclose(encoding.without(towards(0), towards(degrees), 1), towards(0), atol=1e-6)
