"""The contract of every kind of approximate index, over awkward input. New files in the folder are found."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ml.indexes import exact
from ml.indexes.kinds.base import CATALOG, Kind, load_kind

D = 32


def unit(count: int, seed: int = 0, dimension: int = D) -> NDArray[np.float32]:
    """Rows around 40 weak centres, norm 1."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((40, dimension), np.float32)
    rows = centres[random.integers(40, size=count)] + random.standard_normal((count, dimension), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def opened(kind: type[Kind], folder: Path, vectors: NDArray[np.float32], rung: int = 0) -> Kind:
    settings = kind.ladder(len(vectors))[rung]
    done: list[float] = []
    kind.build(folder / "index", vectors, settings, progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 1
    return kind.open(folder / "index", vectors, settings)


@pytest.fixture(params=CATALOG.ids())
def kind(request: pytest.FixtureRequest) -> type[Kind]:
    return load_kind(request.param)


def test_the_kinds() -> None:
    assert {"hnsw", "ivf-pq4", "ivf-sq8"} <= set(CATALOG.ids())


def test_ladder(kind: type[Kind]) -> None:
    for count in (1, 10, 1000, 1_000_000):
        rungs = kind.ladder(count)
        assert rungs
        assert all(isinstance(value, int) and value > 0 for rung in rungs for value in rung.values())
    efforts = list(kind.efforts)
    assert efforts == sorted(set(efforts))
    assert efforts[0] > 0


@pytest.mark.parametrize("rung", [0, -1])
@pytest.mark.slow
def test_recall_grows_to_all(kind: type[Kind], tmp_path: Path, rung: int) -> None:
    vectors, queries = unit(5000), unit(50, seed=1)
    index = opened(kind, tmp_path, vectors, rung)
    _, truth = exact.nearest(vectors, queries, 10)

    def recall(effort: int) -> float:
        found = [index.search(query, 10, effort)[1] for query in queries]
        return sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True)) / truth.size

    assert recall(kind.efforts[-1]) > 0.995
    assert recall(kind.efforts[0]) <= recall(kind.efforts[len(kind.efforts) // 2]) <= 1


@pytest.mark.parametrize("dimension", [31, 33])
def test_vectors_may_have_an_odd_number_of_numbers(kind: type[Kind], tmp_path: Path, dimension: int) -> None:
    vectors, queries = unit(600, dimension=dimension), unit(20, seed=1, dimension=dimension)
    index = opened(kind, tmp_path, vectors)
    _, truth = exact.nearest(vectors, queries, 10)
    found = [index.search(query, 10, kind.efforts[-1])[1] for query in queries]
    assert sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True)) / truth.size > 0.99


@pytest.mark.parametrize("count", [1, 2, 39, 300])
def test_few_rows(kind: type[Kind], tmp_path: Path, count: int) -> None:
    vectors = unit(count)
    index = opened(kind, tmp_path, vectors)
    scores, rows = index.search(vectors[-1], 5, kind.efforts[-1])
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
    assert len(rows) == min(5, count)
    assert rows[0] == count - 1
    assert sorted(index.search(vectors[0], 1000, kind.efforts[-1])[1].tolist()) == list(range(count))


def test_scores_are_products_of_the_stored_rows(kind: type[Kind], tmp_path: Path) -> None:
    vectors, query = unit(3000), unit(1, seed=1)[0]
    mask = np.random.default_rng(0).random(3000) < 0.5
    index = opened(kind, tmp_path, vectors)
    for allowed in (None, mask):
        scores, rows = index.search(query, 20, 64, allowed)
        np.testing.assert_allclose(scores, vectors[rows] @ query, atol=1e-5)
        assert (np.diff(scores) <= 0).all()
        assert len(set(rows.tolist())) == len(rows)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.7, 1.0])
@pytest.mark.slow
def test_masks(kind: type[Kind], tmp_path: Path, share: float) -> None:
    """Never a row that is not allowed; and all that are there to find, with effort enough."""
    vectors = unit(3000)
    allowed = np.random.default_rng(0).random(3000) < share
    index = opened(kind, tmp_path, vectors)
    for query in unit(10, seed=1):
        _, rows = index.search(query, 10, kind.efforts[-1], allowed)
        best = exact.search_rows(vectors, query, 10, np.flatnonzero(allowed))[1]
        assert allowed[rows].all()
        assert len(np.intersect1d(rows, best)) >= len(best) - 1


def test_a_mask_far_from_the_query(kind: type[Kind], tmp_path: Path) -> None:
    """As pictures are far from a text: an answer is right or too short, never long and wrong."""
    near, far = unit(2000), unit(2000, seed=1)
    near[:, 0], far[:, 0] = 3, -3
    vectors = np.vstack([near, far])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    allowed = np.arange(4000) >= 2000
    index = opened(kind, tmp_path, vectors)
    for query in vectors[:20]:
        _, rows = index.search(query, 10, 64, allowed)
        best = exact.search_rows(vectors, query, 10, np.flatnonzero(allowed))[1]
        assert len(rows) < 10 or len(np.intersect1d(rows, best)) >= 9


def test_the_farthest_sixth_of_the_rows(kind: type[Kind], tmp_path: Path) -> None:
    """Where the best allowed rows lie at the edge of the mask, with many others at nearly their score."""
    vectors, queries = unit(6000), unit(20, seed=1)
    index, found = opened(kind, tmp_path, vectors), []
    for query in queries:
        allowed = np.zeros(6000, bool)
        allowed[np.argsort(vectors @ query)[:1000]] = True
        _, rows = index.search(query, 10, 64, allowed)
        best = exact.search_rows(vectors, query, 10, np.flatnonzero(allowed))[1]
        # An answer that is too short is made anew, exactly, by who asked.
        found.append(1.0 if len(rows) < 10 else len(np.intersect1d(rows, best)) / 10)
    assert np.mean(found) >= 0.95


def test_equal_rows(kind: type[Kind], tmp_path: Path) -> None:
    vectors = np.vstack([np.repeat(unit(1), 1000, axis=0), unit(1000, seed=2)])
    index = opened(kind, tmp_path, vectors)
    scores, _ = index.search(vectors[0], 10, 64)
    np.testing.assert_allclose(scores, np.ones(10), atol=1e-5)


def test_builds_with_several_threads(kind: type[Kind], tmp_path: Path) -> None:
    vectors, settings = unit(4000), kind.ladder(4000)[0]
    kind.build(tmp_path / "index", vectors, settings, threads=2, progress=lambda done: None)
    index = kind.open(tmp_path / "index", vectors, settings)
    assert index.search(vectors[7], 1, kind.efforts[-1])[1].tolist() == [7]


def test_files_that_do_not_fit(kind: type[Kind], tmp_path: Path) -> None:
    vectors = unit(500)
    opened(kind, tmp_path, vectors)
    settings, path = kind.ladder(500)[0], tmp_path / "index"
    with pytest.raises(ValueError, match="500"):
        kind.open(path, vectors[:499], settings)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot be read"):
        kind.open(path, vectors, settings)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read"):
        kind.open(path, vectors, settings)


def test_a_file_of_another_kind(kind: type[Kind], tmp_path: Path) -> None:
    vectors = unit(500)
    for other in map(load_kind, CATALOG.ids()):
        if other is not kind:
            other.build(tmp_path / "other", vectors, other.ladder(500)[0], progress=lambda done: None)
            with pytest.raises(ValueError, match="holds no"):
                kind.open(tmp_path / "other", vectors, kind.ladder(500)[0])


def test_many_readers_give_the_answers_of_one(kind: type[Kind], tmp_path: Path) -> None:
    vectors, queries = unit(3000), unit(200, seed=1)
    index = opened(kind, tmp_path, vectors)
    mask = np.random.default_rng(0).random(3000) < 0.3

    def answers(place: int) -> list[list[int]]:
        return [index.search(queries[place], 10, 64, allowed)[1].tolist() for allowed in (None, mask)]

    alone = [answers(place) for place in range(200)]
    again = kind.open(tmp_path / "index", vectors, kind.ladder(3000)[0])
    index = again  # nothing warmed up
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answers, range(200))) == alone


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_a_search_starts_no_threads(kind: type[Kind], tmp_path: Path) -> None:
    vectors = unit(3000)
    index, mask = opened(kind, tmp_path, vectors), np.arange(3000) % 2 == 0
    started: list[int] = []

    def search() -> None:
        before = len(list(Path("/proc/self/task").iterdir()))
        for allowed in (None, mask):
            index.search(vectors[0], 10, 512, allowed)
        exact.search_rows(vectors, vectors[0], 10, np.arange(3000))
        exact.search_all(vectors, vectors[0], 10)
        started.append(len(list(Path("/proc/self/task").iterdir())) - before)

    # A thread of its own: a pool that OpenMP keeps for the main one would hide what is started.
    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert started[0] <= 0
