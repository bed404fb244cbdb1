"""The shapes of searches, for the OpenAPI document."""

from __future__ import annotations

from rest_framework import serializers as s

from api.shapes import MAYBE, NULL, Asset, Object
from tenants.datasets.models import Asset as AssetRow


class SearchForm(s.Serializer):
    """The JSON fields as texts, and files beside them."""

    image = s.FileField(**MAYBE)
    audio = s.FileField(**MAYBE)
    text = s.CharField(**MAYBE)
    task = s.CharField(**MAYBE)
    cursor = s.CharField(**MAYBE)
    video = s.CharField(**MAYBE, help_text="JSON")
    vector = s.CharField(**MAYBE, help_text="JSON")
    like = s.CharField(**MAYBE, help_text="JSON")
    unlike = s.CharField(**MAYBE, help_text="JSON")
    datasets = s.CharField(**MAYBE, help_text="JSON")
    modalities = s.CharField(**MAYBE, help_text="JSON")
    filter = s.CharField(**MAYBE, help_text="JSON")
    weights = s.CharField(**MAYBE, help_text="JSON")
    hybrid = s.CharField(**MAYBE, help_text="JSON")
    top_k = s.CharField(**MAYBE, help_text="JSON")
    exact = s.CharField(**MAYBE, help_text="JSON")
    explain = s.CharField(**MAYBE, help_text="JSON")
    highlight = s.CharField(**MAYBE, help_text="JSON")
    facets = s.CharField(**MAYBE, help_text="JSON")
    group = s.CharField(**MAYBE)


class Matched(s.Serializer):
    modality = s.ChoiceField(AssetRow.Modality.values)
    segment = Object(
        **MAYBE,
        help_text="Of a long text `start_char` and `end_char` of the passage; of sound and film `start_s` and `end_s`; "
        "of captions but the first `caption`, its place among them, counted from 0.",
    )


class Highlight(s.Serializer):
    field = s.CharField(
        help_text="`passage`, `transcript`, `excerpt`, `caption`, `filename`, or `metadata.` and a key."
    )
    text = s.CharField(help_text="A piece of it, as it is: escape it before it becomes HTML.")
    marks = s.ListField(
        child=s.ListField(child=s.IntegerField(), min_length=2, max_length=2),
        help_text="Where words of the query stand in `text`: start and end in Unicode characters.",
    )


class Duplicate(s.Serializer):
    asset = s.CharField()
    score = s.FloatField()


class Result(s.Serializer):
    asset = Asset()
    score = s.FloatField()
    matched = Matched()
    highlights = Highlight(many=True, **MAYBE, help_text="Where `highlight` was sent.")
    duplicates = Duplicate(many=True, **MAYBE, help_text="Where `group` was sent: what is folded into this.")


class Model(s.Serializer):
    id = s.CharField(help_text="As in `/models/{id}`.")
    version = s.CharField()
    dimension = s.IntegerField(help_text="How many numbers its vectors have.")


class Index(s.Serializer):
    generation = s.CharField()
    kind = s.CharField()
    size = s.IntegerField()
    recall_estimate = s.FloatField()


class Weighing(s.Serializer):
    task = s.CharField()
    prior = s.DictField(child=s.FloatField(), help_text="The task's weights for these parts; they sum to 1.")
    confidence = s.DictField(
        child=s.DictField(child=s.FloatField()), help_text="What was measured of each part that was sent."
    )
    agreement = s.DictField(child=s.FloatField(), help_text="The cosine of each two parts.")
    gate = s.CharField(**NULL, help_text="Null where the weights are fixed.")
    factors = s.DictField(
        child=s.FloatField(), help_text="By what the gate multiplied each weight, before they were scaled."
    )
    why = s.ListField(child=s.CharField(), help_text="The same in words.")


class Explained(s.Serializer):
    timings_ms = s.DictField(child=s.FloatField())
    parts = s.DictField(child=s.FloatField())
    weighing = Weighing(**NULL, help_text="Why the parts weigh what they do; null on further pages.")
    cache = s.DictField(
        child=s.ChoiceField(("process", "valkey", "shared", "miss", "bypass")),
        help_text="Who answered for `embedding` and for `candidates`.",
    )
    filter = Object(**NULL)


class FacetValue(s.Serializer):
    value = s.JSONField(
        help_text="A value, or of numbers and times the conditions of a range, as in `filter`."
    )
    count = s.IntegerField()


class Facet(s.Serializer):
    type = s.ChoiceField(("text", "tags", "bool", "number", "time"))
    values = FacetValue(many=True)
    min = s.JSONField(**MAYBE)
    max = s.JSONField(**MAYBE)


class Found(s.Serializer):
    search_id = s.CharField()
    results = Result(many=True)
    next = s.CharField(**NULL)
    total_candidates = s.IntegerField()
    weights = s.DictField(child=s.FloatField())
    transcript = s.CharField(**MAYBE, allow_blank=True)
    model = Model()
    index = Index()
    cache = s.ChoiceField(("hit", "miss", "bypass"))
    took_ms = s.FloatField()
    facets = s.DictField(child=Facet(), **MAYBE, help_text="Where `facets` was sent, on the first page.")
    explain = Explained(**MAYBE)
