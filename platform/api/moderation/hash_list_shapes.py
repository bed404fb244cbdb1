"""The shapes of hash lists, for the OpenAPI document."""

from __future__ import annotations

from rest_framework import serializers as s

from api import shapes
from tenants.moderation.models.known import Algorithm, Stance


class HashList(s.Serializer):
    id = s.CharField()
    name = s.CharField()
    stance = s.ChoiceField(Stance.values)
    description = s.CharField(allow_blank=True)
    shared = s.BooleanField(help_text="The installation's list, for every workspace.")
    entries = s.IntegerField(help_text="How many items.")
    created_at = s.DateTimeField()


class HashListPage(shapes.Page):
    results = HashList(many=True)
    shared = HashList(many=True, help_text="All of them, on every page.")


class HashEntry(s.Serializer):
    id = s.CharField()
    algorithms = s.ListField(child=s.ChoiceField(Algorithm.values))
    sha256 = s.CharField(**shapes.NULL)
    pdq = s.CharField(**shapes.NULL, help_text="Of a picture; a film has several.")
    note = s.CharField(allow_blank=True)
    created_by = s.CharField(allow_blank=True)
    created_at = s.DateTimeField()


class HashEntryPage(shapes.Page):
    results = HashEntry(many=True)


class EntriesAdded(s.Serializer):
    added = s.IntegerField()
    known = s.IntegerField(help_text="Hashes that were on the list already.")
    entry = HashEntry(**shapes.NULL, help_text="Of one file or asset.")
    job = shapes.Job(**shapes.NULL, help_text="Looks for earlier copies.")


class Match(s.Serializer):
    list = s.CharField()
    name = s.CharField()
    stance = s.ChoiceField(Stance.values)
    shared = s.BooleanField()
    algorithm = s.ChoiceField(Algorithm.values)
    distance = s.FloatField()
    limit = s.FloatField(help_text="Up to which distance it counts.")
    entry = s.CharField()
    at_s = s.FloatField(**shapes.MAYBE, help_text="In a film or recording.")


class Fingerprints(s.Serializer):
    sha256 = s.CharField(**shapes.NULL)
    pdq = s.CharField(**shapes.NULL)
    pdq_quality = s.IntegerField(
        **shapes.NULL, help_text="Below 50 a picture is too flat for its hash to count."
    )


class Matches(s.Serializer):
    matches = Match(many=True)
    fingerprints = Fingerprints()


class EntriesForm(s.Serializer):
    """One file whose content is to be known again, or a CSV file of hashes."""

    file = s.FileField(**shapes.MAYBE)
    hashes = s.FileField(
        **shapes.MAYBE, help_text="CSV in UTF-8: `hash`, `note`, `algorithm` (pdq, sha256); pdq if absent."
    )
    upload = s.CharField(
        **shapes.MAYBE, allow_blank=True, help_text="The id of a finished upload, instead of a file."
    )
    asset = s.CharField(**shapes.MAYBE, allow_blank=True)
    note = s.CharField(**shapes.MAYBE)
    retroactive = s.CharField(**shapes.MAYBE, help_text="JSON: true or false")


class MatchForm(s.Serializer):
    file = s.FileField(**shapes.MAYBE)
    upload = s.CharField(
        **shapes.MAYBE, allow_blank=True, help_text="The id of a finished upload, instead of a file."
    )
    asset = s.CharField(**shapes.MAYBE, allow_blank=True)
