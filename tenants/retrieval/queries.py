"""What a search asks for, and its one unit vector: the normalised weighted sum of its parts' vectors."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tenants.datasets.models import Asset
from tenants.errors import Invalid
from tenants.retrieval import cursors, encoding, likeness
from tenants.retrieval import space_files as spaces
from tenants.scope import tenant_scope

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace

# Fixed weights by task; a learnt gate will propose them per query, with these as its prior.
TASKS: dict[str, dict[str, float]] = {
    "general": {"text": 1.0, "image": 1.0, "audio": 1.0, "video": 1.0, "vector": 1.0, "like": 1.0},
    "ecommerce": {"text": 0.3, "image": 0.6, "audio": 0.1, "video": 0.6, "vector": 1.0, "like": 1.0},
    "medical": {"text": 0.2, "image": 0.8, "audio": 0.1, "video": 0.8, "vector": 1.0, "like": 1.0},
    "support": {"text": 0.6, "image": 0.2, "audio": 0.6, "video": 0.2, "vector": 1.0, "like": 1.0},
}

# What is left of a query below this is rounding, which points anywhere.
LEAST_NORM = 1e-4


@dataclass
class Query:
    """A validated search. Files are paths on disk; `vector` is float32 [256].

    `like` and `unlike` are assets that stand for their stored vectors; they are left out of the results.
    """

    text: str = ""
    image: Path | None = None
    image_asset: uuid.UUID | None = None
    audio: Path | None = None
    audio_asset: uuid.UUID | None = None
    video_asset: uuid.UUID | None = None
    vector: np.ndarray | None = None
    like: list[uuid.UUID] = field(default_factory=list)
    unlike: list[uuid.UUID] = field(default_factory=list)
    unlike_text: str = ""
    datasets: list[uuid.UUID] | None = None
    modalities: list[str] | None = None
    conditions: list[tuple[str, str, Any]] = field(default_factory=list)
    task: str = "general"
    weights: dict[str, float] = field(default_factory=dict)
    hybrid: bool = False
    top_k: int = 10
    cursor: str = ""
    explain: bool = False
    exact: bool = False
    highlight: bool = False
    group_duplicates: bool = False
    facets: list[str] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """How many of the best assets the first page needs: what is grouped has to be known as a whole."""
        return cursors.MAX_DEPTH if self.group_duplicates else self.top_k

    @property
    def named_assets(self) -> list[uuid.UUID]:
        """Assets that the query itself names; each must be there."""
        single = (self.image_asset, self.audio_asset, self.video_asset)
        return [*(one for one in single if one is not None), *self.like, *self.unlike]


@dataclass
class Encoded:
    """A query as a vector float32 [256] of norm 1, the weights of its parts, and its words.

    The weights of the parts sum to 1; that of negative examples stands beside them.

    `layer`: which layer of the cache had its text's embedding; None for a query without words.
    """

    vector: np.ndarray
    weights: dict[str, float]
    words: str
    layer: str | None
    transcript: str | None = None


def encode(tenant_id: uuid.UUID, query: Query, model: str) -> Encoded:
    """Encode the parts in the space of a model, in no scope but short ones of its own.

    Raises Invalid, MediaError for a bad file, and ModelUnavailable.
    """
    space = spaces.space(model, tenant_id)
    parts, layer, transcript = _parts(tenant_id, query, space)
    words = [query.text, transcript]
    if query.hybrid or query.highlight:
        words.append(_said_in(tenant_id, query.audio_asset))
    if query.hybrid and not any(words):
        raise Invalid("Hybrid search compares words: send a text or speech.", pointer="/hybrid")
    vector, weights = combine(parts, query)
    if query.unlike or query.unlike_text:
        weights["unlike"] = query.weights.get("unlike", likeness.UNLIKE_WEIGHT)
        vector = _unit(likeness.without(vector, _unwanted(tenant_id, query, space), weights["unlike"]))
    return Encoded(vector, weights, " ".join(filter(None, words)), layer, transcript)


def _parts(
    tenant_id: uuid.UUID, query: Query, space: JointSpace
) -> tuple[dict[str, np.ndarray], str | None, str | None]:
    parts, model = _stored_parts(tenant_id, query, space), spaces.model_of(space)
    layer, transcript = None, None
    if query.text:
        found = encoding.queries.find(tenant_id, query.text, model)
        parts["text"], layer = found.vector, found.layer
    if query.image is not None:
        parts["image"] = encoding.query_image(query.image, space)
    if query.vector is not None:
        parts["vector"] = query.vector
    if query.audio is not None:
        transcript = encoding.transcribe(query.audio).text
        if transcript.strip():
            parts["audio"] = encoding.queries.find(tenant_id, transcript, model).vector
        elif not parts:
            raise Invalid("No words were heard in this recording. Speak closer or longer.", pointer="/audio")
    return parts, layer, transcript


# What an asset must have to stand for a part, in the words of the refusal.
_STORED = {
    "image": "This asset has no picture that is ready.",
    "audio": "This asset is not a recording with words that is ready.",
    "video": "This asset is not a film that is ready.",
}


def _stored_parts(tenant_id: uuid.UUID, query: Query, space: JointSpace) -> dict[str, np.ndarray]:
    """The parts that assets of the tenant stand for. A file beats an asset that is named for the same part."""
    named = {"image": query.image_asset, "audio": query.audio_asset, "video": query.video_asset}
    given = {
        part: one for part, one in named.items() if one is not None and getattr(query, part, None) is None
    }
    if not given and not query.like:
        return {}
    with tenant_scope(tenant_id):
        parts = {
            part: likeness.of_part(asset_id, part, f"/{part}/asset", _STORED[part], space=space)
            for part, asset_id in given.items()
        }
        if query.like:
            parts["like"] = likeness.of_assets(query.like, "/like/assets", space=space)
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
        found.append(encoding.queries.find(tenant_id, query.unlike_text, spaces.model_of(space)).vector)
    if query.unlike:
        with tenant_scope(tenant_id):
            found.append(likeness.of_assets(query.unlike, "/unlike/assets", space=space))
    return _unit(np.mean(found, axis=0))


def combine(parts: dict[str, np.ndarray], query: Query) -> tuple[np.ndarray, dict[str, float]]:
    """The normalised weighted sum, and the weights used, which sum to 1."""
    chosen = {m: query.weights.get(m, TASKS[query.task][m]) for m in parts}
    total = sum(chosen.values())
    if total <= 0:
        raise Invalid("At least one part of the query needs a weight above 0.", pointer="/weights")
    weights = {m: w / total for m, w in chosen.items()}
    mixed = np.sum([weights[m] * parts[m] for m in parts], axis=0)
    return _unit(mixed), {m: round(w, 4) for m, w in weights.items()}


def _unit(vector: np.ndarray) -> np.ndarray:
    # Not `norm`: its dot product gives up the interpreter's lock, and getting it back may take milliseconds.
    norm = math.sqrt(float((vector * vector).sum()))
    if norm < LEAST_NORM:
        raise Invalid("The parts of this query cancel each other out.", pointer="")
    return (vector / norm).astype(np.float32)
