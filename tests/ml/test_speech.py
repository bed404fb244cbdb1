"""Which network recognises speech, Whisper base beside its packages, and recordings in several languages."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ml import speech
from ml.compression import store, whisper
from ml.compression.store import WeightsMissing
from ml.encoders import whisper_base
from ml.encoders._whisper import _words
from ml.encoders.base import EncoderUnavailable, Samples, SpeechToText, Transcript, Word, text_of
from ml.listening import Hearing, listen
from ml.media import Decoder
from ml.speech import ENGLISH, MANY, QueryTranscriber, load_query_transcriber, load_transcriber
from ml.voice_activity import RATE

SPOKEN = Path(__file__).parents[2] / "platform/standalone/demo_data/spoken"


@pytest.fixture(scope="module")
def sentence(decoder: Decoder) -> Samples:
    """Three seconds: "Show me some yellow bananas, please." """
    return decoder.audio(SPOKEN / "yellow-bananas.wav")


@pytest.fixture(scope="module")
def base(models: Path) -> SpeechToText:
    try:
        return whisper_base.Transcriber()
    except EncoderUnavailable as why:
        pytest.skip(str(why))


class Told(SpeechToText):
    """Says one thing of whatever it hears; ``speak`` may look at how long that is."""

    version, device = "1", "cpu"

    def __init__(self, name: str, text: str = "", confidence: float = 0.0, language: str = "en") -> None:
        self.id, self.language = name, ""
        self.answer, self.asked = Transcript(text, confidence, language, 1.0), 0
        self.speak: Callable[[Samples], list[Word]] = lambda samples: []

    def transcribe(self, samples: Samples) -> Transcript:
        self.asked += 1
        return self.answer

    def words(self, samples: Samples) -> list[Word]:
        self.asked += 1
        return self.speak(samples)


class TestWhichNetwork:
    def test_the_setting_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(speech, "_load", Told)
        for given, used in (("", MANY), (MANY, MANY), (ENGLISH, ENGLISH)):
            monkeypatch.setenv("SPEECH_MODEL", given)
            assert load_transcriber().id == used
        monkeypatch.setenv("SPEECH_MODEL", "whisper-huge")
        with pytest.raises(ValueError, match="SPEECH_MODEL is one of whisper-base, whisper-tiny-en"):
            load_transcriber()

    def test_without_its_weights_english_serves_and_that_is_told(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        load = speech._load
        monkeypatch.setattr(speech, "_load", lambda name: load(name) if name == MANY else Told(name))
        monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path))
        monkeypatch.delenv("SPEECH_MODEL", raising=False)
        with caplog.at_level(logging.WARNING):
            assert load_transcriber().id == ENGLISH
        assert "speech is recognised in English only" in caplog.text
        assert "requirements-weights.txt" in caplog.text

    @pytest.mark.parametrize(
        ("quick", "careful", "language", "heard", "asked"),
        [
            (("ripe tomatoes", 0.9), ("right to Matos", 0.9), "en", "ripe tomatoes", 0),
            (("", 0.0), ("Thank you.", 0.9), "en", "", 0),
            (("Be it in your night.", 0.54), ("低脂牛奶", 0.46), "zh", "低脂牛奶", 1),
            (("ripe tomatoes", 0.5), ("right to Matos", 0.4), "en", "ripe tomatoes", 1),
            (("right to Matos", 0.4), ("ripe tomatoes", 0.5), "en", "ripe tomatoes", 1),
            (("ripe tomatoes", 0.5), ("うぬはぽい", 0.34), "", "ripe tomatoes", 1),
            (("Yes.", 0.3), ("", 0.0), "", "Yes.", 1),
        ],
    )
    def test_queries_ask_the_dearer_one_where_english_is_not_sure(
        self, quick: tuple[str, float], careful: tuple[str, float], language: str, heard: str, asked: int
    ) -> None:
        many, english = Told(MANY, *careful, language=language), Told(ENGLISH, *quick)
        assert QueryTranscriber(many, english).transcribe(np.zeros(RATE, np.float32)).text == heard
        assert (english.asked, many.asked) == (1, asked)

    def test_queries_need_no_second_network(self) -> None:
        for only in (Told(MANY, "一只猫", 0.2), Told(ENGLISH, "a cat", 0.2)):
            assert load_query_transcriber(only).transcribe(np.zeros(9, np.float32)) == only.answer
            assert only.asked == 1


class TestPackages:
    @pytest.fixture
    def packages(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        """Both packages, with letters instead of weights."""
        content = {"model.bin.part1": b"first ", "model.bin.part2": b"second"}
        beside = dict.fromkeys(whisper.BESIDE, b"{}")
        for name, what in (content | beside).items():
            for part in whisper.PARTS:
                path = tmp_path / "packages" / whisper._path(part, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(what)
        found = SimpleNamespace(locate_file=lambda name: tmp_path / "packages" / name)
        monkeypatch.setattr(store, "distribution", lambda name: found)
        halves = tuple((name, hashlib.sha256(what).hexdigest()) for name, what in content.items())
        monkeypatch.setattr(whisper, "HALVES", halves)
        monkeypatch.setattr(whisper, "BESIDE", dict.fromkeys(beside, hashlib.sha256(b"{}").hexdigest()))
        return tmp_path / "packages"

    def test_halves_are_joined_and_recorded(self, packages: Path, tmp_path: Path) -> None:
        out = tmp_path / "models"
        out.mkdir()
        entry = whisper.build_whisper(out, tmp_path)
        assert (out / entry["file"]).read_bytes() == b"first second"
        assert {path.name for path in (out / MANY).iterdir()} == {"model.bin", *whisper.BESIDE}
        store.write_manifest(out, "1", {MANY: entry | {"version": "1"}})
        assert store.is_intact(out, "1")
        (out / entry["file"]).write_bytes(b"first secomd")
        assert not store.is_intact(out, "1")

    def test_a_half_with_another_digest_is_refused_and_nothing_written(
        self, packages: Path, tmp_path: Path
    ) -> None:
        (packages / whisper._path(whisper.PARTS[1], "model.bin.part2")).write_bytes(b"secomd")
        out = tmp_path / "models"
        out.mkdir()
        with pytest.raises(WeightsMissing, match=r"part2 .*is not the file that is known here"):
            whisper.build_whisper(out, tmp_path)
        assert list(out.iterdir()) == []


class TestWords:
    def parts(self, *texts: str) -> list[Any]:
        return [
            SimpleNamespace(word=text, start=n, end=n + 1, probability=0.9) for n, text in enumerate(texts)
        ]

    def test_blanks_are_where_the_language_has_them(self) -> None:
        chinese = _words(self.parts("我", "要", "两", "个", " Arla", "牛奶。"), "zh")
        assert [word.start_s for word in chinese] == [0, 1, 2, 3, 4, 5]
        assert text_of(chinese) == "我要两个 Arla牛奶。"
        english = _words(self.parts(" It's", " well", "-known", "."), "en")
        assert [word.text for word in english] == ["It's", "well-known."]
        assert text_of(english) == "It's well-known."
        assert {word.language for word in chinese} == {"zh"}


class TestListen:
    def test_two_languages_in_one_window(self, sentence: Samples) -> None:
        """Together they spoil one another; apart each is understood."""
        chinese = [Word(0.2 + n / 5, 0.3 + n / 5, c, 0.9, "zh", n > 0) for n, c in enumerate("请关上窗户。")]
        english = [
            Word(0.2 + n / 5, 0.3 + n / 5, w, 0.9, "en") for n, w in enumerate(["Show", "me", "bananas."])
        ]
        told = Told(MANY)
        apart = iter([chinese, english])
        told.speak = lambda sound: [] if len(sound) > 5 * RATE else next(apart)
        hearing = Hearing()
        sound = np.concatenate([sentence, np.zeros(2 * RATE, np.float32), sentence])
        said = list(listen([(0.0, sound)], told, hearing))
        assert [(one.text, one.language) for one in said] == [
            ("请关上窗户。", "zh"),
            ("Show me bananas.", "en"),
        ]
        assert said[1].start_s > 4
        assert sorted(hearing.languages) == ["en", "zh"]
        assert told.asked == 3

    def test_what_is_trusted_is_not_heard_twice(self, sentence: Samples) -> None:
        told = Told(MANY)
        told.speak = lambda sound: [Word(at, at + 0.4, "yes", 0.9, "en") for at in (0.5, 1.5, 3.5, 4.5)]
        sound = np.concatenate([sentence, np.zeros(2 * RATE, np.float32), sentence])
        assert list(listen([(0.0, sound)], told))
        assert told.asked == 1

    def test_a_chinese_sentence_is_not_one_short_word(self, sentence: Samples) -> None:
        told = Told(MANY)
        told.speak = lambda sound: [Word(n / 5, n / 5 + 0.1, "好", 0.3, "zh", n > 0) for n in range(8)]
        assert list(listen([(0.0, sentence)], told)) == []
        told.speak = lambda sound: [Word(n / 5, n / 5 + 0.1, "好", 0.3, "zh", n > 0) for n in range(2)]
        assert [one.text for one in listen([(0.0, sentence)], told)] == ["好好"]


class TestBase:
    def test_english_is_told_from_the_sound(self, base: SpeechToText, sentence: Samples) -> None:
        hearing = Hearing()
        said = list(listen([(0.0, sentence)], base, hearing))
        assert [re.sub(r"[^a-z ]", "", one.text.lower()) for one in said] == [
            "show me some yellow bananas please"
        ]
        assert hearing.languages == ["en"]

    def test_an_unknown_language_gives_no_words(
        self, base: SpeechToText, sentence: Samples, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        network = SimpleNamespace(detect_language=lambda states: [[("<|hu|>", 0.59), ("<|en|>", 0.41)]])
        model = SimpleNamespace(
            model=network, encode=lambda features: None, feature_extractor=base._model.feature_extractor
        )
        monkeypatch.setattr(base, "_model", model)
        assert base.words(sentence) == []

    def test_english_is_heard_by_the_network_for_it(
        self, base: SpeechToText, sentence: Samples, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        english = Told(ENGLISH)
        english.speak = lambda sound: [Word(0.0, 1.0, "bananas", 0.9, "en")]
        monkeypatch.setattr(base, "english", english)
        assert [word.text for word in base.words(sentence)] == ["bananas"]

    def test_one_sample_and_nothing(self, base: SpeechToText) -> None:
        for sound in (np.zeros(0, np.float32), np.ones(1, np.float32)):
            assert base.transcribe(sound).text == ""
            assert list(listen([(0.0, sound)], base)) == []

    @pytest.mark.slow
    def test_noise_and_speech_backwards_are_no_words(self, base: SpeechToText, sentence: Samples) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, 30 * RATE).astype(np.float32)
        assert list(listen([(0.0, noise)], base)) == []
        hearing = Hearing()
        backwards = np.concatenate([sentence[::-1], np.zeros(RATE, np.float32), sentence[::-1][8000:]])
        assert list(listen([(0.0, backwards)], base, hearing)) == []
        assert hearing.unclear
        assert hearing.languages == []
