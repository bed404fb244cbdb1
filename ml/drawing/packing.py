"""The weights of the generator in one small file: matrices as INT8 with a scale a row, the rest as float32."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ml.drawing.conditioning import PROMPT
from ml.drawing.network import Basis

Floats = NDArray[np.float32]

SHIPPED = Path(__file__).parent / "weights" / "drawing.safetensors"
FORMAT = "crosslight-drawing-1"
SCALES = ".scales"


class DrawingError(RuntimeError):
    """The weights are missing, damaged or not of this kind; the message says which."""


@dataclass(frozen=True)
class Packed:
    """What a file holds. ``about`` is JSON: how it was trained and on what."""

    weights: dict[str, Floats]
    basis: Basis
    #: Of the finishing touch; empty where there is none.
    fine: dict[str, Floats]
    #: Words of the names that were learnt [m, PROMPT]; m may be 0.
    names: Floats
    about: dict[str, Any]
    #: First digits of the file's SHA-256.
    digest: str


def unpack(path: Path) -> Packed:
    """Raises DrawingError."""
    try:
        with safe_open(path, "numpy") as file:
            facts = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if facts.get("format") != FORMAT:
            raise DrawingError(f"{path} holds no drawing weights of this kind")
        named = {name: _full(name, arrays) for name in arrays if not name.endswith(SCALES)}
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        basis = Basis(**_part("basis", named))
        names = named.get("names", np.empty((0, PROMPT), np.float32))
        about = json.loads(facts["about"])
        return Packed(_part("flow", named), basis, _part("fine", named), names, about, digest)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DrawingError(f"{path} cannot be read: {error}") from error


def _part(part: str, named: Mapping[str, Floats]) -> dict[str, Floats]:
    start = f"{part}."
    return {name.removeprefix(start): value for name, value in named.items() if name.startswith(start)}


def _full(name: str, arrays: Mapping[str, NDArray[Any]]) -> Floats:
    value = arrays[name].astype(np.float32)
    return value * arrays[name + SCALES] if name + SCALES in arrays else value
