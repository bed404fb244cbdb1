"""Files of what was drawn, and what is in such files: PNG, WAV, and AV1 with Opus in MP4.

Only for files that were made here a moment ago; files of unknown origin go through ``ml.media``.
"""

from __future__ import annotations

import io
import os
import tempfile
import wave
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ml.generators.base import Pixels, Sound

#: libopus works at this rate only.
OPUS_RATE = 48_000
#: SVT-AV1's speed, 0 to 13; it warns of artefacts from 10 on.
PRESET = "9"


def png(pixels: Pixels) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG", compress_level=4)
    return target.getvalue()


def read_png(content: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def wav(sound: Sound) -> bytes:
    """16-bit stereo."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        file.writeframes(np.rint(np.clip(sound.samples, -1, 1) * 32767).astype("<i2").tobytes())
    return target.getvalue()


def read_wav(content: bytes) -> Sound:
    with wave.open(io.BytesIO(content)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        return Sound(samples.astype(np.float32) / np.float32(32767), file.getframerate())


def mp4(
    frames: Sequence[Pixels],
    fps: int,
    *,
    count: int = 0,
    sound: Sound | None = None,
    crf: int = 30,
    sound_bits: int = 160_000,
) -> bytes:
    """AV1 in MP4 whose index stands in front, so that it plays while it loads. Sides are made even.

    ``count``: frames in all, over and over where that is more than there are; 0: each once.
    ``crf``: SVT-AV1's quality, 0 (best) to 63. ``sound_bits``: of Opus, a second.
    """
    import av

    # The encoder writes its settings to standard error otherwise.
    os.environ.setdefault("SVT_LOG", "1")
    # The index moves to the front by reading the file again, which only files allow.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            video = _video_stream(container, frames[0], fps, crf)
            audio = _sound_stream(container, sound_bits) if sound is not None else None
            for at, frame in enumerate(islice(cycle(frames), count or len(frames))):
                container.mux(video.encode(_video_frame(frame, at, fps)))
            container.mux(video.encode(None))
            if sound is not None and audio is not None:
                for piece in _sound_frames(sound):
                    container.mux(audio.encode(piece))
                container.mux(audio.encode(None))
        return path.read_bytes()


def read_mp4(content: bytes, most: int = 6) -> tuple[list[Pixels], Sound | None, float]:
    """``most`` frames over the whole length, the sound (at 48 kHz), and how many seconds it lasts."""
    import av

    container: Any
    with av.open(io.BytesIO(content)) as container:
        video = container.streams.video[0]
        total = video.frames or 1
        wanted = {round(at) for at in np.linspace(0, total - 1, min(most, total))}
        frames = [
            frame.to_ndarray(format="rgb24")
            for at, frame in enumerate(container.decode(video))
            if at in wanted
        ]
        seconds = float(total / (video.average_rate or 1))
    return frames, _read_sound(content), seconds


def _video_stream(container: Any, frame: Pixels, fps: int, crf: int) -> Any:
    height, width = frame.shape[:2]
    stream = container.add_stream("libsvtav1", rate=fps)
    stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
    # Its filter over time takes the invisible mark for noise.
    stream.options = {"preset": PRESET, "crf": str(crf), "svtav1-params": "lp=2:enable-tf=0"}
    context = stream.codec_context
    # BT.709, limited range: said in the file, so that every player turns it back into the same colours.
    context.colorspace = context.color_primaries = context.color_trc = 1
    context.color_range = 1
    return stream


def _video_frame(pixels: Pixels, at: int, fps: int) -> Any:
    import av

    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
    frame.pts, frame.time_base = at, Fraction(1, fps)
    return frame


def _sound_stream(container: Any, bits: int) -> Any:
    stream = container.add_stream("libopus", rate=OPUS_RATE, layout="stereo")
    stream.bit_rate = bits
    return stream


def _sound_frames(sound: Sound) -> Iterable[Any]:
    import av

    packed = np.ascontiguousarray(sound.samples, np.float32).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = sound.rate, 0, Fraction(1, sound.rate)
    resampler = av.AudioResampler("flt", "stereo", OPUS_RATE, frame_size=OPUS_RATE // 50)
    yield from resampler.resample(frame)
    yield from resampler.resample(None)


def _read_sound(content: bytes) -> Sound | None:
    import av

    container: Any
    with av.open(io.BytesIO(content)) as container:
        if not container.streams.audio:
            return None
        planes = [frame.to_ndarray() for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate or OPUS_RATE
    return Sound(np.ascontiguousarray(np.concatenate(planes, axis=1).T, np.float32), int(rate))
