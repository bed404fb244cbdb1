"""The shapes of maps and similarity matrices, for the OpenAPI document."""

from __future__ import annotations

from rest_framework import serializers as s

from api import shapes
from tenants.retrieval.models import EmbeddingMap


class MapShape(s.Serializer):
    id = s.CharField()
    name = s.CharField()
    method = s.ChoiceField(EmbeddingMap.Method.values)
    state = s.ChoiceField(EmbeddingMap.State.values)
    model = s.CharField(help_text="The model whose vectors it shows, by id or slug.")
    space = s.CharField(help_text="As searches and vectors name it.")
    datasets = s.ListField(child=s.CharField(), help_text="Empty for all.")
    modality = s.CharField(**shapes.NULL)
    params = shapes.Object(
        help_text="Of UMAP: `neighbours`, `min_dist`, `seed`; `most`: assets that it shows."
    )
    total = s.IntegerField(
        help_text="Assets that fitted when it was drawn; 0 for PCA, which is drawn when asked."
    )
    points = s.IntegerField(help_text="Of these, how many were taken.")
    details = shapes.Object(
        help_text="`kept_neighbours`: of ten nearest assets, the share that is near in it, too."
    )
    job = s.CharField(**shapes.NULL)
    error = shapes.Object(**shapes.NULL)
    created_by = s.CharField(allow_blank=True)
    created_at = s.DateTimeField()
    finished_at = s.DateTimeField(**shapes.NULL)


class MapPage(shapes.Page):
    results = MapShape(many=True)


class MapAccepted(s.Serializer):
    map = MapShape()
    job = shapes.Job()


class MapPoints(s.Serializer):
    """Columns of one length: the point at place 3 is `ids[3]`, `x[3]`, `y[3]`."""

    method = s.ChoiceField(EmbeddingMap.Method.values)
    model = s.CharField()
    total = s.IntegerField(help_text="Assets that fit; more than there are points where it is a sample.")
    details = shapes.Object(
        help_text="`kept_neighbours`, and of PCA the shares of variance that are `explained`."
    )
    ids = s.ListField(child=s.CharField())
    x = s.ListField(child=s.FloatField())
    y = s.ListField(child=s.FloatField())
    columns = shapes.Object(
        help_text=(
            "`dataset`, `modality`, `status`, `verdict` and, with `colour`, `field`: `values` and `codes` into them "
            "(-1: none, -2: another value), or `numbers`."
        )
    )


class Similarity(s.Serializer):
    model = s.CharField()
    assets = s.ListField(child=s.CharField(), help_text="In an order that puts like beside like.")
    matrix = s.ListField(
        child=s.ListField(child=s.FloatField()), help_text="Cosines, -1 to 1, in that order."
    )
