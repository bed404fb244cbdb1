"""A judge of its own for drawings: which of 100 prompts does a drawing show? Fitted on the designs' JUDGE split alone.

Its eyes are EfficientNet-Lite0 and -Lite2 (features of four depths, class probabilities) and colours by place; its ears
MiniLM. Its score is a regularised CCA between both over all art styles, plus the joint space's, which needs no
pairs (the names of classes, and colour words). Settings come from cross-validation inside that split; InfoNCE on top of
the CCA gave nothing (R@10 among 100: 60.2 and 60.3).

The generator's training concepts are no part of it: a judge that knew them would score what was learnt by heart above
real drawings.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from _data import CACHE
from numpy.typing import NDArray

from ml.alignment.colours import colour_scores
from ml.alignment.features import ImageFeatures
from ml.alignment.numerics import unit
from ml.alignment.space import JointSpace
from ml.drawing.conditioning import JOINT, TEXT, prompt_vectors
from research.drawing.designs import JUDGE, Design, Designs, Pixels

Floats = NDArray[np.float32]

SIDE, BATCH = 160, 32
#: Directions of the features that are kept, regularisation of both sides (times the mean eigenvalue), canonical
#: directions, and the power of their correlations that weights them.
SPAN, RIDGE, RIDGE_TEXT, WIDTH, POWER = 700, 3.0, 10.0, 256, 0.5
NETWORKS = ("efficientnet-lite0", "efficientnet-lite2")
#: timm's stages that are pooled, beside the head.
STAGES = (3, 4, 6)


@dataclass(frozen=True)
class Seen:
    """Drawings as the judge sees them: ``features`` [n, F] in blocks of norm 1 or less, ``placed`` [n, 256] in the
    joint space."""

    features: Floats
    placed: Floats


class Eyes:
    """One look costs some 40 ms of a core; real drawings are looked at once (cached)."""

    def __init__(self) -> None:
        self._networks = [_network(name) for name in NETWORKS]
        self._space = JointSpace.load()

    def look(self, pixels: Pixels) -> Seen:
        """uint8 drawings [n, 64, 64, 3]."""
        parts = [self._batch(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        features, classes = (np.concatenate(rows) for rows in zip(*parts, strict=True))
        none = np.empty((len(pixels), 0), np.float32)
        sight = ImageFeatures(classes, none, colour_scores(list(pixels)))
        return Seen(features, self._space.project_image(sight))

    def real(self, designs: Designs, rows: list[int]) -> Seen:
        """Drawings of the designs by number."""
        digest = hashlib.sha256(designs.pixels[rows].tobytes()).hexdigest()[:16]
        path = CACHE / f"judged-{SIDE}-{digest}.npz"
        if path.is_file():
            with np.load(path) as kept:
                return Seen(kept["features"].astype(np.float32), kept["placed"])
        seen = self.look(designs.pixels[rows])
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(path, features=seen.features.astype(np.float16), placed=seen.placed)
        return seen

    def _batch(self, pixels: Pixels) -> tuple[Floats, Floats]:
        import torch

        batch = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
        batch = torch.nn.functional.interpolate(batch, size=(SIDE, SIDE), mode="bicubic").clamp(-1, 1)
        blocks: list[Floats] = []
        named: list[Floats] = []
        with torch.inference_mode():
            for network in self._networks:
                seen, classes = _seen_by(network, batch)
                blocks += [*seen, unit(classes**0.45)]
                named.append(classes)
        blocks += [_places(pixels), 0.5 * unit(colour_scores(list(pixels)) + 1e-3)]
        return np.concatenate(blocks, axis=1).astype(np.float32), np.mean(named, axis=0)


def _network(name: str) -> Any:
    import timm
    import torch

    from ml.compression.prepare import weights_file

    network = timm.create_model(f"tf_{name.replace('-', '_')}", pretrained=False).eval()
    state = torch.load(weights_file(name), map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    return network


def _seen_by(network: Any, batch: Any) -> tuple[list[Floats], Floats]:
    """Blocks of features, and the classes' probabilities [n, 1000]."""
    x, found = network.bn1(network.conv_stem(batch)), []
    for number, stage in enumerate(network.blocks):
        x = stage(x)
        if number in STAGES:
            found.append(0.5 * unit(x.mean(dim=(2, 3)).numpy()))
    pooled = network.bn2(network.conv_head(x)).mean(dim=(2, 3))
    found.append(unit(np.sqrt(np.maximum(pooled.numpy(), 0))))
    return found, (network.classifier(pooled) / 1.5).softmax(dim=1).numpy()


def _places(pixels: Pixels) -> Floats:
    """Mean colours of 4 × 4 places."""
    cells = pixels.reshape(len(pixels), 4, 16, 4, 16, 3).mean(axis=(2, 4)) / 127.5 - 1
    return 0.5 * unit(cells.reshape(len(pixels), -1).astype(np.float32) + 1e-3)


@dataclass(frozen=True)
class Judge:
    """Places drawings and prompts on one sphere; the nearer, the better they fit."""

    picture_mean: Floats
    picture_map: Floats
    text_mean: Floats
    text_map: Floats

    def scores(self, seen: Seen, words: Floats) -> Floats:
        """How well each drawing fits each prompt of words [m, PROMPT]: [n, m]."""
        pictures = unit((seen.features - self.picture_mean) @ self.picture_map)
        texts = unit((words[:, :TEXT] / np.sqrt(TEXT) - self.text_mean) @ self.text_map)
        placed = words[:, TEXT:] / np.sqrt(JOINT)
        return pictures @ texts.T + seen.placed @ placed.T


def fitted(eyes: Eyes, designs: Designs, concepts: list[Design] | None = None) -> Judge:
    """On all drawings of these concepts (by default of the JUDGE split), each with the mean vector of its names."""
    concepts = designs.of(JUDGE) if concepts is None else concepts
    rows = [row for one in concepts for row in one.pictures.values()]
    owners = np.repeat(np.arange(len(concepts)), [len(one.pictures) for one in concepts])
    named = [_named(one) for one in concepts]
    words = words_once([text for texts in named for text in texts])[:, :TEXT] / np.sqrt(TEXT)
    starts = np.cumsum([0, *map(len, named)])
    means = np.stack([words[a:b].mean(axis=0) for a, b in pairwise(starts)])
    return _canonical(means[owners], eyes.real(designs, rows).features)


def _named(one: Design) -> list[str]:
    return [one.label, one.described, f"a picture of a {one.label}"]


def words_once(texts: list[str]) -> Floats:
    """What ``words_of`` says [n, PROMPT], cached: reading takes minutes."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    path = CACHE / f"words-{digest}.npy"
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(path, prompt_vectors(texts))
    return np.asarray(np.load(path))


def _canonical(texts: Floats, pictures: Floats) -> Judge:
    """Regularised CCA; row by row one drawing and its words."""
    text_mean, picture_mean = texts.mean(axis=0), pictures.mean(axis=0)
    left, right = texts - text_mean, pictures - picture_mean
    values, vectors = np.linalg.eigh(right @ right.T)
    span = right.T @ (vectors[:, -SPAN:] / np.sqrt(np.maximum(values[-SPAN:], 1e-9)))
    inside = right @ span
    a, b = _root(left, RIDGE_TEXT), _root(inside, RIDGE)
    u, correlations, vt = np.linalg.svd(a @ (left.T @ inside / len(left)) @ b, full_matrices=False)
    weight = correlations[:WIDTH] ** POWER
    picture_map, text_map = span @ (b @ vt[:WIDTH].T * weight), a @ u[:, :WIDTH] * weight
    return Judge(*(part.astype(np.float32) for part in (picture_mean, picture_map, text_mean, text_map)))


def _root(rows: Floats, strength: float) -> NDArray[np.float64]:
    """The inverse square root of the covariance, with ``strength`` times its mean eigenvalue added."""
    values, vectors = np.linalg.eigh((rows.T @ rows / len(rows)).astype(np.float64))
    added = np.maximum(values, 0) + strength * values.mean()
    root: NDArray[np.float64] = (vectors / np.sqrt(added)) @ vectors.T
    return root
