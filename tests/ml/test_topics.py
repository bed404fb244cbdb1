"""Clusters of vectors, outliers, and the words that tell clusters apart."""

from __future__ import annotations

import numpy as np
import pytest

from ml.projection import topics
from ml.projection.vocabulary import THINGS


def groups(count: int = 400, among: int = 10, dimension: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around so many directions, and whose each is."""
    random = np.random.default_rng(1)
    middles = random.normal(size=(among, dimension))
    group = np.arange(count) % among
    vectors = middles[group] + random.normal(size=(count, dimension)) * 0.25
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), group


def purity(cluster: np.ndarray, group: np.ndarray) -> float:
    most = [np.bincount(group[cluster == one]).max() for one in np.unique(cluster)]
    return float(np.sum(most) / len(group))


def test_clusters_are_the_groups_and_the_largest_comes_first() -> None:
    vectors, group = groups()
    found = topics.clusters_of(vectors)
    assert found.count == 10
    assert purity(found.cluster, group) == 1
    sizes = np.bincount(found.cluster)
    assert (np.diff(sizes) <= 0).all()
    assert found.nearness.min() > 0.5
    again = topics.clusters_of(vectors)
    assert (again.cluster == found.cluster).all()


@pytest.mark.parametrize("count", [0, 1, 15])
def test_of_few_there_are_none(count: int) -> None:
    found = topics.clusters_of(groups()[0][:count])
    assert found.count == 0
    assert (found.cluster == topics.NONE).all()
    assert len(found.cluster) == count


def test_equal_vectors_are_one_cluster() -> None:
    vectors = np.tile(groups(1)[0], (20, 1))
    found = topics.clusters_of(vectors)
    assert (found.count, set(found.cluster.tolist())) == (1, {0})
    assert not topics.outliers_of(np.tile(vectors, (3, 1)), np.zeros(60, np.uint8)).any()


def test_what_is_not_finite_is_in_no_cluster_and_no_outlier() -> None:
    vectors, _group = groups()
    vectors[3, 5], vectors[7, 0] = np.nan, np.inf
    rows = topics.grouped(vectors, np.zeros(len(vectors), np.uint8))
    assert np.flatnonzero(rows["topic"] == topics.NONE).tolist() == [3, 7]
    assert not rows["outlier"][[3, 7]].any()


def test_outliers_are_found_each_among_its_own_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _group = groups(200, 1)
    stray = np.zeros(64, np.float32)
    stray[0] = 1
    # Thirty like the stray, of another kind: among its own it lies alone.
    others = (
        np.tile(stray, (60, 1)) + np.random.default_rng(2).normal(size=(60, 64)).astype(np.float32) * 0.01
    )
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    every = np.concatenate([vectors, stray[None], others]).astype(np.float32)
    kinds = np.array([1] * 201 + [2] * 60, np.uint8)
    assert np.flatnonzero(topics.outliers_of(every, kinds)).tolist() == [200]
    assert not topics.outliers_of(every[:40], kinds[:40]).any()
    # Rows that are too many to be copied in memory are in a file meanwhile.
    monkeypatch.setattr(topics, "HELD", 0)
    assert np.flatnonzero(topics.outliers_of(every, kinds)).tolist() == [200]


# --- Words ------------------------------------------------------------------------------------------------


def test_words_are_what_the_cluster_has_and_others_have_not() -> None:
    documents = {
        0: [{"card", "lost"}, {"card", "stolen"}, {"card", "lost"}],
        1: [{"card", "transfer"}, {"card", "transfer"}, {"transfer"}],
        2: [{"card"}, {"card"}],
    }
    found = topics.keywords(documents)
    assert found[0] == ["lost"]
    assert found[1] == ["transfer"]
    assert topics.keywords({0: [{"alone"}, {"alone"}]}) == {0: ["alone"]}


def test_longer_terms_stand_for_their_parts() -> None:
    documents = {
        0: [{"direct debit", "direct", "debit"}] * 3,
        1: [{"糖尿病", "糖尿"}] * 3,
        2: [{"category", "cat"}] * 3,
    }
    found = topics.keywords(documents)
    assert found[0] == ["direct debit"]
    assert found[1] == ["糖尿病"]
    # Letters are no parts of words where spaces are written.
    assert sorted(found[2]) == ["cat", "category"]


def test_clusters_without_documents_or_with_one_word_each_have_none() -> None:
    assert topics.keywords({0: [], 1: [{"a"}, {"b"}]}) == {0: [], 1: []}
    assert topics.keywords({}) == {}


def test_the_vocabulary_is_in_both_languages_and_names_nothing_twice() -> None:
    assert len(THINGS) > 200
    assert all(english.isascii() and not chinese.isascii() for english, chinese in THINGS)
    for names in zip(*THINGS, strict=True):
        assert len(set(names)) == len(names)
