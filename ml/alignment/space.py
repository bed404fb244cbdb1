"""The joint space: texts and pictures as unit vectors of as many numbers as it states, under one plain inner product.

    space = JointSpace.load()
    pictures = space.embed_images([pixels, …])
    scores = space.embed_texts(["a red apple"]) @ pictures.T

Importing this module imports neither torch nor onnxruntime; encoders are loaded when first used.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ml.alignment.adapted_space import AdaptedSpace
from ml.alignment.chinese_colours import chinese_colour_words
from ml.alignment.colours import colour_scores, colour_words
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.installed import SCHEME as ADDED
from ml.alignment.own_tower import SCHEME, open_own_tower
from ml.alignment.projection import Placing, StoresTexts
from ml.alignment.relevance import Relevance, read_relevance
from ml.alignment.storage import SpaceError, read_space

__all__ = ["SHIPPED", "ImageFeatures", "JointSpace", "SpaceError", "TextFeatures"]

#: Text encoders that read Chinese beside English.
READ_CHINESE = frozenset({"bundled:bilingual", "bundled:multilingual"})

#: Queries of so many words or fewer are short; two characters of a writing without blanks count as a word.
FEW_WORDS = 2
_ARTICLES = frozenset({"a", "an", "the"})
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff]{1,2}|[^\W_]+")
SHIPPED = Path(__file__).parent / "spaces" / "prior-1"

Vectors = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class Encoder(Protocol):
    """What the space asks of a tower: vectors [n, d] of texts or pictures.

    One that also has ``look`` names classes: it gives (probabilities [n, 1000], features [n, F]).
    """

    def encode(self, batch: Sequence[Any]) -> Vectors: ...


def is_short(text: str) -> bool:
    """Whether a text is a word or two, articles aside."""
    # No word is as long as that.
    words = _WORDS.findall(text[:200].lower())
    return len(text) <= 200 and 0 < sum(word not in _ARTICLES for word in words) <= FEW_WORDS


class JointSpace:
    """Thread-safe. All vectors are float32 [n, dimension] with rows of norm 1; n may be 0."""

    def __init__(
        self,
        folder: Path,
        text_encoder: Encoder | None = None,
        image_encoders: Sequence[Encoder] | None = None,
    ) -> None:
        self._placing, self.manifest = read_space(folder)
        self._folder = folder
        self.id: str = self.manifest["id"]
        self.version: str = self.manifest["version"]
        self.dimension: int = self.manifest["dimension"]
        #: The cosine from which two pictures are taken for copies of one, where it has a bound of its own.
        self.near_duplicate: float | None = self.manifest.get("near_duplicate")
        #: How likely a match of some score is right; None where nobody has calibrated that.
        self.relevance: Relevance | None = _relevance(folder, self.manifest)
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

    @property
    def encoders_key(self) -> str:
        """Spaces with the same key see and read alike: what one has encoded, the other can place."""
        named = self.manifest["encoders"]
        return "|".join([named["text"], *named["image"]])

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts as they ask; ``as_asset`` makes of them what is stored."""
        return self.project_text(self.read(texts))

    def query_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts as what a person typed asks: in some spaces those of a word or two stand elsewhere."""
        listed = list(texts)
        return self.as_typed(self.embed_texts(listed), listed)

    def as_typed(self, rows: Vectors, texts: Sequence[str]) -> Vectors:
        """The same of texts whose vectors [n, dimension] are known."""
        placing, short = self._placing, np.array([is_short(text) for text in texts], bool)
        if not isinstance(placing, StoresTexts) or not short.any():
            return rows
        typed = np.array(rows, np.float32, copy=True)
        typed[short] = placing.few_words(typed[short])
        return typed

    def embed_images(self, images: Sequence[Pixels]) -> Vectors:
        """Pictures as assets: uint8 [h, w, 3] of any size."""
        return self.project_image(self.see(images))

    def query_images(self, images: Sequence[Pixels]) -> Vectors:
        """Pictures as queries: without the hub bias, which only texts should see."""
        return self.as_query(self.embed_images(images))

    def read(self, texts: Sequence[str]) -> TextFeatures:
        """What the text encoder says, and the colours that the texts name."""
        listed = list(texts)
        return TextFeatures(self._text().encode(listed), self.named_colours(listed))

    def see(self, images: Sequence[Pixels]) -> ImageFeatures:
        """What the image encoders say, and the colours of the pictures."""
        pictures = list(images)
        seen = [_look(encoder, pictures) for encoder in self._images()]
        named = [probabilities for probabilities, _ in seen if probabilities.shape[1]]
        return ImageFeatures(
            np.mean(named, axis=0, dtype=np.float32) if named else np.empty((len(pictures), 0), np.float32),
            np.concatenate([features for _, features in seen], axis=1),
            colour_scores(pictures),
        )

    def project_text(self, reading: TextFeatures) -> Vectors:
        """What was read to the space. NumPy only."""
        return self._placing.text(reading).astype(np.float32)

    def project_image(self, sight: ImageFeatures) -> Vectors:
        """What was seen to the space. NumPy only."""
        return self._placing.image(sight).astype(np.float32)

    def as_query(self, vectors: Vectors) -> Vectors:
        """Stored picture vectors [n, dimension] as queries; what ``query_images`` would give for them."""
        return self._placing.as_query(vectors).astype(np.float32)

    def as_asset(self, texts: Vectors) -> Vectors:
        """Texts as ``embed_texts`` gives them [n, dimension] as assets: in many spaces the same."""
        placing = self._placing
        return placing.as_asset(texts).astype(np.float32) if isinstance(placing, StoresTexts) else texts

    def text_query(self, stored: Vectors) -> Vectors:
        """Stored text vectors [n, dimension] as queries; what ``embed_texts`` would give for them."""
        placing = self._placing
        return placing.text_query(stored).astype(np.float32) if isinstance(placing, StoresTexts) else stored

    def relevance_of(self, query: Vectors, words: str) -> Relevance | None:
        """How likely what a query [dimension] finds is right: of a fine-tune by how familiar its words are to it.

        ``words``: what a person typed or said; empty where a picture asks.
        """
        familiar = self.familiarity_of(query, words)
        return self.relevance if self.relevance is None or familiar is None else self.relevance.at(familiar)

    def familiarity_of(self, query: Vectors, words: str) -> float | None:
        """How familiar a query [dimension] of ``words`` is to a fine-tune, 0 to 1; None where nothing depends on it."""
        placing = self._placing
        if self.relevance is None or not self.relevance.foreign or not isinstance(placing, AdaptedSpace):
            return None
        return float(placing.familiarity(query[None], np.array([is_short(words)]))[0])

    @property
    def placing(self) -> Placing:
        """The arrays behind it, for those who fine-tune or measure."""
        return self._placing

    def named_colours(self, texts: list[str]) -> Vectors:
        """Colour words, in Chinese where the text encoder reads it: [n, 11]."""
        named = colour_words(texts)
        if reads_chinese(self.manifest):
            named = np.maximum(named, chinese_colour_words(texts))
        return named

    def _text(self) -> Encoder:
        with self._lock:
            if self._text_encoder is None:
                self._text_encoder = self._own_or_shared(self.manifest["encoders"]["text"])
            return self._text_encoder

    def _own_or_shared(self, spec: str) -> Encoder:
        # A tuned tower lies in the space's folder, and is forgotten with the space.
        if spec.startswith(SCHEME):
            return open_own_tower(self._folder, self.manifest)
        return shared_encoder(spec)

    def _images(self) -> Sequence[Encoder]:
        with self._lock:
            if self._image_encoders is None:
                self._image_encoders = [shared_encoder(spec) for spec in self.manifest["encoders"]["image"]]
            return self._image_encoders


def _relevance(folder: Path, manifest: Mapping[str, Any]) -> Relevance | None:
    try:
        return read_relevance(manifest)
    except ValueError as error:
        raise SpaceError(f"{folder}: {error}") from error


def _look(encoder: Encoder, pictures: list[Pixels]) -> tuple[Vectors, Vectors]:
    if hasattr(encoder, "look"):
        probabilities, features = encoder.look(pictures)
        return probabilities, features
    return np.empty((len(pictures), 0), np.float32), encoder.encode(pictures)


_shared: dict[str, Encoder] = {}
_sharing = threading.Lock()


def shared_encoder(spec: str) -> Encoder:
    """The one instance of an encoder in this process: tenants' spaces differ, their towers do not."""
    from ml.encoders.base import load_encoder

    with _sharing:
        if spec not in _shared:
            _shared[spec] = load_encoder(spec)
        return _shared[spec]


def reads_chinese(manifest: Mapping[str, Any]) -> bool:
    """Whether the text tower of a space reads Chinese beside English."""
    own = manifest.get("text_tower") or {}
    if str(manifest["encoders"]["text"]).startswith(ADDED):
        return "zh" in manifest.get("languages", ())
    return manifest["encoders"]["text"] in READ_CHINESE or bool(own.get("chinese"))
