"""The article's own recipe, to compare with: ResNet-101 and BERT, 256 principal axes, plain inner products.

``python -m research.alignment recipe article --text onnx:bert --image onnx:resnet101 --pairs SHARDS --out DIR`` fits
the traditional map over any two encoders and writes a space of kind ``linear``, which loads and is searched like any
other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ml.alignment import layout
from ml.alignment.colours import colour_scores, colour_words
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.storage import write_space
from ml.alignment.traditional import METHODS, fitted
from ml.encoders.base import Encoder, load_encoder

#: Fewer pairs say nothing; more than that do not change 256 axes.
LEAST_PAIRS, MOST_PAIRS = 32, 50_000


class RecipeError(RuntimeError):
    """Why no space can be made; the message says what would help."""


@dataclass(frozen=True)
class Towers:
    """Any text and any picture encoder, as the extraction of features wants them."""

    text: Encoder
    image: Encoder

    def __post_init__(self) -> None:
        for encoder, modality in ((self.text, "text"), (self.image, "image")):
            if encoder.modality != modality:
                raise RecipeError(f"{encoder.id} is an encoder of {encoder.modality}, not of {modality}")

    @property
    def encoders_key(self) -> str:
        return f"{self.text.id}|{self.image.id}"

    def read(self, texts: Sequence[str]) -> TextFeatures:
        listed = list(texts)
        return TextFeatures(self.text.encode(listed), colour_words(listed))

    def see(self, images: Sequence[Any]) -> ImageFeatures:
        pictures = list(images)
        nothing = np.empty((len(pictures), 0), np.float32)
        return ImageFeatures(nothing, self.image.encode(pictures), colour_scores(pictures))


def article(
    text: str, image: str, sources: Sequence[str], out: Path, method: str = "PCA-256 + ridge"
) -> dict[str, Any]:
    """Fit ``method`` (one of ``traditional.METHODS``) on the pairs of ``sources`` and write the space into ``out``.

    ``sources`` are WebDataset .tar or Parquet files, or folders of them. What was done comes back. Raises RecipeError,
    and what ``load_encoder`` raises.
    """
    if method not in METHODS:
        raise RecipeError(f"{method!r} is none of {', '.join(METHODS)}")
    towers = Towers(load_encoder(text), load_encoder(image))
    reading, sight, owners, lost = _pairs(towers, sources)
    if len(sight) < LEAST_PAIRS:
        raise RecipeError(
            f"{len(sight)} readable pairs are too few, at least {LEAST_PAIRS} are needed ({lost} were lost)"
        )
    space = fitted(method, reading, sight, owners)
    encoders = {"text": text, "image": [image], "versions": [towers.text.version, towers.image.version]}
    done = {"method": method, "pairs": len(sight), "captions": len(reading), "unreadable": lost}
    manifest = {"id": "article", "version": "1", "kind": "linear", "dimension": layout.DIMENSION}
    write_space(out, space.arrays(), manifest | {"encoders": encoders, "fitted": done})
    return done


def _pairs(towers: Towers, sources: Sequence[str]) -> tuple[TextFeatures, ImageFeatures, Any, int]:
    """What the towers say of at most MOST_PAIRS pairs, whose picture each caption is, and how many files were lost."""
    from ml.training.extract import extract
    from ml.training.shards import read_pairs, stack

    with tempfile.TemporaryDirectory() as scratch:
        found = extract(sources, Path(scratch), towers)  # type: ignore[arg-type]  # asks no more of a space
        pairs = list(islice(read_pairs([scratch]), MOST_PAIRS))
    if not pairs:
        raise RecipeError(f"there is no readable pair in {', '.join(sources)} ({found.unreadable} were lost)")
    sight = ImageFeatures(*(stack(pairs, name) for name in ("probabilities", "features", "colours")))
    owners = np.repeat(np.arange(len(pairs)), [len(pair.captions) for pair in pairs])
    return TextFeatures(stack(pairs, "text"), stack(pairs, "text_colours")), sight, owners, found.unreadable
