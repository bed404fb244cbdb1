"""Sentences as pictures of writing: dark on white, the largest type that fits, in two typefaces in turn.

Needs Debian's ``fonts-dejavu-core`` and ``fonts-liberation``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FONTS = (
    Path("/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf"),
    Path("/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf"),
)
SIDE, MARGIN = 224, 10
LARGEST, SMALLEST, STEP = 60, 12, 2
LEADING = 1.2


def render(text: str, typeface: int = 0) -> NDArray[np.uint8]:
    """Wrapped and centred: uint8 [224, 224, 3]. What does not fit at the smallest size runs out of the picture."""
    for points in range(LARGEST, SMALLEST - 1, -STEP):
        font = _font(typeface % len(FONTS), points)
        lines, height = _wrapped(text, font), int(points * LEADING)
        widest = max(map(font.getlength, lines))
        if max(widest, height * len(lines)) <= SIDE - 2 * MARGIN:
            break
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        top = (SIDE - height * len(lines)) // 2 + number * height
        draw.text(((SIDE - font.getlength(line)) / 2, top), line, font=font, fill="black")
    return np.asarray(picture)


@cache
def _font(typeface: int, points: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONTS[typeface]), points)


def _wrapped(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= SIDE - 2 * MARGIN or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
