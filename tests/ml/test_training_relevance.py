"""The curves of a space carried over to a fine-tune from it: what is fitted, stated, refused, and read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.alignment.adapted_space import AdaptedSpace
from ml.alignment.features import TextFeatures
from ml.alignment.relevance import Correction, Curve, Relevance, read_relevance
from ml.alignment.space import SHIPPED, JointSpace
from ml.alignment.storage import write_space
from ml.training import relevance as carrying
from ml.training import run as module
from ml.training.objectives import _align_tower as align_tower
from ml.training.relevance import Matches, base_of, carried, carry_relevance, fit, general_texts
from ml.training.run import run
from ml.training.shards import Pair, ShardWriter
from tests.ml.towers import READ, shard_rows, write_tower

STATED = {
    "line": 0.6,
    "words": 0.8,
    "curves": {
        "text": {"image": [30.0, 0.2], "text": [12.0, 0.3]},
        "image": {"image": [20.0, 0.6], "text": [30.0, 0.2]},
    },
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    monkeypatch.setattr(align_tower, "GENERAL", 20)
    for name in ("SCENES", "NAMES", "NONSENSE"):
        monkeypatch.setattr(carrying, name, 20)
    monkeypatch.setattr(module, "_limit", lambda limits: None)


def trained(folder: Path, rows: list[Pair], base: Path) -> tuple[JointSpace, dict[str, Any]]:
    """A fine-tune by the engine, and what it says of its relevance."""
    folder.mkdir()
    with ShardWriter(folder / "pairs", JointSpace.load(base).encoders_key) as writer:
        for row in rows:
            writer.add(row)
    asked = {"data": [str(folder / "pairs")], "base": {"folder": str(base)}}
    (folder / "run.json").write_text(json.dumps({"space": {"id": "cman-x", "version": "1"}, **asked}))
    result = run(folder, lambda *_, **__: None)
    return JointSpace.load(result["space"]), result["relevance"]


def test_a_fine_tune_carries_the_curves_of_its_base(tmp_path: Path) -> None:
    base = write_tower(tmp_path / "base", relevance=STATED)
    space, told = trained(tmp_path / "one", shard_rows(200), base)
    assert told == {"state": "carried", "asked": ["text", "image"], "pictures": 20, "captions": 40}
    assert isinstance(space.placing, AdaptedSpace)
    first = read_relevance({"relevance": STATED})
    assert first is not None and space.relevance is not None
    assert (space.relevance.line, space.relevance.words) == (first.line, first.words)
    assert space.relevance.curves.keys() == first.curves.keys()
    assert space.relevance.foreign.keys() == {("text", "image"), ("text", "text")}
    assert space.manifest["relevance"]["carried"] == {"of": STATED}
    # A fine-tune of the fine-tune learns anew from the same base, and carries its curves, not carried ones.
    again, told = trained(tmp_path / "two", shard_rows(200, seed=3), tmp_path / "one" / "space")
    assert told["state"] == "carried"
    assert again.manifest["relevance"]["carried"] == {"of": STATED}


def test_texts_have_curves_by_how_familiar_their_vectors_say_they_are(tmp_path: Path) -> None:
    space, _ = trained(tmp_path / "one", shard_rows(200), write_tower(tmp_path / "base", relevance=STATED))
    placing = space.placing
    assert isinstance(placing, AdaptedSpace) and placing.learnt
    texts = np.concatenate([row.text for row in shard_rows(4)]).astype(np.float32)
    strange = np.random.default_rng(5).normal(size=(8, READ)).astype(np.float32)
    for some in (texts, strange):
        vectors = placing.text(TextFeatures(some, np.zeros((len(some), 11), np.float32)))
        told, long = placing.heads.familiar(placing.base.texts.meanings(some)), np.zeros(len(some), bool)
        assert placing.familiarity(vectors, long) == pytest.approx(told, abs=1e-4)
        # Longer or shorter, as where weights were moved: the same.
        assert placing.familiarity(3 * vectors, long) == pytest.approx(told, abs=1e-4)
        assert space.relevance is not None
        for vector, share in zip(vectors, told, strict=True):
            found = space.relevance_of(vector, "a dog that runs along a beach")
            assert found is not None and not found.foreign
            wanted = space.relevance.at(float(share)).curves["text", "image"]
            assert found.curves["text", "image"].middle == pytest.approx(wanted.middle, abs=1e-4)
    assert placing.familiarity(np.zeros((1, space.dimension), np.float32), np.zeros(1, bool)) == [0]


def test_a_word_or_two_is_as_familiar_as_before_it_was_moved(tmp_path: Path) -> None:
    space, _ = trained(tmp_path / "one", shard_rows(200), write_tower(tmp_path / "base", relevance=STATED))
    placing = space.placing
    assert isinstance(placing, AdaptedSpace)
    # A space in whose base the hub counts more in a word or two.
    placing = replace(placing, base=replace(placing.base, stored_hub=-1.0))
    some = np.concatenate([row.text for row in shard_rows(4)]).astype(np.float32)
    vectors = placing.text(TextFeatures(some, np.zeros((len(some), 11), np.float32)))
    moved, every = placing.few_words(vectors), np.ones(len(some), bool)
    assert np.abs(moved - vectors).max() > 1e-3
    assert placing.familiarity(moved, every) == pytest.approx(placing.familiarity(vectors, ~every), abs=1e-4)
    assert placing.familiarity(moved, ~every).mean() < placing.familiarity(vectors, ~every).mean() - 0.05


def test_a_base_without_curves_gives_none(tmp_path: Path) -> None:
    space, told = trained(tmp_path / "one", shard_rows(100), write_tower(tmp_path / "base"))
    assert (told, space.relevance) == ({"state": "none", "reason": "base"}, None)
    assert space.relevance_of(np.zeros(space.dimension, np.float32), "") is None


def test_what_learnt_nothing_states_what_its_base_states(tmp_path: Path) -> None:
    base = write_tower(tmp_path / "base", relevance=STATED)
    parent = JointSpace.load(base)
    same = tmp_path / "same"
    described = {name: parent.manifest[name] for name in ("id", "version", "sha256")}
    plain = {name: value for name, value in parent.manifest.items() if name != "relevance"}
    write_space(same, parent.placing.arrays(), {**plain, "id": "cman-x", "base": described})  # type: ignore[attr-defined]
    assert carry_relevance(same, base, [], []) == {"state": "same", "asked": ["text", "image"]}
    assert JointSpace.load(same).relevance == parent.relevance


def test_too_few_pairs_that_were_held_out_are_said_to_be(tmp_path: Path) -> None:
    base, rows = write_tower(tmp_path / "base", relevance=STATED), shard_rows(200)
    trained(tmp_path / "one", rows, base)
    folder = tmp_path / "one" / "space"
    assert carry_relevance(folder, base, shard_rows(2, seed=9), rows) == {
        "state": "none",
        "reason": "few",
        "pictures": 2,
        "captions": 4,
    }
    # Captions are enough, pictures are not: those that ask by one have no curve.
    told = carry_relevance(folder, base, shard_rows(3, seed=9), rows)
    assert (told["state"], told["asked"]) == ("carried", ["text"])
    stated = JointSpace.load(folder).relevance
    assert stated is not None and not stated.asked_by("image") and stated.asked_by("text")


def test_a_fine_tune_from_before_is_measured_by_the_space_that_it_names() -> None:
    manifest = JointSpace.load(SHIPPED.parent / "open-2").manifest
    named = {name: manifest[name] for name in ("id", "version", "sha256")}
    assert carrying._first_stated({"base": named}) == manifest["relevance"]
    assert carrying._first_stated({"base": {**named, "sha256": "0"}}) is None
    assert carrying._first_stated({"base": {**named, "id": "gone"}}) is None
    assert base_of(JointSpace.load(SHIPPED)) is None


# --- The fit ---------------------------------------------------------------------------------------------


def matches(count: int = 4_000, *, foreign: float = 0.7, learnt: float = 1.4) -> Matches:
    """Scores that are so many times the base's, in proportion to how familiar what asks is, exactly."""
    random = np.random.default_rng(0)
    before, familiar = random.normal(0.1, 0.08, count), random.integers(0, 2, count).astype(float)
    return Matches(before * np.where(familiar > 0, learnt, foreign) + 0.01, before, familiar)


def test_scores_that_follow_the_bases_give_its_curves_over_them() -> None:
    curve = Curve(60.0, 0.11)
    found = fit(matches(), curve)
    assert found is not None
    for one, times in zip(found, (0.7, 1.4), strict=True):
        assert one.slope == pytest.approx(60 / times, rel=0.01)
        assert one.middle == pytest.approx(0.11 * times + 0.01, abs=1e-3)


def test_noise_makes_a_curve_flatter_and_keeps_chances_right_on_average() -> None:
    curve, random = Curve(60.0, 0.11), np.random.default_rng(1)
    plain = matches(20_000, foreign=1, learnt=1)
    noisy = Matches(plain.scores + random.normal(0, 0.02, len(plain.scores)), plain.before, plain.familiar)
    found = fit(noisy, curve)
    assert found is not None
    for share, one in enumerate(found):
        mine = noisy.familiar == share
        assert one.slope < 60
        told = np.mean([one.chance(score) for score in noisy.scores[mine]])
        assert told == pytest.approx(np.mean([curve.chance(score) for score in noisy.before[mine]]), abs=2e-3)


def test_scores_that_say_nothing_of_the_bases_have_no_curve() -> None:
    random, curve = np.random.default_rng(2), Curve(60.0, 0.11)
    before = random.normal(0.1, 0.08, 2_000)
    alike = np.ones(2_000)
    assert fit(Matches(random.normal(0.1, 0.08, 2_000), before, alike), curve) is None
    assert fit(Matches(-before, before, alike), curve) is None
    assert fit(Matches(np.full(2_000, 0.1), before, alike), curve) is None
    # What asks alike has one curve; with a kind that has none, none of what asks so is carried over.
    one = Matches(before, before, alike)
    pairs = {("text", "image"): Curve(60.0, 0.11), ("text", "text"): Curve(60.0, 0.11)}
    whole = carried(dict.fromkeys(pairs, one), Relevance(0.6, 0.8, pairs), {"text": 5, "image": 0})
    assert (whole.curves, whole.foreign) == (pairs, {})
    broken = {("text", "image"): one, ("text", "text"): Matches(-before, before, alike)}
    assert carried(broken, Relevance(0.6, 0.8, pairs), {"text": 5, "image": 0}).curves == {}


def test_general_texts_are_always_the_same_and_all_different() -> None:
    texts = general_texts()
    assert texts == general_texts()
    assert len(set(texts)) == len(texts) == 60


# --- What is stated --------------------------------------------------------------------------------------


def test_between_two_curves_log_odds_are_between_theirs() -> None:
    foreign, familiar = Curve(70.0, 0.1), Curve(40.0, 0.17)
    pair = ("text", "image")
    both = Relevance(0.6, 0.8, {pair: familiar, ("image", "image"): Curve(20.0, 0.7)}, {pair: foreign})
    assert both.at(0).curves[pair] == foreign
    assert both.at(1).curves[pair] == familiar
    half = both.at(0.5)
    assert half.foreign == {}
    assert half.curves["image", "image"] == Curve(20.0, 0.7)
    odds = [curve.slope * (0.15 - curve.middle) for curve in (foreign, familiar, half.curves[pair])]
    assert odds[2] == pytest.approx((odds[0] + odds[1]) / 2)
    # What labels say holds for each of them.
    correction = Correction(1.4, -0.5)
    one, other = both.corrected(correction).at(0.5), half.corrected(correction)
    assert one.curves[pair].middle == pytest.approx(other.curves[pair].middle)
    assert one.curves[pair].slope == pytest.approx(other.curves[pair].slope)


def test_curves_of_foreign_texts_are_read_and_refused() -> None:
    stated = {**STATED, "foreign": {"text": {"image": [70.0, 0.1]}}}
    found = read_relevance({"relevance": stated})
    assert found is not None
    assert found.foreign == {("text", "image"): Curve(70.0, 0.1)}
    for foreign in ({"text": {"image": [-1.0, 0.1]}}, {"text": {"touch": [1.0, 0.1]}}, [1]):
        with pytest.raises(ValueError, match="relevance"):
            read_relevance({"relevance": {**STATED, "foreign": foreign}})
    bare = {"line": 0.6, "words": 0.8, "curves": {"image": {"image": [20.0, 0.7]}}}
    with pytest.raises(ValueError, match="a pair of kinds that there is not"):
        read_relevance({"relevance": {**bare, "foreign": {"text": {"image": [70.0, 0.1]}}}})
