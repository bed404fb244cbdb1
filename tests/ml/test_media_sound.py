"""Decoding sound: every container to mono 16 kHz, whole recordings in pieces, refusals with the right code."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.media import Decoder, MediaError, Sound
from tests.ml.recordings import decoding_children, peak_memory, plain, tone, write, write_long_wav

KINDS = ["wav", "flac", "mp3", "ogg", "adts", "ipod", "webm", "mp4"]


def code_of(decoder: Decoder, path: Path) -> str:
    with pytest.raises(MediaError) as caught:
        decoder.audio(path)
    return caught.value.code


@pytest.mark.parametrize("container", KINDS)
def test_every_container(decoder: Decoder, tmp_path: Path, container: str) -> None:
    sound = decoder.audio(write(tmp_path / "sound", container, sound=tone(1, 48_000)))
    assert sound.dtype == np.float32
    assert abs(len(sound) - 16_000) < 1600
    middle = sound[4000:12_000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) * 2 == pytest.approx(440, abs=4)
    assert 0.3 < np.abs(middle).max() < 0.6


def test_long_sound_is_cut(decoder: Decoder, write_wav: Callable[..., Path]) -> None:
    assert len(decoder.audio(write_wav(tone(3)), max_seconds=2)) == 32_000


def test_stereo_at_another_rate(decoder: Decoder, write_wav: Callable[..., Path]) -> None:
    sound = decoder.audio(write_wav(tone(1, 44_100), rate=44_100, channels=2))
    assert abs(len(sound) - 16_000) <= 20


def test_silence_and_clicks_are_empty(decoder: Decoder, write_wav: Callable[..., Path]) -> None:
    assert code_of(decoder, write_wav(np.zeros(16_000))) == "empty"
    assert code_of(decoder, write_wav(tone(0.05))) == "empty"
    assert code_of(decoder, write_wav(np.zeros(0))) == "empty"


def test_zero_bytes(decoder: Decoder, tmp_path: Path) -> None:
    (tmp_path / "sound").touch()
    assert code_of(decoder, tmp_path / "sound") == "empty"


def test_what_is_no_sound(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    Image.new("RGB", (9, 9)).save(path, "PNG")
    assert code_of(decoder, path) == "unsupported"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n")
    assert code_of(decoder, path) == "unsupported"


def test_damaged_sound(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "sound"
    path.write_bytes(b"fLaC" + b"\x00" * 500)
    assert code_of(decoder, path) == "corrupt"


def test_film_without_sound(decoder: Decoder, tmp_path: Path) -> None:
    path = write(tmp_path / "film", "webm", pictures=[plain(9)] * 3)
    assert code_of(decoder, path) == "unsupported"
    with pytest.raises(MediaError, match="no sound"):
        next(decoder.sound(path))


def joined(pieces: list[Sound]) -> np.ndarray:
    """All samples in one, after checking that each piece starts where the one before ends."""
    for before, after in pairwise(pieces):
        assert after.start_s == pytest.approx(before.start_s + len(before.samples) / 16_000, abs=1e-6)
    return np.concatenate([piece.samples for piece in pieces])


@pytest.mark.parametrize("container", KINDS)
def test_pieces_follow_each_other_and_miss_nothing(decoder: Decoder, tmp_path: Path, container: str) -> None:
    rising = np.concatenate([tone(1, 48_000, hertz) for hertz in (200, 400, 600, 800, 1000)])
    path = write(tmp_path / "sound", container, sound=rising)
    pieces = list(decoder.sound(path, piece_s=1.5))
    assert [len(piece.samples) for piece in pieces[:3]] == [24_000] * 3
    samples = joined(pieces)
    assert len(samples) == pytest.approx(80_000, abs=1600)
    for second, hertz in enumerate((200, 400, 600, 800, 1000)):
        spectrum = np.abs(np.fft.rfft(samples[second * 16_000 + 4000 :][:8000]))
        assert np.argmax(spectrum) * 2 == pytest.approx(hertz, abs=4)
    assert not any(piece.truncated for piece in pieces)
    assert all(piece.cpu_s > 0 for piece in pieces)


def test_silence_is_no_error_in_a_recording(decoder: Decoder, write_wav: Callable[..., Path]) -> None:
    (piece,) = decoder.sound(write_wav(np.zeros(32_000)))
    assert len(piece.samples) == 32_000
    assert not piece.samples.any()


def test_a_recording_without_sound_is_empty(decoder: Decoder, write_wav: Callable[..., Path]) -> None:
    with pytest.raises(MediaError) as caught:
        list(decoder.sound(write_wav(np.zeros(0))))
    assert caught.value.code == "empty"


def test_a_pause_in_the_timestamps_ends_a_piece(decoder: Decoder, tmp_path: Path) -> None:
    path = write(tmp_path / "sound", "webm", sound=tone(6, 48_000), sound_gap_s=(2, 5))
    first, second = decoder.sound(path)
    assert (first.start_s, second.start_s) == (0, pytest.approx(7, abs=0.1))
    assert len(first.samples) == pytest.approx(2 * 16_000, abs=800)
    assert len(second.samples) == pytest.approx(4 * 16_000, abs=800)


@pytest.mark.parametrize("container", ["mp3", "flac", "ogg", "adts", "wav", "webm"])
def test_a_cut_file_gives_what_is_there(decoder: Decoder, tmp_path: Path, container: str) -> None:
    path = write(tmp_path / "sound", container, sound=tone(10, 48_000))
    os.truncate(path, path.stat().st_size * 6 // 10)
    assert len(joined(list(decoder.sound(path)))) == pytest.approx(6 * 16_000, abs=0.4 * 16_000)


def test_lost_parts_are_told(decoder: Decoder, tmp_path: Path) -> None:
    path = write(tmp_path / "sound", "adts", sound=tone(10, 48_000))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = np.random.default_rng(0).bytes(4000)
    path.write_bytes(content)
    pieces = list(decoder.sound(path, piece_s=2))
    assert not pieces[0].truncated
    assert pieces[-1].truncated
    assert sum(len(piece.samples) for piece in pieces) > 8 * 16_000


def test_too_long_names_the_limit(tmp_path: Path) -> None:
    path = write_long_wav(tmp_path / "sound", hours=0.2)
    with Decoder(max_seconds=360) as decoder:
        with pytest.raises(MediaError, match=r"longer than 0\.1 hours") as caught:
            list(decoder.sound(path))
        assert caught.value.code == "too-large"
        with pytest.raises(MediaError, match=r"longer than 0\.1 hours"):
            decoder.probe(path)


@pytest.mark.slow
def test_memory_stays_flat_over_hours(tmp_path: Path) -> None:
    path = write_long_wav(tmp_path / "sound", hours=0.7)
    others, peaks, seconds = decoding_children(), [], 0.0
    with Decoder() as decoder:
        for piece in decoder.sound(path):
            seconds += len(piece.samples) / 16_000
            if piece.start_s in (600.0, 2460.0):
                (child,) = decoding_children() - others
                peaks.append(peak_memory(child))
    assert seconds == 2520
    assert peaks[1] - peaks[0] < 4 << 20
    assert peaks[1] < 160 << 20
