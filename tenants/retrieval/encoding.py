"""Queries and assets into the joint space: one lazily loaded copy of the models per process.

Everything here runs on ONNX Runtime or CTranslate2; the web process imports no torch.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from django.conf import settings

from ml.batching import Batcher
from ml.compression.store import ModelsMissing
from ml.media import Decoder
from tenants.retrieval.query_cache import QueryCache

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace
    from ml.encoders.whisper_tiny_en import Transcriber, Transcript

T = TypeVar("T")

BLANKS = re.compile(r"[ \t\r\n]+")
LONGEST_CANONICAL = 1_000


def once(load: Callable[[], T]) -> Callable[[], T]:
    """Loads on first use, and once however many threads ask for it first."""
    kept, lock = cache(load), threading.Lock()

    @wraps(load)
    def get() -> T:
        with lock:
            return kept()

    return get


@once
def space() -> JointSpace:
    # Imported on first use: management commands and migrations need no model runtime.
    from ml.alignment.space import JointSpace

    return JointSpace.load()


@once
def decoder() -> Decoder:
    return Decoder(memory_bytes=settings.DECODER_MEMORY_BYTES, timeout_s=settings.DECODER_TIMEOUT_S)


@once
def transcriber() -> Transcriber:
    from ml.encoders.whisper_tiny_en import Transcriber

    return Transcriber()


def warm_up() -> None:
    """Load what a text query needs. Models that are missing are for the first query to complain about."""
    with suppress(ModelsMissing):
        space().embed_texts(["warm up"])


def model_id() -> str:
    """Id and version of the space, as stored with every vector."""
    return f"{space().id}:{space().version}"


class Costed:
    """A batch function whose results carry their share of the processor time that the batch took."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, items: list[Any]) -> list[tuple[np.ndarray, float]]:
        start = time.thread_time()
        vectors = self.function(items)
        share = (time.thread_time() - start) / len(items)
        return [(vector, share) for vector in vectors]


@once
def image_batcher() -> Batcher:
    return Batcher(Costed(space().embed_images), max_batch=8, max_wait_s=0.02)


@once
def text_batcher() -> Batcher:
    return Batcher(Costed(space().embed_texts), max_batch=32, max_wait_s=0.005)


def embed_image(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """A picture for the index: float32 [256] and its cost in cpu seconds. Concurrent callers share batches."""
    return image_batcher().submit(pixels)


def embed_image_alone(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """The same in the caller's own thread: for bulk work, whose threads fill the cores without company."""
    return Costed(space().embed_images)([pixels])[0]


def embed_text(text: str) -> tuple[np.ndarray, float]:
    """A text for the index: float32 [256] and its cost in cpu seconds. Concurrent callers share batches."""
    return text_batcher().submit(text)


def query_image(path: Path) -> np.ndarray:
    """A picture file as a query: float32 [256]. Raises MediaError."""
    return space().query_images([decoder().image(path, thumbnail=False).pixels])[0]


def transcribe(path: Path) -> Transcript:
    """The words of a sound file. Raises MediaError."""
    return transcriber().transcribe(decoder().audio(path))


def canonical(text: str) -> str:
    """One spelling for texts that the encoder cannot tell apart, so that they share a place in the cache.

    MiniLM's tokenizer ignores case and the number of blanks. Where that is not all there is to say the text is
    returned as it is: other encoders, letters beyond ASCII, marks like [MASK], and texts long enough to be cut.
    """
    blind = space().manifest["encoders"]["text"] == "bundled:minilm"
    if not (blind and text.isascii() and "[" not in text and len(text) <= LONGEST_CANONICAL):
        return text
    return BLANKS.sub(" ", text).strip(" ").lower()


def _embed_query(text: str) -> np.ndarray:
    return space().embed_texts([text])[0]


queries = QueryCache(_embed_query, model_id, canonical)
