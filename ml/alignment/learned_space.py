"""The learnt joint space: the prior keeps a say, heads that were trained on pairs add theirs. NumPy only.

The layout is that of ``ml.alignment.layout`` with one more part, ``learnt``, that all meet in; the parts of the prior
give way to it by dropping their last axes, which matter least. How far the learnt part is trusted (its weight
beside the prior's) was chosen on held-out pairs, so few pairs give little more than the prior. A text that is
foreign to the pairs is told by its familiarity and met by the prior alone, so what was general stays so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.alignment import layout
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.numerics import Floats, log_mean_exp, unit
from ml.alignment.projection import Projection, Read, room, without_hub

#: Types and shapes as stored; -1 is any length.
SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "text_mean": ("float32", (-1,)),
    "text_head": ("float16", (-1, -1)),
    "image_mean": ("float32", (-1,)),
    "image_head": ("float16", (-1, -1)),
    "familiarity": ("float32", (-1,)),
    "hub_bank": ("float16", (-1, -1)),
    "scales": ("float32", (3,)),
    "blocks": ("int16", (3,)),
}

#: Sharpness of the soft maximum over the bank of training captions.
HUB_SHARPNESS = 10.0
#: How much of the bias is taken off, and where it is cut.
HUB_SHARE = 0.8
LARGEST_HUB = 0.25
#: Scores of familiarity from which on the learnt part counts, and counts in full.
FOREIGN, FAMILIAR = -0.4, 0.2
#: As in ``layout``, with room for the learnt part.
TEXT_NORM, IMAGE_NORM = 1.7, 1.9


@dataclass(frozen=True)
class Heads:
    """What was learnt: maps of text vectors and picture features into the learnt part."""

    text_mean: Floats  #: [d]
    text_head: Floats  #: [d, L]
    image_mean: Floats  #: [F]
    image_head: Floats  #: [F, L]
    familiarity: (
        Floats  #: [d + 1] weights and offset over meanings: about 1 for texts of the pairs, -1 for others
    )

    def texts(self, vectors: Floats) -> Floats:
        """[n, d] to [n, L] of norm 1."""
        return unit((vectors - self.text_mean) @ self.text_head)

    def images(self, features: Floats) -> Floats:
        """[n, F] to [n, L] of norm 1."""
        return unit((features - self.image_mean) @ self.image_head)

    def familiar(self, meanings: Floats) -> Floats:
        """0 for texts that are foreign to the pairs, 1 for texts like theirs: [n]."""
        scores = meanings @ self.familiarity[:-1] + self.familiarity[-1]
        return np.clip((scores - FOREIGN) / (FAMILIAR - FOREIGN), 0.0, 1.0)


@dataclass(frozen=True)
class Blocks:
    """How the 256 dimensions are shared: classes, learnt, 11 colours, 1 hub, text only, sight only."""

    classes: int
    text: int
    sight: int

    @property
    def learnt(self) -> int:
        """What the others leave."""
        fixed = layout.COLOUR_DIMENSIONS + 1
        return layout.DIMENSION - fixed - self.classes - self.text - self.sight

    @property
    def shared(self) -> int:
        """Classes, learnt and colours, in this order: what a text and a picture meet in."""
        return self.classes + self.learnt + layout.COLOUR_DIMENSIONS


@dataclass(frozen=True)
class LearnedSpace:
    """Both halves. ``hub_bank`` [m, shared] are training captions as queries; rows of every result have norm 1."""

    prior: Projection
    heads: Heads
    blocks: Blocks
    prior_weight: float  #: share of the prior in the score of a familiar text and any picture
    learnt_weight: float  #: share of the learnt part in it
    hub_bank: Floats
    hub_level: float

    def text(self, reading: TextFeatures) -> Floats:
        """Texts to [n, 256]."""
        rows = np.zeros((len(reading), layout.DIMENSION), np.float32)
        if not len(rows):
            return rows
        read = self.prior.read(reading)
        shared = self.blocks.shared
        rows[:, :shared] = self.asked(reading, read)
        rows[:, shared] = layout.HUB_IN_TEXT
        own = slice(shared + 1, shared + 1 + self.blocks.text)
        rows[:, own] = room(rows, TEXT_NORM) * unit(read.beyond[:, : self.blocks.text])
        return unit(rows)

    def image(self, sight: ImageFeatures) -> Floats:
        """Pictures to [n, 256]."""
        rows = np.zeros((len(sight), layout.DIMENSION), np.float32)
        if not len(rows):
            return rows
        classes = self.prior.class_axes(sight)
        shared = self.shown(sight, classes)
        rows[:, : self.blocks.shared] = shared
        rows[:, self.blocks.shared] = layout.HUB_IN_IMAGE * self.hub_bias(shared)
        finer = classes[:, self.blocks.classes : self.blocks.classes + self.blocks.sight]
        rows[:, layout.DIMENSION - self.blocks.sight :] = room(rows, IMAGE_NORM) * unit(finer)
        return unit(rows)

    def as_query(self, vectors: Floats) -> Floats:
        """Pictures without the hub bias, which only texts should meet."""
        return without_hub(vectors, self.blocks.shared)

    def asked(self, reading: TextFeatures, read: Read) -> Floats:
        """Texts in the part that all meet in: [n, shared]."""
        familiar = self.heads.familiar(read.meanings)[:, None]
        # What is foreign to the pairs keeps all of the prior, however little of it the pairs need.
        prior = 1 - familiar * (1 - self.prior_weight)
        learnt = familiar * self.heads.texts(reading.vectors)
        return self._shared(prior, read.classes, learnt, reading.colours)

    def shown(self, sight: ImageFeatures, classes: Floats) -> Floats:
        """Pictures in the part that all meet in: [n, shared]; ``classes`` is what ``prior.class_axes`` says."""
        return self._shared(1.0, classes, self.heads.images(sight.features), sight.colours)

    def hub_bias(self, shared: Floats) -> Floats:
        """How much nearer than usual each picture [n, shared] is to everything that was asked: [n]."""
        bias = HUB_SHARE * (log_mean_exp(shared @ self.hub_bank.T, HUB_SHARPNESS) - self.hub_level)
        return np.clip(bias, -LARGEST_HUB, LARGEST_HUB)

    def _shared(self, prior: Floats | float, classes: Floats, learnt: Floats, colours: Floats) -> Floats:
        named = unit(classes[:, : self.blocks.classes])
        # The learnt share of a score is split evenly, so that it also holds between pictures.
        parts = [prior * named, self.learnt_weight**0.5 * learnt, prior * layout.COLOUR_SCALE * colours]
        return np.concatenate(parts, axis=1)

    def arrays(self) -> dict[str, Floats]:
        """As stored, the prior apart."""
        heads = self.heads
        return {
            "text_mean": heads.text_mean.astype(np.float32),
            "text_head": heads.text_head.astype(np.float16),
            "image_mean": heads.image_mean.astype(np.float32),
            "image_head": heads.image_head.astype(np.float16),
            "familiarity": heads.familiarity.astype(np.float32),
            "hub_bank": self.hub_bank.astype(np.float16),
            "scales": np.array([self.prior_weight, self.learnt_weight, self.hub_level], np.float32),
            "blocks": np.array([self.blocks.classes, self.blocks.text, self.blocks.sight], np.int16),
        }


def unpacked(arrays: dict[str, Floats], prior: Projection) -> LearnedSpace:
    """What ``arrays`` gave, beside its prior. Raises ValueError where shapes do not fit each other."""
    names = ("text_mean", "text_head", "image_mean", "image_head", "familiarity")
    heads = Heads(**{name: arrays[name].astype(np.float32) for name in names})
    blocks = Blocks(*(int(width) for width in arrays["blocks"]))
    weights = [float(value) for value in arrays["scales"]]
    _check(heads, blocks, arrays["hub_bank"])
    return LearnedSpace(
        prior, heads, blocks, weights[0], weights[1], arrays["hub_bank"].astype(np.float32), weights[2]
    )


def _check(heads: Heads, blocks: Blocks, bank: Floats) -> None:
    texts, pictures = len(heads.text_mean), len(heads.image_mean)
    most = (layout.CLASS_DIMENSIONS, layout.TEXT_DIMENSIONS, layout.SIGHT_DIMENSIONS)
    if (
        min(vars(blocks).values()) < 1
        or blocks.learnt < 1
        or blocks.text > most[1]
        or blocks.classes > most[0]
    ):
        raise ValueError(f"{blocks} do not fit into {layout.DIMENSION} dimensions")
    found = (heads.text_head.shape, heads.image_head.shape, heads.familiarity.shape, bank.shape[1:])
    wanted = ((texts, blocks.learnt), (pictures, blocks.learnt), (texts + 1,), (blocks.shared,))
    if found != wanted or not len(bank):
        raise ValueError(f"heads and bank of shapes {found}, not {wanted}")
