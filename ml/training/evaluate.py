"""How well a space finds: by ordered pair of modalities, beside its parent and the traditional methods.

Items never seen in training are judged. An item is right for a query when it is the query's own picture, or has a
caption of the same words.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ml.alignment.sight import Reading, Sight
from ml.training.metrics import Found, difference, figures, search
from ml.training.plan import hashed
from ml.training.quality import same_words
from ml.training.shards import Pair, stack

#: Pictures of the pool at most: the first ones of the split.
LARGEST_POOL = 5_000
#: Captions of a picture that are asked for or searched at most.
CAPTIONS = 5

TEXT_TO_IMAGE, IMAGE_TO_TEXT = "text>image", "image>text"
Array = NDArray[Any]


class Space(Protocol):
    """What a space must be able to; ``JointSpace`` is one."""

    @property
    def encoders_key(self) -> str: ...
    def read(self, texts: Sequence[str]) -> Reading: ...
    def project_text(self, reading: Reading) -> Array: ...
    def project_image(self, sight: Sight) -> Array: ...
    def as_query(self, vectors: Array) -> Array: ...


@dataclass(frozen=True)
class Pool:
    """Held-out pairs, ready to be placed by any space of the same image encoders."""

    sight: Sight
    reading: Reading
    captions: list[str]
    encoders_key: str | None  #: of the encoders that saw and read; None: of whichever space asks
    right_pictures: list[list[int]]  #: of each caption
    right_captions: list[list[int]]  #: of each picture
    groups: Array  #: [pictures]
    owners: Array  #: [captions] their picture

    @property
    def size(self) -> int:
        return len(self.groups)


def pool_of(pairs: Iterable[Pair], encoders_key: str | None = None) -> Pool:
    """The first LARGEST_POOL pairs, with CAPTIONS captions each."""
    held = [_shortened(pair) for pair in itertools.islice(pairs, LARGEST_POOL)]
    owners = np.repeat(np.arange(len(held)), [len(pair.captions) for pair in held])
    captions = [text for pair in held for text in pair.captions]
    words = [hashed(same_words(text)) for text in captions]
    right_pictures, right_captions = _right(owners, words, len(held))
    return Pool(
        sight_of(held),
        reading_of(held),
        captions,
        encoders_key,
        right_pictures,
        right_captions,
        np.array([hashed(pair.group) for pair in held], np.uint64),
        owners,
    )


def sight_of(pairs: Sequence[Pair]) -> Sight:
    """What the encoders saw of the pictures of ``pairs``: [n, …]."""
    return Sight(*(stack(pairs, name) for name in ("probabilities", "features", "colours")))


def reading_of(pairs: Sequence[Pair]) -> Reading:
    """What the encoders read in all captions of ``pairs``, one after the other."""
    return Reading(vectors=stack(pairs, "text"), colours=stack(pairs, "text_colours"))


def find(space: Space, pool: Pool) -> dict[str, Found]:
    """What every query of either direction finds."""
    read_alike = pool.encoders_key in (None, space.encoders_key)
    # A tuned text tower reads differently from the one that the shards were made with.
    texts = space.project_text(pool.reading if read_alike else space.read(pool.captions))
    pictures = space.project_image(pool.sight)
    queries = space.as_query(pictures)
    return {
        TEXT_TO_IMAGE: search(texts, pictures, pool.right_pictures, pool.groups[pool.owners]),
        IMAGE_TO_TEXT: search(queries, texts, pool.right_captions, pool.groups),
    }


def compare(space: Space, pool: Pool, others: Mapping[str, Space]) -> dict[str, Any]:
    """Figures of ``space`` and of each of the others, and what the space gains on it with the paired interval:

    ``{"model": {"text>image": {…}, …}, "<other>": {…}, "differences": {"<other>": {"text>image": {…}}}}``.
    """
    mine = find(space, pool)
    result: dict[str, Any] = {"pictures": pool.size, "captions": len(pool.owners), "model": _all(mine)}
    result["differences"] = {}
    for name, other in others.items():
        theirs = find(other, pool)
        result[name] = _all(theirs)
        result["differences"][name] = {way: difference(mine[way], theirs[way]) for way in mine}
    return result


def mean_recall(found: Mapping[str, Found]) -> float:
    """Mean over both directions of R@1, R@5 and R@10: what early stopping looks at, steadier than one of them."""
    return float(np.mean([(one.ranks < cut).mean() for one in found.values() for cut in (1, 5, 10)]))


def _all(found: Mapping[str, Found]) -> dict[str, Any]:
    return {way: figures(one) for way, one in found.items()}


def _shortened(pair: Pair) -> Pair:
    if len(pair.captions) <= CAPTIONS:
        return pair
    cut = slice(CAPTIONS)
    return Pair(
        pair.key,
        pair.group,
        pair.split,
        pair.captions[cut],
        pair.text[cut],
        pair.text_colours[cut],
        pair.probabilities,
        pair.features,
        pair.colours,
    )


def _right(owners: Array, words: Sequence[int], pictures: int) -> tuple[list[list[int]], list[list[int]]]:
    """The right pictures of each caption, and the right captions of each picture."""
    with_words: dict[int, set[int]] = defaultdict(set)
    for owner, word in zip(owners, words, strict=True):
        with_words[word].add(int(owner))
    right_pictures = [sorted(with_words[word]) for word in words]
    right_captions: list[list[int]] = [[] for _ in range(pictures)]
    for caption, found in enumerate(right_pictures):
        for picture in found:
            right_captions[picture].append(caption)
    return right_pictures, right_captions
