"""The shipped models of abuse: hashed n-grams, eight-bit weights, a calibration and a threshold for each head.

One safetensors file and one JSON manifest a language in ``weights/abuse-1``; see docs/models/abuse.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.auditing.calibration import Calibration
from ml.auditing.hashed_text import BUCKETS, LinearModel

FOLDER = Path(__file__).with_name("weights") / "abuse-1"
MANIFEST = "manifest.json"
LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Head:
    """One category of a model. ``threshold``: the probability that had the best macro-F1 on the calibration split."""

    name: str
    calibration: Calibration
    threshold: float


@dataclass(frozen=True)
class TextModel:
    """A language's model: ``heads`` in the order of its logits. ``version``: digits over its files."""

    language: str
    linear: LinearModel
    heads: tuple[Head, ...]
    version: str

    def probabilities(self, cleaned: str) -> dict[str, float]:
        """By category, of a text that ``hashed_text.clean`` gave."""
        logits = self.linear.logits(cleaned)
        return {
            head.name: head.calibration.probability(float(logit))
            for head, logit in zip(self.heads, logits, strict=True)
        }


@cache
def load_model(language: str, folder: Path = FOLDER) -> TextModel:
    """The model of ``en`` or ``zh``. Raises FileNotFoundError, ValueError for files that do not belong together."""
    from safetensors.numpy import load

    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))["models"][language]
    content = (folder / manifest["file"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
        raise ValueError(f"{folder / manifest['file']} is not the file that its manifest describes")
    arrays = load(content)
    linear = LinearModel(
        weights=_widened(arrays["weights"], arrays["weight_scales"][:, None]),
        idf=_widened(arrays["idf"], arrays["idf_scale"]),
        bias=arrays["bias"],
        words=manifest["words"],
        characters=tuple(manifest["characters"]),
    )
    heads = tuple(
        Head(name, Calibration.loads(json.dumps(head["calibration"])), head["threshold"])
        for name, head in manifest["heads"].items()
    )
    return TextModel(language, linear, heads, manifest["sha256"][:12])


def pack(linear: LinearModel) -> dict[str, NDArray[Any]]:
    """The arrays of a model's file: int8 weights and uint8 idf, with their scales."""
    weights = linear.weights.astype(np.float32)
    scales = np.maximum(np.abs(weights).max(axis=1), 1e-6) / 127
    idf_scale = np.maximum(linear.idf.astype(np.float32).max(), 1e-6) / 255
    return {
        "weights": np.rint(weights / scales[:, None]).astype(np.int8),
        "weight_scales": scales.astype(np.float32),
        "idf": np.rint(linear.idf.astype(np.float32) / idf_scale).astype(np.uint8),
        "idf_scale": np.array([idf_scale], np.float32),
        "bias": linear.bias.astype(np.float32),
    }


def save(folder: Path, language: str, linear: LinearModel, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write a model's file; what the manifest says of it: ``about`` and the file's name and digest."""
    from safetensors.numpy import save as to_bytes

    content = to_bytes(pack(linear))
    path = folder / f"{language}.safetensors"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    shape = {"words": linear.words, "characters": list(linear.characters), "buckets": BUCKETS}
    return {"file": path.name, "sha256": digest, **shape, **about}


def quantised(linear: LinearModel) -> LinearModel:
    """The model as it is after being stored and loaded: what is calibrated and measured is what ships."""
    packed = pack(linear)
    return LinearModel(
        weights=_widened(packed["weights"], packed["weight_scales"][:, None]),
        idf=_widened(packed["idf"], packed["idf_scale"]),
        bias=packed["bias"],
        words=linear.words,
        characters=linear.characters,
    )


def _widened(values: NDArray[Any], scale: NDArray[np.float32]) -> NDArray[np.float16]:
    return (values.astype(np.float32) * scale).astype(np.float16)
