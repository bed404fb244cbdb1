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
from tenants.retrieval import filters, query
from tenants.scope import tenant_scope

MAX_TEXT = 10_000
MAX_TOP_K = 200
MAX_DATASETS = 1_000
# Those fields of a form that hold JSON.
JSON_FIELDS = (
    *("vector", "image", "audio", "video", "like", "unlike", "datasets", "modalities", "filter", "weights"),
    *("hybrid", "top_k", "exact", "explain", "highlight", "facets"),
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


class SearchBody(Body):
    """At least one of text, image, audio, video, vector and like, or a cursor. Null is as good as absent."""

    text = Text(**OPTIONAL, allow_blank=True, max_length=MAX_TEXT)
    image = AssetReference(**OPTIONAL)
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
    exact = Flag(**OPTIONAL, help_text="Compare every vector instead of asking the index.")
    explain = Flag(**OPTIONAL)
    highlight = Flag(**OPTIONAL, help_text="Tell where the words of the query stand in each result.")
    group = serializers.ChoiceField(
        ("duplicates",), **OPTIONAL, help_text="Fold results that are nearly the same into the best of them."
    )
    facets = serializers.ListField(
        **OPTIONAL,
        child=Text(max_length=metadata.MAX_KEY),
        min_length=1,
        max_length=filters.MAX_KEYS,
        help_text="Keys of metadata whose values are counted over all that the search may find.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        wanted, unwanted = ((attrs.get(part) or {}).get("assets") or [] for part in ("like", "unlike"))
        if set(wanted) & set(unwanted):
            raise ValidationError({"unlike": ["An asset is either wanted or not."]})
        return attrs


def require_named(tenant_id: uuid.UUID, fields: object) -> None:
    """Raises NotFound for the first id in a body, whatever else is wrong with it, that names nothing of the tenant."""
    assets = list(_ids(fields, _ASSETS, Id()))
    datasets = list(_ids(fields, _DATASETS, DatasetId()))
    with tenant_scope(tenant_id):
        selectors.require_assets(assets)
        selectors.require_datasets(datasets)


_ASSETS = (
    ("image", "asset"),
    ("audio", "asset"),
    ("video", "asset"),
    ("like", "assets"),
    ("unlike", "assets"),
)
_DATASETS = (("datasets",),)


def _ids(fields: object, places: Iterable[tuple[str, ...]], kind: Id) -> Iterator[uuid.UUID]:
    for path in places:
        found = fields
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        # Those of a list where one belongs, as what stands in the wrong place names nothing.
        items = [found] if path[-1] == "asset" else found[:MAX_DATASETS] if isinstance(found, list) else []
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
    group = serializers.CharField(required=False)
