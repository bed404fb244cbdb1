"""The shapes of models, their promotions and golden queries, for the OpenAPI document."""

from __future__ import annotations

from rest_framework import serializers as s

from api import shapes
from tenants.learning.models import LearntModel, Promotion


class PromotionState(s.Serializer):
    id = s.CharField()
    model = s.CharField()
    replaces = s.CharField(help_text="What served searches when it began.")
    state = s.ChoiceField(Promotion.State.values)
    report = shapes.Object(
        **shapes.NULL,
        help_text=(
            "Once embedded: `overlap` of the ten best, figures `before` and `after` on `golden` queries and on "
            "captions that were `held_out` from training, with their `change` and its interval, and why it is `worse`."
        ),
    )
    override_reason = s.CharField(**shapes.NULL)
    job = s.CharField(**shapes.NULL)
    error = shapes.Object(**shapes.NULL)
    created_by = s.CharField(allow_blank=True)
    created_at = s.DateTimeField()
    embedded_at = s.DateTimeField(**shapes.NULL)
    finished_at = s.DateTimeField(**shapes.NULL)


class LearntModelShape(s.Serializer):
    id = s.CharField(help_text="Of a built-in space its slug.")
    name = s.CharField()
    number = s.IntegerField(**shapes.NULL)
    built_in = s.BooleanField()
    space = s.CharField(help_text="As searches and vectors name it: id and version.")
    parent = s.CharField(  # type: ignore[assignment]  # serializers have one too
        **shapes.NULL, help_text="What it was trained from."
    )
    state = s.ChoiceField(LearntModel.State.values)
    stage = s.ChoiceField(LearntModel.Stage.values, **shapes.NULL)
    method = s.ChoiceField(LearntModel.Method.values, **shapes.NULL)
    settings = shapes.Object(**shapes.NULL)
    data = shapes.Object(  # type: ignore[assignment]  # serializers have one too
        **shapes.NULL, help_text="Datasets, counts, splits, and `quality`, the report before training."
    )
    metrics = shapes.Object(
        **shapes.NULL, help_text="On the test split, beside the parent's and the traditional methods'."
    )
    estimate = shapes.Object(**shapes.NULL)
    cost = shapes.Object(**shapes.NULL)
    encoders = shapes.Object(**shapes.NULL, help_text="Of a built-in space.")
    bytes = s.IntegerField()
    sha256 = s.CharField(**shapes.NULL)
    job = s.CharField(**shapes.NULL)
    error = shapes.Object(**shapes.NULL, help_text="Why its training ended without a model.")
    promotion = PromotionState(**shapes.NULL, help_text="The newest one.")
    created_by = s.CharField(**shapes.NULL, allow_blank=True)
    created_at = s.DateTimeField(**shapes.NULL)
    trained_at = s.DateTimeField(**shapes.NULL)
    promoted_at = s.DateTimeField(**shapes.NULL)
    retired_at = s.DateTimeField(**shapes.NULL)


class LearntModelWithCurves(LearntModelShape):
    curves = s.ListField(child=shapes.Object(), **shapes.MAYBE, help_text="Also while it is being trained.")


class LearntModelPage(shapes.Page):
    results = LearntModelShape(many=True)


class FinetuneAccepted(s.Serializer):
    model = LearntModelShape()
    job = shapes.Job()


class PromotionAccepted(s.Serializer):
    model = LearntModelShape()
    promotion = PromotionState()
    job = shapes.Job()


class RolledBack(s.Serializer):
    model = LearntModelShape()
    live = LearntModelShape(help_text="What serves searches now.")


class QueryPicture(s.Serializer):
    asset = s.CharField()


class GoldenQueryShape(s.Serializer):
    id = s.CharField()
    text = s.CharField(**shapes.NULL)
    image = QueryPicture(**shapes.NULL)
    relevant = s.ListField(child=s.CharField())
    created_by = s.CharField(allow_blank=True)
    created_at = s.DateTimeField()


class GoldenQueryPage(shapes.Page):
    results = GoldenQueryShape(many=True)
