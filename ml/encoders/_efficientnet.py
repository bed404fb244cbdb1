"""What the bundled EfficientNets share: squash, run the ONNX graph, give probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ml.alignment.features import described
from ml.alignment.windows import INPUT_SIDES
from ml.compression.store import COMMAND, ModelsMissing, find_model
from ml.devices import in_halves
from ml.encoders._onnx import device_of, open_session
from ml.encoders.base import Encoder, Pixels, Vectors, as_pixels

#: Above eight pictures a call gains no speed and costs 30 MB a picture.
MAX_BATCH = 8


class EfficientNet(Encoder):
    """Class probabilities, averaged over windows: P = mean over windows of softmax(logits / 1.5).

    The windows (``ml.alignment.windows``), the softmax and the mean are inside the ONNX graph. Rows of the
    result are non-negative and sum to 1; a picture's row does not depend on its batch (static ranges).
    """

    modality = "image"
    dimension = 1000

    def __init__(self, model_id: str) -> None:
        model = find_model(model_id)
        self.id = model_id
        self.version = model.version
        self.side = INPUT_SIDES[model_id]
        self._session = open_session(model.path)
        self.device = device_of(self._session)
        self._features: int = _features_of(self._session, model_id)

    def encode(self, batch: Sequence[Pixels]) -> Vectors:
        """Uint8 pictures [h, w, 3] of any size to float32 [n, 1000]."""
        return self.look(batch)[0]

    def look(self, batch: Sequence[Pixels]) -> tuple[Vectors, Vectors]:
        """The same, and what the network saw before it named it: float32 [n, F], its blocks of norm 1."""
        parts = [
            in_halves(self._run, batch[start : start + MAX_BATCH])
            for start in range(0, len(batch), MAX_BATCH)
        ]
        if not parts:
            return np.empty((0, self.dimension), np.float32), np.empty((0, self._features), np.float32)
        probabilities, features = (np.concatenate(rows) for rows in zip(*parts, strict=True))
        return probabilities, described(features)

    def _run(self, batch: Sequence[Pixels]) -> tuple[Vectors, Vectors]:
        squashed = np.stack([squash(as_pixels(picture), self.side) for picture in batch])
        probabilities, features = self._session.run(["probabilities", "features"], {"pixels": squashed})
        return probabilities, features


def _features_of(session: Any, model_id: str) -> int:
    outputs = {output.name: output.shape for output in session.get_outputs()}
    if "features" not in outputs:
        raise ModelsMissing(f"model {model_id!r} was prepared by an earlier release: run `{COMMAND}`")
    return int(outputs["features"][1])


def squash(picture: Pixels, side: int) -> Pixels:
    """Resize to a square regardless of shape: the windows then cover all of the picture.

    Averaging whole pixels first (``reducing_gap``) halves the time and keeps probabilities at cosine .9996.
    """
    if picture.shape[:2] == (side, side):
        return picture
    resized = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC, reducing_gap=1.0)
    return np.asarray(resized)
