"""Abuse and hate by meaning: what encoders are given, which passages are read, the shipped networks, their training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ml.auditing import text_meaning
from ml.auditing.calibration import Calibration
from ml.auditing.examiner import DetectorResult
from ml.auditing.fusion import categories
from ml.auditing.text_meaning import FOLDER, Floats, Network, load_networks, outputs, readings
from ml.auditing.text_models import Head
from ml.compression.store import ModelsMissing
from ml.detectors import abuse
from ml.detectors.abuse import CALIBRATED_PASSAGES, MOST_READ, Abuse
from ml.detectors.base import Detector, Finding, Item, Words
from research.auditing import hate_data
from research.auditing.abuse_data import cleaned, near_copies
from research.auditing.hate_data import (
    FILLINGS,
    FILLINGS_ATTRIBUTES,
    FROZEN,
    FROZEN_ATTRIBUTES,
    FROZEN_GROUPS,
    attribute_cases,
    contrast_pairs,
    digest,
    frozen_cases,
    group_cases,
    templates,
)
from research.auditing.train_meaning import EXAMINED_FROM, MOST_ALARMS, Cache, best_threshold, fit

WICKED, CALM = "grompf", "The meeting starts at nine and the room is on the second floor. "
PLATT = Calibration("platt", ((1.0, 0.0),), None, None, 0.01, 0.05, 100, 0.5)


def examine(detector: Detector, *texts: str) -> Finding:
    return detector.examine(Item("text", "text/plain", words=[Words(text, "text") for text in texts]))


# --- With an encoder that hears one word -------------------------------------------------------------------


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the encoder was given. It hears WICKED only; the networks read its one number."""
    heard: list[str] = []

    def encode(texts: Sequence[str], encoders: Sequence[str]) -> Floats:
        heard.extend(texts)
        return np.array([[float(WICKED in text)] for text in texts], np.float32)

    def network(language: str, *names: str) -> Network:
        heads = tuple(Head(name, PLATT, 0.7) for name in names)
        one, bias = np.ones((1, 1), np.float32), np.zeros(1, np.float32)
        out = np.full((1, len(heads)), 6, np.float32)
        return Network(
            language, one, bias, out, np.full(len(heads), -3, np.float32), heads, f"{language}23456789ab"
        )

    networks = {"en": network("en", "abuse", "hate", "threat"), "zh": network("zh", "abuse", "hate")}
    monkeypatch.setattr(text_meaning, "encode", encode)
    monkeypatch.setattr(text_meaning, "load_networks", lambda: networks)
    monkeypatch.setattr(text_meaning, "encoders_prepared", lambda: True)
    return heard


def test_what_the_network_says_counts_and_words_that_are_bad_by_themselves_are_named(
    given: list[str],
) -> None:
    found = examine(Abuse(), f"You {WICKED}, shut up you stupid bitch").categories
    assert set(found) == {"abuse", "hate", "threat"}
    for name in found:
        assert found[name].score == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-4)
        assert (found[name].threshold, found[name].calibrated) == (0.7, True)
        said = found[name].evidence[0]
        assert (said["model"], said["language"]) == ("abuse-2 en23456789ab", "en")
    assert found["abuse"].evidence[0]["marks"]
    assert found["threat"].evidence[0]["marks"] == []
    assert given == [f"you {WICKED}, shut up you stupid bitch"]


def test_bad_words_alone_are_no_abuse_where_the_meaning_is_read(given: list[str]) -> None:
    text = "你这个傻逼，滚出去，看见你就恶心"
    alone, both = (examine(Abuse(), each).categories["abuse"] for each in (text, f"{text} {WICKED}"))
    assert alone.score < 0.1 < 0.9 < both.score
    assert both.evidence[0]["marks"]
    # Read once for both categories.
    assert len(given) == 2


def test_of_the_readings_of_a_text_the_highest_counts(given: list[str]) -> None:
    spaced = " ".join(WICKED)
    assert examine(Abuse(), f"They are all {spaced} again").categories["hate"].score > 0.9
    assert len(given) == 2


def test_only_the_most_abusive_passages_of_a_long_text_are_read(given: list[str]) -> None:
    calm = "".join(f"{number}. {CALM}" for number in range(200))
    found = examine(Abuse(), calm + f"Shut up you stupid bitch, you {WICKED}. " + calm)
    assert len(given) == MOST_READ > CALIBRATED_PASSAGES
    assert found.categories["hate"].score > 0.9
    assert not found.categories["hate"].calibrated
    (left,) = [each for each in found.evidence if each["kind"] == "not-read-for-meaning"]
    assert left["passages"] > 50


def test_a_language_without_a_network_is_not_examined_for_hate(
    given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chinese = {"zh": text_meaning.load_networks()["zh"]}
    monkeypatch.setattr(text_meaning, "load_networks", lambda: chinese)
    detector = Abuse()
    found = examine(detector, f"You {WICKED}, shut up you stupid bitch")
    assert set(found.categories) == {"abuse"}
    shown = categories([DetectorResult("abuse", detector, found, 0.0)])
    assert (shown["hate"]["state"], shown["hate"]["score"]) == ("not_examined", None)


def test_its_version_tells_whether_meaning_is_read(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert Abuse().version == "4-en234567-zh234567"
    monkeypatch.setattr(text_meaning, "encoders_prepared", lambda: False)
    assert Abuse().version == "2"


def test_without_the_encoders_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path))
    assert not text_meaning.encoders_prepared()
    assert Abuse().missing() == ""


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("I hate 🌏 and ♿!", ["i hate earth globe asia-australia and wheelchair symbol !"]),
        ("this 🧔🏾 man", ["this bearded person dark skin man"]),
        ("f u c k @jane, see https://a.b/c", ["f u c k user , see link", "fuck user , see link"]),
        ("", [""]),
        ("\ud800\U0010ffff", [""]),
        ("滚\u200b出去，12号", ["滚出去,00号"]),
    ],
)
def test_readings(text: str, read: list[str]) -> None:
    assert readings(text) == read


# --- The shipped heads -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector(models: Path) -> Detector:
    if not text_meaning.encoders_prepared():
        pytest.skip("multilingual-e5-small is not prepared")
    return abuse.load("")


def test_hate_in_plain_words_is_told_and_its_contrast_is_not(detector: Detector) -> None:
    for hateful, not_hateful in [
        ("Muslims are animals and should be thrown out", "Muslims and others came to the festival"),
        ("移民都是老鼠，应该赶出去", "我的邻居是移民，我们常一起吃饭"),
    ]:
        high, low = (examine(detector, text).categories["hate"] for text in (hateful, not_hateful))
        assert high.score >= (high.threshold or 1) > low.score


def test_who_is_only_named_is_not_flagged(detector: Detector) -> None:
    """At most 3 of 100, of cases that nothing was learnt from."""
    for language in ("en", "zh"):
        named = [case.text for case in frozen_cases(language) if case.function in hate_data.NAMED]
        for category in ("hate", "abuse"):
            found = [examine(detector, text).categories[category] for text in named]
            assert sum(each.score >= (each.threshold or 1) for each in found) <= 0.03 * len(named)


def test_sentences_that_name_groups_pass_and_those_that_attack_them_do_not(detector: Detector) -> None:
    """Counted over both languages, of cases that nothing was learnt from (`research/auditing/frozen_groups`)."""
    held, missed = [], []
    for language in ("en", "zh"):
        for case in group_cases(language):
            found = examine(detector, case.text).categories
            flagged = {
                name for name in ("hate", "abuse") if found[name].score >= (found[name].threshold or 1)
            }
            if not case.hate and flagged:
                held.append(case.text)
            if case.hate and "hate" not in flagged:
                missed.append(case.text)
    assert len(held) <= 3, held
    assert len(missed) <= 1, missed


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000
    folder = tmp_path / "copy"
    shutil.copytree(FOLDER, folder)
    content = bytearray((folder / "zh.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "zh.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="not the file"):
        load_networks(folder)


def test_a_category_that_did_not_pass_has_no_head(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(FOLDER, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"]["zh"]["heads"]["hate"]["examined"] = False
    (folder / "manifest.json").write_text(json.dumps(manifest))
    whole, without = (load_networks(each)["zh"] for each in (FOLDER, folder))
    assert [head for head in whole.heads if head.name != "hate"] == list(without.heads)
    meant = [np.random.default_rng(0).normal(size=(2, len(whole.hidden))).astype(np.float32)]
    others = [at for at, head in enumerate(whole.heads) if head.name != "hate"]
    np.testing.assert_array_equal(whole.logits(meant)[:, others], without.logits(meant))


def test_the_manifest_tells_how_it_was_measured_and_on_which_cases() -> None:
    models = json.loads((FOLDER / "manifest.json").read_text())["models"]
    for language in ("en", "zh"):
        for name, head in models[language]["heads"].items():
            frozen = [head[part] for part in ("frozen", "frozen attributes") if part in head]
            assert head["examined"] == (min(each["macro-F1"] for each in frozen) >= EXAMINED_FROM), name
        heads = models[language]["heads"]
        assert heads["hate"]["frozen"]["sha256"] == digest(FROZEN, language)
        assert heads["hate"]["frozen groups"]["sha256"] == digest(FROZEN_GROUPS, language)
        assert heads["threat"]["frozen attributes"]["sha256"] == digest(FROZEN_ATTRIBUTES, language)


def test_attributes_are_told_apart_from_what_sounds_alike(detector: Detector) -> None:
    for category, said, harmless in [
        ("insult", "You are a useless, brainless clown", "This printer is useless, I want my money back"),
        ("insult", "你就是个没脑子的废物", "这台打印机就是个废物，我要退货"),
        (
            "sexual",
            "come to my room tonight, i want to lick every inch of you",
            "The clinic offers contraception advice",
        ),
        ("sexual", "今晚来我房间，想舔遍你全身", "妇科门诊提供避孕咨询"),
    ]:
        high, low = (examine(detector, text).categories[category] for text in (said, harmless))
        assert high.score >= (high.threshold or 1), said
        assert low.score < (low.threshold or 0), harmless


# --- Cases and training ------------------------------------------------------------------------------------


def test_frozen_cases_are_many_and_no_near_copies_of_contrast_pairs() -> None:
    for language, n in (("en", 4), ("zh", 2)):
        frozen = frozen_cases(language)
        assert len(frozen) >= 200
        assert 0.4 < np.mean([case.hate for case in frozen]) < 0.6
        assert all(case.abuse for case in frozen if case.hate)
        own = [cleaned(case.text) for case in frozen]
        own += [cleaned(case.text) for case in group_cases(language)]
        learnt = [cleaned(each.text) for each in contrast_pairs(language)]
        groups = near_copies([*own, *dict.fromkeys(learnt)], n)
        assert not set(groups[: len(own)]) & set(groups[len(own) :])


def test_frozen_cases_that_name_groups_are_counterparts_and_two_thirds_harmless() -> None:
    english, chinese = group_cases("en"), group_cases("zh")
    told = [[(case.function, case.hate, case.abuse) for case in cases] for cases in (english, chinese)]
    assert told[0] == told[1]
    assert (len(english), sum(case.hate for case in english)) == (20, 7)


def test_frozen_cases_of_attributes_are_many_and_no_near_copies_of_templates() -> None:
    for language, n in (("en", 4), ("zh", 2)):
        frozen = attribute_cases(language)
        assert len(frozen) >= 200
        assert all(sum(case.labels[name] for case in frozen) >= 24 for name in frozen[0].labels)
        assert all(case.labels["abuse"] for case in frozen if case.labels["insult"] or case.labels["threat"])
        own = [cleaned(case.text) for case in frozen]
        learnt = dict.fromkeys(cleaned(each.text) for each in templates(language))
        groups = near_copies([*own, *learnt], n)
        assert not set(groups[: len(own)]) & set(groups[len(own) :])


def test_contrast_pairs_are_filled_and_their_templates_stay_together() -> None:
    for language in ("en", "zh"):
        pairs = list(contrast_pairs(language))
        assert pairs == list(contrast_pairs(language))
        assert all("{" not in each.text for each in pairs)
        functions = {each.function for each in pairs}
        assert functions > {
            "quoted",
            "counter",
            "reclaimed",
            "benign_negation",
            "neutral",
            "positive",
            "person",
        }
        counts = np.unique([each.group for each in pairs], return_counts=True)[1]
        assert counts.max() <= FILLINGS


def test_templates_of_attributes_teach_both_sides() -> None:
    for language in ("en", "zh"):
        made = list(templates(language))
        assert all("{" not in each.text for each in made)
        for name in ("abuse", "insult", "threat", "sexual"):
            assert 0.05 < np.mean([each.labels[name] for each in made]) < 0.5
        counts = np.unique([each.group for each in made], return_counts=True)[1]
        assert counts.max() <= FILLINGS_ATTRIBUTES


def test_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="hatemoji_build"):
        hate_data.examples(tmp_path)


def test_a_network_learns_each_category_from_what_is_said_of_it() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((1200, 2)) < 0.3
    values = (rng.normal(5, 1, (1200, 4)) + truth @ [[3, 0, 0, 0], [0, 3, 0, 0]]).astype(np.float32)
    labels = truth.astype(np.float32)
    labels[:600, 1] = np.nan
    found = outputs(values, **fit(values, labels, np.ones(1200, np.float32))) > 0
    assert (found == truth).mean(axis=0).min() > 0.88


def test_the_threshold_keeps_those_who_are_only_named_below() -> None:
    claimed = np.linspace(0, 1, 1000)
    labels = claimed > 0.3
    calm = np.zeros(100)
    assert best_threshold(claimed, labels, [calm]) == pytest.approx(0.3, abs=0.011)
    named = np.full(100, 0.6)
    named[: int(MOST_ALARMS * 100)] = 0.9
    assert best_threshold(claimed, labels, [named, calm]) == pytest.approx(0.61, abs=0.011)


def test_vectors_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def encode(texts: Sequence[str], encoders: Sequence[str]) -> Floats:
        asked.extend(texts)
        return np.full((len(texts), 2), 0.5, np.float32)

    monkeypatch.setattr("research.auditing.train_meaning.encode", encode)
    for _ in range(2):
        assert Cache(tmp_path / "vectors.npz").of(["A", "b", "A"], ("minilm", "e5")).shape == (3, 4)
    assert asked == ["a", "b", "a", "b"]


def test_encoders_that_are_not_prepared_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path))
    text_meaning._encoder.cache_clear()
    with pytest.raises(ModelsMissing, match=r"ml\.compression prepare"):
        text_meaning.encode(["a"], ("e5",))
    assert FROZEN.is_dir()
