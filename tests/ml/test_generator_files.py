"""The files that generators write: they play, and hold what was put in."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from ml.generators import _marked
from ml.generators.base import Sound
from ml.media import Decoder
from tests.ml.generator_parts import blob, smooth, tune


def moving(count: int = 24, side: int = 256) -> np.ndarray:
    return np.stack([np.roll(blob(side), 4 * at, axis=1) for at in range(count)])


def atoms(content: bytes) -> list[str]:
    """The outer boxes of an MP4."""
    found, at = [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4])
        found.append(content[at + 4 : at + 8].decode("ascii"))
        at += size or len(content)
    return found


def test_a_picture_comes_back_bit_by_bit() -> None:
    assert np.array_equal(_marked.read_png(_marked.png(smooth())), smooth())


def test_a_sound_comes_back_within_sixteen_bits() -> None:
    sound = tune(1.0)
    back = _marked.read_wav(_marked.wav(sound))
    assert back.rate == sound.rate and np.abs(back.samples - sound.samples).max() < 1 / 32_000


def test_louder_than_loud_is_cut_not_turned_over() -> None:
    loud = Sound(np.full((100, 2), 3.0, np.float32), 44_100)
    assert _marked.read_wav(_marked.wav(loud)).samples.min() > 0.99


def test_encoding_a_clip_takes_no_priority_over_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found: set[int] = set()
    frame_of = _marked._video_frame

    def look(*arguments: Any) -> Any:
        threads = [int(path.name) for path in Path("/proc/self/task").iterdir()]
        for thread in threads:
            with suppress(ProcessLookupError):
                found.add(os.sched_getscheduler(thread))
        return frame_of(*arguments)

    monkeypatch.setattr(_marked, "_video_frame", look)
    _marked.mp4(moving(), 12)
    assert found == {os.SCHED_OTHER}
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_clip_plays_while_it_loads_and_has_its_length_codecs_and_colours() -> None:
    frames, sound = moving(), tune(2.0)
    content = _marked.mp4(frames, 12, sound=sound)
    boxes = atoms(content)
    assert boxes[0] == "ftyp" and boxes.index("moov") < boxes.index("mdat")
    with av.open(io.BytesIO(content)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.codec_context.name in ("libdav1d", "av1") and audio.codec_context.name == "opus"
        assert (video.width, video.height, video.frames, video.average_rate) == (256, 256, 24, 12)
        assert float(container.duration / av.time_base) == pytest.approx(2.0, abs=0.05)
        assert video.codec_context.colorspace == 1 and audio.codec_context.layout.name == "stereo"
    shown, heard, seconds = _marked.read_mp4(content, most=24)
    assert seconds == 2.0 and len(shown) == 24
    assert np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(shown, frames, strict=True)]) < 4
    assert heard is not None and heard.seconds == pytest.approx(2.0, abs=0.05)
    assert alike(heard, sound) > 0.9


def alike(heard: Sound, sound: Sound) -> float:
    """Correlation of the loudness over time, in steps of a hundredth of a second."""

    def loudness(one: Sound) -> np.ndarray:
        step = one.rate // 100
        squares = one.samples[: len(one.samples) // step * step].reshape(-1, step, 2) ** 2
        return np.asarray(squares.mean(axis=(1, 2)) ** 0.5)

    a, b = loudness(heard), loudness(sound)
    count = min(len(a), len(b))
    return float(np.corrcoef(a[:count], b[:count])[0, 1])


def test_a_short_cycle_fills_a_long_clip() -> None:
    shown, _, seconds = _marked.read_mp4(_marked.mp4(moving(8), 8, count=20), most=20)
    assert len(shown) == 20 and seconds == 2.5
    assert np.abs(shown[3].astype(int) - shown[11]).mean() < 3


def test_odd_sides_are_made_even_and_a_silent_clip_has_no_sound() -> None:
    shown, heard, _ = _marked.read_mp4(_marked.mp4(moving(4)[:, :255, :253], 4))
    assert shown[0].shape == (254, 252, 3) and heard is None


def test_the_limited_decoder_of_uploads_reads_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(_marked.mp4(moving(), 12, sound=tune(2.0)))
    with Decoder() as decoder:
        info = decoder.probe(path)
    assert info.media_type == "video/mp4" and info.has_sound and info.duration_s == pytest.approx(2, abs=0.1)
