"""How far each part of a query can be trusted, from what is at hand when it is encoded: a few plain numbers.

The gate (``ml.alignment.gating``) reads them; none depends on the space that the part is embedded in. NumPy and Pillow
only, about a millisecond a picture. A name that is absent is not known, which the gate was trained to bear.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.compression.store import ModelsMissing, find_model

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Signs = dict[str, float]

#: Pictures are judged on grey thumbnails of this side: about what an encoder makes of them.
SIDE, COARSE = 160, 40
DARK, BRIGHT = 16, 239
#: Samples beyond this are taken for clipped.
FULL_SCALE = 0.985
FRAME = 400
SILENT = 1e-4
#: Of a long text the beginning tells enough.
LONGEST = 2_000

_WORD = re.compile(r"[a-z]+")


# --- Pictures --------------------------------------------------------------------------------------------


def of_picture(pixels: Pixels, probabilities: Floats | None = None) -> Signs:
    """Sharpness, noise, and exposure of a uint8 [h, w, 3] picture; with class ``probabilities`` [1000] also how
    sure the encoder is of what it sees."""
    small = (
        Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=1.0)
    )
    grey = np.asarray(small, np.float32)
    coarse = np.asarray(Image.fromarray(grey).resize((COARSE, COARSE), Image.Resampling.BOX))
    across, down = np.abs(np.diff(grey, axis=1)), np.abs(np.diff(grey, axis=0))
    grain = np.abs(_noise(grey))
    signs = {
        "sharpness": math.log1p(_laplacian(grey).var()),
        "coarse_sharpness": math.log1p(_laplacian(coarse).var()),
        "noise": math.log1p(grain.mean()),
        "largest_noise": math.log1p(grain.max()),
        "brightness": float(grey.mean()) / 255,
        "contrast": float(grey.std()) / 64,
        "dark": float((grey < DARK).mean()),
        "bright": float((grey > BRIGHT).mean()),
        "flat": float((across[:-1] + down[:, :-1] < 2).mean()),
        "smear": abs(math.log((across.mean() + 1) / (down.mean() + 1))),
    }
    return signs | _certainty(probabilities) if probabilities is not None and len(probabilities) else signs


def _laplacian(grey: Floats) -> Floats:
    """The variance of this is the usual measure of focus (Pech-Pacheco et al., ICPR 2000)."""
    ring: Floats = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return ring - 4 * grey[1:-1, 1:-1]


def _noise(grey: Floats) -> Floats:
    """The difference of two Laplacians, blind to edges (Immerkaer 1996, Fast noise variance estimation)."""
    corners: Floats = grey[:-2, :-2] + grey[:-2, 2:] + grey[2:, :-2] + grey[2:, 2:]
    ring = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return corners - 2 * ring + 4 * grey[1:-1, 1:-1]


def _certainty(probabilities: Floats) -> Signs:
    shares = np.maximum(np.asarray(probabilities, np.float32), 1e-9)
    best = np.sort(shares)[::-1]
    return {
        "entropy": -float((shares * np.log(shares)).sum()),
        "best_class": math.log(best[0]),
        "second_class": math.log(best[1]),
        "best_five": math.log(best[:5].sum()),
    }


# --- Words -----------------------------------------------------------------------------------------------


def of_words(text: str) -> Signs:
    """Length of a text, and of its Latin words how many the encoder does not know whole."""
    text = text[:LONGEST].lower()
    words = _WORD.findall(text)
    signs = {"words": math.log1p(len(text.split()))}
    if not words:
        return signs
    letters = "".join(words)
    signs["word_length"] = math.log(len(letters) / len(words))
    signs["vowels"] = sum(map(letters.count, "aeiou")) / len(letters)
    if known := _vocabulary():
        signs["unknown"] = sum(word not in known for word in words) / len(words)
    return signs


@cache
def _vocabulary() -> frozenset[str]:
    """The whole words of the bundled encoder; none where its files are not prepared."""
    try:
        path = find_model("minilm").path.with_name("minilm-tokenizer.json")
        pieces = json.loads(path.read_text("utf-8"))["model"]["vocab"]
    except (ModelsMissing, OSError):
        return frozenset()
    return frozenset(piece for piece in pieces if piece.isalpha())


# --- Speech ----------------------------------------------------------------------------------------------


def of_speech(samples: Floats, heard: str, confidence: float) -> Signs:
    """Of float32 [n] samples at 16 kHz, what was ``heard`` in them and the mean probability of a token of it."""
    seconds = len(samples) / 16_000
    signs = {
        "hearing": math.log(max(confidence, 1e-3)),
        "seconds": math.log1p(seconds),
        "pace": math.log1p(len(heard.split()) / max(seconds, 0.1)),
    }
    return signs | _loudness(samples) | of_words(heard)


def _loudness(samples: Floats) -> Signs:
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return {}
    levels = np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1))
    quiet, loud = np.percentile(levels, [10, 90])
    return {
        "clipped": float((np.abs(samples) > FULL_SCALE).mean()),
        "crossings": float((np.diff(np.signbit(samples).astype(np.int8)) != 0).mean()),
        "level": math.log(max(float(levels.mean()), 1e-5)),
        "background": float(quiet / (loud + 1e-6)),
        "gaps": float((levels < SILENT).mean()),
        "abrupt": float(levels[-4:].mean() / (levels.max() + 1e-6)),
    }


#: What the gate reads; the rest is told to people.
SIGNS: dict[str, tuple[str, ...]] = {
    "image": (
        *("sharpness", "coarse_sharpness", "noise", "largest_noise", "brightness", "contrast"),
        *("dark", "bright", "flat", "smear", "entropy", "best_class", "second_class", "best_five"),
    ),
    "text": ("words", "word_length", "vowels", "unknown"),
    # Of a recording's sound nothing: that names the voice and the microphone rather than what is wrong.
    "audio": ("hearing", "words", "unknown"),
}
