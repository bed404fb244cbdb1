"""Windows, colours, phrases and formulas: the parts that the joint space is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml.alignment.colours import COLOURS, colour_scores, colour_shares, colour_words
from ml.alignment.numerics import log_mean_exp, principal_axes, ridge, unit
from ml.alignment.scenes import scenes
from ml.alignment.vocabulary import Phrase, merged, written_phrases
from ml.alignment.windows import windows


def plain(colour: tuple[int, int, int], shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.full((*shape, 3), colour, np.uint8)


@pytest.mark.parametrize("grid", [10, 11, 7, 2, 1])
def test_windows_are_14_and_inside_the_map(grid: int) -> None:
    found = windows(grid)
    assert len(found) == 14
    assert found[-1] == (0, grid, 0, grid)
    assert all(0 <= y0 < y1 <= grid and 0 <= x0 < x1 <= grid for y0, y1, x0, x1 in found)


def test_windows_of_each_size_cover_the_map() -> None:
    for group in (windows(11)[:9], windows(11)[9:13]):
        covered = np.zeros((11, 11), bool)
        for y0, y1, x0, x1 in group:
            covered[y0:y1, x0:x1] = True
        assert covered.all()


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"),
        ((255, 255, 255), "white"),
        ((128, 128, 128), "grey"),
        ((220, 20, 20), "red"),
        ((250, 140, 10), "orange"),
        ((250, 230, 20), "yellow"),
        ((20, 160, 40), "green"),
        ((20, 60, 220), "blue"),
        ((130, 30, 180), "purple"),
        ((250, 130, 190), "pink"),
        ((110, 65, 25), "brown"),
    ],
)
def test_a_plain_picture_has_one_colour(rgb: tuple[int, int, int], name: str) -> None:
    shares = colour_shares(plain(rgb))
    assert shares[COLOURS.index(name)] == pytest.approx(1.0)


def test_the_middle_of_a_picture_counts_more_than_its_rim() -> None:
    picture = plain((20, 60, 220), (64, 64))
    picture[16:48, 16:48] = (220, 20, 20)
    shares = colour_shares(picture)
    assert shares[COLOURS.index("red")] > 0.5 > shares[COLOURS.index("blue")] > 0.0


def test_colour_scores_of_nothing_and_of_one_pixel() -> None:
    assert colour_scores([]).shape == (0, 11)
    assert colour_scores([plain((220, 20, 20), (1, 1))])[0, COLOURS.index("red")] == 2.0


def test_colour_words_are_whole_words_in_any_case() -> None:
    named = colour_words(["A RED bus", "bored redwood", "golden hair, grey coat", ""])
    assert [[COLOURS[i] for i in np.flatnonzero(row)] for row in named] == [
        ["red"],
        [],
        ["grey", "yellow"],
        [],
    ]


def test_merging_joins_the_classes_of_a_text() -> None:
    found = merged([Phrase("crane", (517,)), Phrase("owl", (24,)), Phrase("crane", (134,))])
    assert found == [Phrase("crane", (134, 517)), Phrase("owl", (24,))]


def test_the_shipped_phrases_parse_and_name_only_classes() -> None:
    phrases = written_phrases()
    assert len(phrases) > 2000
    assert all(phrase.text and 0 <= min(phrase.classes) <= max(phrase.classes) <= 999 for phrase in phrases)
    assert len({phrase.text for phrase in phrases}) == len(phrases)


def test_ranges_include_their_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# said\n\n7-9,3: a bird| birds \n")
    assert written_phrases(tmp_path) == [Phrase("a bird", (3, 7, 8, 9)), Phrase("birds", (3, 7, 8, 9))]


@pytest.mark.parametrize(
    "line", ["no classes", "1000: too far", "-1: below", "x: word", "5:", "9-7: backwards"]
)
def test_a_malformed_phrase_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"1: fine\n{line}\n")
    with pytest.raises(ValueError, match=r"a\.txt line 2"):
        written_phrases(tmp_path)


def test_scenes_are_always_the_same_and_all_different() -> None:
    assert scenes() == scenes()
    assert len(set(scenes())) == 1500
    assert scenes(1) == ["a man running"]


def test_ridge_without_penalty_solves_exactly_and_with_much_gives_nothing() -> None:
    inputs, weights = np.diag([1.0, 2.0, 4.0]), np.array([[1.0], [2.0], [3.0]])
    np.testing.assert_allclose(ridge(inputs, inputs @ weights, 0.0), weights)
    np.testing.assert_allclose(ridge(inputs, inputs @ weights, 1e12), 0.0, atol=1e-9)


def test_log_mean_exp_lies_between_mean_and_maximum() -> None:
    rows = np.array([[0.0, 0.5, 1.0], [0.2, 0.2, 0.2]])
    soft = log_mean_exp(rows, 20.0)
    assert 0.5 < soft[0] < 1.0
    assert soft[1] == pytest.approx(0.2)


def test_principal_axes_are_orthonormal_with_fixed_signs() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 6)) * [9, 5, 3, 1, 1, 1]
    axes = principal_axes(rows, 3)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(principal_axes(-rows, 3), axes)
    assert (axes[np.abs(axes).argmax(axis=0), range(3)] > 0).all()


def test_unit_leaves_zeros_alone() -> None:
    np.testing.assert_array_equal(unit(np.array([[0.0, 0.0], [3.0, 4.0]])), [[0, 0], [0.6, 0.8]])
