"""Real vectors of the shipped space, and how many dimensions they really have.

The demo tenants' own vectors, and those of some 50,000 sentences where the measuring sets are (`_data.DATA`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from _data import CACHE, DATA, _digest
from _report import TOY, skip
from numpy.typing import NDArray

from ml.alignment.space import JointSpace
from standalone.config import ROOT

Vectors = NDArray[np.float32]

# The encoder reads English only: sets in other languages would collapse onto a few points.
SETS = (
    "banking77",
    "clinc150_small",
    "davidson_hate",
    "faq",
    "fashion_products",
    "flickr8k_1k",
    "iu_xray_reports",
)
SAMPLE = 10_000
NEIGHBOURS = 20
TOY_TEXTS = 60


def sentences() -> list[str]:
    """Different texts of the measuring sets; the phrases that ship with the space where they are absent."""
    found = [text for name in SETS for row in _rows(name) for text in _texts(row)]
    if not found:
        skip("no measuring sets in $CROSSLIGHT_DATA or ../shared/data: vectors resemble the demo's only")
        found = [
            line for path in sorted((ROOT / "ml/alignment/phrases").glob("*.txt")) for line in _lines(path)
        ]
    different_ones = list(dict.fromkeys(text for text in found if len(text) > 3))
    return different_ones[:: max(1, len(different_ones) // TOY_TEXTS)] if TOY else different_ones


def _rows(name: str) -> list[dict[str, Any]]:
    path = DATA / name / "manifest.jsonl"
    return [json.loads(line) for line in _lines(path)] if path.is_file() else []


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if line.strip()]


def _texts(row: dict[str, Any]) -> list[str]:
    text = row.get("text")
    return text if isinstance(text, list) else [text] if isinstance(text, str) else []


def embedded(space: JointSpace, texts: list[str]) -> Vectors:
    """The space's vectors [n, d] of these texts; on disk once they were made, for that takes minutes."""
    path = CACHE / f"space-{_digest([space.id, space.version, *texts])}.npy"
    if not path.exists():
        # Alike in length fill a batch without padding.
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        out = np.empty((len(texts), space.dimension), np.float32)
        for start in range(0, len(order), 32):
            some = order[start : start + 32]
            out[some] = space.embed_texts([texts[n] for n in some])
        CACHE.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        np.save(part, out)
        part.replace(path)
    return np.load(path)


def different(vectors: Vectors) -> Vectors:
    """Without repeated rows: two equal points have no distance to estimate from."""
    _, first = np.unique(np.round(vectors, 4), axis=0, return_index=True)
    return vectors[np.sort(first)]


def neighbours(vectors: Vectors, count: int = NEIGHBOURS) -> tuple[Vectors, NDArray[np.int64]]:
    """Distances and rows [n, count] of each row's nearest others, nearest first. Unit vectors."""
    scores, rows = faiss.knn(vectors, vectors, count + 1, metric=faiss.METRIC_INNER_PRODUCT)
    return np.sqrt(np.maximum(2 - 2 * scores[:, 1:], 1e-12)), rows[:, 1:]


def character(vectors: Vectors, seed: int = 0) -> dict[str, float]:
    """What makes vectors hard to index, of a sample of at most 10,000: estimates depend on how many there are.

    `two_nn`: Facco et al. 2017, without the tenth of greatest ratios. `mle`: Levina and Bickel 2004 with 20
    neighbours, averaged as MacKay and Ghahramani do. `cos_1` and `cos_10`: the median cosine to the first and
    the tenth neighbour; `cos_any`: to anyone.
    """
    rng = np.random.default_rng(seed)
    sample = vectors[rng.permutation(len(vectors))[:SAMPLE]]
    distances, _ = neighbours(np.ascontiguousarray(sample))
    ratios = np.sort(distances[:, 1] / distances[:, 0])[: int(len(sample) * 0.9)]
    share = np.arange(1, len(ratios) + 1) / len(sample)
    logs = np.log(ratios)
    two_nn = float(-(logs @ np.log(1 - share)) / (logs @ logs))
    inverse = np.log(distances[:, -1:] / distances[:, :-1]).mean(axis=1)
    cosines = 1 - np.median(distances, axis=0) ** 2 / 2
    pairs = rng.integers(0, len(sample), (2, 20_000))
    return {
        "points": len(sample),
        "two_nn": round(two_nn, 2),
        "mle": round(float(1 / inverse.mean()), 2),
        "cos_1": round(float(cosines[0]), 3),
        "cos_10": round(float(cosines[9]), 3),
        "cos_any": round(float(np.median(np.einsum("nd,nd->n", sample[pairs[0]], sample[pairs[1]]))), 3),
    }
