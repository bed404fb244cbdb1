"""How people notice that a file was generated: an icon in a corner of pictures, a spoken notice before sound.

Both become part of the content, before it is watermarked and signed. The icon is drawn here from strokes, letters on a
plate, and imitates no official one; an installation puts another in its place by a PNG.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]
Samples = NDArray[np.float32]

# --- The icon --------------------------------------------------------------------------------------------


CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
#: The icon's height as a share of the picture's shorter side.
SIZE, SIZES = 0.08, (0.04, 0.15)
#: No icon covers more of a picture than this, or is wider than half of it, whatever it says.
MAX_SHARE, MAX_WIDTH = 0.03, 0.5
MAX_TEXT, MAX_FILE, MAX_FILE_SIDE = 16, 1 << 20, 2048
#: Neither black nor white: the invisible mark needs room on both.
INK, PLATE, RIM = (236, 236, 236), (34, 36, 42), (190, 190, 190)
_OVERSAMPLING = 4

# Letters as strokes on a grid 4 wide and 6 high, from the top: points that are joined, as digits `xy`.
_STROKES: Mapping[str, str] = {
    "A": "06 20 46, 14 34", "B": "00 30 41 42 33 03, 33 44 45 36 06 00", "C": "41 30 10 01 05 16 36 45",
    "D": "00 20 42 44 26 06 00", "E": "40 00 06 46, 03 33", "F": "40 00 06, 03 33",
    "G": "41 30 10 01 05 16 36 45 43 23", "H": "00 06, 40 46, 03 43", "I": "20 26", "J": "40 45 36 16 05",
    "K": "00 06, 40 03 46", "L": "00 06 46", "M": "06 00 23 40 46", "N": "06 00 46 40",
    "O": "10 30 41 45 36 16 05 01 10", "P": "06 00 30 41 42 33 03", "Q": "10 30 41 45 36 16 05 01 10, 34 46",
    "R": "06 00 30 41 42 33 03, 23 46", "S": "41 30 10 01 02 13 33 44 45 36 16 05", "T": "00 40, 20 26",
    "U": "00 05 16 36 45 40", "V": "00 26 40", "W": "00 16 22 36 40", "X": "00 46, 40 06",
    "Y": "00 23 40, 23 26", "Z": "00 40 06 46", "-": "13 33", " ": "",
    "0": "10 30 41 45 36 16 05 01 10, 41 05", "1": "11 20 26", "2": "01 10 30 41 42 06 46",
    "3": "00 40 22 33 44 45 36 16 05", "4": "36 30 04 44", "5": "40 00 02 32 43 45 36 06",
    "6": "30 10 01 05 16 36 45 44 33 03", "7": "00 40 16", "8": "13 02 01 10 30 41 42 33 13 04 05 16 36 45 44 33",
    "9": "43 13 02 01 10 30 41 45 36 16",
}  # fmt: skip


@dataclass(frozen=True)
class Icon:
    """``text``: letters of A to Z, digits, blanks and hyphens, at most ``MAX_TEXT``. ``size``: its height as a share of
    the shorter side. ``image``: a PNG that is shown in place of the letters; ``text`` says what is in it.

    Raises ValueError, in words for whoever set it.
    """

    text: str = "AI"
    corner: str = "bottom-right"
    size: float = SIZE
    image: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.corner not in CORNERS:
            raise ValueError(f"The icon's corner is {', '.join(CORNERS)}, not {self.corner!r}.")
        least, most = SIZES
        if not least <= self.size <= most:
            raise ValueError(
                f"The icon's size is {least:g} to {most:g} of the shorter side, not {self.size:g}."
            )
        if not self.text.strip() or len(self.text) > MAX_TEXT:
            raise ValueError(f"The icon's wording has 1 to {MAX_TEXT} characters.")
        if self.image is not None:
            _opened(self.image)
        elif set(self.text.upper()) - _STROKES.keys():
            raise ValueError(
                "The icon's letters are A to Z, digits, blanks and hyphens; others need a PNG of their own."
            )

    def on(self, pixels: Pixels) -> Pixels:
        """uint8 [h, w, 3] with the icon in it; a copy."""
        height, width = pixels.shape[:2]
        drawn = _drawn(self.text.upper(), self.image, _height(self, height, width))
        tall, wide = drawn.shape[:2]
        margin = max(2, round(0.025 * min(height, width)))
        top = margin if self.corner.startswith("top") else height - tall - margin
        left = margin if self.corner.endswith("left") else width - wide - margin
        shown = pixels.copy()
        part = shown[top : top + tall, left : left + wide].astype(np.float32)
        opacity = drawn[..., 3:].astype(np.float32) / 255
        mixed = part + (drawn[..., :3].astype(np.float32) - part) * opacity
        shown[top : top + tall, left : left + wide] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
        return shown


def _height(icon: Icon, height: int, width: int) -> int:
    """In pixels: as wished, or as much less as keeps it a small part of the picture."""
    wished = icon.size * min(height, width)
    tall, wide = _drawn(icon.text.upper(), icon.image, 64).shape[:2]
    ratio = wide / tall
    most = min((MAX_SHARE * height * width / ratio) ** 0.5, MAX_WIDTH * width / ratio)
    return max(8, int(min(wished, most)))


@lru_cache(maxsize=32)
def _drawn(text: str, image: bytes | None, height: int) -> Pixels:
    """The icon, uint8 [height, w, 4] with its opacity."""
    if image is not None:
        given = _opened(image)
        size = (max(1, round(given.width * height / given.height)), height)
        return np.asarray(given.resize(size, Image.Resampling.LANCZOS))
    return np.asarray(_letters(text, height))


def _letters(text: str, height: int) -> Image.Image:
    unit = height * _OVERSAMPLING / 12
    wide = round(unit * (6 * len(text) - 2 + 6))
    canvas = Image.new("RGBA", (wide, height * _OVERSAMPLING), (*PLATE, 0))
    draw = ImageDraw.Draw(canvas)
    box = (0, 0, canvas.width - 1, canvas.height - 1)
    draw.rounded_rectangle(box, 2.5 * unit, (*PLATE, 255), (*RIM, 255), max(1, round(0.5 * unit)))
    for at, letter in enumerate(text):
        left, top, pen = unit * (3 + 6 * at), 3 * unit, 1.15 * unit
        for stroke in _strokes(letter):
            points = [(left + x * unit, top + y * unit) for x, y in stroke]
            draw.line(points, (*INK, 255), round(pen), joint="curve")
            for x, y in points:
                draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), (*INK, 255))
    size = (max(1, round(canvas.width / _OVERSAMPLING)), height)
    return canvas.resize(size, Image.Resampling.LANCZOS)


def _strokes(letter: str) -> Sequence[Sequence[tuple[int, int]]]:
    lines = filter(None, _STROKES[letter].split(","))
    return [[(int(point[0]), int(point[1])) for point in line.split()] for line in lines]


def read_image(path: Path) -> bytes:
    """Of a file that an icon is to be; as much as shows whether it is too large. Raises ValueError, in words."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as error:
        raise ValueError(f"The icon's file {path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=4)
def _opened(content: bytes) -> Image.Image:
    try:
        if len(content) > MAX_FILE:
            raise ValueError(f"it has more than {MAX_FILE >> 20} MiB")
        found = Image.open(io.BytesIO(content), formats=["PNG"])
        if max(found.size) > MAX_FILE_SIDE or not 0.2 <= found.width / found.height <= 8:
            raise ValueError(f"it has {found.width} × {found.height} pixels")
        return found.convert("RGBA")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"The icon's file is a PNG of at most {MAX_FILE_SIDE:,} pixels a side that is no narrow stripe: {error}"
        ) from error


# --- The notice ------------------------------------------------------------------------------------------


NOTICES = Path(__file__).parent / "notices"
#: What the shipped recording says, by espeak-ng, which made it.
WORDS = "Generated by artificial intelligence."
SPOKEN = NOTICES / "en.opus"
#: Between the notice and what it is about.
PAUSE_S = 0.35
MIN_NOTICE_S, MAX_NOTICE_S, MAX_NOTICE_FILE = 0.5, 10.0, 4 << 20
RATE = 48_000


@dataclass(frozen=True)
class Notice:
    """``samples``: float32 [n] in -1..1 at 48 kHz."""

    samples: Samples = field(repr=False)

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE

    def before(self, samples: Samples, rate: int) -> Samples:
        """float32 [n, channels] at ``rate``, and before it the notice with a pause."""
        count = round(self.seconds * rate)
        at = np.arange(count) * (RATE / rate)
        spoken = np.interp(at, np.arange(len(self.samples)), self.samples).astype(np.float32)
        whole = np.concatenate([spoken, np.zeros(round(PAUSE_S * rate), np.float32)])
        return np.concatenate([np.repeat(whole[:, None], samples.shape[1], axis=1), samples])


@lru_cache(maxsize=2)
def read_notice(path: Path = SPOKEN) -> Notice:
    """The shipped recording, or one of the operator's: anything that ffmpeg reads. Raises ValueError, in words."""
    import av

    try:
        if path.stat().st_size > MAX_NOTICE_FILE:
            raise ValueError(f"it has more than {MAX_NOTICE_FILE >> 20} MiB")
        resampler = av.AudioResampler("flt", "mono", RATE)
        pieces = []
        with av.open(str(path)) as container:
            for frame in container.decode(audio=0):
                pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
                if sum(map(len, pieces)) > MAX_NOTICE_S * RATE:
                    raise ValueError(f"it lasts more than {MAX_NOTICE_S:g} seconds")
        pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
        samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        if len(samples) < MIN_NOTICE_S * RATE or float(np.abs(samples).max()) < 0.01:
            raise ValueError("it is too short, or silent")
    except (OSError, IndexError, ValueError, av.FFmpegError) as error:
        raise ValueError(f"The recording of a notice cannot be used ({path}): {error}") from error
    return Notice(np.ascontiguousarray(np.clip(samples, -1, 1), np.float32))
