"""Damage of pictures and words, which the gate is trained and judged on."""

from __future__ import annotations

import numpy as np
import pytest

from research.alignment.corruptions import PICTURES, WORDS


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("shape", [(240, 320, 3), (1, 1, 3), (3, 400, 3)])
def test_damage_keeps_the_shape_of_a_picture_and_can_be_repeated(
    kind: str, shape: tuple[int, int, int]
) -> None:
    picture = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
    for strength in (0.0, 1.0):
        once, again = (PICTURES[kind](picture, strength, np.random.default_rng(5)) for _ in range(2))
        assert (once.shape, once.dtype) == (shape, np.uint8)
        assert np.array_equal(once, again)


@pytest.mark.parametrize("kind", WORDS)
def test_damage_of_words_leaves_words(kind: str) -> None:
    for text in ("a", "two red apples on a wooden table"):
        assert WORDS[kind](text, 1.0, np.random.default_rng(2)).strip()
