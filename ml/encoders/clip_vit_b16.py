"""CLIP's picture tower, ViT-B/16 (Radford et al. 2021, arXiv:2103.00020; MIT), INT8: two views of a picture.

The middle of a picture shows what its maker looked at, the whole of it, squashed to a square, what stands beside:
together they find better than either. A square picture has one view, which stands twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ml.compression import clip
from ml.compression.store import ModelsMissing, find_model
from ml.encoders._onnx import device_of, open_session
from ml.encoders.base import Encoder, EncoderUnavailable, Pixels, Vectors, as_pixels

#: More views a call gain no speed and cost 20 MB each.
MAX_BATCH = 4


class ClipPictures(Encoder):
    """A picture's vector does not depend on its neighbours in a batch: activations are scaled by token."""

    id = "clip-vit-b16"
    modality = "image"
    dimension = 2 * clip.DIMENSION

    def __init__(self) -> None:
        try:
            model = find_model(self.id)
        except ModelsMissing as error:
            raise EncoderUnavailable(
                f"{error}; its weights are those of the package {clip.PACKAGE!r} (requirements-weights.txt)"
            ) from error
        self.version = model.version
        self._session = open_session(model.path)
        self.device = device_of(self._session)

    def encode(self, batch: Sequence[Pixels]) -> Vectors:
        """Uint8 pictures [h, w, 3] of any size to float32 [n, 1024]: the middle's 512 numbers, then the whole's."""
        vectors = np.empty((len(batch), 2, clip.DIMENSION), np.float32)
        views = [
            (row, place, view) for row, one in enumerate(batch) for place, view in _views(as_pixels(one))
        ]
        for start in range(0, len(views), MAX_BATCH):
            some = views[start : start + MAX_BATCH]
            found = self._session.run(None, {"pixels": np.stack([view for _, _, view in some])})[0]
            for (row, place, _), vector in zip(some, found, strict=True):
                vectors[row, place] = vector
        return vectors.reshape(len(batch), self.dimension)


def _views(picture: Pixels) -> list[tuple[slice | int, Pixels]]:
    """Each view with its place: uint8 [224, 224, 3]."""
    height, width = picture.shape[:2]
    whole = _resized(picture, (0, 0, width, height))
    if height == width:
        return [(slice(None), whole)]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return [(0, _resized(picture, (left, top, left + side, top + side))), (1, whole)]


def _resized(picture: Pixels, box: tuple[float, float, float, float]) -> Pixels:
    size = (clip.SIDE, clip.SIDE)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC, box, reducing_gap=2.0))


def load(argument: str) -> Encoder:
    """The one variant there is; ``argument`` is ignored."""
    return ClipPictures()
