"""A correction of the curves of relevance from labels: what is fitted, its bounds, and when it is taken."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ml.alignment.relevance import Correction, Curve, Relevance
from ml.alignment.relevance_fitting import Labelled, fitted, odds_of, tried


def labelled(count: int, steepness: float, shift: float, seed: int = 0) -> Labelled:
    """Results of queries with five each, right as often as the corrected odds say."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 2, count)
    right = rng.random(count) < 1 / (1 + np.exp(-(steepness * odds + shift)))
    query = np.arange(count) // 5
    return Labelled(odds, right, query, query % 10)


def test_what_the_labels_follow_is_found() -> None:
    found = fitted(labelled(20_000, 1.4, -0.8))
    assert (found.steepness, found.shift) == (pytest.approx(1.4, abs=0.06), pytest.approx(-0.8, abs=0.06))


def test_few_labels_move_little_and_none_move_beyond_the_bounds() -> None:
    few, many = fitted(labelled(10, 1.4, -1.5)), fitted(labelled(2_000, 1.4, -1.5))
    assert abs(few.shift) < abs(many.shift)
    wrong = labelled(5_000, 1.0, 0.0)
    all_wrong = fitted(Labelled(wrong.odds, wrong.odds > 99, wrong.query, wrong.tenth))
    assert all_wrong.shift == Correction.SHIFT[0]
    contrary = fitted(Labelled(wrong.odds, wrong.odds < 0, wrong.query, wrong.tenth))
    # What is more likely stays more likely, whatever is labelled.
    assert contrary.steepness == Correction.STEEPNESS[0]


def test_it_is_taken_only_where_it_does_better_on_other_queries() -> None:
    correction, report = tried(labelled(1_000, 1.0, -1.5))
    assert report["taken"] is True
    assert report["log_loss"]["corrected"] < report["log_loss"]["curves"]
    assert correction.shift == pytest.approx(-1.5, abs=0.3)
    assert (report["labels"], report["queries"], report["judged_on"]) == (1_000, 200, 300)
    assert [tried(labelled(400, 1.0, 0.0, seed))[1]["taken"] for seed in range(8)] == [False] * 8


def test_without_queries_that_judge_nothing_is_taken() -> None:
    labels = labelled(100, 1.0, -2.0)
    alone = Labelled(labels.odds, labels.right, labels.query, np.full(100, 9))
    _correction, report = tried(alone)
    assert (report["taken"], report["log_loss"]["curves"], report["judged_on"]) == (False, None, 0)


def test_enough_is_enough_of_each_kind() -> None:
    labels = labelled(200, 1.0, 0.0)
    assert labels.is_enough
    assert not labels.take(labels.query < 10).is_enough
    assert not labels.take(labels.right).is_enough
    one = Labelled(labels.odds, labels.right, np.zeros(200, int), labels.tenth)
    assert not one.is_enough


def test_corrected_curves_are_the_corrected_chances_in_the_same_order() -> None:
    plain = Relevance(0.6, 0.8, {("text", "image"): Curve(40.0, 0.2), ("text", "text"): Curve(20.0, 0.6)})
    correction = Correction(1.5, -0.7)
    found = plain.corrected(correction)
    assert found.line == 0.6
    assert found.words == pytest.approx(correction.of(0.8))
    scores = np.linspace(-0.2, 0.9, 50)
    for kind in ("image", "text"):
        before = [plain.of("text", kind, float(score)) for score in scores]
        after = [found.of("text", kind, float(score)) for score in scores]
        assert after == sorted(after)
        inside = [(one, two) for one, two in zip(before, after, strict=True) if one and 1e-6 < one < 1 - 1e-6]
        assert inside and all(two == pytest.approx(correction.of(one), rel=1e-6) for one, two in inside)
    least = found.least_score("text", 0.6)
    assert max(found.of("text", kind, least) or 0 for kind in ("image", "text")) == pytest.approx(0.6)
    assert plain.corrected(Correction()) == plain


def test_odds_of_chances_are_finite() -> None:
    assert odds_of([0.5, 0.0, 1.0]) == pytest.approx([0.0, -math.log(1e6 - 1), math.log(1e6 - 1)])
