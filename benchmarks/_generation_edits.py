"""What people do to pictures, clips and sounds: saved again, made smaller, cut, coded anew."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from _audit_provenance import cropped, scaled
from _audit_provenance_files import encoded, jpeg
from numpy.typing import NDArray
from PIL import Image

from ml.sandbox import without_realtime

Pixels = NDArray[np.uint8]
Samples = NDArray[np.float32]


def screenshot(pixels: Pixels) -> Pixels:
    """Shown half as large again beside other things, and photographed by the system: a PNG of another size."""
    shown = scaled(pixels, 1.5)
    height, width = shown.shape[:2]
    window = np.full((height + 60, width + 90, 3), 243, np.uint8)
    window[40 : 40 + height, 45 : 45 + width] = shown
    return np.asarray(Image.open(io.BytesIO(encoded(window, "PNG"))).convert("RGB"))


PICTURES: Mapping[str, Callable[[Pixels], Pixels]] = {
    "saved again": lambda pixels: pixels,
    "JPEG 90": lambda pixels: jpeg(pixels, 90),
    "JPEG 75": lambda pixels: jpeg(pixels, 75),
    "JPEG 50": lambda pixels: jpeg(pixels, 50),
    "half size": lambda pixels: scaled(pixels, 0.5),
    "crop 10 %": lambda pixels: cropped(pixels, 0.1),
    "crop 10 %, JPEG 75": lambda pixels: jpeg(cropped(pixels, 0.1), 75),
    "shown at 150 %, PNG": lambda pixels: scaled(pixels, 1.5),
    "screenshot of that in a window": screenshot,
}
#: Container, codec, bits a second.
CODECS: Mapping[str, tuple[str, str, int]] = {
    "16 kHz mono": ("wav", "pcm_s16le", 0),
    "MP3 128k": ("mp3", "libmp3lame", 128_000),
    "MP3 64k": ("mp3", "libmp3lame", 64_000),
    "AAC 64k": ("mp4", "aac", 64_000),
    "Opus 64k": ("ogg", "libopus", 64_000),
    "Opus 32k": ("ogg", "libopus", 32_000),
}
AV1_40, AV1_30 = {"crf": "40", "preset": "9"}, {"crf": "30", "preset": "9"}
VP9_34 = {"crf": "34", "b": "0", "cpu-used": "6"}
#: What is done to each frame, then factor of size (as FFmpeg scales), codec, options.
FILMS: Mapping[str, tuple[Callable[[Pixels], Pixels], float, str, Mapping[str, str]]] = {
    "AV1 again, crf 40": (PICTURES["saved again"], 1.0, "libsvtav1", AV1_40),
    "VP9, crf 34": (PICTURES["saved again"], 1.0, "libvpx-vp9", VP9_34),
    "half size, AV1 crf 30": (PICTURES["saved again"], 0.5, "libsvtav1", AV1_30),
    "crop 10 %, AV1 crf 30": (PICTURES["crop 10 %"], 1.0, "libsvtav1", AV1_30),
    "shown at 150 %, AV1 crf 30": (PICTURES["saved again"], 1.5, "libsvtav1", AV1_30),
    "screenshot of that in a window, AV1 crf 30": (screenshot, 1.0, "libsvtav1", AV1_30),
}


def coded(samples: Samples, rate: int, container: str, codec: str, bits: int) -> bytes:
    """A file of float32 [n, 2]."""
    target = io.BytesIO()
    with av.open(target, "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=48_000 if codec == "libopus" else rate, layout="stereo")
        if bits:
            stream.bit_rate = bits
        for frame in _frames(samples, rate, stream):
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target.getvalue()


def _frames(samples: Samples, rate: int, stream: Any) -> list[Any]:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), "flt", "stereo")
    frame.sample_rate = rate
    context = stream.codec_context
    resampler = av.AudioResampler(
        context.format.name, "stereo", context.sample_rate, frame_size=context.frame_size or 1152
    )
    return [*resampler.resample(frame), *resampler.resample(None)]


def heard(content: bytes, rate: int = 16_000, layout: str = "mono") -> Samples:
    """Float32 [n] mono at 16 kHz, as an audit hears it; [n, 2] for stereo; nothing where there is no sound."""
    pieces = []
    with av.open(io.BytesIO(content)) as container:
        if not container.streams.audio:
            return np.zeros(0, np.float32)
        resampler = av.AudioResampler("s16", layout, rate)
        for frame in container.decode(audio=0):
            frame.pts = None
            pieces += [piece.to_ndarray() for piece in resampler.resample(frame)]
        pieces += [piece.to_ndarray() for piece in resampler.resample(None)]
    sound = np.concatenate(pieces, axis=1)[0].astype(np.float32) / 32768
    return sound if layout == "mono" else sound.reshape(-1, 2)


def frames(content: bytes) -> list[Pixels]:
    with av.open(io.BytesIO(content)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def film(pictures: Sequence[Pixels], factor: float, codec: str, options: Mapping[str, str]) -> bytes:
    """A silent WebM or MP4 at 24 frames a second. Sides are made even."""
    target = io.BytesIO()
    kind = "webm" if codec == "libvpx-vp9" else "mp4"
    height, width = (int(side * factor) // 2 * 2 for side in pictures[0].shape[:2])
    with without_realtime(), av.open(target, "w", format=kind) as file:
        stream: Any = file.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = dict(options)
        for at, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(width, height, "yuv420p")
            frame.pts, frame.time_base = at, Fraction(1, 24)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target.getvalue()
