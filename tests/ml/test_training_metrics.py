"""Figures of retrieval, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ml.training.metrics import Ranking, difference, figures, ranks, search, spread


def found(places: list[int], groups: list[int] | None = None) -> Ranking:
    array = np.array(places)
    return Ranking(array, 1 / (array + 1), np.arange(len(array)) if groups is None else np.array(groups), 100)


def test_figures_by_hand() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]])
    result = search(scores, np.eye(3), [[0], [2], [1, 2]])
    assert result.ranks.tolist() == [0, 2, 1]
    # The third: its items stand at 2 and 3, so (1/2 + 2/3) / 2.
    assert result.precision == pytest.approx([1, 1 / 3, 7 / 12])
    shown = figures(result)
    assert (shown["pool"], shown["queries"]) == (3, 3)
    assert shown["r1"] == pytest.approx(1 / 3, abs=1e-4)
    assert shown["r5"] == 1
    assert shown["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 2) / 3, abs=1e-4)
    assert shown["map"] == pytest.approx((1 + 1 / 3 + 7 / 12) / 3, abs=1e-4)
    assert shown["median_rank"] == 2


def test_who_says_the_same_of_everything_finds_nothing() -> None:
    assert ranks(np.zeros((2, 5)), [[0], [3]]).tolist() == [4, 4]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    queries, items = random.normal(size=(50, 8)), random.normal(size=(40, 8))
    wanted = [[int(random.integers(40))] for _ in range(50)]
    whole = search(queries, items, wanted)
    monkeypatch.setattr("ml.training.metrics.BLOCK", 7)
    assert np.array_equal(search(queries, items, wanted).ranks, whole.ranks)


def test_intervals_hold_the_value_and_shrink_with_more_queries() -> None:
    random = np.random.default_rng(1)
    few, many = (figures(found(random.integers(0, 3, count).tolist())) for count in (40, 4000))
    widths = [high - low for low, high in (few["interval"]["r1"], many["interval"]["r1"])]
    assert widths[0] > 5 * widths[1]
    assert many["interval"]["r1"][0] < many["r1"] < many["interval"]["r1"][1]


def test_queries_of_a_group_are_no_independent_evidence() -> None:
    places = [0] * 50 + [5] * 50
    alone, together = (
        figures(found(places, groups))["interval"]["r1"]
        for groups in (None, [row // 10 for row in range(100)])
    )
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    random = np.random.default_rng(2)
    hard = random.integers(0, 30, 500)
    better, worse = found(np.maximum(hard - 1, 0).tolist()), found(hard.tolist())
    gained = difference(better, worse)
    assert gained["r1"]["interval"][0] > 0
    assert gained["r1"]["difference"] == pytest.approx(float((hard == 1).mean()), abs=1e-4)
    assert gained["mrr"]["relative"] > 0
    assert gained["median_rank"]["difference"] == -1
    separate = [figures(one)["interval"]["mrr"] for one in (better, worse)]
    assert gained["mrr"]["interval"][1] - gained["mrr"]["interval"][0] < separate[0][1] - separate[0][0]


def test_different_queries_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same queries"):
        difference(found([0, 1]), found([0, 1], [0, 0]))


def test_nothing_to_gain_on() -> None:
    assert difference(found([0]), found([50]))["r1"]["relative"] is None


def test_spread_is_that_of_a_mean() -> None:
    hits = np.random.default_rng(3).random((400, 1)) < 0.3
    assert spread(hits, np.arange(400))[0] == pytest.approx((0.3 * 0.7 / 400) ** 0.5, rel=0.15)
