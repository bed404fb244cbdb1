"""Small files that the tests of provenance sign, damage and label."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

Pixels = NDArray[np.uint8]
SPACES = {
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "dcterms": "http://purl.org/dc/terms/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "aigc": "http://www.tc260.org.cn/ns/AIGC/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "stEvt": "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#",
}
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def textured(seed: int = 0, height: int = 256, width: int = 256) -> Pixels:
    """A picture with slopes, edges and grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 256
    waves = sum(np.sin(2 * np.pi * (rng.uniform(-4, 4) * x + rng.uniform(-4, 4) * y)) for _ in range(5))
    plane = 110 + 25 * np.asarray(waves) + 40 * (x > 0.5) + rng.normal(0, 5, (height, width))
    return np.clip(np.stack([plane, plane + 9, plane - 9], axis=-1), 0, 255).astype(np.uint8)


def picture(kind: str, seed: int = 0, **options: Any) -> bytes:
    target = io.BytesIO()
    Image.fromarray(textured(seed, 64, 96)).save(target, kind, **options)
    return target.getvalue()


def png(*chunks: bytes, **texts: str) -> bytes:
    """A PNG with text chunks, and raw ones before its end."""
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    content = picture("PNG", pnginfo=info)
    return content[:-12] + b"".join(chunks) + content[-12:]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def xmp(attributes: str = "", inside: str = "") -> bytes:
    names = " ".join(f'xmlns:{name}="{uri}"' for name, uri in SPACES.items())
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {names} {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


def sound(kind: str = "wav", codec: str = "pcm_s16le", seed: int = 0, **metadata: str) -> bytes:
    target = io.BytesIO()
    samples = np.random.default_rng(seed).integers(-3000, 3000, 8_064).astype("<i2")
    with av.open(target, "w", format=kind) as file:
        file.metadata.update(metadata)
        stream = file.add_stream(codec, rate=16_000)
        stream.layout = "mono"
        for at in range(0, len(samples), 1152):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1152], format="s16", layout="mono")
            frame.sample_rate = 16_000
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target.getvalue()


def film(seed: int = 0, **metadata: str) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as file:
        file.metadata.update(metadata)
        stream = file.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for at in range(5):
            pixels = textured(seed + at, 64, 96)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts = at
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target.getvalue()


def every_format(seed: int = 0) -> dict[str, bytes]:
    """A file of each format that the platform signs."""
    return {
        "image/png": picture("PNG", seed),
        "image/jpeg": picture("JPEG", seed),
        "video/mp4": film(seed),
        "audio/wav": sound(seed=seed),
        "audio/mpeg": sound("mp3", "libmp3lame", seed),
    }
