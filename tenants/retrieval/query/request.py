"""What a search asks for, and its one unit vector: the normalised weighted sum of its parts' vectors."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from django.utils.translation import gettext as _

from ml.alignment.confidence import of_words
from ml.alignment.gating import Part
from tenants.datasets.models import Asset
from tenants.errors import Invalid
from tenants.retrieval.model_routing import model_store as spaces
from tenants.retrieval.query import encoding, fusion_weights, likeness, weight_profiles
from tenants.retrieval.query.fusion_weights import Weighed
from tenants.retrieval.types import Query
from tenants.scope import tenant_scope

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace

# What is left of a query below this is rounding, which points anywhere.
LEAST_NORM = 1e-4


@dataclass
class Encoded:
    """A query as a vector float32 [256] of norm 1, the weights of its parts, and its words.

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
    transcript: str | None = None


def encode(tenant_id: uuid.UUID, query: Query, model: str) -> Encoded:
    """Encode the parts in the space of a model, in no scope but short ones of its own.

    Raises Invalid, MediaError for a bad file, Busy where others of the tenant are decoded, and ModelUnavailable.
    """
    space, task = spaces.space(model, tenant_id), weight_profiles.find(tenant_id, query.task)
    parts, layer, transcript = _parts(tenant_id, query, space)
    words = [query.text, transcript]
    weighed = fusion_weights.weigh(tenant_id, parts, query, task, " ".join(filter(None, words)))
    if query.hybrid or query.highlight:
        words.append(_said_in(tenant_id, query.audio_asset))
    if query.hybrid and not any(words):
        raise Invalid(_("Hybrid search compares words: send a text or speech."), pointer="/hybrid")
    vector, weights = combine(parts, weighed)
    if query.unlike or query.unlike_text:
        weights["unlike"] = query.weights.get("unlike", likeness.UNLIKE_WEIGHT)
        vector = _unit(likeness.without(vector, _unwanted(tenant_id, query, space), weights["unlike"]))
    return Encoded(vector, weights, " ".join(filter(None, words)), layer, parts, weighed, transcript)


def _parts(
    tenant_id: uuid.UUID, query: Query, space: JointSpace
) -> tuple[dict[str, Part], str | None, str | None]:
    parts, model = _stored_parts(tenant_id, query, space), spaces.model_of(space)
    layer, transcript = None, None
    if query.text:
        found = encoding.queries.find(tenant_id, query.text, model)
        parts["text"], layer = Part(found.vector, of_words(query.text)), found.layer
    if query.image is not None:
        parts["image"] = encoding.query_image(tenant_id, query.image, space)
    if query.vector is not None:
        parts["vector"] = Part(query.vector)
    if query.audio is not None:
        transcript, signs = encoding.hear(tenant_id, query.audio)
        if transcript.strip():
            parts["audio"] = Part(encoding.queries.find(tenant_id, transcript, model).vector, signs)
        elif not parts:
            raise Invalid(
                _("No words were heard in this recording. Speak closer or longer."), pointer="/audio"
            )
    return parts, layer, transcript


# What an asset must have to stand for a part, in the words of the refusal.
_STORED = {
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
            part: Part(likeness.of_part(asset_id, part, f"/{part}/asset", _STORED[part], space=space))
            for part, asset_id in given.items()
        }
        if query.like:
            parts["like"] = Part(likeness.of_assets(query.like, "/like/assets", space=space))
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


def combine(parts: dict[str, Part], weighed: Weighed) -> tuple[np.ndarray, dict[str, float]]:
    """The normalised weighted sum, and the weights used, which sum to 1."""
    mixed = np.sum([weighed.weights[name] * part.vector for name, part in parts.items()], axis=0)
    return _unit(mixed), {name: round(weight, 4) for name, weight in weighed.weights.items()}


def _unit(vector: np.ndarray) -> np.ndarray:
    # Not `norm`: its dot product gives up the interpreter's lock, and getting it back may take milliseconds.
    norm = math.sqrt(float((vector * vector).sum()))
    if norm < LEAST_NORM:
        raise Invalid(_("The parts of this query cancel each other out."), pointer="")
    return (vector / norm).astype(np.float32)
