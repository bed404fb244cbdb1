"""Pictures made for tests."""

from __future__ import annotations

import io
import random

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
