"""The shapes of receipts of erasures and of exports, for the OpenAPI document."""

from __future__ import annotations

from rest_framework import serializers as s

from api.shapes import NULL, Job, Object, Page
from tenants.events.models import Erasure as ErasureRow


class Erasure(s.Serializer):
    """The receipt of an erasure. It holds nothing of what was erased."""

    id = s.CharField()
    kind = s.ChoiceField(ErasureRow.Kind.values)
    target = s.CharField(**NULL, help_text="The id of the asset or dataset.")
    subject_hash = s.CharField(**NULL, help_text="A keyed hash of whose data was asked for.")
    job = s.CharField(**NULL)
    requested_by = s.CharField(allow_blank=True)
    matched = s.IntegerField(help_text="Assets that were meant when it was asked for.")
    removed = Object(
        help_text="`assets`, `rows` by table, `files` by kind, `bytes`, and what else named them."
    )
    remains = Object(help_text="`places` that still hold something, and until when.")
    verified = s.BooleanField(help_text="A last look found nothing more.")
    created_at = s.DateTimeField()
    finished_at = s.DateTimeField(**NULL)


class ErasurePage(Page):
    results = Erasure(many=True)


class ErasureAccepted(s.Serializer):
    erasure = Erasure()
    job = Job()


class DatasetShare(s.Serializer):
    id = s.CharField()
    name = s.CharField()
    assets = s.IntegerField()
    bytes = s.IntegerField()


class ErasurePreview(s.Serializer):
    matched = s.IntegerField()
    bytes = s.IntegerField()
    datasets = DatasetShare(many=True)


class Export(s.Serializer):
    id = s.CharField()
    job = s.CharField()
    with_vectors = s.BooleanField()
    requested_by = s.CharField(allow_blank=True)
    ready = s.BooleanField()
    bytes = s.IntegerField()
    sha256 = s.CharField(**NULL)
    created_at = s.DateTimeField()
    expires_at = s.DateTimeField(**NULL)


class ExportPage(Page):
    results = Export(many=True)


class ExportAccepted(s.Serializer):
    export = Export()
    job = Job()
