"""What is wished, as numbers: the text encoder's vector, its place in the joint space, and an art style.

English and Chinese are read (``bundled:bilingual``); whatever else a prompt holds gets a vector like any text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ml.alignment.space import SHIPPED, JointSpace

Floats = NDArray[np.float32]

#: Art styles, in the order in which a wish names them; the designs that taught them (NOTICE).
STYLES = ("openmoji", "twemoji", "fluent-flat", "fluent-modern", "noto")
TEXT, JOINT = 384, 256
PROMPT = TEXT + JOINT
CONDITION = PROMPT + len(STYLES)
#: Characters of a prompt that are read: the encoder cuts at 256 tokens anyway.
LONGEST = 2_000


@cache
def prompt_space() -> JointSpace:
    """What prompts are read in, whatever answers searches; one for the process."""
    return JointSpace.load(SHIPPED.parent / "prior-2")


def prompt_vectors(texts: Sequence[str]) -> Floats:
    """Texts to float32 [n, PROMPT]; both parts have an RMS of 1 a row."""
    if not texts:
        return np.empty((0, PROMPT), np.float32)
    space = prompt_space()
    reading = space.read([text[:LONGEST] for text in texts])
    parts = reading.vectors * np.sqrt(TEXT), space.project_text(reading) * np.sqrt(JOINT)
    return np.concatenate(parts, axis=1).astype(np.float32)


def conditions_of(words: Floats, styles: Sequence[int | None]) -> Floats:
    """Words with an art style each (None: any), float32 [n, CONDITION]."""
    shown = np.zeros((len(words), len(STYLES)), np.float32)
    for row, style in enumerate(styles):
        if style is not None:
            shown[row, style] = 1
    return np.concatenate([words, shown], axis=1)
