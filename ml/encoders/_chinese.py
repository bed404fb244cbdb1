"""A small student of MiniLM that reads Chinese: embeddings of character n-grams and two layers. NumPy only.

Distilled from MiniLM over CC-CEDICT and emoji labels by ``research.chinese``; see docs/models/chinese.md. The
form is fastText's (Bojanowski et al. 2017, arXiv:1607.04606) with a vocabulary instead of buckets: an n-gram that
was not learnt is left out rather than confused with another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ml.encoders.base import EncoderUnavailable, Vectors

FOLDER = Path(__file__).with_name("weights") / "zh-1"
MANIFEST, TENSORS = "manifest.json", "student.safetensors"

#: Characters of a text that are read, as many as MiniLM reads tokens.
MOST_CHARACTERS = 256
#: The longest n-gram.
LONGEST = 3
#: Keeps the length of a sum of nothing from dividing by zero.
SMALLEST = 1e-3

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Student:
    """Texts of Chinese characters to MiniLM's space. ``grams`` are sorted hashes, one a row of ``rows``."""

    simplified: dict[int, int]  #: traditional code points to simplified ones
    grams: NDArray[np.uint32]  #: [n]
    rows: NDArray[np.uint8]  #: [n, d / 2], two numbers of four bits each, as ``four_bits`` has them
    scales: NDArray[np.float32]  #: [n]
    unknown: NDArray[np.float32]  #: [d], for a text of which nothing is known
    inner: NDArray[np.float32]  #: [d, hidden]
    bias: NDArray[np.float32]  #: [hidden]
    outer: NDArray[np.float32]  #: [hidden, 384]
    direct: NDArray[np.float32]  #: [d, 384]
    shift: NDArray[np.float32]  #: [384]
    version: str

    def read(self, runs: Iterable[str]) -> Vectors:
        """Runs of Chinese characters to one unit vector [384]; characters beyond the first 256 are not read."""
        found = self._found([run.translate(self.simplified) for run in runs])
        summed = self.scales[found] @ four_bits(self.rows[found]) if len(found) else self.unknown
        level = summed / (np.sqrt(np.mean(summed**2)) + SMALLEST)
        hidden = np.maximum(level @ self.inner + self.bias, 0.0)
        vector: Vectors = level @ self.direct + hidden @ self.outer + self.shift
        return vector / np.linalg.norm(vector)

    def _found(self, runs: list[str]) -> NDArray[np.intp]:
        """The rows of the n-grams that were learnt."""
        hashes = np.fromiter(map(gram_hash, grams(runs)), np.uint32)
        places = np.minimum(np.searchsorted(self.grams, hashes), len(self.grams) - 1)
        return places[self.grams[places] == hashes]


def grams(runs: Iterable[str]) -> Iterator[str]:
    """The n-grams of 1 to 3 characters within the first 256 characters of these runs, as often as they occur."""
    left = MOST_CHARACTERS
    for run in runs:
        read = run[: max(0, left)]
        left -= len(read)
        for length in range(1, LONGEST + 1):
            yield from (read[start : start + length] for start in range(len(read) - length + 1))


def four_bits(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[n, d / 2] to whole numbers from -7 to 7, [n, d]: the first half of a row lies in the low bits."""
    return np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8


def gram_hash(gram: str) -> int:
    """32 bits of an n-gram."""
    return crc32(gram.encode("utf-8"))


@cache
def load_student(folder: Path = FOLDER) -> Student:
    """The student in a folder. Raises EncoderUnavailable for missing or damaged files."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        content = (folder / TENSORS).read_bytes()
    except (OSError, ValueError) as error:
        raise EncoderUnavailable(f"there is no Chinese student in {folder}: {error}") from error
    if hashlib.sha256(content).hexdigest() != manifest.get("sha256"):
        raise EncoderUnavailable(f"{folder / TENSORS} is damaged: its SHA-256 is not the one in {MANIFEST}")
    from safetensors.numpy import load

    return unpacked(load(content), f"{manifest['id']}-{manifest['sha256'][:12]}")


def unpacked(arrays: Arrays, version: str) -> Student:
    """Arrays as stored, ready for use; the rows stay packed, as a text needs a few of them only."""
    layers = {name: _widened(arrays, name) for name in ("inner", "outer", "direct")}
    small = {name: arrays[name].astype(np.float32) for name in ("unknown", "bias", "shift", "scales")}
    pairs = zip(arrays["traditional"].tolist(), arrays["simplified"].tolist(), strict=True)
    return Student(
        simplified=dict(pairs), grams=arrays["grams"], rows=arrays["rows"], version=version, **layers, **small
    )


def _widened(arrays: Arrays, name: str) -> NDArray[np.float32]:
    """An int8 matrix with a scale a column."""
    return arrays[name].astype(np.float32) * arrays[f"{name}_scales"]
