"""Nearest neighbours of every vector: exact for few, by cells for many; what is made of them."""

from __future__ import annotations

import numpy as np
import pytest

from ml.projection import neighbours
from ml.projection.neighbours import Neighbours, far_out, groups_of, nearest


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def clouds() -> np.ndarray:
    """600 vectors around 20 centres, of which 5 stand there twice, and one far from all."""
    chance = np.random.default_rng(3)
    centres = chance.normal(size=(20, 32))
    rows = centres[np.arange(600) % 20] + 0.5 * chance.normal(size=(600, 32))
    rows[300:305] = rows[:5] + 0.001 * chance.normal(size=(5, 32))
    rows[599] = -3 * centres.sum(axis=0)
    return unit(rows)


def exactly(vectors: np.ndarray) -> np.ndarray:
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return -np.sort(-cosines, axis=1)[:, :4]


def test_of_few_they_are_exact_and_of_many_hardly_one_is_missed(
    clouds: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = exactly(clouds)
    assert np.allclose(nearest(clouds, 4).cosines, wanted, atol=1e-6)
    monkeypatch.setattr(neighbours, "EXACT", 100)
    by_cells = nearest(clouds, 4)
    assert np.isclose(by_cells.cosines, wanted, atol=1e-6).mean() > 0.95
    assert (by_cells.cosines <= wanted + 1e-6).all()
    assert (by_cells.places != np.arange(600)[:, None]).all()
    for found in (by_cells, nearest(clouds, 4)):
        assert groups_of(found, 0.999) == [[at, 300 + at] for at in range(5)]
        assert far_out(found)[0] == 599


def test_a_cell_of_too_many_is_bounded_and_its_copies_are_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT", 10)
    monkeypatch.setattr(neighbours, "MOST_IN_CELL", 50)
    same = np.tile(unit(np.ones((1, 8))), (400, 1))
    assert groups_of(nearest(same, 5), 0.99) == [list(range(400))]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_fewer_than_wanted(count: int) -> None:
    found = nearest(unit(np.eye(4)[:count]) if count else np.zeros((0, 4), np.float32), 5)
    assert found.places.shape == found.cosines.shape == (count, 5)
    assert ((found.places >= 0).sum(axis=1) == max(0, count - 1)).all()
    assert groups_of(found, 0.9) == []


def test_groups_are_joined_by_chains_the_largest_first() -> None:
    places = np.array([[1], [2], [1], [4], [3], [0]])
    cosines = np.array([[0.99], [0.99], [0.99], [0.99], [0.99], [0.5]], np.float32)
    assert groups_of(Neighbours(places, cosines), 0.98) == [[0, 1, 2], [3, 4]]
