"""Queries of a picture and words or speech, one of them made worse: to train the gate with, and to judge it.

What is asked for stands in a gallery of assets with one or more vectors each. Of every wanted thing there is a query
whose parts are both good, some with damaged words and some with a damaged picture or recording.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.alignment.confidence import Signs, of_picture, of_words
from ml.alignment.features import ImageFeatures
from ml.alignment.gate_fitting import AGREEMENTS, NOTHING, Examples
from ml.alignment.gating import PARTS, Part, inputs_of
from ml.alignment.space import JointSpace
from research.alignment import corruptions

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

LARGEST = 640
#: Candidates that are kept of each part's own ranking, and of the right ones.
NEAREST, MOST_RIGHT = 30, 8
CLEAN = ""
VIEW = 7


def seeded(name: str, *more: int) -> np.random.Generator:
    """A generator of its own for everything that has a name: the same draws whatever else is drawn."""
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
    return np.random.default_rng([int(digest[:8], 16), *more])


@dataclass(frozen=True)
class Shot:
    """A picture as it is sent: as it is or another view of it, and what is wrong with it (CLEAN: nothing)."""

    key: str
    path: Path
    view: bool = False
    kind: str = CLEAN
    strength: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.key} {self.view} {self.kind} {self.strength:.6f}"

    def pixels(self) -> Pixels:
        picture = Image.open(self.path).convert("RGB")
        picture.thumbnail((LARGEST, LARGEST))
        pixels = np.asarray(picture)
        if self.view:
            pixels = _other_view(pixels, seeded(self.key, VIEW))
        if self.kind != CLEAN:
            pixels = corruptions.PICTURES[self.kind](pixels, self.strength, seeded(self.key + self.kind))
        return np.ascontiguousarray(pixels)


def _other_view(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Mirrored, 55 to 80 per cent of each side, a little brighter or darker."""
    share = random.uniform(0.55, 0.8)
    height, width = int(pixels.shape[0] * share), int(pixels.shape[1] * share)
    top = random.integers(0, pixels.shape[0] - height + 1)
    left = random.integers(0, pixels.shape[1] - width + 1)
    part = pixels[top : top + height, left : left + width][:, ::-1].astype(np.float32)
    return np.clip(part * random.uniform(0.8, 1.2), 0, 255).astype(np.uint8)


#: From some kinds of damage so many for each picture, of each of several lists.
Menu = Sequence[tuple[Sequence[str], int]]


def spoilt(shots: Sequence[Shot], menu: Menu, seed: int) -> list[Shot]:
    """Each shot with damage of so many kinds."""
    random = np.random.default_rng(seed)
    return [
        replace(shot, kind=str(kind), strength=random.uniform())
        for shot in shots
        for kinds, count in menu
        for kind in random.choice(list(kinds), count, replace=False)
    ]


class CachedImages:
    """Pictures and texts in a space, with their signs; kept on disk by what was seen, as seeing takes minutes."""

    def __init__(self, space: JointSpace, cache: Path) -> None:
        self.space, self._cache = space, cache

    def look(self, shots: Sequence[Shot], label: str) -> list[Part]:
        """Each as a query."""
        sight, signs = self._seen(shots, label)
        vectors = self.space.as_query(self.space.project_image(sight))
        return [Part(vector, told) for vector, told in zip(vectors, signs, strict=True)]

    def store(self, shots: Sequence[Shot], label: str) -> Floats:
        """Each as an asset: [n, 256]."""
        return self.space.project_image(self._seen(shots, label)[0])

    def classes(self, shots: Sequence[Shot], label: str) -> Floats:
        """Class probabilities [n, 1000]."""
        return self._seen(shots, label)[0].probabilities

    def read(self, texts: Sequence[str], label: str) -> Floats:
        """Texts in the space: [n, 256]."""
        path = self._cache / f"{label}-texts-{self.space.id}.npz"
        known: dict[str, Floats] = {}
        if path.exists():
            with np.load(path) as kept:
                known = dict(zip(json.loads(str(kept["texts"])), kept["vectors"], strict=True))
        if new := [text for text in dict.fromkeys(texts) if text not in known]:
            known |= zip(new, self.space.embed_texts(new), strict=True)
            _saved(
                path, {"texts": np.array(json.dumps(list(known))), "vectors": np.stack(list(known.values()))}
            )
        return np.stack([known[text] for text in texts])

    def _seen(self, shots: Sequence[Shot], label: str) -> tuple[ImageFeatures, list[Signs]]:
        names = [self.space.encoders_key, *(shot.name for shot in shots)]
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
        path = self._cache / f"{label}-{digest}.npz"
        if not path.exists():
            _saved(path, self._see(shots))
        with np.load(path) as kept:
            arrays = {
                name: kept[name].astype(np.float32) for name in ("probabilities", "features", "colours")
            }
            return ImageFeatures(**arrays), json.loads(str(kept["signs"]))

    def _see(self, shots: Sequence[Shot]) -> dict[str, Any]:
        seen, signs = [], []
        for shot in shots:
            pixels = shot.pixels()
            seen.append(self.space.see([pixels]))
            signs.append(of_picture(pixels, seen[-1].probabilities[0]))
        halves = {
            name: values.astype(np.float16) for name, values in vars(ImageFeatures.concatenate(seen)).items()
        }
        return {**halves, "signs": np.array(json.dumps(signs))}


def _saved(path: Path, arrays: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)
    part.replace(path)


def by_key(shots: Sequence[Shot], parts: Sequence[Part]) -> dict[str, list[tuple[Shot, Part]]]:
    """The shots of each thing, the clean one first if it came first."""
    found: dict[str, list[tuple[Shot, Part]]] = {}
    for shot, part in zip(shots, parts, strict=True):
        found.setdefault(shot.key, []).append((shot, part))
    return found


# --- Composing -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """One thing that is asked for: the key of its pictures, what one may say of it, where it stands in the gallery, and
    what it must not be found by (itself: -1 for nothing). ``wrong``: what one may say by mistake."""

    key: str
    group: str
    words: Sequence[str]
    right: Sequence[int]
    wrong: Sequence[str]
    itself: int = -1


@dataclass
class Composed:
    """Queries of one gallery: ``parts`` of each, which part is damaged and how (CLEAN: none), ``scores`` of each part
    [n, p, vectors, assets] and which assets are ``right`` [n, assets]."""

    name: str
    parts: list[dict[str, Part]]
    damaged: NDArray[np.str_]
    kinds: NDArray[np.str_]
    groups: NDArray[np.str_]
    scores: Floats
    right: NDArray[np.bool_]
    said: list[str] = field(default_factory=list)
    agreement_known: bool = True

    def ranks(self, weights: Floats) -> NDArray[np.intp]:
        """The rank (0 is best) of the best right asset under these weights [n, p]; ties count against it."""
        found = np.einsum("np,npvg->nvg", weights, self.scores).max(axis=1)
        best = np.where(self.right, found, -np.inf).max(axis=1)
        return (np.where(self.right, -np.inf, found) >= best[:, None]).sum(axis=1)

    def examples(self, prior: dict[str, float]) -> Examples:
        """For the fit: the candidates that matter."""
        flat = self.scores.reshape(len(self.parts), len(PARTS), -1)
        right = np.repeat(self.right[:, None], self.scores.shape[2], axis=1).reshape(len(self.parts), -1)
        chosen = [_candidates(scores, correct) for scores, correct in zip(flat, right, strict=True)]
        width = len(PARTS) * NEAREST + NEAREST + MOST_RIGHT
        scores = np.full((len(chosen), len(PARTS), width), NOTHING, np.float32)
        correct = np.zeros((len(chosen), width), bool)
        for row, places in enumerate(chosen):
            scores[row, :, : len(places)] = flat[row][:, places]
            correct[row, : len(places)] = right[row, places]
        priors = np.array(
            [[prior[part] * (part in parts) for part in PARTS] for parts in self.parts], np.float32
        )
        inputs = np.stack([inputs_of(parts) for parts in self.parts])
        if not self.agreement_known:
            inputs[:, AGREEMENTS] = np.nan
        return Examples(inputs, priors, scores, correct, np.ones(len(chosen), np.float32))


def _candidates(scores: Floats, right: NDArray[np.bool_]) -> NDArray[np.intp]:
    mixed = scores.sum(axis=0)
    rankings = [ranking for ranking in (*scores, mixed) if ranking.any()]
    near = [np.argsort(-ranking)[:NEAREST] for ranking in rankings]
    correct = np.flatnonzero(right)
    found = np.unique(np.concatenate([*near, correct[np.argsort(-mixed[correct])[:MOST_RIGHT]]]))
    kept: NDArray[np.intp] = found[mixed[found] > NOTHING]
    return kept


#: Somebody else's words, and sentences that have nothing to do with pictures, beside what `corruptions.WORDS` does.
WRONG, CHATTER = "wrong", "chatter"


def compose(
    name: str,
    wanted: Sequence[Wanted],
    shots: Mapping[str, Sequence[tuple[Shot, Part]]],
    gallery: Sequence[Floats],
    eyes: CachedImages,
    chatter: Sequence[str],
    seed: int,
) -> Composed:
    """Queries of a picture and words. ``shots``: of each key the clean one first. ``gallery``: the vectors [assets,
    256] of each kind that the assets have."""
    random = np.random.default_rng(seed)
    rows = [row for one in wanted for row in _rows(one, shots[one.key], chatter, random)]
    texts = [text for *_, text in rows]
    vectors = eyes.read(texts, name.partition("/")[0])
    parts = [
        {"text": Part(vector, of_words(text)), "image": picture}
        for (_, picture, *_, text), vector in zip(rows, vectors, strict=True)
    ]
    return assembled(name, parts, [(one, damaged, kind) for one, _, damaged, kind, _ in rows], gallery, texts)


def assembled(
    name: str,
    parts: list[dict[str, Part]],
    about: Sequence[tuple[Wanted, str, str]],
    gallery: Sequence[Floats],
    said: list[str],
) -> Composed:
    """``about`` each query: what is wanted, its damaged part and the kind of damage."""
    scores = np.zeros((len(parts), len(PARTS), len(gallery), len(gallery[0])), np.float32)
    right = np.zeros((len(parts), len(gallery[0])), bool)
    for place, part in enumerate(PARTS):
        rows = [row for row, each in enumerate(parts) if part in each]
        if rows:
            queries = np.stack([parts[row][part].vector for row in rows])
            scores[rows, place] = np.stack([queries @ vectors.T for vectors in gallery], axis=1)
    for row, (one, _, _) in enumerate(about):
        right[row, list(one.right)] = True
        if one.itself >= 0:
            right[row, one.itself], scores[row, :, :, one.itself] = False, NOTHING
    damaged, kinds = (np.array([each[at] for each in about]) for at in (1, 2))
    groups = np.array([one.group for one, _, _ in about])
    return Composed(name, parts, damaged, kinds, groups, scores, right, said)


Row = tuple[Wanted, Part, str, str, str]
#: Drawn for each wanted thing: two of the first, one of the second, which the gate may be kept from seeing.
WORDS_SEEN, WORDS_UNSEEN = (WRONG, WRONG, "typos", "cut"), ("mash", "say_nothing", CHATTER)


def _rows(
    one: Wanted, shots: Sequence[tuple[Shot, Part]], chatter: Sequence[str], random: np.random.Generator
) -> Iterator[Row]:
    clean = shots[0][1]
    yield one, clean, CLEAN, CLEAN, str(random.choice(list(one.words)))
    for kind in [*random.choice(WORDS_SEEN, 2), *random.choice(WORDS_UNSEEN, 1)]:
        said = str(random.choice(list(one.words)))
        yield one, clean, "text", str(kind), worse_words(str(kind), said, one.wrong, chatter, random)
    for shot, picture in shots[1:]:
        yield one, picture, "image", shot.kind, str(random.choice(list(one.words)))


def worse_words(
    kind: str, said: str, wrong: Sequence[str], chatter: Sequence[str], random: np.random.Generator
) -> str:
    if kind == WRONG:
        return str(random.choice(list(wrong)))
    if kind == CHATTER:
        return str(random.choice(list(chatter)))
    return corruptions.WORDS[kind](said, random.uniform(), random)
