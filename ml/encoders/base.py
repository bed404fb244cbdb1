"""What every encoder promises, and how one is found by name.

A new encoder is one new file in this folder with a function ``load(argument: str)`` that returns an
``Encoder`` (or a ``SpeechToText``). ``argument`` is what follows the colon of its spec, often empty.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ml.catalog import Catalog

Modality = Literal["text", "image", "audio"]
Vectors = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Samples = NDArray[np.float32]

CATALOG = Catalog("ml.encoders")


class EncoderUnavailable(RuntimeError):
    """The encoder's weights cannot be had now; the message says what to do about it."""


class Encoder(ABC):
    """Turns one modality into vectors. Thread-safe after construction.

    ``version`` changes whenever the same input would give other vectors: vectors of different versions must
    not be compared.
    """

    id: str
    modality: Modality
    dimension: int
    version: str
    device: str

    @abstractmethod
    def encode(self, batch: Sequence[Any]) -> Vectors:
        """Strings, uint8 pictures [h, w, 3] of any size, or float32 sounds [samples] at 16 kHz mono (``audio``), to
        float32 [n, dimension]; n may be 0."""


@dataclass(frozen=True)
class Transcript:
    """What was said. ``confidence`` is 0..1, the mean probability of a token; 0 when nothing was heard.

    ``language``: as Whisper names it, mostly ISO 639-1.
    """

    text: str
    confidence: float
    language: str
    duration_s: float


@dataclass(frozen=True)
class Word:
    """One word with its punctuation: seconds from the first sample, and its tokens' mean probability.

    A character in languages that set no blanks between words. ``follows``: no blank stands before it.
    """

    start_s: float
    end_s: float
    text: str
    probability: float
    language: str = ""
    follows: bool = False


def text_of(words: Iterable[Word]) -> str:
    """Words as they are written, with blanks where there are any."""
    return "".join(word.text if word.follows else f" {word.text}" for word in words if word.text).strip()


class SpeechToText(ABC):
    """Turns sound into text. Thread-safe after construction.

    ``language``: the one that it is for; empty where it tells each window's from the sound.
    """

    id: str
    version: str
    device: str
    language: str
    sample_rate: ClassVar[int] = 16_000
    max_seconds: ClassVar[float] = 30.0

    @abstractmethod
    def transcribe(self, samples: Samples) -> Transcript:
        """Float32 [n] mono samples in -1..1 at 16 kHz to text; silence gives an empty text."""

    @abstractmethod
    def words(self, samples: Samples) -> list[Word]:
        """The words of at most ``max_seconds`` of speech, in order; none where nothing can be made out.

        For recordings of any length use ``ml.listening.listen``, which finds the speech in them first.
        """


def load_encoder(spec: str) -> Encoder:
    """The encoder that ``spec`` names: ``bundled:minilm``, ``hf:<id or path>``, ``torchvision:resnet101``.

    Raises UnknownPlugin (LookupError) for a name that no file has, EncoderUnavailable when the weights
    cannot be had, ModelsMissing when the bundled models are not prepared, ValueError for a malformed spec.
    """
    scheme, colon, rest = spec.partition(":")
    if not colon or not rest:
        raise ValueError(f"encoder spec {spec!r} is not of the form 'bundled:<id>' or '<plug-in>:<argument>'")
    module = CATALOG.load(rest) if scheme == "bundled" else CATALOG.load(scheme)
    loaded = module.load("" if scheme == "bundled" else rest)
    if not isinstance(loaded, Encoder):
        raise ValueError(f"{spec!r} is a {type(loaded).__name__}, not an encoder of vectors")
    return loaded


def runtime_device() -> tuple[str, str]:
    """Where ONNX Runtime runs encoders here: ``tensorrt``, ``cuda`` or ``cpu``; and for a CPU beside a card, why.

    Raises ValueError for a setting that is wrong.
    """
    from ml.encoders import _onnx

    for provider in _onnx.wanted_providers():
        _onnx.provider_options(provider)
    return _onnx.describe()


def as_pixels(picture: Any) -> Pixels:
    """Check one picture: uint8 [h, w, 3] with h, w >= 1, else ValueError."""
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"a picture is uint8 [h, w, 3], not {array.dtype} {list(array.shape)}")
    return array


def as_sound(value: Any) -> Samples:
    """Check one sound: float32 [n] at 16 kHz mono with n >= 1, else ValueError; NaN becomes silence."""
    array = np.asarray(value)
    if array.dtype != np.float32 or array.ndim != 1 or len(array) == 0:
        raise ValueError(f"a sound is float32 [n] at 16 kHz mono, not {array.dtype} {list(array.shape)}")
    return np.nan_to_num(array, posinf=0, neginf=0)


def as_text(value: Any) -> str:
    """Check one text and replace what UTF-8 cannot carry (lone surrogates), on which tokenizers fail."""
    if not isinstance(value, str):
        raise ValueError(f"a text is a str, not {type(value).__name__}")
    return value.encode("utf-8", "replace").decode("utf-8")
