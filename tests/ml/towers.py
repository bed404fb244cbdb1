"""A tiny space on a picture tower, and a tenant's pairs that it reads only in part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.fitting import Pairs
from ml.alignment.numerics import unit
from ml.alignment.storage import write_space
from ml.alignment.tower_space import Classes, KernelMap, LanguageDetector, TextMap, TowerSpace
from ml.training.shards import Pair

HIDDEN, SEEN, READ = 16, 20, 384
#: What the base knows of the hidden numbers; of the others only the tenant's pairs tell.
KNOWN = 9

_rules = np.random.default_rng(9)
TO_TEXT, TO_PICTURE = _rules.normal(size=(HIDDEN, READ)), _rules.normal(size=(HIDDEN, SEEN))


def tower(read: int = READ, classes: Classes | None = None) -> TowerSpace:
    """Texts of ``read`` numbers, all in English, pictures of SEEN."""
    random = np.random.default_rng(1)
    hidden = random.normal(size=(120, HIDDEN))
    nothing = KernelMap(np.empty((0, 0)), np.empty((0, 0)))
    first, second = read // 2, read - read // 2
    english = LanguageDetector(np.zeros((1, second)), np.zeros(1), np.zeros(1, np.int32))
    texts = TextMap(np.zeros((1, first)), np.zeros((1, second)), english, nothing, nothing)
    meanings = texts.meanings(hidden @ TO_TEXT[:, :read]).astype(np.float32)
    shown = unit(hidden[:, :KNOWN] @ TO_PICTURE[:KNOWN])
    kernel = np.exp(meanings @ meanings.T - 1)
    coefficients = np.linalg.solve(kernel + 0.01 * np.eye(120), shown).astype(np.float32)
    axes = np.linalg.qr(random.normal(size=(SEEN, 12)))[0].astype(np.float32)
    arrays = {"picture_mean": np.zeros(SEEN), "writing": unit(random.normal(size=SEEN))}
    arrays |= {"hub_bank": unit(shown @ axes)[:30], "text_axes": random.normal(size=(read, 6))}
    arrays |= {"text_from_shown": np.zeros((12, 6)), "sight_axes": random.normal(size=(SEEN, 4))}
    return TowerSpace(
        texts=replace(
            texts,
            both=KernelMap(meanings, coefficients),
            second=KernelMap(meanings[:, first:], coefficients),
        ),
        axes=axes,
        hub_level=0.3,
        classes=classes,
        **{name: values.astype(np.float32) for name, values in arrays.items()},
    )


def write_tower(folder: Path, **changes: Any) -> Path:
    """A folder with it, whose texts the bundled encoder reads."""
    space = tower()
    manifest = {"kind": "tower", "id": "tiny", "version": "1", "dimension": space.dimension}
    encoders = {"text": "bundled:minilm", "image": ["bundled:tiny"]}
    write_space(folder, space.arrays(), {**manifest, "encoders": encoders, **changes})
    return folder


def shard_rows(count: int, seed: int = 0, captions: int = 2) -> list[Pair]:
    """Pairs that hold all the hidden numbers: one group each, no split."""
    random = np.random.default_rng(seed)
    rows = []
    for number, hidden in enumerate(random.normal(size=(count, HIDDEN))):
        text = unit(hidden @ TO_TEXT + random.normal(0, 0.5, (captions, READ)))
        seen = hidden @ TO_PICTURE + random.normal(0, 0.35, SEEN)
        halves = {"text": text, "text_colours": np.zeros((captions, 11)), "probabilities": np.zeros(0)}
        halves |= {"features": seen, "colours": random.normal(0, 0.1, 11)}
        typed: dict[str, Any] = {name: values.astype(np.float16) for name, values in halves.items()}
        words = tuple(f"picture {number} of {seed}, told {time}" for time in range(captions))
        rows.append(Pair(f"k{seed}-{number}", f"g{seed}-{number}", "", words, **typed))
    return rows


def pairs(count: int, seed: int = 0) -> Pairs:
    """The same, as what is fitted."""
    rows = shard_rows(count, seed)
    texts = np.concatenate([row.text for row in rows]).astype(np.float32)
    features, colours = (
        np.stack([getattr(row, name) for row in rows]).astype(np.float32) for name in ("features", "colours")
    )
    sight = ImageFeatures(np.empty((count, 0), np.float32), features, colours)
    reading = TextFeatures(texts, np.zeros((len(texts), 11), np.float32))
    return Pairs(reading, sight, np.repeat(np.arange(count), 2), np.arange(count))
