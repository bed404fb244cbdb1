"""The joint space: texts and pictures as unit vectors of 256 numbers under one plain inner product.

    space = JointSpace.load()
    pictures = space.embed_images([pixels, …])
    scores = space.embed_texts(["a red apple"]) @ pictures.T

Importing this module imports neither torch nor onnxruntime; encoders are loaded when first used.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ml.alignment import layout
from ml.alignment.chinese_colours import chinese_colour_words
from ml.alignment.colours import colour_scores, colour_words
from ml.alignment.projection import Projection, image_query
from ml.alignment.storage import SpaceError, read_space

__all__ = ["SHIPPED", "JointSpace", "SpaceError"]

SHIPPED = Path(__file__).parent / "spaces" / "prior-1"

Vectors = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class Encoder(Protocol):
    """What the space asks of a tower: texts to [n, 384], or pictures to class probabilities [n, 1000]."""

    def encode(self, batch: Sequence[Any]) -> Vectors: ...


class JointSpace:
    """Thread-safe. All vectors are float32 [n, 256] with rows of norm 1; n may be 0."""

    dimension = layout.DIMENSION

    def __init__(
        self,
        folder: Path,
        text_encoder: Encoder | None = None,
        image_encoders: Sequence[Encoder] | None = None,
    ) -> None:
        self._projection, self.manifest = read_space(folder)
        self.id: str = self.manifest["id"]
        self.version: str = self.manifest["version"]
        self._text_encoder = text_encoder
        self._image_encoders = image_encoders
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        text_encoder: Encoder | None = None,
        image_encoders: Sequence[Encoder] | None = None,
    ) -> JointSpace:
        """The space in a folder, by default the shipped one. Raises SpaceError for damaged files."""
        return cls(Path(path or SHIPPED), text_encoder, image_encoders)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts, as assets and as queries alike."""
        return self.project_text(self._text().encode(list(texts)), texts)

    def embed_images(self, images: Sequence[Pixels]) -> Vectors:
        """Pictures as assets: uint8 [h, w, 3] of any size."""
        return self.project_image(self.see(images), images)

    def query_images(self, images: Sequence[Pixels]) -> Vectors:
        """Pictures as queries: without the hub bias, which only texts should see."""
        return self.as_query(self.embed_images(images))

    def see(self, images: Sequence[Pixels]) -> Vectors:
        """Class probabilities [n, 1000]: the mean over the image encoders."""
        pictures = list(images)
        seen = [encoder.encode(pictures) for encoder in self._images()]
        return np.mean(seen, axis=0, dtype=np.float32)

    def project_text(self, vectors: Vectors, texts: Sequence[str]) -> Vectors:
        """MiniLM vectors [n, 384] of these texts to the space. NumPy only."""
        return self._projection.text(vectors, self._named_colours(list(texts))).astype(np.float32)

    def project_image(self, probabilities: Vectors, images: Sequence[Pixels]) -> Vectors:
        """Class probabilities [n, 1000] of these pictures to the space. NumPy and Pillow only."""
        return self._projection.image(probabilities, colour_scores(list(images))).astype(np.float32)

    @staticmethod
    def as_query(vectors: Vectors) -> Vectors:
        """Stored picture vectors [n, 256] as queries; what ``query_images`` would give for them."""
        return image_query(vectors).astype(np.float32)

    @property
    def projection(self) -> Projection:
        """The arrays behind it, for those who fine-tune or measure."""
        return self._projection

    def _named_colours(self, texts: list[str]) -> Vectors:
        """Colour words in the languages that the manifest names, English always: [n, 11]."""
        named = colour_words(texts)
        if "zh" in self.manifest.get("colour_words", ()):
            named = np.maximum(named, chinese_colour_words(texts))
        return named

    def _text(self) -> Encoder:
        with self._lock:
            if self._text_encoder is None:
                self._text_encoder = _load(self.manifest["encoders"]["text"])
            return self._text_encoder

    def _images(self) -> Sequence[Encoder]:
        with self._lock:
            if self._image_encoders is None:
                self._image_encoders = [_load(spec) for spec in self.manifest["encoders"]["image"]]
            return self._image_encoders


def _load(spec: str) -> Encoder:
    from ml.encoders.base import load_encoder

    return load_encoder(spec)
