"""Classifiers on frozen features: what they learn, what their figures mean, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from ml import classification
from ml.classification import ANY, CALIBRATED, ESTIMATED, Head, Unlearnable, fit, from_words, most_uncertain


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def examples(n: int, pull: float, share: float = 0.4, dimension: int = 64, seed: int = 0):
    """Noise, and `pull` along the first axis for those that are a yes."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) < round(n * share)
    rows = random.normal(size=(n, dimension))
    rows[:, 0] += np.where(labels, pull, -pull)
    return unit(rows), labels, [str(number) for number in range(n)]


def test_a_head_learns_from_examples_and_is_calibrated_on_others() -> None:
    fitted = fit(*examples(400, 2.0))
    figures = {name: part["value"] for name, part in fitted.report["figures"].items()}
    assert (fitted.report["tier"], fitted.report["n"], fitted.report["folds"]) == (CALIBRATED, 400, 5)
    assert figures["auc"] > 0.97
    assert figures["f1"] > 0.9
    assert figures["brier"] < 0.07 < fitted.report["brier_constant"]
    assert fitted.report["warnings"] == []
    features, labels, _ = examples(4000, 2.0, seed=1)
    unseen = fitted.head.probabilities(features, ["image"] * 4000)
    told = classification.measures(labels, unseen)
    # What the folds promised is what others get.
    assert abs(told["auc"] - figures["auc"]) < 0.02
    assert abs(told["brier"] - figures["brier"]) < 0.02
    assert told["ece"] < 0.05


def test_figures_of_noise_are_those_of_noise() -> None:
    """Neither the penalty nor the calibration is chosen by what they are judged by."""
    found = [fit(*examples(60, 0.0, 0.5, seed=seed)).report["figures"] for seed in range(8)]
    assert abs(np.mean([one["auc"]["value"] for one in found]) - 0.5) < 0.1
    assert np.mean([one["brier"]["value"] for one in found]) > 0.24


def test_nearly_equal_content_never_stands_on_both_sides() -> None:
    """Twenty noisy contents, each five times: a head that had seen the copies would know them all."""
    features, labels, contents = examples(20, 0.0, 0.5)
    copies = np.repeat(features, 5, axis=0)
    near = unit(copies + np.random.default_rng(1).normal(size=copies.shape) * 0.005)
    by_vector = fit(near, np.repeat(labels, 5), [str(n) for n in range(100)]).report
    by_content = fit(examples(100, 0.0)[0], np.repeat(labels, 5), np.repeat(contents, 5).tolist()).report
    assert by_vector["groups"] == by_content["groups"] == 20
    assert by_vector["figures"]["auc"]["value"] < 0.8


def refusal(features, labels, contents) -> Unlearnable:
    with pytest.raises(Unlearnable) as caught:
        fit(features, labels, contents)
    return caught.value


def test_what_cannot_be_learnt_from_is_refused() -> None:
    features, labels, contents = examples(10, 1.0)
    assert refusal(features[:3], np.array([True, False, False]), contents[:3]).code == "few"
    assert refusal(features[:0], labels[:0], []).code == "few"
    assert refusal(features, np.ones(10, bool), contents).code == "one_class"
    assert refusal(features, np.arange(10) < 1, contents).code == "few"
    alike = np.repeat(features[:1], 4, axis=0)
    many = np.concatenate([alike, features[4:]])
    assert refusal(many, np.arange(10) < 4, contents).code == "alike"
    both = refusal(features, labels, [*contents[:9], contents[0]])
    assert (both.code, both.places) == ("contradiction", [0, 9])
    wide = np.zeros((classification.MAX_EXAMPLES + 1, 2), np.float32)
    assert refusal(wide, np.zeros(len(wide), bool), [""] * len(wide)).code == "many"


def test_five_examples_are_enough_and_say_so() -> None:
    report = fit(*examples(5, 3.0)).report
    assert (report["tier"], report["folds"], report["n"]) == (ESTIMATED, 2, 5)
    assert "few_examples" in report["warnings"]


def test_a_head_is_the_same_after_storage_and_says_nothing_of_other_modalities() -> None:
    features, _, _ = examples(3, 1.0)
    head = Head(features[0], {"image": (2.0, -1.0)})
    again = Head.from_bytes(head.to_bytes())
    assert again.scales == head.scales
    assert np.array_equal(again.weights, head.weights)
    found = again.probabilities(features, ["image", "text", "image"])
    assert np.isnan(found).tolist() == [False, True, False]
    assert Head(features[0], {ANY: (1.0, 0.0)}).probabilities(features[:1], ["text"])[0] == pytest.approx(
        1 / (1 + np.exp(-1)), abs=1e-6
    )


def test_words_rank_what_is_near_them_above_the_rest() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 64))
    rows[:15, 0] += 10
    features, words = unit(rows), unit(np.eye(64)[:1])[0]
    neutral = unit(random.normal(size=(20, 64)))
    fitted = from_words(words, neutral, features, ["image"] * 290 + ["text"] * 10)
    found = fitted.head.probabilities(features, ["image"] * 290 + ["text"] * 10)
    assert found[:15].min() > 0.9
    assert (found[15:290] > 0.5).mean() < 0.05
    # Of ten texts nothing is known.
    assert np.isnan(found[290:]).all()
    assert fitted.report["tier"] == ESTIMATED
    assert fitted.report["modalities"] == ["image"]
    with pytest.raises(Unlearnable, match="few"):
        from_words(words, neutral, features[:19], ["image"] * 19)


def test_what_to_label_next_is_what_lies_nearest_to_the_decision_line() -> None:
    probabilities = np.array([0.02, 0.03, 0.94, 0.45, 0.6, 0.3, 0.52])
    # Those in doubt are like each other, those that it is sure of like nothing else.
    alike = np.eye(7, dtype=np.float32)
    alike[3:, 0] = 2
    assert most_uncertain(unit(alike), probabilities, 4) == [6, 3, 4, 5]
    # What is nearly the same as something nearer comes in only where there is nothing else, and at its place.
    twins = np.eye(7, dtype=np.float32)
    twins[3] = twins[6]
    assert most_uncertain(twins, probabilities, 4) == [6, 4, 5, 2]
    assert most_uncertain(twins, probabilities, 7) == [6, 3, 4, 5, 2, 1, 0]


def test_what_to_label_next_is_in_doubt_and_spread_out() -> None:
    random = np.random.default_rng(0)
    # Three heaps in doubt, and many of which the head is sure.
    heaps = np.repeat(np.eye(8)[:3], 10, axis=0) + random.normal(size=(30, 8)) * 0.01
    sure = random.normal(size=(500, 8))
    features = unit(np.concatenate([heaps, sure]))
    probabilities = np.concatenate([np.full(30, 0.5), np.full(500, 0.99)])
    chosen = most_uncertain(features, probabilities, 3)
    assert sorted(place // 10 for place in chosen) == [0, 1, 2]
    known = unit(np.eye(8)[:1])
    assert 0 not in {place // 10 for place in most_uncertain(features, probabilities, 2, known=known)[1:]}
    assert most_uncertain(features[:2], np.array([np.nan, 0.4]), 5) == [1]
    assert most_uncertain(features[:1], np.array([np.nan]), 5) == []
