"""What the generator learns from: the latents of the drawings that teach and how they may be asked for.

``split``: TRAIN for weights whose figures can be measured on what they never saw, ALL for those that ship.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.drawing.conditioning import STYLES, prompt_vectors
from ml.drawing.network import Basis
from research.drawing.designs import TRAIN, Design, Designs

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """Drawings: ``latents`` [n, d], each with its concept and style. Concept c has the words at
    ``words[starts[c] : starts[c + 1]]``, the first of them its label."""

    latents: Floats
    concepts: Numbers
    styles: Numbers
    words: Floats
    starts: Numbers


def examples_of(designs: Designs, basis: Basis, words: Floats | None = None, split: str = TRAIN) -> Examples:
    """Of a split, mirrored drawings included where the mirror says the same."""
    chosen = designs.of(split)
    rows, concepts, styles, mirrored = _listed(chosen)
    pixels = designs.pixels[rows]
    latents = basis.encode(pixels)
    mirrors = basis.encode(pixels[mirrored][:, :, ::-1])
    counts = [len(phrasings(one.label, one.tags)) for one in chosen]
    return Examples(
        np.concatenate([latents, mirrors]),
        np.concatenate([concepts, concepts[mirrored]]),
        np.concatenate([styles, styles[mirrored]]),
        prompt_vectors(asked(chosen)) if words is None else words,
        np.concatenate([[0], np.cumsum(counts)]),
    )


def asked(concepts: list[Design]) -> list[str]:
    """All phrasings of the concepts, one after the other."""
    return [text for one in concepts for text in phrasings(one.label, one.tags)]


def training_pixels(designs: Designs, split: str = TRAIN) -> NDArray[np.uint8]:
    """The drawings of a split's concepts and their mirrors, for the basis."""
    rows, _, _, mirrored = _listed(designs.of(split))
    pixels = designs.pixels[rows]
    return np.concatenate([pixels, pixels[mirrored][:, :, ::-1]])


def cached_words(designs: Designs, folder: Path, split: str = TRAIN) -> Floats:
    """The words of a split's concepts, read once: reading takes minutes."""
    path = folder / "words.npz"
    texts = asked(designs.of(split))
    if path.is_file():
        with np.load(path) as kept:
            if kept["texts"].tolist() == texts:
                return np.asarray(kept["words"])
    words = prompt_vectors(texts)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, words=words, texts=np.array(texts))
    return words


def _listed(chosen: list[Design]) -> tuple[Numbers, Numbers, Numbers, NDArray[np.bool_]]:
    found = [
        (row, number, STYLES.index(style), one.mirrors)
        for number, one in enumerate(chosen)
        for style, row in one.pictures.items()
    ]
    rows, concepts, styles, mirrored = (np.array(column) for column in zip(*found, strict=True))
    return rows, concepts, styles, mirrored


def phrasings(label: str, tags: Sequence[str]) -> list[str]:
    """How one concept may be asked for; the first is the label itself."""
    if not tags:
        return [label, f"a picture of a {label}"]
    some = ", ".join(tags[:3])
    return [
        label,
        f"{label}: {', '.join(tags)}",
        f"a picture of a {label}",
        f"{label} emoji",
        f"{label}, {some}",
        " ".join(tags),
    ]
