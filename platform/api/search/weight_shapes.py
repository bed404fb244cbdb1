"""The shapes of tasks, feedback and the gate, for the OpenAPI document."""

from __future__ import annotations

from rest_framework import serializers as s

from api.shapes import MAYBE, NULL, Object, Page
from tenants.retrieval.models import Feedback as FeedbackRow


class Rule(s.Serializer):
    when = s.ListField(child=s.CharField(), help_text="Beginnings of words, of which the query names one.")
    weights = s.DictField(child=s.FloatField())


class TaskShape(s.Serializer):
    slug = s.CharField()
    description = s.CharField(allow_blank=True)
    weights = s.DictField(child=s.FloatField())
    rules = Rule(many=True)
    dynamic = s.BooleanField(help_text="Whether weights are corrected for each query.")
    built_in = s.BooleanField()
    created_at = s.DateTimeField(**NULL)


class TaskPage(Page):
    results = TaskShape(many=True)
    built_in = TaskShape(many=True, help_text="All of them, on every page.")


class FeedbackShape(s.Serializer):
    id = s.CharField()
    search_id = s.CharField()
    asset = s.CharField()
    kind = s.ChoiceField(FeedbackRow.Kind.values)
    rank = s.IntegerField(help_text="At which the asset was shown, from 1.")
    created_at = s.DateTimeField()


class GateFeedback(s.Serializer):
    usable = s.IntegerField(help_text="Searches of several parts in which something was chosen.")
    needed = s.IntegerField()


class GateShape(s.Serializer):
    source = s.ChoiceField(("built-in", "own"))  # type: ignore[assignment]  # the name of a member, not of the field
    number = s.IntegerField(**NULL)
    trained_at = s.DateTimeField(**NULL)
    report = Object(**MAYBE, help_text="How it did on searches that it had not seen.")
    feedback = GateFeedback()
