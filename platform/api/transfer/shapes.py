"""The shapes of imports, their previews and receipts, for the OpenAPI document."""

from __future__ import annotations

from rest_framework import serializers as s

from api import shapes
from tenants.datasets import models
from tenants.jobs.models import Job


class Mapping(s.Serializer):
    id = s.CharField(**shapes.NULL)
    text = s.CharField(**shapes.NULL)
    file = s.CharField(**shapes.NULL)
    captions = s.CharField(**shapes.MAYBE, help_text="The column with further captions of a file.")
    metadata = s.JSONField(help_text='`"*"`, or from column to key.')


class Import(s.Serializer):
    id = s.CharField()
    dataset = s.CharField()
    source = s.ChoiceField(models.Import.Source.values)  # type: ignore[assignment]  # fields have one too
    location = s.CharField(help_text="The file's name, or the bucket and prefix.")
    format = s.CharField()
    bytes = s.IntegerField()
    mapping = Mapping()
    options = shapes.Object()
    state = s.ChoiceField(("draft", *Job.State.values))
    job = s.CharField(**shapes.NULL)
    total = s.IntegerField(**shapes.NULL)
    imported = s.IntegerField()
    merged = s.IntegerField(help_text="Rows whose captions went to the asset of the same file and id.")
    duplicate = s.IntegerField()
    failed = s.IntegerField()
    created_at = s.DateTimeField()


class ImportColumn(s.Serializer):
    name = s.CharField()
    examples = s.ListField(child=s.CharField(allow_blank=True))
    guessed_type = s.CharField()


class ImportItem(s.Serializer):
    row = s.IntegerField()
    name = s.CharField()
    external_id = s.CharField(**shapes.NULL)
    text = s.CharField(allow_blank=True)
    captions = s.ListField(child=s.CharField(), **shapes.MAYBE)
    file = s.CharField(**shapes.NULL)
    metadata = shapes.Object()
    error = s.CharField(**shapes.NULL)


class ImportPreview(s.Serializer):
    format = s.CharField()
    columns = ImportColumn(many=True)
    mapping = Mapping()
    rows = ImportItem(many=True)
    total = s.IntegerField(**shapes.NULL, help_text="Null where counting would take long.")
    options = shapes.Object()
    warnings = s.ListField(child=s.CharField())


class ImportForm(s.Serializer):
    """A file, or an upload; the other fields as JSON texts."""

    file = s.FileField(**shapes.MAYBE)
    upload = s.CharField(**shapes.MAYBE, help_text="The id of a finished upload, instead of a file.")
    mapping = s.CharField(**shapes.MAYBE, help_text="JSON")
    options = s.CharField(**shapes.MAYBE, help_text="JSON")
    start = s.CharField(**shapes.MAYBE, help_text="JSON: true or false")


# `import` is a word of Python's.
ImportStarted = type("ImportStarted", (s.Serializer,), {"import": Import(), "job": shapes.Job()})
ImportDrafted = type(
    "ImportDrafted", (s.Serializer,), {"import": Import(), "preview": ImportPreview(allow_null=True)}
)


class ImportLine(s.Serializer):
    row = s.IntegerField()
    name = s.CharField(allow_blank=True)
    outcome = s.ChoiceField(models.ImportRow.Outcome.values)
    asset = s.CharField(**shapes.NULL)
    reason = s.CharField(allow_blank=True)
    external_id = s.CharField(allow_blank=True, help_text="Of a failed row of a table, as it was read.")
    text = s.CharField(allow_blank=True, help_text="The beginning of a failed row's text.")


class ImportPage(shapes.Page):
    results = Import(many=True)


class ImportRowPage(shapes.Page):
    results = ImportLine(many=True)
