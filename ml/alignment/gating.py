"""Weights of a query's parts, chosen for that query: a small network corrects the fixed weights of its task.

    gate = Gate.load()
    weighing = gate.weigh({"text": Part(vector, signs), "image": Part(vector, signs)}, {"text": 0.5, "image": 0.5})

As in mixtures of experts (Jacobs et al. 1991), but over parts of one query: the logarithm of each prior weight plus a
bounded correction, then a softmax over the parts that are there. It reads how far each part can be trusted
(``ml.alignment.confidence``) and how well they agree, never the vectors themselves: so it serves any joint space.
NumPy only, some 0.1 ms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ml.alignment.confidence import SIGNS, Signs

Floats = NDArray[np.float32]
Arrays = dict[str, Floats]

SHIPPED = Path(__file__).parent / "gates" / "gate-1"
TENSORS, MANIFEST = "gate.safetensors", "manifest.json"

#: The parts that it corrects; others keep their prior weight.
PARTS = ("text", "image", "audio")
PAIRS = tuple(combinations(PARTS, 2))
#: A correction multiplies a weight by at most exp of this, so that no part that was asked for goes unheard.
LIMIT = 4.0
#: Standardised inputs beyond this say no more.
FURTHEST, ODD = 4.0, 3.0
#: From here on a sign is worth a remark.
REMARKABLE = 1.5

#: Names of the inputs: which parts are there, how well each two agree, and the signs of each.
INPUTS: tuple[str, ...] = (
    *(f"has_{part}" for part in PARTS),
    *(f"agree_{one}_{other}" for one, other in PAIRS),
    *(f"{part}_{sign}" for part in PARTS for sign in SIGNS[part]),
)
_PLACE = {name: place for place, name in enumerate(INPUTS)}


class GateError(RuntimeError):
    """The files of a gate are missing, damaged or not of this kind; the message says which."""


@dataclass(frozen=True)
class Part:
    """One part of a query: its vector float32 [d] of norm 1 and what is known of it."""

    vector: Floats
    signs: Signs = field(default_factory=dict)


@dataclass(frozen=True)
class Weighing:
    """Weights by part, which sum to 1, and by what the gate multiplied each prior weight before they were scaled."""

    weights: dict[str, float]
    factors: dict[str, float]


@dataclass(frozen=True)
class Remark:
    """A sign of a part that is far from the usual; ``high``: above it."""

    part: str
    sign: str
    high: bool


def inputs_of(parts: Mapping[str, Part]) -> Floats:
    """The inputs [len(INPUTS)] as they are measured; NaN where nothing is known."""
    values = np.full(len(INPUTS), np.nan, np.float32)
    for part in PARTS:
        values[_PLACE[f"has_{part}"]] = part in parts
        signs = parts[part].signs if part in parts else {}
        for sign in SIGNS[part]:
            if sign in signs:
                values[_PLACE[f"{part}_{sign}"]] = signs[sign]
    for one, other in PAIRS:
        if one in parts and other in parts:
            values[_PLACE[f"agree_{one}_{other}"]] = float((parts[one].vector * parts[other].vector).sum())
    return values


@dataclass(frozen=True)
class Network:
    """The arrays of a gate, float32: ``mean`` and ``scale`` [i], ``inner`` [2 i, h], ``inner_bias`` [h], ``outer``
    [h, parts] and ``outer_bias`` [parts]."""

    mean: Floats
    scale: Floats
    inner: Floats
    inner_bias: Floats
    outer: Floats
    outer_bias: Floats

    def standardised(self, inputs: Floats) -> Floats:
        """Inputs [n, i] in deviations from the usual; what is not known is as usual, 0."""
        scaled = (inputs - self.mean) * self.scale
        return np.clip(np.nan_to_num(scaled, nan=0.0), -FURTHEST, FURTHEST)

    def features(self, inputs: Floats) -> Floats:
        """What the network reads [n, 2 i]: the deviations, and how large they are, as too much of a sign is as bad as
        too little. That is what carries over to damage that it was never shown."""
        deviations = self.standardised(inputs)
        return np.concatenate([deviations, np.minimum(np.abs(deviations), ODD)], axis=-1)

    def corrections(self, inputs: Floats) -> Floats:
        """Inputs [n, i] to what is added to the logarithms of the prior weights: [n, parts]."""
        hidden = np.tanh(self.features(inputs) @ self.inner + self.inner_bias)
        raw: Floats = hidden @ self.outer + self.outer_bias
        return LIMIT * np.tanh(raw / LIMIT)

    def arrays(self) -> Arrays:
        return {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in SHAPES}


#: Of every array by the number of inputs and hidden units.
SHAPES: dict[str, tuple[str, ...]] = {
    "mean": ("i",),
    "scale": ("i",),
    "inner": ("2i", "h"),
    "inner_bias": ("h",),
    "outer": ("h", "p"),
    "outer_bias": ("p",),
}
LARGEST_HIDDEN = 64


class Gate:
    """Thread-safe. ``id`` and ``version`` as the manifest names them."""

    def __init__(self, network: Network, gate_id: str, version: str) -> None:
        self.network, self.id, self.version = network, gate_id, version

    @classmethod
    def load(cls, folder: Path | None = None) -> Gate:
        """The gate in a folder, by default the shipped one. Raises GateError for damaged files."""
        manifest, content = _read(folder or SHIPPED)
        return cls(unpack(content), manifest["id"], manifest["version"])

    def weigh(self, parts: Mapping[str, Part], prior: Mapping[str, float]) -> Weighing:
        """Weights of these parts. A part whose prior is 0 stays at 0; at least one is above it.

        With fewer than two parts that can be compared, or where none of two is a text, picture or speech, these are
        the prior's own.
        """
        seen = {name: part for name, part in parts.items() if name in PARTS and prior[name] > 0}
        factors = dict.fromkeys(parts, 1.0)
        if len(seen) > 1:
            raised = self.network.corrections(inputs_of(seen)[None])[0]
            factors |= {name: float(np.exp(raised[PARTS.index(name)])) for name in seen}
        return Weighing(_scaled({name: prior[name] * factors[name] for name in parts}), factors)

    def remarks(self, parts: Mapping[str, Part]) -> list[Remark]:
        """What is unusual about these parts, the most unusual first."""
        far = self.network.standardised(inputs_of(parts)[None])[0]
        found = [
            (abs(far[place]), Remark(part, sign, bool(far[place] > 0)))
            for part in PARTS
            for sign in SIGNS[part]
            if abs(far[place := _PLACE[f"{part}_{sign}"]]) > REMARKABLE
        ]
        return [remark for _, remark in sorted(found, key=lambda one: -one[0])]


def _scaled(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


# --- On disk ---------------------------------------------------------------------------------------------


def pack(network: Network) -> bytes:
    """A network as the bytes of a safetensors file; equal networks give equal bytes."""
    return save(network.arrays())


def unpack(content: bytes) -> Network:
    """Raises GateError for bytes that are no gate of this code."""
    try:
        arrays: dict[str, NDArray[Any]] = load(content)
    except SafetensorError as error:
        raise GateError(f"this is no safetensors file: {error}") from error
    if set(arrays) != set(SHAPES):
        raise GateError(f"a gate has the tensors {', '.join(SHAPES)}, not {', '.join(sorted(arrays))}")
    sizes = {"i": len(INPUTS), "2i": 2 * len(INPUTS), "p": len(PARTS), "h": arrays["inner_bias"].size}
    for name, shape in SHAPES.items():
        if arrays[name].dtype != np.float32 or arrays[name].shape != tuple(sizes[axis] for axis in shape):
            raise GateError(f"{name!r} is {arrays[name].dtype}{list(arrays[name].shape)}")
        if not np.isfinite(arrays[name]).all():
            raise GateError(f"{name!r} holds numbers that are not finite")
    if sizes["h"] > LARGEST_HIDDEN:
        raise GateError(f"{sizes['h']} hidden units, at most {LARGEST_HIDDEN}")
    return Network(**arrays)


def write_gate(folder: Path, network: Network, manifest: Mapping[str, Any]) -> None:
    """Write both files; the manifest vouches for the weights by their SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    content = pack(network)
    (folder / TENSORS).write_bytes(content)
    body = {**manifest, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / MANIFEST).write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        content = (folder / TENSORS).read_bytes()
        digest = manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GateError(f"there is no gate in {folder}: {error}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise GateError(f"{folder / TENSORS} is damaged: its SHA-256 is not the one in {MANIFEST}")
    return manifest, content
