"""What is heard in recordings: the one spoken sentence that ships, laid out in time, and sounds without words."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ml.encoders.base import Samples, SpeechToText, Transcript, Word
from ml.encoders.whisper_tiny_en import Transcriber
from ml.listening import Hearing, Passage, Utterance, listen, passages_of
from ml.media import Decoder
from ml.voice_activity import RATE, stretches

SPOKEN = Path("platform/standalone/demo_data/spoken/yellow-bananas.wav")
SENTENCE = "Show me some yellow bananas, please."


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber()


@pytest.fixture(scope="module")
def sentence(decoder: Decoder) -> Samples:
    """Three seconds: "Show me some yellow bananas, please." """
    return decoder.audio(Path(__file__).parents[2] / SPOKEN)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.float32)


def in_pieces(sound: Samples, seconds: float, start_s: float = 0.0) -> Iterator[tuple[float, Samples]]:
    step = round(seconds * RATE)
    return ((start_s + at / RATE, sound[at : at + step]) for at in range(0, len(sound), step))


def wordless() -> dict[str, Samples]:
    """Twelve seconds each of what Whisper alone hears as "Thank you." or "I'm going to go to the next one."."""
    random = np.random.default_rng(0)
    at = np.arange(12 * RATE) / RATE
    noise = random.normal(size=len(at))
    beat = np.exp(-(at % 0.5) / 0.2)
    keys = np.array([(697, 1209), (770, 1336), (852, 1477), (941, 1336)])[(at / 0.2).astype(int) % 4]
    chords = np.array([(262, 330, 392), (220, 262, 330), (175, 220, 262)])[at.astype(int) % 3]
    sounds = {
        "silence": 0 * at,
        "hiss": noise / 1000,
        "white noise": noise / 10,
        "brown noise": np.cumsum(noise) / np.abs(np.cumsum(noise)).max() / 2,
        "noise in the rhythm of syllables": noise / 5 * np.sin(2 * np.pi * 2 * at) ** 2,
        "tone": np.sin(2 * np.pi * 440 * at) / 3,
        "siren": np.sin(2 * np.pi * 800 * at + 600 * np.sin(np.pi * at)) / 3,
        "chords": sum(np.sin(2 * np.pi * chords[:, n] * at) for n in range(3)) / 4 * beat,
        "drums": noise / 3 * np.exp(-(at % 0.25) / 0.03),
        "telephone keys": sum(np.sin(2 * np.pi * keys[:, n] * at) for n in (0, 1)) / 4 * (at % 0.2 < 0.1),
        "clicks": (random.random(len(at)) < 0.001) * 0.9,
        "constant": 0 * at + 0.5,
        "not a number": 0 * at + np.nan,
    }
    return {name: sound.astype(np.float32) for name, sound in sounds.items()}


class Parrot(SpeechToText):
    """Hears one prepared list of words in every window."""

    id, version, device, language = "parrot", "1", "cpu", "en"

    def __init__(self, words: list[Word]) -> None:
        self.heard, self.windows = words, 0

    def transcribe(self, samples: Samples) -> Transcript:
        raise NotImplementedError

    def words(self, samples: Samples) -> list[Word]:
        assert 0 < len(samples) <= self.max_seconds * self.sample_rate
        self.windows += 1
        return self.heard


def words(*texts: str, every_s: float = 0.4, probability: float = 0.9) -> list[Word]:
    return [
        Word(number * every_s, number * every_s + 0.3, text, probability)
        for number, text in enumerate(" ".join(texts).split())
    ]


class TestListen:
    def test_a_sentence_with_its_times(self, transcriber: Transcriber, sentence: Samples) -> None:
        sound = np.concatenate([silence(2), sentence, silence(75), sentence, silence(1)])
        hearing = Hearing()
        said = list(listen(in_pieces(sound, 60), transcriber, hearing))
        assert [utterance.text.rstrip("!.") for utterance in said] == [SENTENCE.rstrip(".")] * 2
        for utterance, start_s in zip(said, (2.0, 2 + 3.04 + 75), strict=True):
            assert utterance.start_s == pytest.approx(start_s, abs=0.6)
            assert utterance.end_s == pytest.approx(start_s + 2.6, abs=0.6)
            assert utterance.confidence > 0.7
        assert 4 < hearing.understood_s <= hearing.speech_s < 8
        assert not hearing.unclear

    @pytest.mark.slow
    def test_how_it_is_cut_does_not_matter(self, transcriber: Transcriber, sentence: Samples) -> None:
        sound = np.concatenate([silence(58.5), sentence, silence(3)])  # The sentence lies on a border.
        found = [list(listen(in_pieces(sound, seconds, 10.0), transcriber)) for seconds in (60, 0.3, 600)]
        assert found[0] == found[1] == found[2]
        assert [utterance.text.rstrip("!.") for utterance in found[0]] == [SENTENCE.rstrip(".")]
        assert found[0][0].start_s == pytest.approx(68.5, abs=0.6)

    @pytest.mark.parametrize("name", list(wordless()))
    def test_sounds_without_words_give_nothing(self, transcriber: Transcriber, name: str) -> None:
        assert list(listen(in_pieces(wordless()[name], 5), transcriber)) == []

    def test_nothing_at_all(self, transcriber: Transcriber, sentence: Samples) -> None:
        assert list(listen([], transcriber)) == []
        assert list(listen([(0.0, silence(0))], transcriber)) == []
        assert list(listen([(0.0, sentence[:100])], transcriber)) == []
        with pytest.raises(ValueError, match="samples"):
            list(listen([(0.0, np.zeros((2, 100), np.float32))], transcriber))

    @pytest.mark.slow
    def test_speech_backwards_is_no_english(self, transcriber: Transcriber, sentence: Samples) -> None:
        hearing = Hearing()
        backwards = np.concatenate([sentence[::-1], silence(1), sentence[::-1][8000:]])
        assert list(listen([(0.0, backwards)], transcriber, hearing)) == []
        assert hearing.unclear
        assert hearing.understood_s == 0

    def test_what_was_doubted_is_no_surer_the_second_time(self, sentence: Samples) -> None:
        """Whisper repeats what it misheard, and then gives it a high probability."""
        sound = np.concatenate([sentence, silence(1), sentence, silence(1), sentence])
        doubted, sure = words("An eel is an animal.", probability=0.3), words("An eel is an animal.")
        later = [Word(word.start_s + 3, word.end_s + 3, word.text, word.probability) for word in sure]
        other = [Word(n + 6.0, n + 6.3, text, 0.9) for n, text in enumerate(["It", "swims."])]
        said = list(listen([(0.0, sound)], Parrot([*doubted, *later, *other])))
        assert [utterance.text for utterance in said] == ["It swims."]
        said = list(listen([(0.0, sound)], Parrot([*sure, *later])))
        assert [utterance.text for utterance in said] == ["An eel is an animal."] * 2

    def test_times_go_back_over_the_silence_that_was_left_out(self, sentence: Samples) -> None:
        sound = np.concatenate([sentence, silence(20), sentence])
        starts = [stretch.start_s for stretch in stretches([(100.0, sound)])]
        lengths = [stretch.duration_s for stretch in stretches([(100.0, sound)])]
        late = lengths[0] + 0.5
        parrot = Parrot([Word(0.5, 1.0, "Here.", 0.9), Word(late, late + 0.4, "There.", 0.9)])
        said = list(listen([(100.0, sound)], parrot))
        assert [(utterance.text, utterance.start_s) for utterance in said] == [
            ("Here.", pytest.approx(starts[0] + 0.5, abs=0.01)),
            ("There.", pytest.approx(starts[-1] + 0.5, abs=0.01)),
        ]

    @pytest.mark.parametrize(
        ("heard", "kept"),
        [
            (words("one two three four", probability=0.49), []),
            (words("one two three four", probability=0.51), ["one two three four"]),
            (words("Yes.", probability=0.3), ["Yes."]),
            (words("Yes.", probability=0.1), []),
            (words("It is late. We go home."), ["It is late.", "We go home."]),
            (words("Oh. That is late."), ["Oh. That is late."]),
            (words("first then", every_s=1.9), ["first", "then"]),
            ([], []),
        ],
    )
    def test_what_an_utterance_is(self, sentence: Samples, heard: list[Word], kept: list[str]) -> None:
        assert [utterance.text for utterance in listen([(0.0, sentence)], Parrot(heard))] == kept

    def test_no_utterance_is_longer_than_thirty_seconds(self, sentence: Samples) -> None:
        endless = [(n * 3.04, sentence) for n in range(40)]
        said = list(listen(endless, Parrot([Word(n, n + 0.9, "and", 0.9) for n in range(27)])))
        assert sum(len(utterance.text.split()) for utterance in said) > 100
        assert max(utterance.end_s - utterance.start_s for utterance in said) <= 30

    @pytest.mark.slow
    def test_hours_are_heard_in_bounded_memory(self, sentence: Samples) -> None:
        """An hour of speech, half a minute at a time: neither the sound nor its windows pile up."""
        minute = np.concatenate([np.tile(sentence, 8), silence(6)])[: 30 * RATE]
        parrot = Parrot(words("It is late."))
        tracemalloc.start()
        count = sum(1 for _ in listen(((n * 30.0, minute) for n in range(120)), parrot))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == parrot.windows >= 100
        assert peak < 60 << 20  # An hour of samples is 230 MB.


class TestStretches:
    def test_speech_on_a_border_is_one_stretch(self, sentence: Samples) -> None:
        sound = np.concatenate([silence(58), sentence, silence(5)])
        found = list(stretches(in_pieces(sound, 60)))
        whole = list(stretches([(0.0, sound)]))
        assert [stretch.start_s for stretch in found] == [stretch.start_s for stretch in whole]
        assert [stretch.duration_s for stretch in found] == [stretch.duration_s for stretch in whole]

    def test_a_hole_in_the_recording_is_not_joined(self, sentence: Samples) -> None:
        half = len(sentence) // 2
        found = list(stretches([(0.0, sentence[:half]), (500.0, sentence[half:])]))
        assert found[0].start_s + found[0].duration_s <= 2
        assert found[-1].start_s >= 500

    def test_speech_without_a_pause_is_cut(self, sentence: Samples) -> None:
        quick = np.tile(sentence[1600:40_000], 40)  # 96 s
        found = list(stretches(in_pieces(quick, 60)))
        assert 60 < sum(stretch.duration_s for stretch in found) <= 97
        assert max(stretch.duration_s for stretch in found) <= 28.5


class TestPassages:
    def test_neighbours_are_joined_while_they_fit(self) -> None:
        said = [Utterance(n * 8.0, n * 8.0 + 6, f"number {n}.", 0.9) for n in range(6)]
        assert list(passages_of(said)) == [
            Passage(0.0, 30.0, "number 0. number 1. number 2. number 3."),
            Passage(32.0, 46.0, "number 4. number 5."),
        ]

    def test_by_length_of_text(self) -> None:
        said = [Utterance(float(n), n + 1.0, "x" * 400, 0.9) for n in range(5)]
        assert [len(passage.text) for passage in passages_of(said)] == [801, 801, 400]
        assert [passage.end_s for passage in passages_of(said)] == [2.0, 4.0, 5.0]

    def test_one_too_long_stands_alone_and_none_give_none(self) -> None:
        said = [Utterance(0.0, 29.0, "y" * 2000, 0.9), Utterance(29.0, 30.0, "z", 0.9)]
        assert [passage.text[:1] for passage in passages_of(said)] == ["y", "z"]
        assert list(passages_of([])) == []
