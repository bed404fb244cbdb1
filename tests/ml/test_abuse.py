"""The shipped models of abuse: what they say, where evidence points, when they keep silent, and their files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ml.auditing import text_meaning, text_models
from ml.auditing.examiner import DetectorResult
from ml.auditing.fusion import categories
from ml.auditing.text_models import (
    BUCKETS,
    LinearModel,
    language_of,
    load_model,
    mask_identifiers,
    ngrams,
)
from ml.detectors.abuse import load
from ml.detectors.base import Finding, Item, Words
from research.auditing.functional import CHANGES, IDENTITY, cases
from research.auditing.train_abuse import pack, quantised
from tests.speed import LINEAR, growth


@pytest.fixture(autouse=True)
def by_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of words, as where the encoders are not prepared; tests/ml/test_hate.py has those of meaning."""
    monkeypatch.setattr(text_meaning, "encoders_prepared", lambda: False)


ENGLISH = "Shut up you stupid bitch, nobody wants to hear from you"
CHINESE = "你这个傻逼，滚出去，看见你就恶心"


def examine(*texts: str) -> Finding:
    return load("").examine(Item("text", "text/plain", words=[Words(text, "text") for text in texts]))


@pytest.mark.parametrize(("text", "language"), [(ENGLISH, "en"), (CHINESE, "zh")])
def test_abuse_is_scored_with_its_words_marked(text: str, language: str) -> None:
    found = examine(text).categories["abuse"]
    assert found.score > 0.8
    assert found.calibrated
    assert found.interval is not None
    assert found.interval[0] <= found.score <= found.interval[1]
    evidence = found.evidence[0]
    assert evidence["language"] == language
    assert (evidence["start"], evidence["end"]) == (0, len(text))
    marked = [text[mark["start"] : mark["end"]] for mark in evidence["marks"]]
    assert any(word in marked for word in ("bitch", "傻逼", "恶心"))


@pytest.mark.parametrize(
    "text", ["Could you send me the invoice for March, please?", "请问高血压患者可以喝绿茶吗"]
)
def test_everyday_texts_are_not(text: str) -> None:
    found = examine(text).categories["abuse"]
    assert found.score < 0.2
    assert found.evidence[0]["marks"] == []


@pytest.mark.parametrize(
    "spelling",
    [
        "ѕhut uр уou ѕtupid bіtсh",
        "you stupid b1tch",
        "you stupid b i t c h",
        "ｙｏｕ ｓｔｕｐｉｄ ｂｉｔｃｈ",
    ],
)
def test_spelling_does_not_hide_it(spelling: str) -> None:
    found = examine(spelling).categories["abuse"]
    assert found.score > 0.8
    mark = found.evidence[0]["marks"][0]
    assert 0 <= mark["start"] < mark["end"] <= len(spelling)


def test_by_words_hate_is_told_in_english_only() -> None:
    assert load("").version == "2"
    assert set(examine(ENGLISH).categories) == {"abuse", "hate"}
    detector = load("")
    shown = categories([DetectorResult("abuse", detector, examine(CHINESE), 0.0)])
    assert (shown["abuse"]["state"], shown["hate"]["state"]) == ("examined", "not_examined")
    assert (shown["hate"]["score"], shown["hate"]["suggested_threshold"]) == (None, None)


def test_each_score_brings_the_threshold_of_its_calibration() -> None:
    """The figures of the model card; .5 would be a guess."""
    english, chinese = examine(ENGLISH).categories, examine(CHINESE).categories
    assert english["hate"].threshold == pytest.approx(0.31, abs=0.005)
    assert english["abuse"].threshold == pytest.approx(0.60, abs=0.005)
    assert chinese["abuse"].threshold == pytest.approx(0.39, abs=0.005)
    assert set(examine(CHINESE).categories) == {"abuse"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Du bist ein verdammter Idiot und ich hasse dich", "neither English nor Chinese"),
        ("お前はバカだ、死ねばいいのに", "neither English nor Chinese"),
        ("Ты дурак и я тебя ненавижу", "neither English nor Chinese"),
        ("ok", "too short"), ("哦", "too short"), ("12345 !!!", "too short"), ("@somebody https://a.b/cd", "too short"),
    ],
)  # fmt: skip
def test_it_abstains(text: str, why: str) -> None:
    found = examine(text)
    assert (found.state, dict(found.categories)) == ("abstained", {})
    assert why in found.reason


def test_no_words_are_not_applicable() -> None:
    assert load("").examine(Item("image", "image/png")).state == "not_applicable"


def test_the_worst_passage_of_a_long_text_counts_and_is_not_called_calibrated() -> None:
    calm = "The meeting starts at nine and the room is on the second floor. " * 40
    text = calm + ENGLISH + ". " + calm
    found = examine(text).categories["abuse"]
    assert found.score > 0.8
    assert not found.calibrated
    worst = found.evidence[0]
    assert ENGLISH.split()[-1] in text[worst["start"] : worst["end"]]
    assert worst["end"] - worst["start"] <= 280


def test_texts_that_cannot_be_read_are_named_beside_those_that_can() -> None:
    found = examine(ENGLISH, "Du bist ein verdammter Idiot und ich hasse dich")
    assert found.categories["abuse"].score > 0.8
    assert [each["kind"] for each in found.evidence] == ["not-read"]


@pytest.mark.parametrize("unit", ["a", "bitch ", "傻", "@a ", "http://", "\u0130"])
@pytest.mark.slow
def test_hostile_texts_take_no_longer(unit: str) -> None:
    assert growth(lambda chars: examine(unit * (chars // len(unit))), 25_000) < LINEAR


# --- Functions ---------------------------------------------------------------------------------------------


def test_functional_cases_cover_both_languages_and_every_change() -> None:
    english, chinese = cases("en"), cases("zh")
    assert {case.abuse for case in english} == {case.hate for case in english} == {True, False}
    assert {case.hate for case in chinese} == {None}
    assert len({case.text for case in english}) == len(english)
    assert all("{" not in case.text for case in english + chinese)
    assert {case.function for case in english} >= set(IDENTITY)
    assert set(CHANGES) >= {"leet", "spaced", "invisible", "homoglyphs"}


def test_a_group_that_is_only_named_is_rarely_called_abuse() -> None:
    threshold = load_model("en").heads[0].threshold
    named = [case.text for case in cases("en") if case.function in IDENTITY]
    flagged = [text for text in named if examine(text).categories["abuse"].score >= threshold]
    assert len(flagged) <= 0.05 * len(named)


@pytest.mark.parametrize("function", ["spelling_leet", "spelling_spaced_out", "spelling_invisible"])
def test_spelling_costs_nothing(function: str) -> None:
    threshold = load_model("en").heads[0].threshold
    found = {
        name: np.mean([examine(case.text).categories["abuse"].score >= threshold
                       for case in cases("en") if case.function == name])
        for name in ("slur", function)
    }  # fmt: skip
    assert found[function] >= found["slur"] - 0.05


# --- Languages and features --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("I will see you tomorrow", "en"), ("Idiot!", "en"), ("naïve café owner", "en"),
        ("你好世界", "zh"), ("我用 iPhone 拍的照片", "zh"), ("", "unknown"), ("123", "unknown"),
        ("Ferme la porte et tais toi", "other"), ("너는 바보야", "other"), ("今日はいい天気ですね", "other"),
        ("Você é muito burro", "other"), ("bạn là đồ ngu", "other"),
    ],
)  # fmt: skip
def test_languages(text: str, language: str) -> None:
    assert language_of(text) == language


def test_cleaning_keeps_every_character_in_its_place() -> None:
    text = "Hi @Jane_1, see https://a.b/C?d=1 or call 555 İstanbul"
    cleaned = mask_identifiers(text)
    assert len(cleaned) == len(text)
    assert "jane" not in cleaned
    assert cleaned.endswith("call 000 istanbul")
    assert mask_identifiers("@A said") == "\x02\x02 said"


def test_grams_know_their_places_and_are_the_same_everywhere() -> None:
    found = ngrams("ab cd", 2, (2, 2))
    spans = list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))
    assert spans == [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 5), (0, 2), (3, 5), (0, 5)]
    assert found.buckets.max() < BUCKETS
    # Weights are bound to these numbers: another hash would silently make noise of them.
    assert ngrams("ab", 1, (2, 2)).buckets.tolist() == [67426, 82122, 8439, 138849]
    assert len(ngrams("", 1, (1, 3)).buckets) == 1


def test_shares_add_up_to_the_logit() -> None:
    model = load_model("en").linear
    text = mask_identifiers(ENGLISH)
    assert model.shares(text, 0).sum() == pytest.approx(model.logits(text)[0] - model.bias[0], abs=1e-2)


def test_packing_loses_little() -> None:
    rng = np.random.default_rng(0)
    linear = LinearModel(
        rng.normal(0, 1, (2, BUCKETS)).astype(np.float16), rng.uniform(0, 9, BUCKETS).astype(np.float16),
        np.array([0.5, -1.0], np.float32), 1, (2, 3),
    )  # fmt: skip
    assert sum(array.nbytes for array in pack(linear).values()) < 3 * BUCKETS + 64
    assert np.abs(quantised(linear).logits("hello there") - linear.logits("hello there")).max() < 0.05


def test_weights_are_small_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    files = sorted(text_models.FOLDER.iterdir())
    assert [path.name for path in files] == ["en.safetensors", "manifest.json", "zh.safetensors"]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    folder = tmp_path / "copy"
    shutil.copytree(text_models.FOLDER, folder)
    content = bytearray((folder / "en.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "en.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="not the file"):
        load_model("en", folder)
    assert load_model("zh", folder).heads[0].name == "abuse"


def test_the_manifest_tells_how_it_was_measured() -> None:
    models = json.loads((text_models.FOLDER / "manifest.json").read_text())["models"]
    assert models["en"]["splits"]["abuse macro-F1"][0] >= 0.91
    assert models["zh"]["splits"]["abuse macro-F1"][0] >= 0.81
    for model in models.values():
        assert max(model["splits"]["abuse calibration error"]) <= 0.05
        assert len(model["splits"]["abuse macro-F1"]) == 5
