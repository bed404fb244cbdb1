"""Fits the medians of ``ml.hashing.image_codes``: ``python -m research.hashing.image_codes FOLDER…``.

Those that ship are of grocery_store, playground_50_50 and modern_generators (NOTICE).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ml.hashing.image_codes import WEIGHTS, pooled
from ml.media import Decoder, MediaError


def fit(folders: Sequence[Path], out: Path = WEIGHTS) -> None:
    """Write the medians over all pictures below folders to ``out`` (.npz)."""
    features = []
    with Decoder() as decoder:
        for path in sorted(path for one in folders for path in one.rglob("*") if path.is_file()):
            try:
                features.append(pooled(decoder.image(path, thumbnail=False).pixels))
            except MediaError:
                continue
    out.parent.mkdir(exist_ok=True)
    np.savez(out, medians=np.median(features, axis=0).astype(np.float32), pictures=len(features))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m research.hashing.image_codes", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    given = parser.parse_args()
    fit(given.folders, given.out)
