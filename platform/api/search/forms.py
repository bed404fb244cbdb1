"""The body of a search: its fields, and the ids in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from api.fields import Body, Flag, Number, Object, Text, UnitVector, Whole
from api.paths import read_dataset_id, read_id
from tenants.datasets import metadata, selectors
from tenants.datasets.models import Asset
from tenants.errors import NotFound
from tenants.retrieval import filters, query, query_pictures
from tenants.scope import tenant_scope

MAX_TEXT = 10_000
MAX_TOP_K = 200
MAX_DATASETS = 1_000
# Those fields of a form that hold JSON.
JSON_FIELDS = (
    *("vector", "image", "audio", "video", "like", "unlike", "datasets", "modalities", "filter", "weights"),
    *("hybrid", "top_k", "exact", "explain", "highlight", "facets", "min_relevance"),
    *("parts", "sequence", "within_s"),
)


@extend_schema_field({"type": "string"})
class Id(serializers.Field):
    """An id in a body: one that this API never gave out answers 404, as another tenant's does."""

    def to_internal_value(self, data: object) -> uuid.UUID:
        if not isinstance(data, str):
            raise ValidationError("An id is a string.")
        return self.named(data)

    def named(self, given: str) -> uuid.UUID:
        if (found := read_id(given)) is None:
            raise NotFound("There is no such thing as this id names.")
        return found

    def to_representation(self, value: object) -> str:
        return str(value)


class DatasetId(Id):
    def named(self, given: str) -> uuid.UUID:
        return read_dataset_id(given)


class AssetReference(Body):
    asset = Id()


class ImageReference(Body):
    """A picture of the workspace: an asset, or one that a saved search of the console asks by."""

    asset = Id(required=False)
    file = Id(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise ValidationError({"asset": "Send the id of an asset."})
        if len(attrs) != 1:
            raise ValidationError("Send either asset or file.")
        return attrs


class Weights(Body):
    text = Number(required=False, min_value=0)
    image = Number(required=False, min_value=0)
    audio = Number(required=False, min_value=0)
    video = Number(required=False, min_value=0)
    vector = Number(required=False, min_value=0)
    like = Number(required=False, min_value=0)
    unlike = Number(required=False, min_value=0, max_value=query.MAX_UNLIKE_WEIGHT)


OPTIONAL: dict[str, Any] = {"required": False, "allow_null": True}


class Like(Body):
    """Assets whose like is looked for; they are left out of the results."""

    assets = serializers.ListField(child=Id(), min_length=1, max_length=query.MAX_ASSETS)


class Unlike(Body):
    """Words, assets or both, whose like is not wanted; the assets are left out of the results."""

    text = Text(**OPTIONAL, allow_blank=True, max_length=MAX_TEXT)
    assets = serializers.ListField(**OPTIONAL, child=Id(), min_length=1, max_length=query.MAX_ASSETS)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not (attrs.get("text") or "").strip() and not attrs.get("assets"):
            raise ValidationError("Send text, assets or both.")
        return attrs


#: Of a part of a query of several: what may stand for it.
ASKING = ("text", "image", "audio", "video", "vector")


class PartContent(Body):
    """One of text, image, audio, video and vector."""

    text = Text(**OPTIONAL, allow_blank=True, max_length=MAX_TEXT)
    image = ImageReference(**OPTIONAL)
    audio = AssetReference(**OPTIONAL)
    video = AssetReference(**OPTIONAL)
    vector = UnitVector(**OPTIONAL)

    #: What may stand for it beside ASKING.
    others: tuple[str, ...] = ()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in (*ASKING, *self.others) if _is_there(attrs.get(name))]
        if len(given) != 1:
            raise ValidationError(f"Send one of {', '.join((*ASKING, *self.others))}.")
        return attrs


def _is_there(value: object) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None


PART_WEIGHT: dict[str, Any] = {"required": False, "min_value": 0.001, "max_value": query.MAX_PART_WEIGHT}


class SearchStep(PartContent):
    """A part of a sequence."""

    weight = Number(**PART_WEIGHT, help_text="1 by default.")


class SearchPart(PartContent):
    """A part of a query, or what is not wanted."""

    weight = Number(**PART_WEIGHT, help_text=f"1 by default; of what is not wanted {query.UNLIKE_WEIGHT}.")
    others = ("not",)

    def get_fields(self) -> dict[str, Any]:
        return {**super().get_fields(), "not": PartContent(**OPTIONAL)}


class SearchBody(Body):
    """At least one of text, image, audio, video, vector and like, or a cursor; or parts or a sequence. Null is as good
    as absent."""

    text = Text(**OPTIONAL, allow_blank=True, max_length=MAX_TEXT)
    image = ImageReference(**OPTIONAL)
    audio = AssetReference(**OPTIONAL)
    video = AssetReference(**OPTIONAL)
    vector = UnitVector(**OPTIONAL)
    like = Like(**OPTIONAL)
    unlike = Unlike(**OPTIONAL)
    datasets = serializers.ListField(**OPTIONAL, child=DatasetId(), min_length=1, max_length=MAX_DATASETS)
    modalities = serializers.ListField(
        **OPTIONAL, child=serializers.ChoiceField(Asset.Modality.values), min_length=1, max_length=4
    )
    filter = Object(**OPTIONAL, help_text='`{"price": {"lt": 20}, "colour": {"in": ["red"]}, "label": "x"}`')
    task = Text(**OPTIONAL, min_length=1, max_length=query.MAX_SLUG)
    weights = Weights(**OPTIONAL)
    hybrid = Flag(
        **OPTIONAL,
        help_text=(
            "Fuse the ranking by meaning with one by words (reciprocal rank); needs text or speech. Where nothing is "
            "said, what the text names comes first: a file or `external_id`, a quoted phrase, captions with all of its "
            "words. `false` compares no words."
        ),
    )
    generated = serializers.ChoiceField(
        ("exclude", "include", "only"),
        **OPTIONAL,
        help_text=(
            "Assets that were made here from words. `exclude` where nothing is said, unless the filter asks for them."
        ),
    )
    top_k = Whole(**OPTIONAL, min_value=1, max_value=MAX_TOP_K)
    cursor = Text(**OPTIONAL, max_length=200)
    min_relevance = Number(
        **OPTIONAL,
        min_value=0,
        max_value=1,
        help_text=(
            "Only results that are at least so likely to be right, the likeliest first; with 0 all of them. A text "
            "that holds all words of the query counts as likely. Refused where relevance is not calibrated."
        ),
    )
    exact = Flag(**OPTIONAL, help_text="Compare every vector instead of asking the index.")
    explain = Flag(**OPTIONAL)
    highlight = Flag(**OPTIONAL, help_text="Tell where the words of the query stand in each result.")
    group = serializers.ChoiceField(
        ("duplicates",), **OPTIONAL, help_text="Fold results that are nearly the same into the best of them."
    )
    sort = serializers.ChoiceField(
        ("relevance", "newest", "oldest", "name"),
        **OPTIONAL,
        help_text=(
            "The order of the results, over the 1,000 most relevant of those that reach `min_relevance`; by default "
            "`relevance`. Near-duplicates stand with the best of them."
        ),
    )
    facets = serializers.ListField(
        **OPTIONAL,
        child=Text(max_length=metadata.MAX_KEY),
        min_length=1,
        max_length=filters.MAX_KEYS,
        help_text=(
            "Keys of metadata whose values are counted over the assets that reach `min_relevance`, by default "
            "`relevance_line`; over all that may be found where relevance is not calibrated. What a key is filtered by "
            "does not narrow its own counts."
        ),
    )

    parts = serializers.ListField(
        **OPTIONAL,
        child=SearchPart(),
        min_length=1,
        max_length=query.MAX_PARTS,
        help_text=(
            "Instead of text, image and so on: each part is met by another vector of an asset, which may be another "
            'passage, page or moment (late interaction, MaxSim). `{"not": {…}}` for what is not wanted.'
        ),
    )
    sequence = serializers.ListField(
        **OPTIONAL,
        child=SearchStep(),
        min_length=2,
        max_length=query.MAX_PARTS,
        help_text="The same in films and recordings, where each part begins later than the one before.",
    )
    within_s = Number(
        **OPTIONAL,
        min_value=0.01,
        max_value=query.MAX_WITHIN_S,
        help_text="Of a sequence: how many seconds after the one before a part begins at the latest.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        wanted, unwanted = ((attrs.get(part) or {}).get("assets") or [] for part in ("like", "unlike"))
        if set(wanted) & set(unwanted):
            raise ValidationError({"unlike": ["An asset is either wanted or not."]})
        return attrs


def require_named(tenant_id: uuid.UUID, fields: object) -> None:
    """Raises NotFound for the first id in a body, whatever else is wrong with it, that names nothing of the tenant."""
    bodies = [fields, *_parts_of(fields)]
    assets = [one for body in bodies for one in _ids(body, _ASSETS, Id())]
    datasets = list(_ids(fields, _DATASETS, DatasetId()))
    pictures = [one for body in bodies for one in _ids(body, _PICTURES, Id())]
    with tenant_scope(tenant_id):
        query_pictures.require(pictures)
        selectors.require_assets(assets)
        selectors.require_datasets(datasets)


def _parts_of(fields: object) -> Iterator[object]:
    """The parts of a query of several, and what they negate, as they were sent."""
    for name in ("parts", "sequence"):
        sent = fields.get(name) if isinstance(fields, dict) else None
        for part in sent[: query.MAX_PARTS] if isinstance(sent, list) else []:
            yield part
            if isinstance(part, dict):
                yield part.get("not")


_ASSETS = (
    ("image", "asset"),
    ("audio", "asset"),
    ("video", "asset"),
    ("like", "assets"),
    ("unlike", "assets"),
)
_DATASETS = (("datasets",),)
_PICTURES = (("image", "file"),)


def _ids(fields: object, places: Iterable[tuple[str, ...]], kind: Id) -> Iterator[uuid.UUID]:
    for path in places:
        found = fields
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        # Those of a list where one belongs, as what stands in the wrong place names nothing.
        items = (
            [found]
            if path[-1] in ("asset", "file")
            else found[:MAX_DATASETS]
            if isinstance(found, list)
            else []
        )
        for item in items:
            if isinstance(item, str):
                yield kind.to_internal_value(item)


class SearchForm(serializers.Serializer):
    """The JSON fields as texts, and files beside them."""

    image = serializers.FileField(required=False)
    audio = serializers.FileField(required=False)
    text = serializers.CharField(required=False)
    task = serializers.CharField(required=False)
    cursor = serializers.CharField(required=False)
    video = serializers.CharField(required=False, help_text="JSON")
    vector = serializers.CharField(required=False, help_text="JSON")
    like = serializers.CharField(required=False, help_text="JSON")
    unlike = serializers.CharField(required=False, help_text="JSON")
    datasets = serializers.CharField(required=False, help_text="JSON")
    modalities = serializers.CharField(required=False, help_text="JSON")
    filter = serializers.CharField(required=False, help_text="JSON")
    weights = serializers.CharField(required=False, help_text="JSON")
    hybrid = serializers.CharField(required=False, help_text="JSON")
    generated = serializers.CharField(required=False)
    top_k = serializers.CharField(required=False, help_text="JSON")
    exact = serializers.CharField(required=False, help_text="JSON")
    explain = serializers.CharField(required=False, help_text="JSON")
    highlight = serializers.CharField(required=False, help_text="JSON")
    facets = serializers.CharField(required=False, help_text="JSON")
    min_relevance = serializers.CharField(required=False, help_text="JSON")
    parts = serializers.CharField(required=False, help_text="JSON")
    sequence = serializers.CharField(required=False, help_text="JSON")
    within_s = serializers.CharField(required=False, help_text="JSON")
    group = serializers.CharField(required=False)
    sort = serializers.CharField(required=False)
