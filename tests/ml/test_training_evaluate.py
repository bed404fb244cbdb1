"""A space is judged on held-out pairs, beside its parent and the traditional methods."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ml.alignment.space import SHIPPED, JointSpace
from ml.alignment.traditional import METHODS
from ml.training.evaluate import evaluate_space, pool_of, rank_queries, traditional
from ml.training.metrics import Ranking
from tests.ml.training_pairs import halves, pairs


def mean_recall(found: Mapping[str, Ranking]) -> float:
    """Mean over both directions of R@1, R@5 and R@10."""
    return float(np.mean([(one.ranks < cut).mean() for one in found.values() for cut in (1, 5, 10)]))


def test_traditional_methods_learn_from_pairs() -> None:
    items = pairs(260)
    pool = pool_of(items[200:])
    found = {name: rank_queries(rival, pool) for name, rival in traditional(items[:200]).items()}
    assert found.keys() == METHODS.keys()
    prior = mean_recall(rank_queries(JointSpace.load().placing, pool))
    assert all(mean_recall(ways) > prior + 0.3 for ways in found.values())


def test_the_same_words_are_right_wherever_they_stand() -> None:
    items = pairs(20, captions=1)
    items[3] = replace(items[3], captions=("A dog!",))
    items[7] = replace(items[7], captions=("a  dog",))
    pool = pool_of(items)
    assert pool.right_pictures[3] == pool.right_pictures[7] == [3, 7]
    assert pool.right_captions[3] == [3, 7]
    assert pool.right_pictures[4] == [4]


def test_captions_belong_to_their_picture() -> None:
    pool = pool_of(pairs(5, captions=9))
    assert pool.owners.tolist() == [row for row in range(5) for _ in range(5)]
    assert len(pool.reading) == len(pool.captions) == 25
    assert len(pool.sight) == pool.size == 5


def test_the_report_of_an_unchanged_space(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "space")
    items = pairs(120)
    report = evaluate_space(tmp_path / "space", None, items[:80], {"domain": items[80:], "general": []})
    assert report.keys() == {"domain"}
    domain = report["domain"]
    assert (domain["pictures"], domain["captions"]) == (40, 80)
    assert domain.keys() == {"pictures", "captions", "model", "parent", "differences", *METHODS}
    assert domain["model"] == domain["parent"]
    assert domain["model"]["text>image"]["pool"] == 40
    assert domain["model"]["image>text"]["pool"] == 80
    same = domain["differences"]["parent"]["text>image"]["r1"]
    assert (same["difference"], same["interval"]) == (0, [0, 0])
    behind = domain["differences"]["regularised CCA"]["text>image"]["mrr"]
    assert behind["interval"][1] < 0


def test_pairs_without_class_probabilities_are_judged_by_features() -> None:
    items = [replace(item, probabilities=halves(np.zeros(0))) for item in pairs(60)]
    rival = traditional(items[:40])["regularised CCA"]
    assert rank_queries(rival, pool_of(items[40:]))["text>image"].pool == 20
