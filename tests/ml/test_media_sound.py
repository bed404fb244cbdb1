"""Decoding sound: every container to mono 16 kHz, refusals with the right code."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ml.media import Decoder, MediaError


def tone(seconds: float, rate: int = 16_000, hertz: float = 440, peak: float = 0.5) -> np.ndarray:
    return peak * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def encode(path: Path, container: str, codec: str, seconds: float = 1.0, rate: int = 48_000) -> Path:
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout="stereo")
        samples = np.repeat(tone(seconds, rate)[None].astype(np.float32), 2, axis=0)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        resampler = av.AudioResampler(stream.format, "stereo", rate, frame_size=stream.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return path


def code_of(decoder: Decoder, path: Path) -> str:
    with pytest.raises(MediaError) as caught:
        decoder.audio(path)
    return caught.value.code


@pytest.mark.parametrize(
    ("container", "codec"),
    [("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("ogg", "libopus"), ("webm", "libopus"),
     ("ipod", "aac"), ("mp4", "aac")],
)  # fmt: skip
def test_every_container(decoder: Decoder, tmp_path: Path, container: str, codec: str) -> None:
    sound = decoder.audio(encode(tmp_path / "sound", container, codec))
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
    path = tmp_path / "film"
    with av.open(str(path), "w", format="webm") as file:
        stream = file.add_stream("libvpx-vp9", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 64)))))
        file.mux(stream.encode(None))
    assert code_of(decoder, path) == "unsupported"
