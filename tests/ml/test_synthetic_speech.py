"""Classic synthetic speech: found where it speaks, and nothing is said of what is no speech or hardly any."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ml.auditing import speech_features
from ml.auditing.speech_features import Mixture, MixturePair, resample
from ml.detectors.base import Finding, Item, load_detector

#: Read by espeak-ng, a synthesiser of formants.
SPOKEN = Path("platform/standalone/demo_data/spoken/yellow-bananas.wav")
RATE = 16_000
Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def spoken() -> Samples:
    """The words of the file, twice: float32 mono at 16 kHz."""
    with wave.open(str(SPOKEN)) as file:
        values = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
        sound = resample(values.reshape(-1, file.getnchannels()).mean(1), file.getframerate(), RATE)
    return np.concatenate([sound, np.zeros(RATE, np.float32), sound])


def examine(sound: Samples, **more: object) -> Finding:
    item = Item("audio", "audio/wav", sound=sound, duration_s=len(sound) / RATE)
    for name, value in more.items():
        setattr(item, name, value)
    return load_detector("synthetic-speech").examine(item)


def test_a_synthesiser_is_found_and_its_times_are_told(spoken: Samples) -> None:
    finding = examine(spoken)
    assert finding.state == "examined"
    assert finding.above == "likely"
    assert finding.synthetic is not None
    assert finding.synthetic > 0.8
    assert finding.interval is not None
    assert finding.interval[0] <= finding.synthetic <= finding.interval[1]
    times = [(seen["start_s"], seen["end_s"]) for seen in finding.evidence if seen["kind"] == "stretch"]
    assert times
    assert all(0 <= start < end <= len(spoken) / RATE for start, end in times)


def test_a_films_sound_track_is_heard(spoken: Samples) -> None:
    assert examine(spoken, modality="video", media_type="video/mp4").above == "likely"


def test_what_is_no_speech_is_not_judged() -> None:
    at = np.arange(8 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * hertz * at) for hertz in (220, 277, 330)) / 6
    noise = np.random.default_rng(0).normal(0, 0.1, 8 * RATE)
    for sound in (np.zeros(8 * RATE), chord, noise, np.full(8 * RATE, np.nan)):
        finding = examine(sound.astype(np.float32))
        assert finding.state == "abstained"
        assert "of speech" in finding.reason
        assert finding.synthetic is None


def test_too_little_speech_is_not_judged(spoken: Samples) -> None:
    finding = examine(np.concatenate([spoken[: round(0.7 * RATE)], np.zeros(3 * RATE, np.float32)]))
    assert finding.state == "abstained"
    assert finding.synthetic is None


def test_a_telephones_band_is_not_judged(spoken: Samples) -> None:
    spectrum = np.fft.rfft(spoken)
    spectrum[np.fft.rfftfreq(len(spoken), 1 / RATE) > 2_900] = 0
    finding = examine(np.fft.irfft(spectrum, len(spoken)).astype(np.float32))
    assert (finding.state, "telephone" in finding.reason) == ("abstained", True)


def test_a_strongly_coded_file_is_not_judged(spoken: Samples, tmp_path: Path) -> None:
    path = tmp_path / "call.ogg"
    path.write_bytes(b"\0" * 4_000)
    finding = examine(spoken, media_type="audio/ogg", path=path)
    assert (finding.state, "kbit/s" in finding.reason) == ("abstained", True)


def test_no_sound() -> None:
    assert examine(np.zeros(0, np.float32)).state == "not_applicable"


def test_the_weights_are_plain_arrays() -> None:
    from ml.detectors.synthetic_speech import WEIGHTS

    with np.load(WEIGHTS / "mixtures.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype == np.float32 for name in arrays.files)
        assert arrays["real_means"].shape[1] == 3 * speech_features.CEPSTRA
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 500_000


def test_features_do_not_see_gain_or_silence() -> None:
    rng = np.random.default_rng(0)
    sound = (rng.normal(0, 0.1, 2 * RATE) * (1 + np.sin(np.arange(2 * RATE) / 900))).astype(np.float32)
    plain = speech_features.lfcc(sound)
    assert plain.shape[1] == 3 * speech_features.CEPSTRA
    np.testing.assert_allclose(speech_features.lfcc(sound * 0.5), plain, atol=2e-2)
    silent = np.zeros(RATE, np.float32)
    assert abs(len(speech_features.lfcc(np.concatenate([silent, sound, silent]))) - len(plain)) < 8
    assert speech_features.lfcc(np.zeros(RATE, np.float32)).shape == (0, 3 * speech_features.CEPSTRA)
    assert speech_features.lfcc(np.zeros(10, np.float32)).shape == (0, 3 * speech_features.CEPSTRA)
    assert np.isfinite(speech_features.lfcc(np.full(RATE, np.inf, np.float32))).all()


def test_a_mixtures_density_is_right(tmp_path: Path) -> None:
    """Against the formula, one Gaussian at a time."""
    rng = np.random.default_rng(0)
    weights = np.float32([0.3, 0.7])
    means, variances = (
        rng.normal(size=(2, 4)).astype(np.float32),
        rng.uniform(0.5, 2, (2, 4)).astype(np.float32),
    )
    rows = rng.normal(size=(9_000, 4)).astype(np.float32)
    each = [
        weight * np.prod(np.exp(-((rows - mean) ** 2) / (2 * spread)) / np.sqrt(2 * np.pi * spread), axis=1)
        for weight, mean, spread in zip(weights, means, variances, strict=True)
    ]
    mixture = Mixture(weights, means, variances)
    np.testing.assert_allclose(mixture.log_likelihoods(rows), np.log(sum(each)), atol=1e-3)
    pair = MixturePair(mixture, Mixture(weights, means + 1, variances), -7.5)
    pair.save(tmp_path / "pair.npz")
    again = MixturePair.load(tmp_path / "pair.npz")
    assert again.least == -7.5
    assert again.score(rows[:50]) == pytest.approx(pair.score(rows[:50]))


def test_a_file_that_is_no_mixture_is_refused() -> None:
    with pytest.raises((ValueError, KeyError, OSError)):
        MixturePair.load(io.BytesIO(b"nothing"))


def test_resampling_keeps_the_tone() -> None:
    at = np.arange(8_000) / 8_000
    tone = np.sin(2 * np.pi * 440 * at).astype(np.float32)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(resample(tone, 8_000, 16_000), expected, atol=1e-4)
    assert len(resample(tone[:0], 8_000, 16_000)) == 0


def test_it_takes_no_argument() -> None:
    with pytest.raises(ValueError, match="no argument"):
        load_detector("synthetic-speech:fast")
