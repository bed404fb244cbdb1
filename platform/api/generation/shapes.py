"""The shapes of generations, for the OpenAPI document."""

from __future__ import annotations

from rest_framework import serializers as s

from api import shapes
from tenants.generation.models import Generation


class GenerationResult(s.Serializer):
    kind = s.ChoiceField(Generation.KINDS)
    asset = s.CharField(**shapes.NULL, help_text="Null where the policy kept it out.")
    score = s.FloatField(**shapes.NULL, help_text="How well it fits the prompt, by the joint space: -1 to 1.")
    scores = s.ListField(child=s.FloatField(), help_text="Of every candidate that was drawn.")
    how = s.ChoiceField(
        ("model", "rules", "layout"),
        help_text="`layout`: parts by a model, put together by rules; `rules`: composed without a model.",
    )
    model = s.CharField(help_text="Name and version, as in its manifest.")
    provenance = shapes.Object(help_text="What was read back before it was released: `c2pa`, `watermark`.")
    audit = s.CharField(**shapes.NULL, help_text="Of the file; null where no policy was in force.")
    decision = s.CharField(**shapes.NULL, help_text="Of that audit, where the policy is enforced.")
    moderation = s.CharField(**shapes.NULL, help_text="As of the asset now.")


class GenerationShape(s.Serializer):
    id = s.CharField()
    state = s.ChoiceField(
        Generation.State.values,
        help_text="`blocked`: the policy refused the prompt, or all that was made; `error` says so.",
    )
    prompt = s.CharField()
    negative = s.CharField(allow_blank=True)
    outputs = s.ListField(child=s.ChoiceField(Generation.KINDS))
    seed = s.IntegerField()
    steps = s.IntegerField()
    guidance = s.FloatField()
    width = s.IntegerField()
    height = s.IntegerField()
    seconds = s.FloatField()
    candidates = s.IntegerField(help_text="Pictures that are drawn, of which the best is kept.")
    dataset = s.CharField(help_text="Where what is made is kept.")
    score = s.FloatField(**shapes.NULL, help_text="Of all results that have one, on average.")
    models = shapes.Object(help_text="By kind.")
    results = GenerationResult(many=True)
    variation_of = s.CharField(**shapes.NULL)
    remix_of = s.CharField(**shapes.NULL)
    prompt_audit = s.CharField(**shapes.NULL, help_text="The audit of the words; null where there was none.")
    job = s.CharField(**shapes.NULL)
    error = shapes.Object(**shapes.NULL)
    created_by = s.CharField(allow_blank=True)
    created_at = s.DateTimeField()
    finished_at = s.DateTimeField(**shapes.NULL)


class GenerationPage(shapes.Page):
    results = GenerationShape(many=True)


class GenerationAccepted(s.Serializer):
    generation = GenerationShape()
    job = shapes.Job()
