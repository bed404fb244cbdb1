"""Projections: what PCA, UMAP and their comparison have to hold, also of next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ml.projection import comparison, embed, pca
from tests.speed import LINEAR, TIMES, growth

ROOT = Path(__file__).resolve().parents[2]


def groups(count: int = 400, kinds: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors float32 [count, 256] in well separated groups, and the group of each."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(kinds, 256))
    group = random.integers(0, kinds, count)
    vectors = (centres[group] + 0.3 * random.normal(size=(count, 256))).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), group


def test_pca_finds_the_directions_that_singular_values_name() -> None:
    vectors, _ = groups()
    found = pca.project(vectors)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    _, lengths, right = np.linalg.svd(centred, full_matrices=False)
    wanted = centred @ right[:2].T
    assert np.allclose(np.abs(found.points), np.abs(wanted), atol=1e-4)
    assert np.allclose(found.explained, (lengths**2 / (lengths**2).sum())[:2], atol=1e-5)


def test_pca_is_the_same_twice_and_does_not_hang_on_the_order_of_rows() -> None:
    vectors, _ = groups()
    assert (pca.project(vectors).points == pca.project(vectors.copy()).points).all()
    order = np.random.default_rng(3).permutation(len(vectors))
    assert np.allclose(pca.project(vectors[order]).points, pca.project(vectors).points[order], atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_pca_of_next_to_nothing(count: int) -> None:
    vectors, _ = groups()
    found = pca.project(vectors[:count])
    assert found.points.shape == (count, 2)
    assert np.isfinite(found.points).all()
    if count == 2:
        apart = np.linalg.norm(vectors[0] - vectors[1])
        assert abs(found.points[0, 0] - found.points[1, 0]) == pytest.approx(apart, abs=1e-4)
        assert np.allclose(found.points[:, 1], 0, atol=1e-3)


def test_pca_of_equal_vectors_is_one_point_and_explains_nothing() -> None:
    vectors, _ = groups()
    found = pca.project(np.repeat(vectors[:1], 50, axis=0))
    assert (found.points == 0).all()
    assert found.explained == (0, 0)


def test_pca_leaves_rows_out_that_are_not_finite() -> None:
    vectors, _ = groups()
    broken = vectors.copy()
    broken[7, 3], broken[9, 0] = np.nan, np.inf
    found = pca.project(broken).points
    assert np.isnan(found[[7, 9]]).all()
    kept = np.ones(len(vectors), bool)
    kept[[7, 9]] = False
    assert np.allclose(found[kept], pca.project(vectors[kept]).points, atol=1e-5)


def test_the_time_of_pca_grows_with_the_rows() -> None:
    vectors = np.random.default_rng(0).normal(size=(50_000, 256)).astype(np.float32)
    assert growth(lambda rows: pca.project(vectors[:rows]), 50_000 // TIMES) < LINEAR


# --- Laying one over the other --------------------------------------------------------------------------


def turned(points: np.ndarray, angle: float, *, mirrored: bool = False) -> np.ndarray:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return 3.5 * points @ turn @ np.diag([-1 if mirrored else 1, 1]) + [7, -2]


@pytest.mark.parametrize("mirrored", [False, True])
def test_turning_mirroring_scaling_and_moving_are_undone(mirrored: bool) -> None:
    points = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
    laid = comparison.align(points, turned(points, 1.1, mirrored=mirrored))
    assert np.allclose(laid, points, atol=1e-5)
    assert np.allclose(comparison.displacements(points, laid), 0, atol=1e-5)


def test_what_moved_most_is_what_was_moved() -> None:
    points = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
    changed = points.copy()
    changed[17] += [4, 4]
    found = comparison.displacements(points, comparison.align(points, turned(changed, 2.0)))
    assert found.argmax() == 17
    assert np.sort(found)[-2] < found[17] / 4


def test_points_without_extent_are_only_moved() -> None:
    goal = np.array([[1, 2], [3, 4]], np.float32)
    assert (comparison.align(goal, np.zeros((2, 2))) == [[2, 3], [2, 3]]).all()
    assert comparison.align(goal[:0], goal[:0]).shape == (0, 2)
    assert (comparison.displacements(np.zeros((2, 2)), np.zeros((2, 2))) == 0).all()


# --- What a projection keeps ------------------------------------------------------------------------------


def test_the_same_points_keep_all_neighbours_and_shuffled_ones_next_to_none() -> None:
    points = np.random.default_rng(2).normal(size=(500, 2)).astype(np.float32)
    assert comparison.kept_neighbours(points, points) == 1
    shuffled = np.random.default_rng(3).permutation(points)
    assert comparison.kept_neighbours(points, shuffled) < 0.06
    assert comparison.kept_neighbours(points[:5], shuffled[:5]) == 1


# --- Similarity -------------------------------------------------------------------------------------------


def test_cosines() -> None:
    found = comparison.cosines(np.array([[2, 0], [1, 1], [0, 3], [0, 0]], np.float32))
    half = np.sqrt(0.5)
    expected = [[1, half, 0, 0], [half, 1, half, 0], [0, half, 1, 0], [0, 0, 0, 1]]
    assert np.allclose(found, expected, atol=1e-6)
    assert (found == found.T).all()


def test_the_order_puts_groups_together() -> None:
    vectors, group = groups(120)
    order = comparison.order_of(comparison.cosines(vectors))
    assert sorted(order) == list(range(120))
    changes = np.count_nonzero(np.diff(group[order]))
    assert changes == 3


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_order_of_next_to_nothing(count: int) -> None:
    assert comparison.order_of(np.eye(count, dtype=np.float32)) == list(range(count))


# --- UMAP, in its process -----------------------------------------------------------------------------------


def run(folder: Path, vectors: np.ndarray, *options: str) -> tuple[int, list[dict]]:
    vectors.astype("<f4").tofile(folder / embed.VECTORS)
    np.zeros(len(vectors), np.uint8).tofile(folder / embed.KINDS)
    command = [sys.executable, "-m", "ml.projection.embed", str(folder), "--dimension", str(vectors.shape[1])]
    command += ["--nice", "0", *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as made:
        assert made.stdout
        lines = [json.loads(line) for line in made.stdout]
        # Before its standard input is closed, by which it would end itself.
        return made.wait(), lines


def points_in(folder: Path) -> np.ndarray:
    return np.fromfile(folder / embed.POINTS, "<f4").reshape(-1, 2)


@pytest.mark.slow
def test_umap_keeps_groups_apart_and_says_how_far_it_is(tmp_path: Path) -> None:
    vectors, group = groups()
    status, lines = run(tmp_path, vectors)
    assert status == 0
    assert lines[-1]["method"] == "umap"
    assert lines[-1]["points"] == 400
    shares = [line["done"] for line in lines[:-1]]
    assert shares == sorted(shares)
    assert {"reading", "compiling", "neighbours", "placing", "judging"} <= {x["stage"] for x in lines[:-1]}
    points = points_in(tmp_path)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    # Everybody's nearest is of the same group, and of ten neighbours more are kept than by PCA.
    assert (group[apart.argmin(axis=1)] == group).all()
    kept = comparison.kept_neighbours(vectors, points)
    assert kept == pytest.approx(lines[-1]["kept_neighbours"], abs=1e-4)
    assert kept > comparison.kept_neighbours(vectors, pca.project(vectors).points)
    first = points.copy()
    run(tmp_path, vectors)
    assert (points_in(tmp_path) == first).all()
    # Of many UMAP places some, and the others lie among them.
    status, lines = run(tmp_path, vectors, "--most-drawn", "200")
    assert (status, lines[-1]["points"]) == (0, 400)
    assert "joining" in {line.get("stage") for line in lines}
    points = points_in(tmp_path)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (group[apart.argmin(axis=1)] == group).mean() > 0.99


@pytest.mark.parametrize("count", [0, 1, 2, 15])
def test_few_vectors_are_placed_by_pca(tmp_path: Path, count: int) -> None:
    vectors, _ = groups()
    status, lines = run(tmp_path, vectors[:count])
    assert (status, lines[-1]["method"], lines[-1]["points"]) == (0, "pca", count)
    assert np.allclose(points_in(tmp_path), pca.project(vectors[:count]).points, atol=1e-6)


def test_equal_vectors_are_one_point(tmp_path: Path) -> None:
    status, lines = run(tmp_path, np.ones((40, 256), np.float32))
    assert (status, lines[-1]["method"]) == (0, "pca")
    assert (points_in(tmp_path) == 0).all()


def test_what_cannot_be_placed_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    vectors, _ = groups()
    vectors[3, 3] = np.nan
    status, lines = run(tmp_path, vectors)
    assert status == 1
    assert lines[-1] == {"error": "ValueError: vectors have to be finite"}
    assert not (tmp_path / embed.POINTS).exists()


def test_it_ends_with_its_limits_and_with_its_parent(tmp_path: Path) -> None:
    vectors, _ = groups()
    status, lines = run(tmp_path, vectors, "--memory-bytes", str(60 << 20))
    assert status != 0
    assert "points" not in lines[-1]
    command = [sys.executable, "-m", "ml.projection.embed", str(tmp_path), "--dimension", "256"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as made:
        assert made.stdin and made.stdout
        made.stdout.readline()
        made.stdin.close()
        assert made.wait(30) == 3
    assert not (tmp_path / embed.POINTS).exists()


def test_rows_lie_between_landmarks_that_lie_together() -> None:
    known = np.array([[0, 0], [1, 0], [0, 1], [50, 50], [51, 50], [50, 51]], np.float32)
    places = np.array([[0, 0], [1, 0], [0, 1], [90, 0], [91, 0], [90, 1]], np.float32)
    rows = np.array([[0.5, 0], [50.1, 50.1], [0, 0]], np.float32)
    found = embed._among(rows, known, places)
    assert found[0] == pytest.approx([0.5, 0.1], abs=0.2)
    assert np.linalg.norm(found[1] - [90.1, 0.1]) < 0.3
    assert found[2] == pytest.approx([0, 0], abs=1e-3)
