"""Files as this installation makes them: signed for a tenant, marked by the installation's key."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from ml.generators._marked import MarkedGenerator, mp4, time_stamped
from ml.generators.base import GenerationParams, Kind, Marker, RawOutput, Sound
from ml.provenance import sound_watermark
from tenants.accounts.models import Tenant
from tenants.generation import disclosure, signing_keys
from tenants.pipeline.audits.examining import watermark_key
from tests.ml.generator_parts import Drawing

PROMPT, SEED, MARK = "Ada Lovelace in a garden of glass", 77_123_456, 0x5EC2E7A1


def marker_of(tenant: Tenant) -> Marker:
    return Marker(
        bytes.fromhex(watermark_key()),
        signing_keys.keys_of(tenant),
        MARK,
        tenant.slug,
        icon=disclosure.icon(),
        notice=disclosure.notice(),
        time_stamp=signing_keys.time_stamper(),
        time_stamp_roots=signing_keys.time_stamp_anchors(),
    )


def made(tenant: Tenant, kind: Kind) -> bytes:
    """A file that the wrapper around every generator released for this tenant."""
    draws: dict[Kind, Callable[[GenerationParams], RawOutput]] = {
        "image": lambda params: RawOutput(pixels=soft(256)),
        "video": lambda params: RawOutput(frames=np.stack([soft(256)] * 16), fps=8, sound=noise(2.5)),
        "audio": lambda params: RawOutput(sound=noise(4.0)),
    }
    generator = MarkedGenerator(Drawing(kind, draws[kind]), marker_of(tenant))
    [output] = generator.make([GenerationParams(PROMPT, seed=SEED, width=256, height=256, seconds=4.0)])
    return time_stamped(generator._marker, output).content


def film_with_sound_of_ours() -> bytes:
    """A film that nobody made here, under which lies music that was."""
    sound, key = noise(4.0), bytes.fromhex(watermark_key())
    marked = sound_watermark.embed(sound.samples, sound.rate, MARK & 0xFFFF, key)
    return mp4([soft(256)] * 16, 4, sound=Sound(marked, sound.rate))


def soft(side: int) -> np.ndarray:
    """A picture with room for the mark."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(3 * x + phase) + np.cos(5 * y - phase) for phase in (0.0, 1.0, 2.0)]
    grain = np.random.default_rng(3).normal(0, 4, (side, side, 3))
    return np.clip(127 + 40 * np.stack(waves, axis=2) + grain, 0, 255).astype(np.uint8)


def noise(seconds: float, rate: int = 48_000) -> Sound:
    samples = np.random.default_rng(5).normal(0, 0.1, (int(seconds * rate), 2))
    return Sound(samples.astype(np.float32), rate)


def saved_again(png: bytes) -> bytes:
    """As JPEG, without credentials: only the mark is left."""
    sink = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(sink, "JPEG", quality=85)
    return sink.getvalue()


def bomb(side: int = 60_000) -> bytes:
    """A small PNG that says it has billions of pixels."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
