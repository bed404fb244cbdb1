"""Films for `moments.py`: long still scenes with other pictures shown for some seconds at known times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

FPS, SIZE = 5, (256, 192)
#: How a moment comes and goes: at once, or over so many frames.
DISSOLVE = 5
#: x264: key frames at cuts, as most encoders set them, and key frames every ten seconds alone, as live encoders do.
KEYS = ("keyint=250", f"keyint={10 * FPS}:scenecut=0")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Planted:
    """What is shown in a film from `start_s` to `end_s`: a picture (a file), and words for it where there are some."""

    film: int
    start_s: float
    end_s: float
    picture: Path
    words: str


def drawn(folder: Path, count: int) -> list[tuple[Path, str]]:
    """Pictures where no set is there: rectangles of random colours."""
    chance, made = np.random.default_rng(3), []
    for number in range(count):
        image = Image.new("RGB", (320, 240), tuple(int(one) for one in chance.integers(0, 255, 3)))
        for _ in range(6):
            x, y = (int(one) for one in chance.integers(0, 200, 2))
            box = (x, y, x + int(chance.integers(30, 120)), y + int(chance.integers(20, 100)))
            ImageDraw.Draw(image).rectangle(box, fill=tuple(int(one) for one in chance.integers(0, 255, 3)))
        image.save(path := folder / f"drawn-{number}.png")
        made.append((path, ""))
    return made


def plan(
    film: int, duration_s: int, pictures: list[tuple[Path, str]], chance: np.random.Generator
) -> list[Planted]:
    """Each picture once, for 2 to 6 seconds, in an order of its own and at least four seconds from the others."""
    slot = duration_s / len(pictures)
    planted = []
    for number, (picture, words) in enumerate(pictures):
        lasts = round(float(chance.uniform(2, min(6, slot / 2))) * FPS) / FPS
        room = max(0.0, slot - lasts - min(4, slot / 3))
        begins = round((number * slot + float(chance.uniform(0, room)) + min(2, slot / 6)) * FPS) / FPS
        planted.append(Planted(film, begins, begins + lasts, picture, words))
    return planted


def write_film(path: Path, duration_s: int, planted: list[Planted], scenes: list[Path], seed: int) -> Path:
    """Every other film has no key frames at cuts, and of its moments every third comes and goes by a dissolve."""
    with av.open(str(path), "w") as file:
        options = {"preset": "ultrafast", "crf": "26", "x264-params": KEYS[seed % 2]}
        video = file.add_stream("libx264", rate=FPS, options=options)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.time_base = Fraction(1, FPS)
        for number, pixels in enumerate(_pictures(duration_s * FPS, planted, scenes, seed)):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts = number
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
    return path


def _pictures(count: int, planted: list[Planted], scenes: list[Path], seed: int) -> Iterator[Pixels]:
    chance = np.random.default_rng(seed)
    grain = chance.normal(0, 2, (4, SIZE[1], SIZE[0], 3))
    shown: list[tuple[int, int, Pixels, int]] = [
        (
            round(one.start_s * FPS),
            round(one.end_s * FPS),
            read(one.picture),
            DISSOLVE * (at % 3 == 2) * (seed % 2),
        )
        for at, one in enumerate(planted)
    ]
    scene, until, still = read(scenes[seed % len(scenes)]), 0, []
    for number in range(count):
        busy = any(start - DISSOLVE <= number <= end + DISSOLVE for start, end, _, _ in shown)
        if not number or (number >= until and not busy):
            scene = read(scenes[int(chance.integers(len(scenes)))])
            until = number + int(chance.integers(60, 180)) * FPS
            still = [_grainy(scene, noise) for noise in grain]
        picture = None
        for start, end, other, soft in shown if busy else ():
            if share := _share(number, start, end, soft):
                picture = (1 - share) * scene + share * other
        noise = number % len(grain)
        yield still[noise] if picture is None else _grainy(picture, grain[noise])


def _grainy(picture: NDArray[Any], noise: NDArray[Any]) -> Pixels:
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _share(number: int, start: int, end: int, soft: int) -> float:
    """How much of a planted picture is seen: half of it at its bounds where it comes and goes softly."""
    if not soft:
        return float(start <= number < end)
    rise, fall = (number - start) / soft + 0.5, (end - number) / soft + 0.5
    return float(np.clip(min(rise, fall), 0, 1))


def read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(ImageOps.fit(image.convert("RGB"), SIZE))
