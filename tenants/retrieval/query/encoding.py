"""Queries and assets into the joint space: one lazily loaded copy of the models per process.

Everything here runs on ONNX Runtime or CTranslate2; the web process imports no torch.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from django.conf import settings
from django.utils.translation import gettext

from ml.alignment import confidence
from ml.alignment.gating import Part
from ml.batching import Batcher
from ml.compression import ModelsMissing
from ml.media import Decoder, FairQueue, QueueFull
from tenants import observe
from tenants.errors import Busy
from tenants.retrieval.cache.query_vectors import QueryCache
from tenants.retrieval.model_routing import model_store

if TYPE_CHECKING:
    from ml.alignment.features import ImageFeatures, TextFeatures
    from ml.alignment.space import JointSpace
    from ml.encoders.whisper_tiny_en import Transcriber

T = TypeVar("T")

BLANKS = re.compile(r"[ \t\r\n]+")
LONGEST_CANONICAL = 1_000
# Encoders that read letters of ASCII as MiniLM does.
CASELESS = ("bundled:minilm", "bundled:bilingual")


def once(load: Callable[[], T]) -> Callable[[], T]:
    """Loads on first use, and once however many threads ask for it first."""
    kept, lock = cache(load), threading.Lock()

    @wraps(load)
    def get() -> T:
        with lock:
            return kept()

    return get


def decoder() -> Decoder:
    """Of what is put in, for the tenant that this work is done for."""
    return _decoder().of(observe.tenant_id.get())


@once
def _decoder() -> Decoder:
    return Decoder(memory_bytes=settings.DECODER_MEMORY_BYTES, timeout_s=settings.DECODER_TIMEOUT_S)


@once
def _query_decoder() -> Decoder:
    return Decoder(settings.DECODER_MEMORY_BYTES, settings.DECODER_QUERY_TIMEOUT_S, turns=_query_turns)


def _query_turns() -> FairQueue:
    """Whoever waits holds a thread that answers requests: few of a tenant's may, and not for long."""
    children = settings.DECODER_QUERY_CHILDREN
    return FairQueue(
        children,
        each=max(1, children - 1),
        waiting=settings.DECODER_QUERIES_WAITING,
        crowd=max(1, settings.WEB_THREADS // 4),
        patience_s=3 * settings.DECODER_QUERY_TIMEOUT_S,
    )


@contextmanager
def query_decoder(tenant_id: uuid.UUID) -> Iterator[Decoder]:
    """Of what is searched by: with a shorter limit, and in turn with other tenants. Raises Busy in the block."""
    try:
        yield _query_decoder().of(tenant_id)
    except QueueFull as error:
        raise Busy(
            gettext(
                "This workspace searches by several files already. Wait until they are answered, then try again."
            )
        ) from error


@once
def transcriber() -> Transcriber:
    from ml.encoders.whisper_tiny_en import Transcriber

    return Transcriber()


def warm_up() -> None:
    """Load what a text query needs. Models that are missing are for the first query to complain about."""
    with suppress(ModelsMissing):
        space().embed_texts(["warm up"])


def space() -> JointSpace:
    """The space of new tenants, which ships. Another's is named by `routing.serving` or `routing.written`."""
    return model_store.space(model_store.DEFAULT)


def model_id() -> str:
    """Its model, as stored with every vector."""
    return model_store.DEFAULT


# --- Assets: into each of the spaces that their tenant's vectors are made in --------------------------------

# By model. What several spaces are made of alike is encoded once.
Spaces = Mapping[str, "JointSpace"]
Placed = dict[str, np.ndarray]
# A vector float32 [256] in each space, and what they cost in cpu seconds.
Costed = tuple[Placed, float]


def place_texts(texts: Sequence[str], spaces: Spaces) -> list[Costed]:
    """Texts for the index, each with its share of the cost."""
    return _place_texts([(text, spaces) for text in texts])


def place_image(pixels: np.ndarray, spaces: Spaces) -> Costed:
    """A picture for the index, in the caller's own thread: for bulk work, whose threads fill the cores already."""
    return _place_images([(pixels, spaces)])[0]


def share_text(text: str, spaces: Spaces) -> Costed:
    """A text for the index. Concurrent callers share batches, also of different tenants."""
    return text_batcher().submit((text, spaces))


def share_image(pixels: np.ndarray, spaces: Spaces) -> Costed:
    """A picture for the index, uint8 [h, w, 3]; otherwise the same."""
    return image_batcher().submit((pixels, spaces))


def _place_texts(items: Sequence[tuple[str, Spaces]]) -> list[Costed]:
    return _placed(items, _reads_as, lambda space, texts: space.read(texts), lambda space: space.project_text)


def _place_images(items: Sequence[tuple[np.ndarray, Spaces]]) -> list[Costed]:
    return _placed(
        items, _sees_as, lambda space, images: space.see(images), lambda space: space.project_image
    )


def _reads_as(space: JointSpace) -> Hashable:
    """The same for spaces that read alike, whatever they see with."""
    return space.manifest["encoders"]["text"], *space.manifest.get("colour_words", ())


def _sees_as(space: JointSpace) -> Hashable:
    return tuple(space.manifest["encoders"]["image"])


def _placed(
    items: Sequence[tuple[Any, Spaces]],
    alike: Callable[[JointSpace], Hashable],
    encode: Callable[[JointSpace, list[Any]], ImageFeatures | TextFeatures],
    project: Callable[[JointSpace], Callable[[Any], np.ndarray]],
) -> list[Costed]:
    """Each item in each of its spaces. What spaces are made of alike is encoded once for all that want it."""
    start = time.thread_time()
    placed: list[Placed] = [{} for _ in items]
    towers: dict[Hashable, dict[int, tuple[str, JointSpace, list[int]]]] = {}
    for row, (_, spaces) in enumerate(items):
        for model, space in spaces.items():
            towers.setdefault(alike(space), {}).setdefault(id(space), (model, space, []))[2].append(row)
    for wanted in towers.values():
        rows = sorted({row for _, _, some in wanted.values() for row in some})
        _, first, _ = next(iter(wanted.values()))
        encoded = encode(first, [items[row][0] for row in rows])
        for model, space, some in wanted.values():
            vectors = project(space)(encoded.rows(np.searchsorted(rows, some)))
            for row, vector in zip(some, vectors, strict=True):
                placed[row][model] = vector
    share = (time.thread_time() - start) / max(1, len(items))
    return [(one, share) for one in placed]


@once
def image_batcher() -> Batcher:
    return Batcher(_place_images, max_batch=8, max_wait_s=0.02)


@once
def text_batcher() -> Batcher:
    return Batcher(_place_texts, max_batch=32, max_wait_s=0.005)


# --- Queries: into the space that answers ------------------------------------------------------------------


def query_image(tenant_id: uuid.UUID, path: Path, space: JointSpace) -> Part:
    """A picture file as a query, and how far it can be trusted. Raises MediaError, Busy."""
    with query_decoder(tenant_id) as decoding:
        pictures = [decoding.image(path, thumbnail=False).pixels]
    seen = space.see(pictures)
    vector = space.as_query(space.project_image(seen))[0]
    return Part(vector, confidence.of_picture(pictures[0], seen.probabilities[0]))


def hear(tenant_id: uuid.UUID, path: Path) -> tuple[str, confidence.Signs]:
    """The words of a sound file, and how far they can be trusted. Raises MediaError, Busy."""
    with query_decoder(tenant_id) as decoding:
        samples = decoding.audio(path)
    heard = transcriber().transcribe(samples)
    return heard.text, confidence.of_speech(samples, heard.text, heard.confidence)


def canonical(text: str, space: JointSpace) -> str:
    """One spelling for texts that the encoder cannot tell apart, so that they share a place in the cache.

    MiniLM's tokenizer ignores case and the number of blanks. Where that is not all there is to say the text is
    returned as it is: other encoders, letters beyond ASCII, marks like [MASK], and texts long enough to be cut.
    """
    blind = space.manifest["encoders"]["text"] in CASELESS
    if not (blind and text.isascii() and "[" not in text and len(text) <= LONGEST_CANONICAL):
        return text
    return BLANKS.sub(" ", text).strip(" ").lower()


def _canonical_for(tenant_id: uuid.UUID, model: str, text: str) -> str:
    return canonical(text, model_store.space(model, tenant_id))


def _embed_query(tenant_id: uuid.UUID, model: str, text: str) -> np.ndarray:
    return model_store.space(model, tenant_id).embed_texts([text])[0]


queries = QueryCache(_embed_query, _canonical_for)
