"""A trained student as files that ship: tensors of four and eight bits, and a manifest that vouches for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.encoders._chinese import MANIFEST, TENSORS, gram_hash

#: Numbers of a row are cut at this many times its root mean square.
LARGEST = 2.5

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]


def pack(
    grams: Sequence[str], rows: Floats, layers: Mapping[str, Floats], simplified: Mapping[str, str]
) -> Arrays:
    """The arrays that ``ml.encoders._chinese.unpacked`` reads.

    ``rows`` [n + 1, d]: one an n-gram, the last for texts of which nothing is known. ``layers``: inner, bias, outer,
    direct, shift. Of n-grams with equal hashes the first is kept.
    """
    hashes, places = np.unique(np.array([gram_hash(gram) for gram in grams], np.uint32), return_index=True)
    packed, scales = _four_bits(rows[places])
    matrices = {name: _eight_bits(layers[name], axis=0) for name in ("inner", "outer", "direct")}
    old, new = zip(*sorted(simplified.items()), strict=True)
    return {
        "grams": hashes,
        "rows": packed,
        "scales": scales,
        "unknown": rows[-1].astype(np.float32),
        "bias": layers["bias"].astype(np.float32),
        "shift": layers["shift"].astype(np.float32),
        "traditional": np.array(list(map(ord, old)), np.uint32),
        "simplified": np.array(list(map(ord, new)), np.uint32),
        **{name: matrix for name, (matrix, _) in matrices.items()},
        **{f"{name}_scales": scale for name, (_, scale) in matrices.items()},
    }


def write_student(folder: Path, arrays: Arrays, about: Mapping[str, Any]) -> None:
    """Both files; equal arrays give equal bytes. ``about`` holds at least ``id``."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    content = save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})
    (folder / TENSORS).write_bytes(content)
    body = {**about, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / MANIFEST).write_text(
        json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8"
    )


def _four_bits(rows: Floats) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Numbers from -7 to 7 with a scale a row, what is rare and large cut: [n, d] to [n, d / 2] and [n]."""
    lengths = np.sqrt(np.mean(rows**2, axis=1))
    scales = np.maximum(lengths * LARGEST / 7, 1e-6).astype(np.float16)
    whole = np.clip(np.rint(rows / scales[:, None].astype(np.float32)), -7, 7).astype(np.int8) + 8
    low, high = np.split(whole.astype(np.uint8), 2, axis=1)
    return low | high << 4, scales


def _eight_bits(matrix: Floats, axis: int) -> tuple[NDArray[np.int8], Floats]:
    """Int8 with one scale a slice along ``axis``."""
    scales = np.maximum(np.abs(matrix).max(axis=axis), 1e-8) / 127
    return np.rint(matrix / np.expand_dims(scales, axis)).astype(np.int8), scales.astype(np.float32)
