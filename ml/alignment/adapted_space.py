"""A tower space that learnt from a tenant's pairs: its texts are corrected, and heads stand behind its numbers.

All that the space on a picture tower (``tower_space``) says stays, and two things are added. What a text would show is
corrected by a linear map that is shrunk to the identity. And canonical directions of texts and pictures, with a hub
bias of their own, are further dimensions of the same inner product. Both count for a text as far as it is like the
texts of the pairs: one that is foreign to them orders pictures as the space does that was started from. NumPy only.

=======  ==================================  ================================  ==================
part     in a text                           in a picture                      meets
=======  ==================================  ================================  ==================
base     as in ``tower_space``, corrected    as there                          as there
learnt   familiarity x sqrt(w) x direction   sqrt(w) x direction               all
hub      familiarity x sqrt(w) x .5          -2 x sqrt(w) x bias (query: 0)    text with picture
=======  ==================================  ================================  ==================

Before the last division the learnt parts come on top of the base's norm: they take no room from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment import tower_space
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.learned_space import Heads
from ml.alignment.numerics import Floats, log_mean_exp, unit
from ml.alignment.projection import without_hub
from ml.alignment.tower_space import Behind, TowerSpace

#: What is stored beside the base; -1 is any length.
_LEARNT: dict[str, tuple[str, tuple[int, ...]]] = {
    "correction": ("float16", (-1, -1)),
    "learnt_text_mean": ("float32", (-1,)),
    "learnt_text_head": ("float16", (-1, -1)),
    "learnt_image_mean": ("float32", (-1,)),
    "learnt_image_head": ("float16", (-1, -1)),
    "learnt_familiarity": ("float32", (-1,)),
    "learnt_bank": ("float16", (-1, -1)),
    "learnt_scales": ("float32", (2,)),
}
#: Types and shapes as stored.
SHAPES = tower_space.SHAPES | _LEARNT

#: Sharpness of the soft maximum over the bank of captions, how much of the bias is taken off, and where it is cut.
HUB_SHARPNESS, HUB_SHARE, LARGEST_HUB = 20.0, 0.7, 0.25
HUB_IN_TEXT, HUB_IN_IMAGE = 0.5, -2.0
#: The largest norm of the learnt part and its hub at weight 1.
_LARGEST = float(np.hypot(1.0, max(HUB_IN_TEXT, -HUB_IN_IMAGE * LARGEST_HUB)))


@dataclass(frozen=True)
class AdaptedSpace:
    """Both halves. Rows of every result have norm 1 and ``dimension`` numbers."""

    base: TowerSpace
    correction: Floats  #: [p, p] by what a text of the pairs shows, added to it; zeros change nothing
    heads: Heads  #: of meanings [d] and centred pictures [p]; of width 0 where only the correction was learnt
    weight: float  #: of the learnt part beside the base's similarity
    hub_bank: Floats  #: [k, L] captions of the pairs along the learnt directions
    hub_level: float  #: the bias of an ordinary picture

    @property
    def learnt(self) -> int:
        """How many directions were learnt."""
        return int(self.heads.text_head.shape[1])

    @property
    def dimension(self) -> int:
        return self.base.dimension + (self.learnt + 1 if self.learnt else 0)

    def text(self, reading: TextFeatures) -> Floats:
        """Texts to [n, dimension]."""
        if not len(reading):
            return np.zeros((0, self.dimension), np.float32)
        meanings = self.base.texts.meanings(reading.vectors)
        named = self.base.named_in_texts(meanings)
        return self.place_texts(meanings, self.base.texts.shown(meanings), named, reading.colours)

    def image(self, sight: ImageFeatures) -> Floats:
        """Pictures to [n, dimension]."""
        if not len(sight):
            return np.zeros((0, self.dimension), np.float32)
        named = self.base.named_in_pictures(sight)
        return self.place_pictures(self.base.seen(sight.features), named, sight.colours)

    def as_query(self, vectors: Floats) -> Floats:
        """Pictures without either hub bias, which only texts should meet."""
        vectors = self.base.as_query(vectors)
        return without_hub(vectors, self.dimension - 1) if self.learnt else vectors

    def as_asset(self, texts: Floats) -> Floats:
        """Texts that ask as texts that are searched: by the base's hub, whatever stands behind it."""
        return self.base.as_asset(texts)

    def text_query(self, stored: Floats) -> Floats:
        """The reverse of ``as_asset``."""
        return self.base.text_query(stored)

    def few_words(self, texts: Floats) -> Floats:
        """Texts of a word or two as queries, as the base has them."""
        return self.base.few_words(texts)

    def familiarity(self, texts: Floats, short: NDArray[np.bool_]) -> Floats:
        """How familiar texts that ask [n, dimension] are to the pairs, 0 to 1, as their vectors say: [n].

        ``short`` [n]: which of them ``few_words`` has moved. 1 for all where no direction was learnt: then a vector
        does not say it.
        """
        own = texts[:, self.base.hub_column] / np.where(short, self.base.hub_of_few_words, 1.0)
        added = texts[:, -1]
        if not (self.learnt and self.weight):
            return np.ones(len(texts), np.float32)
        # Both are the same number before the last division, the second one in proportion to the familiarity.
        found = np.where(own > 0, added / np.where(own > 0, own, 1.0) / self.weight**0.5, 0.0)
        return np.clip(found, 0.0, 1.0).astype(np.float32)

    def place_texts(self, meanings: Floats, shown: Floats, named: Floats, colours: Floats) -> Floats:
        """Texts by what they mean [n, d], show to the base [n, p] and name to it [n, c]."""
        familiar = self.heads.familiar(meanings)[:, None]
        shown = unit(shown + familiar * (shown @ self.correction))
        learnt = familiar * self._with_hub(self.heads.texts(meanings), HUB_IN_TEXT)
        return self.base.place_texts(meanings, shown, named, colours, self._behind(learnt))

    def place_pictures(self, seen: Floats, named: Floats, colours: Floats) -> Floats:
        """Pictures by their centred vectors [n, p] and the base's classes [n, c]."""
        learnt = self.heads.images(seen)
        rows = self._with_hub(learnt, HUB_IN_IMAGE * self.hub_bias(learnt) if self.learnt else 0.0)
        return self.base.place_pictures(seen, named, colours, self._behind(rows))

    def hub_bias(self, learnt: Floats) -> Floats:
        """How much nearer than usual each picture [n, L] is to all captions of the pairs: [n]."""
        bias = HUB_SHARE * (log_mean_exp(learnt @ self.hub_bank.T, HUB_SHARPNESS) - self.hub_level)
        return np.clip(bias, -LARGEST_HUB, LARGEST_HUB)

    def _with_hub(self, learnt: Floats, hub: Floats | float) -> Floats:
        if not self.learnt:
            return learnt
        column = np.broadcast_to(np.asarray(hub, np.float32), len(learnt))
        return np.concatenate([learnt, column[:, None]], axis=1)

    def _behind(self, rows: Floats) -> Behind | None:
        scale = self.weight**0.5
        return Behind(scale * rows, scale * _LARGEST) if self.learnt else None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As stored."""
        return self.base.arrays() | {
            "correction": self.correction.astype(np.float16),
            "learnt_text_mean": self.heads.text_mean.astype(np.float32),
            "learnt_text_head": self.heads.text_head.astype(np.float16),
            "learnt_image_mean": self.heads.image_mean.astype(np.float32),
            "learnt_image_head": self.heads.image_head.astype(np.float16),
            "learnt_familiarity": self.heads.familiarity.astype(np.float32),
            "learnt_bank": self.hub_bank.astype(np.float16),
            "learnt_scales": np.array([self.weight, self.hub_level], np.float32),
        }


def unpacked(
    arrays: dict[str, NDArray[Any]], *, classes: bool = False, stored_hub: float | None = None
) -> AdaptedSpace:
    """What ``arrays`` gave. Raises ValueError where shapes do not fit each other, or a number is none."""
    base = tower_space.unpacked(arrays, classes=classes, stored_hub=stored_hub)
    wide = {name: arrays[name].astype(np.float32) for name in _LEARNT}
    _check(wide, base)
    names = ("text_mean", "text_head", "image_mean", "image_head", "familiarity")
    heads = Heads(**{name: wide[f"learnt_{name}"] for name in names})
    weight, level = (float(value) for value in wide["learnt_scales"])
    return AdaptedSpace(base, wide["correction"], heads, weight, wide["learnt_bank"], level)


def _check(arrays: dict[str, NDArray[Any]], base: TowerSpace) -> None:
    read, shown = base.texts.width, len(base.axes)
    learnt = arrays["learnt_text_head"].shape[1]
    wanted = {
        "correction": (shown, shown),
        "learnt_text_mean": (read,),
        "learnt_text_head": (read, learnt),
        "learnt_image_mean": (shown,),
        "learnt_image_head": (shown, learnt),
        "learnt_familiarity": (read + 1,),
        "learnt_bank": (len(arrays["learnt_bank"]), learnt),
    }
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name!r} is {list(arrays[name].shape)}, not {list(shape)}")
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name!r} holds numbers that are not finite")
    if (learnt and not len(arrays["learnt_bank"])) or arrays["learnt_scales"][0] < 0:
        raise ValueError("the learnt part has no bank of captions, or a weight below 0")
