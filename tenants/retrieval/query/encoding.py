"""What a search asks for, and its one unit vector: the normalised weighted sum of its parts' vectors.

A part is what an encoder makes of a text, a picture or a recording, or what stored vectors of assets say.
"""

from __future__ import annotations

import math
import re
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from django.conf import settings
from django.utils.translation import gettext

from ml.alignment import confidence
from ml.alignment.confidence import of_words
from ml.alignment.gating import Part
from ml.batching import Batcher
from ml.compression import ModelsMissing
from ml.encoders.base import EncoderUnavailable
from ml.media import Decoder, FairQueue, QueueFull
from tenants import observe
from tenants.datasets.models import Asset
from tenants.errors import Busy, Invalid
from tenants.retrieval import model_store
from tenants.retrieval.cache import QueryCache
from tenants.retrieval.index.vectors import Stored, sampled
from tenants.retrieval.model_store import model_of
from tenants.retrieval.query import fusion_weights
from tenants.retrieval.query.fusion_weights import Weighed
from tenants.retrieval.types import Query
from tenants.scope import tenant_scope

if TYPE_CHECKING:
    from ml.alignment.features import ImageFeatures, TextFeatures
    from ml.alignment.space import JointSpace
    from ml.encoders.base import SpeechToText, Transcript
    from ml.speech import QueryTranscriber

# --- Encoders -------------------------------------------------------------------------------------------

# One lazily loaded copy of the models per process. Everything here runs on ONNX Runtime or CTranslate2; the web
# process imports no torch.

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
def transcriber() -> SpeechToText:
    """For recordings and films."""
    from ml.speech import load_transcriber

    return load_transcriber()


@once
def query_transcriber() -> QueryTranscriber:
    from ml.speech import load_query_transcriber

    return load_query_transcriber(transcriber())


_loading, _loaded = threading.Lock(), threading.Event()


class ModelsLoading(Exception):
    """What a text query needs is being loaded."""


def warm_up() -> None:
    """Load what a text query needs. Models that are missing are for the first query to complain about."""
    with suppress(ModelsMissing, EncoderUnavailable), _loading:
        _load()


def check_models() -> None:
    """Return at once where this process can encode a text query; load what is not yet loaded.

    Raises ModelsLoading while another thread does so, ModelsMissing, EncoderUnavailable.
    """
    if _loaded.is_set():
        return
    if not _loading.acquire(blocking=False):
        raise ModelsLoading
    try:
        _load()
    finally:
        _loading.release()


def _load() -> None:
    # The second has the dictionary loaded by which Chinese is cut into words.
    space().embed_texts(["warm up", "预热"])
    _loaded.set()


def space() -> JointSpace:
    """The space of new tenants, which ships. `model_routing.serving` and `model_routing.written` name another's."""
    return model_store.space(model_store.default_model())


def model_id() -> str:
    """Its model, as stored with every vector."""
    return model_store.default_model()


# --- Assets: into each of the spaces that their tenant's vectors are made in --------------------------------

# By model. What several spaces are made of alike is encoded once.
Spaces = Mapping[str, "JointSpace"]
Placed = dict[str, np.ndarray]
# A vector float32 [d] in each space, and what they cost in cpu seconds.
Costed = tuple[Placed, float]


def place_texts(texts: Sequence[str], spaces: Spaces) -> list[Costed]:
    """Texts for the index, each with its share of the cost."""
    return _place_texts([(text, spaces) for text in texts])


def place_image(pixels: np.ndarray, spaces: Spaces) -> Costed:
    """A picture for the index, in the caller's own thread: for bulk work, whose threads fill the cores already."""
    return _place_images([(pixels, spaces)])[0]


def share_text(text: str, spaces: Spaces) -> Costed:
    """A text for the index. Concurrent callers share batches, also of different tenants, in turns."""
    return text_batcher().submit((text, spaces), caller=observe.tenant_id.get())


def share_image(pixels: np.ndarray, spaces: Spaces) -> Costed:
    """A picture for the index, uint8 [h, w, 3]; otherwise the same."""
    return image_batcher().submit((pixels, spaces), caller=observe.tenant_id.get())


def _place_texts(items: Sequence[tuple[str, Spaces]]) -> list[Costed]:
    return _placed(
        items,
        _reads_as,
        lambda space, texts: space.read(texts),
        lambda space: lambda read: space.as_asset(space.project_text(read)),
    )


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
    for row, (_item, spaces) in enumerate(items):
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
    # A run of a picture's encoder is one thread's work (ml.encoders).
    return Batcher(_place_images, max_batch=8, max_wait_s=0.02, threads=settings.EMBED_THREADS)


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


def hear(tenant_id: uuid.UUID, path: Path) -> tuple[Transcript, confidence.Signs]:
    """The words of a sound file with their language, and how far they can be trusted. Raises MediaError, Busy."""
    with query_decoder(tenant_id) as decoding:
        samples = decoding.audio(path)
    heard = query_transcriber().transcribe(samples)
    return heard, confidence.of_speech(samples, heard.text, heard.confidence)


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
    return model_store.space(model, tenant_id).query_texts([text])[0]


def _dimension_of(tenant_id: uuid.UUID, model: str) -> int:
    return model_store.space(model, tenant_id).dimension


query_cache = QueryCache(_embed_query, _canonical_for, _dimension_of)


# --- Assets as queries ----------------------------------------------------------------------------------

# "More like this", and "not like that".

MAX_ASSETS = 20
# Vectors that stand for one kind of content of an asset: the frames of a film, the passages of a recording.
MOST_VECTORS = 64
PICTURES = {"image", "video"}

# How much of what a query shares with its negative examples is taken away (`without`), and the bounds of that. Measured
# on the demo data: docs/experiments.md.
UNLIKE_WEIGHT = 0.3
MAX_UNLIKE_WEIGHT = 1.0


def of_assets(asset_ids: Sequence[uuid.UUID], pointer: str, *, space: JointSpace) -> np.ndarray:
    """What these assets have in common, as a query in a space: float32 [d] of norm 1. In the tenant's scope.

    Each asset counts the same, and so does each kind of content in it: a caption is not drowned by a film's frames.
    Raises Invalid for an asset that has no vectors (yet), or where they cancel each other out.
    """
    return _unit_of_assets(each_of(asset_ids, pointer, space=space).mean(axis=0), pointer)


def each_of(asset_ids: Sequence[uuid.UUID], pointer: str, *, space: JointSpace) -> np.ndarray:
    """Each of these assets, once, as a query of its own: float32 [n, d], rows of norm 1. In the tenant's scope.

    Raises Invalid for an asset that has no vectors (yet).
    """
    found: dict[uuid.UUID, dict[str, list[Stored]]] = {}
    for one in sampled(asset_ids, model=model_of(space), most=MOST_VECTORS):
        found.setdefault(one.asset_id, {}).setdefault(one.modality, []).append(one)
    for place, asset_id in enumerate(asset_ids):
        if asset_id not in found:
            raise Invalid(gettext("This asset is not ready to be compared."), pointer=f"{pointer}/{place}")
    return np.array([_of_asset(found[asset_id], space) for asset_id in dict.fromkeys(asset_ids)], np.float32)


def of_part(
    asset_id: uuid.UUID, modality: str, pointer: str, missing: str, *, space: JointSpace
) -> np.ndarray:
    """One kind of content of an asset, as a query: float32 [d] of norm 1. In the tenant's scope.

    Raises Invalid with the words `missing` where it has none (yet).
    """
    found = sampled([asset_id], model=model_of(space), most=MOST_VECTORS, modality=modality)
    if not found:
        raise Invalid(missing, pointer=pointer)
    return _unit_of_assets(_mean(modality, found, space), pointer)


def without(query: np.ndarray, unwanted: np.ndarray, weight: float) -> np.ndarray:
    """The query less `weight` of what it shares with something unwanted: float32 [d], not normalised.

    Rocchio's negative feedback (Relevance feedback in information retrieval, 1971) with the weight in proportion to how
    alike the two are; with weight 1 this is orthogonal negation (Widdows, ACL 2003). A fixed weight does not fit a
    space where pictures are far more alike each other than words and pictures are: what gently moves a picture away
    from another one would leave nothing of a text.
    """
    shared = max(0.0, float(query @ unwanted))
    return (query - weight * shared * unwanted).astype(np.float32)


def _of_asset(kinds: dict[str, list[Stored]], space: JointSpace) -> np.ndarray:
    means = [_mean(modality, rows, space) for modality, rows in sorted(kinds.items())]
    return _normed(np.mean(means, axis=0))


def _mean(modality: str, rows: Sequence[Stored], space: JointSpace) -> np.ndarray:
    values = np.vstack([one.values for one in rows])
    # A stored picture carries a correction that only texts should meet, a stored text one that only queries should.
    asked = space.as_query(values) if modality in PICTURES else space.text_query(values)
    return _normed(asked.mean(axis=0))


def _normed(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _unit_of_assets(vector: np.ndarray, pointer: str) -> np.ndarray:
    norm = float(np.linalg.norm(vector))
    if norm < 1e-6:
        raise Invalid(gettext("These assets cancel each other out."), pointer=pointer)
    return (vector / norm).astype(np.float32)


# --- One vector of all parts ----------------------------------------------------------------------------

# What is left of a query below this is rounding, which points anywhere.
LEAST_NORM = 1e-4


@dataclass
class Encoded:
    """A query as a vector float32 [d] of norm 1, the weights of its parts, and its words.

    The weights of the parts sum to 1; that of negative examples stands beside them.

    `layer`: which layer of the cache had its text's embedding; None for a query without words. `parts` and `weighed`:
    what it is made of, and why the weights are what they are.
    """

    vector: np.ndarray
    weights: dict[str, float]
    words: str
    layer: str | None
    parts: dict[str, Part]
    weighed: Weighed
    transcript: Transcript | None = None


def encode(tenant_id: uuid.UUID, query: Query, model: str) -> Encoded:
    """Encode the parts in the space of a model, in no scope but short ones of its own.

    Raises Invalid, MediaError for a bad file, Busy where others of the tenant are decoded, and ModelUnavailable.
    """
    space, task = model_store.space(model, tenant_id), fusion_weights.find_profile(tenant_id, query.task)
    require_fitting(query.vector, space)
    parts, layer, transcript = _parts(tenant_id, query, space)
    words = [query.text, transcript.text if transcript else None]
    weighed = fusion_weights.weigh(tenant_id, parts, query, task, " ".join(filter(None, words)))
    if query.hybrid or query.highlight:
        words.append(_said_in(tenant_id, query.audio_asset))
    if query.hybrid and not any(words):
        raise Invalid(gettext("Hybrid search compares words: send a text or speech."), pointer="/hybrid")
    vector, weights = combine(parts, weighed)
    if query.unlike or query.unlike_text:
        weights["unlike"] = query.weights.get("unlike", UNLIKE_WEIGHT)
        vector = _unit(without(vector, _unwanted(tenant_id, query, space), weights["unlike"]))
    return Encoded(vector, weights, " ".join(filter(None, words)), layer, parts, weighed, transcript)


def _parts(
    tenant_id: uuid.UUID, query: Query, space: JointSpace
) -> tuple[dict[str, Part], str | None, Transcript | None]:
    parts, model = _stored_parts(tenant_id, query, space), model_store.model_of(space)
    layer, transcript = None, None
    if query.text:
        found = query_cache.find(tenant_id, query.text, model)
        parts["text"], layer = Part(found.vector, of_words(query.text)), found.layer
    if query.image is not None:
        parts["image"] = query_image(tenant_id, query.image, space)
    if query.vector is not None:
        parts["vector"] = Part(query.vector)
    if query.audio is not None:
        transcript, signs = hear(tenant_id, query.audio)
        if transcript.text.strip():
            parts["audio"] = Part(query_cache.find(tenant_id, transcript.text, model).vector, signs)
        elif not parts:
            raise Invalid(
                gettext("No words were heard in this recording. Speak closer or longer."), pointer="/audio"
            )
    return parts, layer, transcript


def require_fitting(vector: np.ndarray | None, space: JointSpace, pointer: str = "/vector") -> None:
    """Raises Invalid for a vector that has another dimension than the space that answers."""
    if vector is not None and len(vector) != space.dimension:
        raise Invalid(
            gettext("A vector has exactly %(dimension)s numbers.") % {"dimension": space.dimension},
            pointer=pointer,
        )


# What an asset must have to stand for a part, in the words of the refusal.
STORED = {
    "image": "This asset has no picture that is ready.",
    "audio": "This asset is not a recording with words that is ready.",
    "video": "This asset is not a film that is ready.",
}


def _stored_parts(tenant_id: uuid.UUID, query: Query, space: JointSpace) -> dict[str, Part]:
    """The parts that assets of the tenant stand for. A file beats an asset that is named for the same part."""
    named = {"image": query.image_asset, "audio": query.audio_asset, "video": query.video_asset}
    given = {
        part: one for part, one in named.items() if one is not None and getattr(query, part, None) is None
    }
    if not given and not query.like:
        return {}
    with tenant_scope(tenant_id):
        parts = {
            part: Part(of_part(asset_id, part, f"/{part}/asset", STORED[part], space=space))
            for part, asset_id in given.items()
        }
        if query.like:
            parts["like"] = Part(of_assets(query.like, "/like/assets", space=space))
    return parts


def _said_in(tenant_id: uuid.UUID, asset_id: uuid.UUID | None) -> str:
    """The first words of a recording: as many as a search by words would look for, and more."""
    if asset_id is None:
        return ""
    with tenant_scope(tenant_id):
        return Asset.objects.filter(pk=asset_id).values_list("excerpt", flat=True).first() or ""


def _unwanted(tenant_id: uuid.UUID, query: Query, space: JointSpace) -> np.ndarray:
    """The negative examples as one direction: words and assets count the same."""
    found = []
    if query.unlike_text:
        found.append(query_cache.find(tenant_id, query.unlike_text, model_store.model_of(space)).vector)
    if query.unlike:
        with tenant_scope(tenant_id):
            found.append(of_assets(query.unlike, "/unlike/assets", space=space))
    return _unit(np.mean(found, axis=0))


def combine(parts: dict[str, Part], weighed: Weighed) -> tuple[np.ndarray, dict[str, float]]:
    """The normalised weighted sum, and the weights used, which sum to 1."""
    mixed = np.sum([weighed.weights[name] * part.vector for name, part in parts.items()], axis=0)
    return _unit(mixed), {name: round(weight, 4) for name, weight in weighed.weights.items()}


def _unit(vector: np.ndarray) -> np.ndarray:
    # Not `norm`: its dot product gives up the interpreter's lock, and getting it back may take milliseconds.
    norm = math.sqrt(float((vector * vector).sum()))
    if norm < LEAST_NORM:
        raise Invalid(gettext("The parts of this query cancel each other out."), pointer="")
    return (vector / norm).astype(np.float32)
