"""What a detector's score is worth by what reviewers decided, and which threshold follows."""

from __future__ import annotations

import numpy as np
import pytest

from ml import recalibration
from ml.classification import groups_by_keys


def pairs(count: int = 400, seed: int = 0, *, bias: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flags of a detector that claims too much: the odds are exp(bias) times lower than its score says."""
    random = np.random.default_rng(seed)
    scores = random.uniform(0.5, 0.999, count)
    truth = 1 / (1 + np.exp(-(2 * np.log(scores / (1 - scores)) - bias)))
    return scores, random.random(count) < truth, np.arange(count)


def test_a_detector_that_claims_too_much_gets_a_higher_threshold() -> None:
    scores, violating, groups = pairs()
    found = recalibration.recalibrate(scores, violating, groups, threshold=0.5)
    assert found.outcome == "accepted"
    assert found.threshold.before == 0.5
    assert 0.55 < found.threshold.after < 0.75
    assert found.unseen is not None
    assert found.unseen.log_loss.after < found.unseen.log_loss.before
    assert found.unseen.brier.after < found.unseen.brier.before
    # What unseen folds say agrees with a stream that nobody decided about.
    fresh, truth, _ = pairs(4_000, 1)
    lost = truth[fresh < found.threshold.after].sum() / truth.sum()
    assert lost <= 2 * recalibration.LOSE
    assert (fresh >= found.threshold.after).mean() == pytest.approx(found.unseen.flagged / 400, abs=0.08)


def test_what_may_be_lost_decides_how_far_it_moves() -> None:
    moved = [recalibration.recalibrate(*pairs(), threshold=0.5, lose=lose) for lose in (0.0, 0.02, 0.1)]
    thresholds = [found.threshold.after for found in moved]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] == 0.5 < thresholds[1] < thresholds[2]


def test_a_calibrated_detector_stays_as_it_is() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(0.3, 0.99, 600)
    found = recalibration.recalibrate(scores, random.random(600) < scores, np.arange(600), threshold=0.3)
    assert found.outcome == "not_better"
    assert found.threshold == recalibration.Change(0.3, 0.3)


def test_few_and_many_copies_of_few_say_nothing() -> None:
    scores, violating, groups = pairs()
    few = recalibration.recalibrate(scores[:30], violating[:30], groups[:30], threshold=0.5)
    assert (few.outcome, few.threshold.after, few.decisions) == ("few", 0.5, 30)
    # Four hundred decisions about nineteen contents are nineteen opinions.
    copies = recalibration.recalibrate(scores, violating, groups % 19, threshold=0.5)
    assert copies.outcome == "few"
    none = recalibration.recalibrate(np.zeros(0), np.zeros(0, bool), np.zeros(0, int), threshold=0.5)
    assert (none.outcome, none.certain) == ("few", None)


def test_one_answer_only_is_few_and_tells_what_is_certain() -> None:
    scores = np.linspace(0.5, 0.99, 200)
    found = recalibration.recalibrate(scores, np.ones(200, bool), np.arange(200), threshold=0.5)
    assert found.outcome == "few"
    assert found.certain == recalibration.Certain(0.5, 200, 200)
    # The same of one content is one opinion.
    alike = recalibration.recalibrate(scores, np.ones(200, bool), np.zeros(200, int), threshold=0.5)
    assert alike.certain is None


def test_a_score_that_says_the_opposite_moves_nothing() -> None:
    scores, violating, groups = pairs()
    found = recalibration.recalibrate(1.5 - scores, violating, groups, threshold=0.5)
    assert found.outcome != "accepted"
    assert found.threshold.after == 0.5


def test_copies_are_told_by_any_key_they_share() -> None:
    found = groups_by_keys([["a", "x"], ["b"], ["c", "x"], ["d", "b"], ["e"]]).tolist()
    assert found[0] == found[2]
    assert found[1] == found[3]
    assert len(set(found)) == 3
    assert groups_by_keys([]).tolist() == []
