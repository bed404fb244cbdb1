"""Small sounds that the tests of marks and music code, cut and read again."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def tune(seconds: float, seed: int = 0, rate: int = 44_100) -> Samples:
    """Float32 [n, 2]: plucked harmonic notes over a little noise."""
    rng = np.random.default_rng(seed)
    sound = rng.normal(0, 0.002, (round(seconds * rate), 2))
    for start in np.arange(0, seconds, 0.25):
        at = int(start * rate)
        time = np.arange(min(rate, len(sound) - at)) / rate
        pitch, side = 220 * 2 ** (rng.integers(0, 24) / 12), rng.uniform(0.3, 0.7)
        note = sum(np.sin(2 * np.pi * pitch * k * time) * np.exp(-time * (2 + k)) / k for k in range(1, 12))
        sound[at : at + len(time)] += 0.15 * np.asarray(note)[:, None] * [side, 1 - side]
    return sound.astype(np.float32)


def recoded(samples: Samples, rate: int, container: str, codec: str, bits: int) -> Samples:
    """Float32 [n, 2] through a lossy file and back: mono at 16 kHz, as the platform's decoder makes it."""
    target = io.BytesIO()
    with av.open(target, "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=48_000 if codec == "libopus" else rate, layout="stereo")
        if bits:
            stream.bit_rate = bits
        for frame in _frames(samples, rate, stream):
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    target.seek(0)
    return decoded(target)


def decoded(file: Any, rate: int = 16_000) -> Samples:
    """Float32 [n] mono."""
    resampler = av.AudioResampler("s16", "mono", rate)
    pieces = []
    with av.open(file) as container:
        for frame in container.decode(audio=0):
            frame.pts = None
            pieces += [piece.to_ndarray() for piece in resampler.resample(frame)]
    pieces += [piece.to_ndarray() for piece in resampler.resample(None)]
    return np.concatenate(pieces, axis=1)[0].astype(np.float32) / 32768


def _frames(samples: Samples, rate: int, stream: Any) -> list[Any]:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), "flt", "stereo")
    frame.sample_rate = rate
    context = stream.codec_context
    size = context.frame_size or 1152
    resampler = av.AudioResampler(context.format.name, "stereo", context.sample_rate, frame_size=size)
    return [*resampler.resample(frame), *resampler.resample(None)]
