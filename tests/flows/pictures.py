"""Pictures made for tests."""

from __future__ import annotations

import io
import random
import struct
import zlib

from PIL import Image, ImageDraw


def jpeg(seed: int, size: int = 64) -> bytes:
    """A JPEG of coloured rectangles; another seed gives other bytes."""
    rng = random.Random(seed)
    picture = Image.new("RGB", (size, size), tuple(rng.randrange(256) for _ in range(3)))
    draw = ImageDraw.Draw(picture)
    for _ in range(5):
        x, y = rng.randrange(size), rng.randrange(size)
        draw.rectangle((x, y, x + size // 3, y + size // 3), fill=tuple(rng.randrange(256) for _ in range(3)))
    sink = io.BytesIO()
    picture.save(sink, "JPEG")
    return sink.getvalue()


def with_location(seed: int) -> bytes:
    """A JPEG whose EXIF says where it was taken, and that it must be turned by 90 degrees."""
    picture = Image.open(io.BytesIO(jpeg(seed))).resize((80, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    sink = io.BytesIO()
    picture.save(sink, "JPEG", exif=exif)
    return sink.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\x00")) + chunk(b"IEND", b"")
