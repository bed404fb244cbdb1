"""The contract of every index, and what the flat one promises besides."""

from __future__ import annotations

import inspect
import threading
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from ml.catalog import Catalog
from ml.indexes.base import Index
from ml.indexes.exact import FlatIndex
from tests.speed import ratio

CATALOG = Catalog("ml.indexes")
D = 8


def vectors(count: int, dimension: int = D, seed: int = 0) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, dimension), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def classes_of(plugin_id: str) -> list[type[Index]]:
    module = CATALOG.load(plugin_id)
    return [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Index) and cls.__module__ == module.__name__
    ]


def index_of(plugin_id: str) -> Index:
    classes = classes_of(plugin_id)
    assert len(classes) == 1, f"{plugin_id} should define one Index"
    return classes[0](D)


#: The folder also holds what generations are made of; ``flat`` is what must be found at least.
PLUGINS = [plugin_id for plugin_id in CATALOG.ids() if classes_of(plugin_id)]


def test_the_exact_index_is_among_them() -> None:
    assert "exact" in PLUGINS


@pytest.mark.parametrize("plugin_id", PLUGINS)
class TestContract:
    def test_empty(self, plugin_id: str) -> None:
        index = index_of(plugin_id)
        scores, rows = index.search(vectors(1)[0], 10)
        assert (len(index), len(scores), len(rows)) == (0, 0, 0)
        assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
        assert index.add(vectors(0)).tolist() == []

    @pytest.mark.parametrize("count", [1, 2, 300])
    def test_finds_itself_first(self, plugin_id: str, count: int) -> None:
        index, data = index_of(plugin_id), vectors(count)
        assert index.add(data).tolist() == list(range(count))
        scores, rows = index.search(data[-1], 5)
        assert rows[0] == count - 1
        assert scores[0] == pytest.approx(1, abs=1e-5)
        assert len(rows) == len(scores) == min(5, count)
        assert (np.diff(scores) <= 0).all()

    def test_k_beyond_the_end_and_below_one(self, plugin_id: str) -> None:
        index = index_of(plugin_id)
        index.add(vectors(3))
        assert sorted(index.search(vectors(1)[0], 100)[1].tolist()) == [0, 1, 2]
        assert len(index.search(vectors(1)[0], 0)[1]) == 0

    def test_removed_rows_never_return(self, plugin_id: str) -> None:
        index, data = index_of(plugin_id), vectors(20)
        index.add(data)
        index.remove(np.array([3, 7, 3]))
        index.remove(np.array([7]))
        index.remove(np.array([], np.int64))
        assert len(index) == 18
        assert not {3, 7} & set(index.search(data[3], 20)[1].tolist())
        assert index.add(data[:1]).tolist() == [20]
        with pytest.raises(IndexError):
            index.remove(np.array([21]))
        with pytest.raises(IndexError):
            index.remove(np.array([-1]))

    @pytest.mark.slow
    def test_masks(self, plugin_id: str) -> None:
        index, data = index_of(plugin_id), vectors(400)
        index.add(data)
        index.remove(np.array([5]))
        for allowed in ([5], [5, 6], list(range(0, 400, 2)), [], list(range(400))):
            mask = np.zeros(400, np.bool_)
            mask[allowed] = True
            scores, rows = index.search(data[6], 1000, mask)
            assert sorted(rows.tolist()) == [row for row in allowed if row != 5]
            np.testing.assert_allclose(scores, data[rows] @ data[6], atol=1e-6)

    def test_short_and_long_masks(self, plugin_id: str) -> None:
        index = index_of(plugin_id)
        index.add(vectors(10))
        assert sorted(index.search(vectors(1)[0], 99, np.ones(4, np.bool_))[1].tolist()) == [0, 1, 2, 3]
        assert len(index.search(vectors(1)[0], 99, np.ones(40, np.bool_))[1]) == 10

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_bad_numbers_are_refused(self, plugin_id: str, bad: float) -> None:
        index = index_of(plugin_id)
        wrong = vectors(2)
        wrong[1, 3] = bad
        with pytest.raises(ValueError, match="NaN"):
            index.add(wrong)
        with pytest.raises(ValueError, match="NaN"):
            index.search(wrong[1], 3)
        assert len(index) == 0

    @pytest.mark.parametrize("shape", [(2, D + 1), (D,), (1, 2, D)])
    def test_bad_shapes_are_refused(self, plugin_id: str, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="shape"):
            index_of(plugin_id).add(np.zeros(shape, np.float32))


def test_flat_is_exact() -> None:
    data = vectors(5000, 256)
    index = FlatIndex(256)
    for start in range(0, 5000, 613):
        index.add(data[start : start + 613])
    for query in vectors(20, 256, seed=1):
        expected = np.argsort(-(data @ query), kind="stable")[:10]
        scores, rows = index.search(query, 10)
        assert rows.tolist() == expected.tolist()
        np.testing.assert_allclose(scores, data[expected] @ query, atol=1e-5)


def test_flat_takes_the_dimension_of_its_first_rows() -> None:
    index = FlatIndex()
    assert index.search(np.ones(7, np.float32), 5)[1].tolist() == []
    index.add(np.eye(3, dtype=np.float32))
    assert index.search(np.array([0, 1, 0], np.float32), 1)[1].tolist() == [1]
    with pytest.raises(ValueError, match="shape"):
        index.add(np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="shape"):
        index.search(np.ones(4, np.float32), 1)


def test_flat_breaks_ties_by_row() -> None:
    index = FlatIndex(D, np.ones((50, D), np.float32))
    assert index.search(np.ones(D, np.float32), 5)[1].tolist() == [0, 1, 2, 3, 4]


def test_flat_does_not_alias_what_it_is_given() -> None:
    data = vectors(4)
    index = FlatIndex(D, data)
    before = index.search(data[0].copy(), 4)[0]
    query = data[0].copy()
    data[:] = 0
    np.testing.assert_array_equal(index.search(query, 4)[0], before)


def test_flat_readers_beside_a_writer() -> None:
    """Every answer is one that some moment could give: row r holds a vector of score r."""
    index = FlatIndex(1)
    stop, problems = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            scores, rows = index.search(np.ones(1, np.float32), 5)
            if not np.array_equal(scores, rows.astype(np.float32)) or len(set(rows.tolist())) != len(rows):
                problems.append((scores, rows))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        start = index.rows
        index.add(np.arange(start, start + 37, dtype=np.float32)[:, None])
        index.remove(np.array([start + 36]))
    stop.set()
    for reader in readers:
        reader.join()
    assert not problems
    assert len(index) == index.rows // 37 * 36


def test_a_query_of_a_flat_index_costs_what_its_products_do() -> None:
    stored = vectors(20_000, 256)
    index, query = FlatIndex(256, stored), vectors(1, 256)[0]
    searches = ratio(
        lambda: [index.search(query, 10) for _ in range(30)],
        lambda: [np.argpartition(stored @ query, -10) for _ in range(30)],
    )
    assert searches < 4
