"""The eleven basic colour terms (Berlin and Kay 1969), seen in pixels and read in words.

An ImageNet classifier is trained to ignore colour, so the space carries it apart: what share of the picture
each colour has, beside the colour words of the text. Needs numpy and Pillow only.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

COLOURS = ("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")

#: Pictures are counted on a thumbnail of this side: shares need no detail.
THUMBNAIL = 64
#: Levels a channel in the look-up table from RGB to a colour.
LEVELS = 32

#: Mean and deviation of the square root of a colour's share, over photographs that may be used freely
#: (see docs/models/prior-1.md). Square roots, because one large area would drown everything else.
SHARE_MEAN = np.array([0.23, 0.24, 0.35, 0.06, 0.17, 0.19, 0.14, 0.25, 0.07, 0.08, 0.47], np.float32)
SHARE_DEVIATION = np.array([0.19, 0.22, 0.21, 0.12, 0.17, 0.17, 0.18, 0.26, 0.13, 0.12, 0.22], np.float32)

#: Scores are cut here: a plain red square must not outweigh what the picture shows, and a lack of red says
#: little (most pictures lack it).
SMALLEST_SCORE, LARGEST_SCORE = -0.5, 2.0

#: The middle of a picture counts more than its rim: exp(-distance^2 / (2 * width^2)), in thumbnail pixels.
CENTRE_WIDTH = 14.0

#: What a colour word counts for. Black, white, grey and brown are in every photograph (shadow, sky, skin).
WORD_WEIGHTS = np.array([0.4, 0.4, 0.4, 1, 1, 1, 1, 1, 1, 1, 0.4], np.float32)

_WORDS = {
    "black": "black",
    "white": "white snowy",
    "grey": "grey gray silver greyish grayish",
    "red": "red reddish crimson scarlet maroon burgundy",
    "orange": "orange",
    "yellow": "yellow yellowish golden gold blonde blond",
    "green": "green greenish olive",
    "blue": "blue bluish navy turquoise teal cyan",
    "purple": "purple violet lilac lavender magenta",
    "pink": "pink pinkish fuchsia",
    "brown": "brown brownish tan beige khaki",
}
_COLOUR_OF = {word: COLOURS.index(colour) for colour, words in _WORDS.items() for word in words.split()}
#: Titles and questions may be long; colours of a text are named early.
LONGEST_READ = 2_000
_WORD = re.compile(r"[a-z]+")


def colour_words(texts: list[str]) -> Floats:
    """Which colours each text names: [n, 11], WORD_WEIGHTS where named, else 0."""
    named = np.zeros((len(texts), len(COLOURS)), np.float32)
    for row, text in enumerate(texts):
        for word in _WORD.findall(text[:LONGEST_READ].lower()):
            colour = _COLOUR_OF.get(word)
            if colour is not None:
                named[row, colour] = WORD_WEIGHTS[colour]
    return named


def colour_scores(pictures: list[Pixels]) -> Floats:
    """How much more of each colour than usual, in deviations: [n, 11]."""
    shares = np.array([colour_shares(picture) for picture in pictures], np.float32).reshape(-1, len(COLOURS))
    scores = (np.sqrt(shares) - SHARE_MEAN) / SHARE_DEVIATION
    return np.clip(scores, SMALLEST_SCORE, LARGEST_SCORE).astype(np.float32)


def colour_shares(picture: Pixels) -> Floats:
    """The share of each colour in one uint8 [h, w, 3] picture, middle first: [11], sums to 1."""
    thumbnail = Image.fromarray(picture).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    levels = np.asarray(thumbnail) // (256 // LEVELS)
    cells = (levels[..., 0].astype(np.intp) * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]
    counts = np.bincount(_table()[cells].ravel(), _centre().ravel(), len(COLOURS))
    return (counts / counts.sum()).astype(np.float32)


@cache
def _centre() -> NDArray[np.float64]:
    """How much each thumbnail pixel counts: [THUMBNAIL, THUMBNAIL]."""
    offset = np.arange(THUMBNAIL) - (THUMBNAIL - 1) / 2
    distance = offset[:, None] ** 2 + offset[None, :] ** 2
    return np.exp(-distance / (2 * CENTRE_WIDTH**2))


@cache
def _table() -> NDArray[np.intp]:
    """The colour of every cell of RGB space at LEVELS steps a channel: [LEVELS^3]."""
    axis = (np.arange(LEVELS) + 0.5) / LEVELS
    red, green, blue = (channel.ravel() for channel in np.meshgrid(axis, axis, axis, indexing="ij"))
    hue, saturation, value = _hsv(red, green, blue)
    return np.select(*_rules(hue, saturation, value)).astype(np.intp)


def _hsv(
    red: NDArray[np.float64], green: NDArray[np.float64], blue: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Hue in degrees, saturation and value in 0..1."""
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    safe = np.where(chroma > 0, chroma, 1.0)
    sector = np.select(
        [chroma == 0, value == red, value == green],
        [np.zeros_like(value), ((green - blue) / safe) % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    return sector * 60, chroma / value, value


def _rules(
    hue: NDArray[np.float64], saturation: NDArray[np.float64], value: NDArray[np.float64]
) -> tuple[list[NDArray[np.bool_]], list[int]]:
    """Conditions and the colours they give; the first that holds wins. Thresholds were set by eye."""
    warm = (hue < 48) & (saturation > 0.2)
    rules = [
        (value < 0.2, "black"),
        ((saturation < 0.15) & (value > 0.8), "white"),
        (saturation < 0.15, "grey"),
        ((hue > 330) & (value > 0.55) & (saturation < 0.75), "pink"),
        (((hue < 15) | (hue > 345)) & (value > 0.7) & (saturation < 0.5), "pink"),
        ((hue < 12) & (saturation > 0.55) & (value > 0.35), "red"),
        ((hue > 335) & (saturation > 0.5) & (value > 0.3), "red"),
        (warm & (value < 0.65), "brown"),
        (warm & (saturation < 0.45) & (value < 0.85), "brown"),
        ((hue < 42) & (saturation > 0.45), "orange"),
        ((hue < 68) & (saturation > 0.25), "yellow"),
        (hue < 42, "brown"),
        (hue < 68, "grey"),
        (hue < 165, "green"),
        (hue < 258, "blue"),
        (hue < 300, "purple"),
    ]
    return [rule for rule, _ in rules] + [np.ones_like(warm)], [COLOURS.index(name) for _, name in rules] + [
        8
    ]
