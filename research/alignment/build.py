"""Build the prior: a joint space from written knowledge alone, without one pair of text and picture.

``python -m research.alignment build``. Deterministic: the same phrases and text encoder give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.alignment import layout, projection
from ml.alignment.numerics import Floats, log_mean_exp, principal_axes, ridge, unit
from ml.alignment.projection import TextReader
from ml.alignment.scenes import scenes
from ml.alignment.storage import Arrays, unpacked
from ml.alignment.vocabulary import (
    CLASSES,
    Phrase,
    dictionary_phrases,
    general_glosses,
    merged,
    written_phrases,
)

ID = "prior"
VERSION = "1"

#: Penalties, in squared unit vectors, so beside the number of phrases.
RIDGE_PENALTY = 30.0
RESIDUAL_PENALTY = 10.0

Encode = Callable[[Sequence[str]], Floats]


@dataclass(frozen=True)
class Knowledge:
    """The texts that a space is made from."""

    dictionary: list[Phrase]  #: names, lemmas and glosses with their class
    written: list[Phrase]  #: phrases with the classes that show them
    scenes: list[str]  #: captions without classes: what people may ask for
    general: list[str]  #: plain English, for the meaning that classes do not hold


def bundled_knowledge() -> Knowledge:
    """What version 1 ships with."""
    return Knowledge(dictionary_phrases(), written_phrases(), scenes(), general_glosses())


def build_arrays(knowledge: Knowledge, encode: Encode) -> Arrays:
    """Everything that ``space.safetensors`` holds; ``encode`` gives text vectors [n, 384]."""
    phrases = merged([*knowledge.dictionary, *knowledge.written])
    bank = encode([phrase.text for phrase in knowledge.written] + knowledge.scenes)
    mean = bank[: len(knowledge.written)].mean(axis=0)
    meanings = unit(encode([phrase.text for phrase in phrases]) - mean)
    arrays = _reader_arrays(phrases, meanings) | {"text_mean": mean.astype(np.float32)}
    reader = _reader(arrays)
    arrays |= _picture_arrays(reader, bank)
    general = np.concatenate([encode(knowledge.general), bank])
    return arrays | _text_arrays(reader, general, arrays["axes"].astype(np.float32))


def manifest(knowledge: Knowledge, encoders: dict[str, Any]) -> dict[str, Any]:
    """What made the space, for the reader of the file."""
    return {
        "id": ID,
        "version": VERSION,
        "dimension": layout.DIMENSION,
        "encoders": encoders,
        "phrases": {name: len(texts) for name, texts in vars(knowledge).items()},
        "settings": {
            "power": projection.POWER,
            "phrase_temperature": projection.PHRASE_TEMPERATURE,
            "ridge_weight": projection.RIDGE_WEIGHT,
            "ridge_penalty": RIDGE_PENALTY,
            "residual_penalty": RESIDUAL_PENALTY,
            "hub_sharpness": projection.HUB_SHARPNESS,
            "class_dimensions": layout.CLASS_DIMENSIONS,
            "text_dimensions": layout.TEXT_DIMENSIONS,
            "sight_dimensions": layout.SIGHT_DIMENSIONS,
            "colour_scale": layout.COLOUR_SCALE,
        },
    }


def _reader_arrays(phrases: list[Phrase], meanings: Floats) -> Arrays:
    scales = np.abs(meanings).max(axis=1) / 127
    sizes = np.array([len(phrase.classes) for phrase in phrases], np.int16)
    return {
        "phrases": np.round(meanings / scales[:, None]).astype(np.int8),
        "phrase_scales": scales.astype(np.float32),
        "phrase_classes": np.array([index for phrase in phrases for index in phrase.classes], np.int16),
        "phrase_sizes": sizes,
        "ridge": ridge(meanings, _targets(phrases), RIDGE_PENALTY).astype(np.float16),
    }


def _targets(phrases: list[Phrase]) -> Floats:
    """Row sums are 1: a phrase that many classes show says little about each."""
    targets = np.zeros((len(phrases), CLASSES), np.float32)
    for row, phrase in zip(targets, phrases, strict=True):
        row[list(phrase.classes)] = 1 / len(phrase.classes)
    return targets


def _reader(arrays: Arrays) -> TextReader:
    """The reader as it will be loaded, rounding included: later steps fit what is shipped."""
    nothing = np.zeros(1, np.float32)
    names = ("axes", "sight_axes", "hub_bank", "hub_level", "text_axes", "text_from_classes")
    return unpacked(arrays | dict.fromkeys(names, nothing)).reader


def _picture_arrays(reader: TextReader, bank: Floats) -> Arrays:
    scores = reader.classes(reader.meanings(bank))
    both = principal_axes(scores, layout.CLASS_DIMENSIONS + layout.SIGHT_DIMENSIONS)
    axes, sight_axes = np.split(both, [layout.CLASS_DIMENSIONS], axis=1)
    hub_bank = unit(scores @ axes)
    return {
        "axes": axes.astype(np.float16),
        "sight_axes": sight_axes.astype(np.float16),
        "hub_bank": hub_bank.astype(np.float16),
        "hub_level": np.array([_hub_level(axes, hub_bank)], np.float32),
    }


def _hub_level(axes: Floats, hub_bank: Floats) -> float:
    """The bias of an ordinary picture: the median over pictures that show two classes equally."""
    pairs = unit(axes + np.roll(axes, CLASSES // 2, axis=0))
    return float(np.median(log_mean_exp(pairs @ hub_bank.T, projection.HUB_SHARPNESS)))


def _text_arrays(reader: TextReader, vectors: Floats, axes: Floats) -> Arrays:
    """Axes of what a text means beyond the classes: of the residual, so that no dimension says it twice.

    Plain principal axes of the text vectors repeat what the classes say and cost text search 5 to 10 points;
    the axes of the residual cost one or two (docs/experiments.md).
    """
    meanings = reader.meanings(vectors)
    seen = unit(reader.classes(meanings) @ axes)
    explained = ridge(seen, meanings, RESIDUAL_PENALTY)
    text_axes = principal_axes(meanings - seen @ explained, layout.TEXT_DIMENSIONS)
    return {
        "text_axes": text_axes.astype(np.float16),
        "text_from_classes": (explained @ text_axes).astype(np.float16),
    }
