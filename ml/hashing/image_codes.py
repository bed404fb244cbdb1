"""A code of how a picture looks: 1,280 signs by which a list is narrowed down to a few candidates for a copy.

The last features of EfficientNet-Lite0, pooled over the picture (generalised mean of Radenović et al. 2018); each
sign says whether a feature is above its median over pictures. Crops, turns, mirror images and captions change few of
them, so that the true original stands among the first eight of a list; that it is a copy, only its points can tell
(``ml.hashing.points``).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL = "efficientnet-lite0"
FEATURES = 1280
BYTES = FEATURES // 8
WEIGHTS = Path(__file__).with_name("weights") / "looks-1.npz"

#: Codes of two pictures that have nothing in common differ in about .43 of their signs; copies in less than this,
#: but for tiny ones. Codes beyond are no candidates.
LIMIT = 0.40

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def missing() -> str:
    """Empty if codes can be made here, else what has to be done."""
    from ml.compression.store import ModelsMissing, find_model

    try:
        find_model(MODEL)
    except ModelsMissing as error:
        return str(error)
    return ""


def image_code(pixels: Pixels) -> bytes:
    """The 160 bytes of a picture, uint8 [h, w, 3]. Raises ModelsMissing."""
    return np.packbits(pooled(pixels) > _medians()).tobytes()


@cache
def _medians() -> Floats:
    with np.load(WEIGHTS, allow_pickle=False) as arrays:
        return arrays["medians"].astype(np.float32)


def pooled(pixels: Pixels) -> Floats:
    """The features, of length one: float32 [1280]."""
    from ml.encoders._efficientnet import squash

    session, side, name = _network()
    cells = session.run([name], {"pixels": squash(pixels, side)[None]})[0][0]
    features = np.cbrt((np.maximum(cells, 0).astype(np.float32) ** 3).mean(axis=1))
    return features / max(float(np.linalg.norm(features)), 1e-9)


@cache
def _network() -> tuple[Any, int, str]:
    """The prepared network with what its windows are pooled from, [1, 1280, cells], as another answer."""
    import onnx

    from ml.alignment.windows import INPUT_SIDES
    from ml.compression.store import find_model
    from ml.encoders._onnx import open_session

    model = onnx.load(find_model(MODEL).path)
    pooling = next(node for node in model.graph.node if "pooling" in node.input)
    name = next(given for given in pooling.input if given != "pooling")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return open_session(model.SerializeToString()), INPUT_SIDES[MODEL], name
