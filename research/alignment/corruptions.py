"""Queries made worse on purpose, to train the gate of weights and to measure it.

Pictures are uint8 [h, w, 3] and keep their shape, sounds float32 [n] at 16 kHz; ``strength`` is 0 (hardly) to 1 (nearly
nothing left).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]
Samples = NDArray[np.float32]
Random = np.random.Generator

PictureDamage = Callable[[Pixels, float, Random], Pixels]
WordDamage = Callable[[str, float, Random], str]
SoundDamage = Callable[[Samples, float, Random], Samples]

#: Letters beside each other, of which a hasty hand takes the wrong one.
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_EMPTY_WORDS = (
    "this",
    "thing",
    "here",
    "please",
    "the",
    "one",
    "that",
    "you",
    "know",
    "from",
    "before",
    "something",
)


def _side(pixels: Pixels) -> int:
    return min(pixels.shape[:2])


def _clipped(values: NDArray[Any]) -> Pixels:
    return np.clip(values, 0, 255).astype(np.uint8)


def blur(pixels: Pixels, strength: float, random: Random) -> Pixels:
    """Out of focus: Gaussian, up to a twelfth of the shorter side."""
    radius = _side(pixels) * (0.01 + 0.07 * strength)
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def noise(pixels: Pixels, strength: float, random: Random) -> Pixels:
    """Too little light for the sensor: Gaussian, a grain of one or two of 320 pixels."""
    grain = random.normal(0, 40 + 160 * strength, (*_grain(pixels), 3))
    large = np.stack([_enlarged(grain[..., channel], pixels) for channel in range(3)], axis=-1)
    return _clipped(pixels + large)


def _grain(pixels: Pixels) -> tuple[int, int]:
    """As large as a pixel of what the encoders see, or it would be averaged away in a large picture."""
    scale = min(1.0, 320 / _side(pixels))
    return max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale))


def _enlarged(values: NDArray[Any], pixels: Pixels) -> NDArray[Any]:
    size = (pixels.shape[1], pixels.shape[0])
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.NEAREST))


def darken(pixels: Pixels, strength: float, random: Random) -> Pixels:
    """Far too dark, so that few levels are left."""
    return _clipped(np.floor(pixels * (0.15 - 0.13 * strength)) * 2)


def pixelate(pixels: Pixels, strength: float, random: Random) -> Pixels:
    """A tiny picture made large again: 28 to 6 pixels a side."""
    cells = round(28 - 22 * strength)
    size = (pixels.shape[1], pixels.shape[0])
    small = Image.fromarray(pixels).resize((cells, cells), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(size, Image.Resampling.BILINEAR))


def motion(pixels: Pixels, strength: float, random: Random) -> Pixels:
    """A shaken camera: smeared along one direction, up to half of the side."""
    steps, length = 24, _side(pixels) * (0.08 + 0.42 * strength)
    angle = random.uniform(0, np.pi)
    total = np.zeros(pixels.shape, np.float32)
    for part in np.linspace(-0.5, 0.5, steps):
        dx, dy = round(length * part * np.cos(angle)), round(length * part * np.sin(angle))
        total += np.roll(pixels, (dy, dx), axis=(0, 1))
    return _clipped(total / steps)


def specks(pixels: Pixels, strength: float, random: Random) -> Pixels:
    """Salt and pepper: a third to most of the pixels are black or white."""
    drawn = random.random(_grain(pixels))
    share = 0.3 + 0.5 * strength
    value = np.where(drawn < share / 2, 0, np.where(drawn < share, 255, -1))
    large = _enlarged(value, pixels)[..., None]
    return np.where(large < 0, pixels, large).astype(np.uint8)


def overexpose(pixels: Pixels, strength: float, random: Random) -> Pixels:
    """Far too bright: most of it runs into white."""
    return _clipped(pixels * (2.5 + 4 * strength) + 90 * strength + 60)


def cover(pixels: Pixels, strength: float, random: Random) -> Pixels:
    """A thumb before the lens: a plain block over 60 to 92 per cent."""
    share = np.sqrt(0.6 + 0.32 * strength)
    height, width = round(pixels.shape[0] * share), round(pixels.shape[1] * share)
    top = random.integers(0, pixels.shape[0] - height + 1)
    left = random.integers(0, pixels.shape[1] - width + 1)
    covered = pixels.copy()
    covered[top : top + height, left : left + width] = random.integers(0, 256, 3)
    return covered


def squeeze(pixels: Pixels, strength: float, random: Random) -> Pixels:
    """JPEG at its lowest quality, of a picture that was made small first."""
    side = round(160 - 110 * strength)
    sink = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(sink, "JPEG", quality=round(6 - 5 * strength))
    size = (pixels.shape[1], pixels.shape[0])
    return np.asarray(Image.open(sink).convert("RGB").resize(size))


PICTURES: dict[str, PictureDamage] = {
    "blur": blur,
    "noise": noise,
    "darken": darken,
    "pixelate": pixelate,
    "motion": motion,
    "specks": specks,
    "overexpose": overexpose,
    "cover": cover,
    "squeeze": squeeze,
}


def typos(text: str, strength: float, random: Random) -> str:
    """One letter in four to nearly each is another one."""
    share = 0.25 + 0.5 * strength
    return "".join(
        _LETTERS[random.integers(26)] if one.isalpha() and random.random() < share else one for one in text
    )


def cut(text: str, strength: float, random: Random) -> str:
    """Half a word or two are left."""
    words = text.split()
    kept = max(1, round(len(words) * 0.3 * (1 - strength)))
    start = random.integers(0, len(words) - kept + 1) if len(words) > kept else 0
    return " ".join(word[: max(2, len(word) // 2)] for word in words[start : start + kept])


def mash(text: str, strength: float, random: Random) -> str:
    """Somebody leant on the keyboard."""
    return " ".join(
        "".join(_LETTERS[at] for at in random.integers(0, 26, random.integers(2, 9)))
        for _ in range(max(1, len(text.split())))
    )


def say_nothing(text: str, strength: float, random: Random) -> str:
    """Words that name nothing."""
    return " ".join(random.choice(_EMPTY_WORDS, size=random.integers(3, 9)))


WORDS: dict[str, WordDamage] = {"typos": typos, "cut": cut, "mash": mash, "say_nothing": say_nothing}


def clip(samples: Samples, strength: float, random: Random) -> Samples:
    """Recorded far too loud: 40 to 400 times."""
    return np.clip(samples * 40 * 10**strength, -1, 1).astype(np.float32)


def shorten(samples: Samples, strength: float, random: Random) -> Samples:
    """The button was let go too early: a third to a tenth is left."""
    return samples[: max(1_600, round(len(samples) * (0.4 - 0.3 * strength)))]


def hiss(samples: Samples, strength: float, random: Random) -> Samples:
    """Noise as loud as the voice, to four times that."""
    level = float(np.sqrt((samples**2).mean())) * (1 + 3 * strength)
    return np.clip(samples + random.normal(0, level, len(samples)), -1, 1).astype(np.float32)


def drop(samples: Samples, strength: float, random: Random) -> Samples:
    """A bad line: pieces of a tenth of a second are missing, half to most of them."""
    pieces = random.random(len(samples) // 1_600 + 1) < 0.5 + 0.35 * strength
    return np.where(np.repeat(pieces, 1_600)[: len(samples)], 0, samples).astype(np.float32)


SOUNDS: dict[str, SoundDamage] = {"clip": clip, "shorten": shorten, "hiss": hiss, "drop": drop}
