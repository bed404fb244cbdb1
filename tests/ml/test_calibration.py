"""Calibration: probabilities that come true, thresholds that hold, and files that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ml.auditing.calibration import (
    BadCalibration,
    Calibration,
    expected_calibration_error,
    fit,
    share_interval,
    threshold_at,
)


def draw(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose true probability is 1 / (1 + exp(-(2 x - 1)))."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1.5, n)
    return scores, rng.random(n) < truth(scores)


def truth(scores: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-(2 * scores - 1))))


@pytest.mark.parametrize(("n", "kind", "error"), [(400, "platt", 0.08), (20_000, "isotonic", 0.09)])
def test_probabilities_come_true(n: int, kind: str, error: float) -> None:
    found = fit(*draw(n))
    assert found.kind == kind
    scores, labels = draw(4_000, seed=1)
    claimed = [found.probability(score) for score in scores]
    assert np.abs(np.asarray(claimed) - truth(scores)).max() < error
    assert np.abs(np.asarray(claimed) - truth(scores)).mean() < 0.03
    assert expected_calibration_error(claimed, labels) < 0.03


@pytest.mark.parametrize("n", [200, 4_000])
@pytest.mark.slow
def test_intervals_cover_the_truth(n: int) -> None:
    points = np.asarray([-1.0, 0.0, 0.5, 1.5])
    inside = []
    for seed in range(12):
        found = fit(*draw(n, seed))
        for point, true in zip(points, truth(points), strict=True):
            low, high = found.interval(point)
            assert 0 <= low <= found.probability(point) <= high <= 1
            inside.append(low <= true <= high)
    assert np.mean(inside) > 0.8


def test_groups_widen_the_interval() -> None:
    """A hundred copies of eight speakers are eight opinions."""
    rng = np.random.default_rng(0)
    offsets = rng.normal(0, 1, 16)
    scores = (np.repeat(offsets, 50) + rng.normal(0, 0.1, 800)) + np.repeat([0.0, 1.0], 400)
    labels = np.repeat([False, True], 400)
    groups = [f"speaker {at // 50}" for at in range(800)]

    def width(found: Calibration) -> float:
        low, high = found.interval(0.5)
        return high - low

    assert width(fit(scores, labels, groups=groups)) > 2 * width(fit(scores, labels))


def test_classes_far_apart_stay_finite() -> None:
    found = fit([-1.0] * 30 + [1.0] * 30, [False] * 30 + [True] * 30)
    assert 0 < found.probability(-1) < 0.1
    assert 0.9 < found.probability(1) < 1
    assert 0 <= found.probability(-1e300) <= found.probability(1e300) <= 1
    assert fit([3.0] * 60, [False] * 30 + [True] * 30).probability(3.0) == pytest.approx(0.5, abs=0.01)


def test_thresholds_hold_on_the_reference_reals() -> None:
    reals = np.random.default_rng(0).normal(size=1_000)
    for fpr in (0.01, 0.05):
        limit = threshold_at(reals, fpr)
        assert limit is not None
        assert (reals >= limit).mean() == pytest.approx(fpr)
    assert threshold_at(np.zeros(1_000), 0.01) > 0
    assert threshold_at(reals[:99], 0.01) is None
    assert threshold_at(reals[:100], 0.01) is not None
    with pytest.raises(ValueError, match="between 0 and 1"):
        threshold_at(reals, 1.0)


def test_the_place_of_a_score() -> None:
    scores, labels = draw(2_000)
    found = fit(scores, labels, reals=np.linspace(0, 1, 1_001))
    assert found.place(0.2) == "none"
    assert found.place(0.97) == "band"
    assert found.place(0.995) == "likely"
    assert found.reals == 1_001
    few = fit(scores, labels, reals=[0.0] * 10)
    assert (few.likely_from, few.none_below, few.place(9.0), few.place(-9.0)) == (None, None, "band", "band")
    with pytest.raises(ValueError, match="finite"):
        found.place(float("nan"))
    with pytest.raises(ValueError, match="finite"):
        found.probability(float("inf"))


@pytest.mark.parametrize("n", [200, 4_000])
def test_as_json_and_back(tmp_path: Path, n: int) -> None:
    found = fit(*draw(n), note="made here")
    path = tmp_path / "calibration.json"
    path.write_text(found.dumps())
    again = Calibration.load(path)
    assert again == found
    assert again.version == found.version
    assert len(found.version) == 12
    other = fit(*draw(n), note="made there")
    assert other.version != found.version


BASE = json.loads(fit(*draw(200)).dumps())


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "magic"}, {"curve": []}, {"curve": [[1.0]]}, {"curve": [["a", 1]]}, {"curve": [[float("nan"), 1]]},
        {"curve": 7}, {"likely_from": "high"}, {"likely_from": -5.0, "none_below": 5.0}, {"extra": 1},
        {"kind": "isotonic", "curve": [[1, 0.2, 0, 1], [0, 0.3, 0, 1]]},
        {"kind": "isotonic", "curve": [[1, 2.0, 0, 1], [2, 0.3, 0, 1]]},
    ],
)  # fmt: skip
def test_what_is_no_calibration_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadCalibration):
        Calibration.loads(json.dumps({**BASE, **change}))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BadCalibration, match="cannot be read"):
        Calibration.load(tmp_path / "absent.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(BadCalibration):
        Calibration.load(tmp_path / "deep.json")
    (tmp_path / "large.json").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(BadCalibration, match="too large"):
        Calibration.load(tmp_path / "large.json")
    with pytest.raises(BadCalibration):
        Calibration.loads("[]")


def test_too_little_to_calibrate() -> None:
    with pytest.raises(ValueError, match="needs 20 items"):
        fit([1.0] * 25, [True] * 20 + [False] * 5)
    with pytest.raises(ValueError, match="one length"):
        fit([1.0, 2.0], [True])
    with pytest.raises(ValueError, match="finite"):
        fit([float("nan")] * 60, [True] * 30 + [False] * 30)


def test_calibration_error_by_hand() -> None:
    assert expected_calibration_error([0.95] * 10, [True] * 10) == pytest.approx(0.05)
    assert expected_calibration_error([0.95, 0.05], [False, True]) == pytest.approx(0.95)
    assert expected_calibration_error([], []) == 0


def test_share_interval() -> None:
    low, high = share_interval(5, 100)
    assert (round(low, 3), round(high, 3)) == (0.022, 0.112)
    assert share_interval(0, 0) == (0.0, 1.0)
