"""How likely matches are right: the curves of spaces, and how they are fitted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.alignment.relevance import Curve, Relevance, read_relevance
from ml.alignment.space import SHIPPED, JointSpace, SpaceError
from research.open_space import relevance as fitting
from research.open_space.relevance import Searches, fit, found, half, held, judge, nonsense, served, stated

STATED = {"line": 0.5, "words": 0.8, "curves": {"text": {"image": [60.0, 0.11], "text": [14.0, 0.3]}}}


def test_a_curve_rises_with_the_score_and_stays_within_bounds() -> None:
    curve = Curve(60.0, 0.11)
    chances = [curve.chance(score) for score in (-1e9, -1.0, 0.05, 0.11, 0.15, 1.0, 1e9)]
    assert chances == sorted(chances)
    assert curve.chance(0.11) == 0.5
    assert 0 < chances[0] < chances[-1] <= 1


def test_a_manifest_states_curves_by_what_asks_and_what_is_found() -> None:
    relevance = read_relevance({"relevance": STATED})
    assert relevance is not None
    assert relevance.of("text", "image", 0.11) == relevance.of("text", "video", 0.11) == 0.5
    assert relevance.of("text", "text", 0.3) == relevance.of("text", "audio", 0.3) == 0.5
    assert relevance.of("image", "image", 0.9) is None
    assert relevance.of("text", "touch", 0.9) is None
    assert read_relevance({}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"line": 1.0},
        {"words": 0},
        {"line": "much"},
        {"curves": {"text": {"touch": [60.0, 0.1]}}},
        {"curves": {"smell": {"text": [60.0, 0.1]}}},
        {"curves": {"text": {"image": [-60.0, 0.1]}}},
        {"curves": {"text": {"image": [float("inf"), 0.1]}}},
        {"curves": {"text": {"image": [60.0]}}},
        {"curves": [1]},
        {"curves": None},
    ],
)
def test_what_cannot_be_read_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="relevance"):
        read_relevance({"relevance": {**STATED, **change}})
    folder = tmp_path / "space"
    shutil.copytree(SHIPPED, folder)
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "relevance": {**STATED, **change}}))
    with pytest.raises(SpaceError, match="relevance"):
        JointSpace.load(folder)


@pytest.mark.parametrize("name", ["open-1", "open-2"])
def test_the_open_spaces_state_all_four_pairs(name: str) -> None:
    manifest = json.loads((SHIPPED.parent / name / "manifest.json").read_text())
    relevance = read_relevance(manifest)
    assert relevance is not None
    assert set(relevance.curves) == {
        (asked, kind) for asked in ("text", "image") for kind in ("text", "image")
    }
    # What is told of one kind beside the other: a picture needs far less than a text, and two pictures need most.
    middles = {pair: curve.middle for pair, curve in relevance.curves.items()}
    assert middles["text", "image"] < middles["text", "text"] < middles["image", "image"]


def test_a_prior_states_none() -> None:
    assert JointSpace.load(SHIPPED).relevance is None


# --- Fitting ---------------------------------------------------------------------------------------------


def drawn(curve: Curve, count: int = 4000, seed: int = 0) -> Searches:
    """Searches in pools of ten whose results are right as often as the curve says."""
    chosen = np.random.default_rng(seed)
    scores = chosen.normal(curve.middle, 3 / curve.slope, (count, 10))
    chances = 1 / (1 + np.exp(-curve.slope * (scores - curve.middle)))
    return Searches(scores, chosen.random(scores.shape) < chances, np.full((0, 10), 0.0))


def test_a_curve_is_found_again() -> None:
    fitted = fit([drawn(Curve(60.0, 0.11))])
    assert fitted.middle == pytest.approx(0.11, abs=0.002)
    assert fitted.slope == pytest.approx(60.0, rel=0.05)


def test_searches_in_vain_count_as_much_as_the_others() -> None:
    scores, right, weights = found(
        Searches(np.full((2, 30), 0.2), np.ones((2, 30), bool), np.full((6, 30), 0.1))
    )
    assert (len(scores), right.sum()) == (80, 20)
    assert weights[right].sum() == pytest.approx(weights[~right].sum())


def test_a_judgement_counts_what_is_shown() -> None:
    searches = Searches(
        scores=np.array([[0.3, 0.2, 0.0], [0.0, 0.0, 0.1], [0.25, 0.0, 0.0]]),
        right=np.array([[True, False, False], [True, False, False], [True, True, False]]),
        absent=np.array([[0.0, 0.1, 0.0], [0.3, 0.0, 0.0]]),
    )
    told = judge(Curve(100.0, 0.15), searches, line=0.5)
    assert (told.shown, told.nothing) == (3, 0.5)
    assert told.precision == pytest.approx(2 / 3)
    assert told.mean_precision == pytest.approx((0.5 + 1) / 2)
    assert told.answered == pytest.approx(2 / 3)


def test_what_teaches_is_apart_from_what_is_looked_at() -> None:
    labels = ["b", "a", "c", "a", "d"]
    assert (half(labels, 0), half(labels, 1)) == (["a", "c"], ["b", "d"])


def test_words_are_held_whole_and_in_any_number() -> None:
    texts = ["Where are my cards?", "a card that has arrived", "arrival of the cards", ""]
    assert held("card arrival", texts).tolist() == [False, False, True, False]
    assert not held("the", texts).any()


def test_who_looks_for_a_fruit_is_served_by_its_juice() -> None:
    juice = {"coarse": "Juice", "label": "God Morgon Orange Juice"}
    assert served("Orange", juice)
    assert not served("Banana", juice)
    assert served("Milk", {"coarse": "Oat-Milk", "label": "Oatly Oat Milk"})


def test_nonsense_is_the_same_every_time() -> None:
    assert nonsense() == nonsense()
    assert len(set(nonsense())) == 60
    assert not set(" ".join(nonsense()).split()) & set(" ".join(fitting.ELSEWHERE).split())


def test_what_is_stated_is_read_again() -> None:
    curves = {("text", "image"): Curve(60.0, 0.11), ("image", "text"): Curve(54.2, 0.1)}
    assert read_relevance({"relevance": stated(curves, 0.8)}) == Relevance(fitting.LINE, 0.8, curves)
