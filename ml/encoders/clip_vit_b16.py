"""CLIP's picture tower, ViT-B/16 (Radford et al. 2021, arXiv:2103.00020; MIT), INT8: the whole of a picture.

CLIP was trained on squares. A picture of another form is not cropped and hardly squashed: it is cut into at most as
many patches as a square has, in rows and columns of its own, and the embeddings of their positions are interpolated.
One run finds as well as two did, of the middle of a picture and of all of it squashed to a square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from ml.compression import clip
from ml.compression.store import ModelsMissing, find_model
from ml.devices import in_halves
from ml.encoders._onnx import device_of, open_session
from ml.encoders.base import Encoder, EncoderUnavailable, Pixels, Vectors, as_pixels

#: More pictures a call gain no speed and cost 20 MB each.
MAX_BATCH = 4
#: Patches along a side: pictures that are longer than four times their height are squashed.
SIDES = range(7, 29)
#: What squashing costs: a twentieth as much as doing without 7 % of the patches.
SQUASHED = 1.5


class ClipPictures(Encoder):
    """A picture's vector does not depend on its neighbours in a batch: activations are scaled by token."""

    id = "clip-vit-b16"
    modality = "image"
    dimension = clip.DIMENSION

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
        """Uint8 pictures [h, w, 3] of any size to float32 [n, 512]."""
        vectors = np.empty((len(batch), self.dimension), np.float32)
        alike: dict[tuple[int, int], list[int]] = {}
        for row, picture in enumerate(batch):
            alike.setdefault(patches(*as_pixels(picture).shape[:2]), []).append(row)
        for (down, across), rows in alike.items():
            for start in range(0, len(rows), MAX_BATCH):
                some = rows[start : start + MAX_BATCH]
                pixels = [_resized(batch[row], down, across) for row in some]
                vectors[some] = in_halves(self._run, pixels)
        return vectors

    def _run(self, pixels: Sequence[Pixels]) -> Vectors:
        vectors: Vectors = self._session.run(None, {"pixels": np.stack(pixels)})[0]
        return vectors


@lru_cache(4096)
def patches(height: int, width: int) -> tuple[int, int]:
    """How many patches a picture is cut into, down and across: as many as may be, and near its form."""
    wanted = math.log(width / height)

    def worth(form: tuple[int, int]) -> float:
        down, across = form
        return down * across / clip.PATCHES - SQUASHED * abs(math.log(across / down) - wanted)

    forms = ((down, across) for down in SIDES for across in SIDES if down * across <= clip.PATCHES)
    return max(forms, key=worth)


def _resized(picture: Pixels, down: int, across: int) -> Pixels:
    size = (across * clip.PATCH, down * clip.PATCH)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))


def load(argument: str) -> Encoder:
    """The one variant there is; ``argument`` is ignored."""
    return ClipPictures()
