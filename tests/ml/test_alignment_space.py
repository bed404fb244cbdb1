"""The shipped space with the shipped encoders: awkward input, colours, and what it must not import."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ml.alignment.space import JointSpace


@pytest.fixture(scope="module")
def space(models: Path) -> JointSpace:
    return JointSpace.load()


def plain(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((64, 64, 3), (red, green, blue), np.uint8)


AWKWARD = ["", " \n\t", "x" * 10_000, "red " * 2_500, "消防车 и 🚒", "\ud800 lone", "\x00", "a red apple"]


def test_any_text_has_a_unit_vector(space: JointSpace) -> None:
    vectors = space.embed_texts(AWKWARD)
    assert vectors.shape == (len(AWKWARD), 256)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_text_does_not_depend_on_its_batch(space: JointSpace) -> None:
    together = space.embed_texts(AWKWARD)
    alone = np.concatenate([space.embed_texts([text]) for text in AWKWARD])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_any_picture_has_a_unit_vector(space: JointSpace) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (33, 500, 3)).astype(np.uint8)
    pictures = [np.zeros((1, 1, 3), np.uint8), plain(255, 255, 255), noise]
    for vectors in (space.embed_images(pictures), space.query_images(pictures)):
        assert vectors.shape == (3, 256)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_nothing_gives_nothing(space: JointSpace) -> None:
    assert space.embed_texts([]).shape == (0, 256)
    assert space.embed_images([]).shape == (0, 256)


def test_colour_words_rank_plain_pictures(space: JointSpace) -> None:
    pictures = space.embed_images([plain(220, 20, 20), plain(20, 60, 220), plain(20, 160, 40)])
    words = ["red", "blue", "green"]
    scores = space.embed_texts([f"something {word}" for word in words]) - space.embed_texts(["something"])
    assert (scores @ pictures.T).argmax(axis=1).tolist() == [0, 1, 2]


def test_a_picture_finds_itself(space: JointSpace) -> None:
    random = np.random.default_rng(1)
    noise = [random.integers(0, 256, (64, 64, 3)).astype(np.uint8) for _ in range(2)]
    pictures = [plain(220, 20, 20), plain(20, 60, 220), *noise]
    scores = space.query_images(pictures) @ space.embed_images(pictures).T
    assert scores.argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_close_texts_are_closer_than_distant_ones(space: JointSpace) -> None:
    query, near, far = space.embed_texts(
        ["how do I get my money back?", "I want a refund", "the opening hours of the shop"]
    )
    assert query @ near > query @ far + 0.1


def test_a_query_imports_no_torch(models: Path, run_python: Callable[[str], str]) -> None:
    code = """
        import sys
        import numpy as np
        from ml.alignment.space import JointSpace
        space = JointSpace.load()
        space.embed_texts(["a red apple"])
        space.query_images([np.zeros((8, 8, 3), np.uint8)])
        print(sorted({"torch", "timm", "transformers"} & set(sys.modules)))
    """
    assert run_python(textwrap.dedent(code)).strip() == "[]"
