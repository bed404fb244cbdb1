"""A space on a picture tower that came without its text tower: texts are mapped to where pictures *of them* would lie.

A tower that learnt from the web's pictures (CLIP) reads: a sentence rendered as a picture lies near the photographs
that it describes, once both clouds have their own mean taken off. So sentences of our own were rendered, and a kernel
ridge regression (Saunders et al. 1998, with Nyström landmarks: Williams and Seeger 2001) learnt to go from the text
encoder's vector to the tower's. No pair of a photograph and a caption was needed. NumPy only.

=======  =================================  =======================  ==================
part     in a text                          in a picture             meets
=======  =================================  =======================  ==================
shown    what a picture of it would show    what it shows            all
colours  .1 x words                         .1 x scores              all
hub      .5 (asset: see below)              -2 x bias (query: 0)     all
classes  .3 x what would be named in it     .3 x what is named       all
text     meaning beyond what is shown       0                        text with text
sight    0                                  finer differences        picture with picture
=======  =================================  =======================  ==================

Before the last division every text that asks has norm 1.6 and every picture 1.6, as in ``layout``.

Two things are in some of these spaces only, by their manifests: ``classes``, by networks that make other mistakes than
the tower, along axes of a prior (``ml.alignment.projection``); and ``stored_hub``. Two texts are nearer to each other
than any text and picture ever are (the modality gap: Liang et al. 2022, arXiv:2203.02053). So the hub of a text that is
searched stands on the other side: all of them lose as much against a text that asks, their order stays, and texts and
pictures that are as likely to be right have about the same score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment import layout
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.numerics import Floats, log_mean_exp, unit
from ml.alignment.projection import class_powers, fitted, room, without_hub

#: Types and shapes as stored; -1 is any length.
SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "first_means": ("float32", (-1, -1)),
    "language_means": ("float32", (-1, -1)),
    "detector_axes": ("float32", (-1, -1)),
    "detector_levels": ("float32", (-1,)),
    "detector_languages": ("int32", (-1,)),
    "both_landmarks": ("int8", (-1, -1)),
    "both_scales": ("float32", (-1,)),
    "both_coefficients": ("float16", (-1, -1)),
    "second_landmarks": ("int8", (-1, -1)),
    "second_scales": ("float32", (-1,)),
    "second_coefficients": ("float16", (-1, -1)),
    "axes": ("float16", (-1, -1)),
    "picture_mean": ("float32", (-1,)),
    "writing": ("float32", (-1,)),
    "hub_bank": ("float16", (-1, -1)),
    "hub_level": ("float32", (1,)),
    "text_axes": ("float16", (-1, -1)),
    "text_from_shown": ("float16", (-1, -1)),
    "sight_axes": ("float16", (-1, -1)),
}

#: What only spaces with classes need.
OPTIONAL: dict[str, tuple[str, tuple[int, ...]]] = {
    "class_axes": ("float16", (-1, -1)),
    "classes_from_text": ("float16", (-1, -1)),
}

#: Sharpness of the soft maximum that measures how near a picture is to everything.
HUB_SHARPNESS = 30.0
#: From this projection on the direction of rendered texts a picture is one of writing, which would attract every query.
WRITING = 0.4
#: A bias is cut here, or nothing would be left of the picture's norm for the rest.
LARGEST_HUB = 0.5
HUB_IN_TEXT, HUB_IN_IMAGE = 0.5, -2.0
#: By what the hub of a query of a word or two is multiplied. Of 29 such words, in one list of 604 photographs and 100
#: short texts of other things, 28 % find a text first (83 % without), and 23 % of the first ten are texts (73 %), as
#: `make bench-retrieval` prints; each of those texts is still found by its own noun. Of photographs alone the first ten
#: of 618 words are right in 25.2 % (26.1), of 1,333 pairs of words in 29.5 % (30.7); 1.4 would take half a point more.
HUB_OF_FEW_WORDS = 1.3
#: A tenth of the classes' similarity beside that of what is shown.
CLASS_SCALE = 0.1**0.5
#: Half of what it is in a prior, as the tower sees colours itself: of captions that name one, .2 finds 35 of 100 and .1
#: finds 40.
COLOUR_SCALE = 0.1
TEXT_NORM = IMAGE_NORM = 1.6


@dataclass(frozen=True)
class KernelMap:
    """A function of unit vectors that was learnt at some of them."""

    landmarks: Floats  #: [m, d] of norm 1
    coefficients: Floats  #: [m, p]

    def __call__(self, meanings: Floats) -> Floats:
        """[n, d] of norm 1 to [n, p] of norm 1."""
        return unit(np.exp(meanings @ self.landmarks.T - 1) @ self.coefficients)

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """As stored: landmarks as int8 with a scale each."""
        scales = np.maximum(np.abs(self.landmarks).max(axis=1), 1e-12) / 127
        return {
            f"{name}_landmarks": np.round(self.landmarks / scales[:, None]).astype(np.int8),
            f"{name}_scales": scales.astype(np.float32),
            f"{name}_coefficients": self.coefficients.astype(np.float16),
        }


@dataclass(frozen=True)
class LanguageDetector:
    """Linear discriminants (Fisher 1936) of kinds of text, each of one language."""

    axes: Floats  #: [g, b]
    levels: Floats  #: [g]
    languages: NDArray[np.int32]  #: [g] rows of ``TextMap.language_means``

    def __call__(self, vectors: Floats) -> NDArray[np.int32]:
        """The language of each unit vector [n, b]: [n]."""
        found: NDArray[np.int32] = self.languages[(vectors @ self.axes.T - self.levels).argmax(axis=1)]
        return found


@dataclass(frozen=True)
class TextMap:
    """From the text encoder's vectors to where a picture of the text would lie.

    A vector has two halves: what an encoder for a few languages says [a], which is left out of texts of others and
    where it is all zeros, and what one for many languages says [b]. In the second lies the language more than the
    sense, so that each language has a mean of its own there.
    """

    first_means: Floats  #: [f, a] of captions in the languages that the first encoder reads, English first
    language_means: Floats  #: [l, b] of all languages, the same ones first
    detector: LanguageDetector
    both: KernelMap  #: of both halves
    second: KernelMap  #: of the second half

    @property
    def width(self) -> int:
        """How many numbers it reads of a text."""
        return self.first_means.shape[1] + self.language_means.shape[1]

    def meanings(self, vectors: Floats, language: int | None = None) -> Floats:
        """Encoder output [n, a + b] to centred vectors of norm 1; ``language`` where it is known of all."""
        first, second = np.split(np.asarray(vectors, np.float32), [self.first_means.shape[1]], axis=1)
        second = unit(second)
        languages = self.detector(second) if language is None else np.full(len(second), language)
        read = (languages < len(self.first_means)) & first.any(axis=1)
        means = self.first_means[np.where(read, languages, 0)]
        halves = read[:, None] * unit(unit(first) - means), unit(second - self.language_means[languages])
        return unit(np.concatenate(halves, axis=1))

    def shown(self, meanings: Floats) -> Floats:
        """[n, a + b] to [n, p] of norm 1."""
        first = self.first_means.shape[1]
        read = meanings[:, :first].any(axis=1)
        rows = np.empty((len(meanings), self.second.coefficients.shape[1]), np.float32)
        rows[read] = self.both(meanings[read])
        rows[~read] = self.second(meanings[~read, first:])
        return rows


@dataclass(frozen=True)
class Classes:
    """What networks name in pictures, and what they would name in a picture of a text."""

    axes: Floats  #: [1000, c] of ImageNet's classes
    from_text: Floats  #: [d, c] of meanings

    @property
    def width(self) -> int:
        return self.axes.shape[1]

    def of_texts(self, meanings: Floats) -> Floats:
        """[n, c] of norm 1 of meanings [n, d]."""
        return unit(meanings @ self.from_text)

    def of_pictures(self, probabilities: Floats) -> Floats:
        """[n, c] of norm 1 of class probabilities [n, 1000]."""
        return unit(class_powers(probabilities) @ self.axes)


@dataclass(frozen=True)
class Behind:
    """Numbers that stand behind those of a space, and take no room of theirs."""

    rows: Floats  #: [n, k]
    norm: float  #: that no row exceeds, the same for all rows that are ever placed


@dataclass(frozen=True)
class TowerSpace:
    """Both halves. Rows of every result have norm 1 and ``dimension`` numbers."""

    texts: TextMap
    axes: Floats  #: [p, a] of the tower's space, the most telling first
    picture_mean: Floats  #: [p] of photographs
    writing: Floats  #: [p] from photographs to rendered texts, of norm 1
    hub_bank: Floats  #: [k, a] captions that people might type
    hub_level: float  #: the bias of an ordinary picture
    text_axes: Floats  #: [d, t] meaning that is not shown
    text_from_shown: Floats  #: [a, t] what is shown of it, taken off
    sight_axes: Floats  #: [p, s] for pictures among themselves
    classes: Classes | None = None
    stored_hub: float | None = None  #: of a text that is searched; None: as in one that asks

    @property
    def dimension(self) -> int:
        return self._text + self.text_axes.shape[1] + self.sight_axes.shape[1]

    @property
    def _text(self) -> int:
        """Where the part that texts alone have begins."""
        return self.hub_column + 1 + self._named

    @property
    def _named(self) -> int:
        return self.classes.width if self.classes else 0

    @property
    def hub_column(self) -> int:
        """Which number of a vector is its hub's."""
        return self.axes.shape[1] + layout.COLOUR_DIMENSIONS

    def text(self, reading: TextFeatures) -> Floats:
        """Texts to [n, dimension]."""
        if not len(reading):
            return np.zeros((0, self.dimension), np.float32)
        meanings = self.texts.meanings(reading.vectors)
        named = self.named_in_texts(meanings)
        return self.place_texts(meanings, self.texts.shown(meanings), named, reading.colours)

    def named_in_texts(self, meanings: Floats) -> Floats:
        """What the classes say of texts: [n, c]."""
        return self.classes.of_texts(meanings) if self.classes else np.zeros((len(meanings), 0), np.float32)

    def named_in_pictures(self, sight: ImageFeatures) -> Floats:
        """What the classes say of pictures: [n, c]."""
        if not self.classes:
            return np.zeros((len(sight), 0), np.float32)
        return self.classes.of_pictures(sight.probabilities)

    def place_texts(
        self, meanings: Floats, shown: Floats, named: Floats, colours: Floats, more: Behind | None = None
    ) -> Floats:
        """Texts by what they mean [n, d], show [n, p] and name [n, c]; ``more`` stands behind the numbers of this
        space."""
        rows, norm = self._begun(len(meanings), more, TEXT_NORM)
        along = shown @ self.axes
        rows[:, : along.shape[1]] = along
        rows[:, along.shape[1] : self.hub_column] = COLOUR_SCALE * colours
        rows[:, self.hub_column] = HUB_IN_TEXT
        rows[:, self.hub_column + 1 : self._text] = CLASS_SCALE * named
        beyond = meanings @ self.text_axes - unit(along) @ self.text_from_shown
        rows[:, self._text : self._text + beyond.shape[1]] = room(rows, norm) * unit(beyond)
        return unit(rows)

    def image(self, sight: ImageFeatures) -> Floats:
        """Pictures to [n, dimension], by the tower and their colours."""
        if not len(sight):
            return np.zeros((0, self.dimension), np.float32)
        return self.place_pictures(self.seen(sight.features), self.named_in_pictures(sight), sight.colours)

    def place_pictures(
        self, seen: Floats, named: Floats, colours: Floats, more: Behind | None = None
    ) -> Floats:
        """Pictures by what ``seen`` and ``named_in_pictures`` gave; ``more`` stands behind the numbers of this
        space."""
        rows, norm = self._begun(len(seen), more, IMAGE_NORM)
        shown = seen @ self.axes
        rows[:, : shown.shape[1]] = shown
        rows[:, self.hub_column] = HUB_IN_IMAGE * self.hub_bias(seen)
        rows[:, self.hub_column + 1 : self._text] = CLASS_SCALE * named
        rows[:, shown.shape[1] : self.hub_column] = fitted(COLOUR_SCALE * colours, room(rows, norm))
        finer = slice(self.dimension - self.sight_axes.shape[1], self.dimension)
        rows[:, finer] = room(rows, norm) * unit(seen @ self.sight_axes)
        return unit(rows)

    def _begun(self, count: int, more: Behind | None, norm: float) -> tuple[Floats, float]:
        """Rows with nothing in them but ``more``, and the norm that they are to be filled to."""
        rows = np.zeros((count, self.dimension), np.float32)
        if more is None:
            return rows, norm
        return np.concatenate([rows, more.rows], axis=1, dtype=np.float32), float(np.hypot(norm, more.norm))

    def as_query(self, vectors: Floats) -> Floats:
        """Pictures without the hub bias, which only texts should meet."""
        return without_hub(vectors, self.hub_column)

    def as_asset(self, texts: Floats) -> Floats:
        """Texts that ask [n, dimension or more] as texts that are searched, of norm 1."""
        return (
            texts
            if self.stored_hub is None
            else _with_hub(texts, self.hub_column, HUB_IN_TEXT, self.stored_hub)
        )

    def text_query(self, stored: Floats) -> Floats:
        """The reverse of ``as_asset``."""
        return (
            stored
            if self.stored_hub is None
            else _with_hub(stored, self.hub_column, self.stored_hub, HUB_IN_TEXT)
        )

    def few_words(self, texts: Floats) -> Floats:
        """Texts of a word or two [n, dimension or more], which are near to every other short text, as queries: the hub
        counts more, and with it how far stored texts stand back."""
        if self.stored_hub is None:
            return texts
        rows = np.array(texts, np.float32, copy=True)
        rows[:, self.hub_column] *= self.hub_of_few_words
        return unit(rows)

    @property
    def hub_of_few_words(self) -> float:
        """How much more the hub counts in texts of a word or two that ask."""
        return 1.0 if self.stored_hub is None else HUB_OF_FEW_WORDS

    def seen(self, features: Floats) -> Floats:
        """What the tower says of pictures [n, p], centred: of norm 1. Behind its p features others may follow."""
        own = np.asarray(features, np.float32)[:, : len(self.picture_mean)]
        return unit(unit(own) - self.picture_mean)

    def hub_bias(self, seen: Floats) -> Floats:
        """How much nearer than usual each picture [n, p] is to everything, and how much it is one of writing: [n]."""
        bias = log_mean_exp(seen @ self.axes @ self.hub_bank.T, HUB_SHARPNESS) - self.hub_level
        return np.clip(bias + np.maximum(seen @ self.writing - WRITING, 0), -LARGEST_HUB, LARGEST_HUB)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As stored."""
        return {
            "first_means": self.texts.first_means.astype(np.float32),
            "language_means": self.texts.language_means.astype(np.float32),
            "detector_axes": self.texts.detector.axes.astype(np.float32),
            "detector_levels": self.texts.detector.levels.astype(np.float32),
            "detector_languages": self.texts.detector.languages.astype(np.int32),
            **self.texts.both.arrays("both"),
            **self.texts.second.arrays("second"),
            "axes": self.axes.astype(np.float16),
            "picture_mean": self.picture_mean.astype(np.float32),
            "writing": self.writing.astype(np.float32),
            "hub_bank": self.hub_bank.astype(np.float16),
            "hub_level": np.array([self.hub_level], np.float32),
            "text_axes": self.text_axes.astype(np.float16),
            "text_from_shown": self.text_from_shown.astype(np.float16),
            "sight_axes": self.sight_axes.astype(np.float16),
            **(class_arrays(self.classes) if self.classes else {}),
        }


def _with_hub(rows: Floats, hub: int, found: float, wanted: float) -> Floats:
    """Rows of norm 1 in which the number at ``hub`` was ``found`` before the last division, with another one."""
    rows = np.array(rows, np.float32, copy=True)
    was = rows[:, hub]
    # Of another sign, or zero: this was no such text, and nobody knows its norm.
    known = was * found > 0
    rows[known] *= (found / was[known])[:, None]
    rows[known, hub] = wanted
    return unit(rows)


def class_arrays(classes: Classes) -> dict[str, NDArray[Any]]:
    """As stored."""
    return {
        "class_axes": classes.axes.astype(np.float16),
        "classes_from_text": classes.from_text.astype(np.float16),
    }


def unpacked(
    arrays: dict[str, NDArray[Any]], *, classes: bool = False, stored_hub: float | None = None
) -> TowerSpace:
    """What ``arrays`` gave, with or without the classes. Raises ValueError where shapes do not fit each other."""
    _check(arrays)
    if stored_hub is not None and not -4 < stored_hub < 0:
        raise ValueError(f"a stored text has a hub below 0, not {stored_hub}")
    wide = {name: arrays[name].astype(np.float32) for name in SHAPES}
    detector = LanguageDetector(wide["detector_axes"], wide["detector_levels"], arrays["detector_languages"])
    maps = (
        KernelMap(wide[f"{name}_landmarks"] * wide[f"{name}_scales"][:, None], wide[f"{name}_coefficients"])
        for name in ("both", "second")
    )
    texts = TextMap(wide["first_means"], wide["language_means"], detector, *maps)
    names = ("axes", "picture_mean", "writing", "hub_bank", "text_axes", "text_from_shown", "sight_axes")
    return TowerSpace(
        texts=texts,
        hub_level=float(wide["hub_level"][0]),
        classes=_classes(arrays) if classes else None,
        stored_hub=stored_hub,
        **{name: wide[name] for name in names},
    )


def _classes(arrays: dict[str, NDArray[Any]]) -> Classes:
    if lacking := OPTIONAL.keys() - arrays.keys():
        raise ValueError(f"it lacks {min(lacking)!r}, which its classes need")
    found = Classes(*(arrays[name].astype(np.float32) for name in OPTIONAL))
    read = arrays["first_means"].shape[1] + arrays["language_means"].shape[1]
    if not found.width or found.from_text.shape != (read, found.width):
        raise ValueError(f"'classes_from_text' is {list(found.from_text.shape)}, not {[read, found.width]}")
    return found


def _check(arrays: dict[str, NDArray[Any]]) -> None:
    second, shown = arrays["language_means"].shape[1], len(arrays["picture_mean"])
    read, axes = arrays["first_means"].shape[1] + second, arrays["axes"].shape[1]
    maps: dict[str, tuple[int, ...]] = {}
    for name, width in (("both", read), ("second", second)):
        marks = len(arrays[f"{name}_landmarks"])
        maps[f"{name}_landmarks"] = (marks, width)
        maps[f"{name}_scales"] = (marks,)
        maps[f"{name}_coefficients"] = (marks, shown)
    wanted = {
        **maps,
        "detector_axes": (len(arrays["detector_levels"]), second),
        "detector_languages": arrays["detector_levels"].shape,
        "axes": (shown, axes),
        "writing": (shown,),
        "hub_bank": (len(arrays["hub_bank"]), axes),
        "text_axes": (read, arrays["text_axes"].shape[1]),
        "text_from_shown": (axes, arrays["text_axes"].shape[1]),
        "sight_axes": (shown, arrays["sight_axes"].shape[1]),
    }
    for name, shape in wanted.items():
        if arrays[name].shape != shape or not arrays[name].size:
            raise ValueError(f"{name!r} is {list(arrays[name].shape)}, not {list(shape)}")
    languages = arrays["detector_languages"]
    if languages.min() < 0 or languages.max() >= len(arrays["language_means"]):
        raise ValueError("'detector_languages' names a language without a mean")
    if not 0 < len(arrays["first_means"]) <= len(arrays["language_means"]):
        raise ValueError("'first_means' are not of the first of the languages")
