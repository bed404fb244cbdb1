"""The shapes of audits, for the OpenAPI document. docs/auditing/README.md tells what each field means."""

from __future__ import annotations

from rest_framework import serializers as s

from api import shapes
from ml.auditing.fusion import ESTIMATES, VERDICTS

DECISIONS = ("allow", "label", "review", "block")


class PolicyRef(s.Serializer):
    id = s.CharField()
    version = s.IntegerField()


class Authenticity(s.Serializer):
    verdict = s.ChoiceField(VERDICTS)
    tier = s.CharField(**shapes.NULL)
    probability = s.FloatField(
        **shapes.NULL, help_text="Of what the verdict says; only where it is an estimate."
    )
    interval = s.ListField(child=s.FloatField(), **shapes.NULL)
    evidence = s.ListField(child=shapes.Object())
    tiers = shapes.Object(help_text="Each tier's own verdict; tiers are never averaged.")
    looked_for = shapes.Object(
        **shapes.MAYBE,
        help_text="What each tier looked for in this item: lists of codes by tier. Audits of before lack it.",
    )
    estimates = shapes.Object(
        **shapes.MAYBE,
        help_text="The statistical tier's verdicts about `generation` and `manipulation`. Audits of before lack it.",
    )


class AuditDetector(s.Serializer):
    name = s.CharField()
    version = s.CharField()
    tier = s.CharField()
    state = s.ChoiceField(("examined", "abstained", "not_applicable", "not_installed", "failed"))
    reason = s.CharField(allow_blank=True)
    score = s.FloatField(**shapes.NULL)
    cpu_s = s.FloatField()
    pictures = s.ListField(child=s.CharField())
    evidence = s.ListField(child=shapes.Object())


class Provenance(s.Serializer):
    c2pa = shapes.Object()
    declared = shapes.Object()
    watermark = shapes.Object()


class AuditLine(s.Serializer):
    id = s.CharField()
    state = s.ChoiceField(("pending", "failed", "done"))
    asset = s.CharField(**shapes.NULL)
    modality = s.CharField()
    created_at = s.DateTimeField()
    error = shapes.Object(**shapes.MAYBE)
    sha256 = s.CharField(**shapes.MAYBE)
    decision = s.ChoiceField(DECISIONS, **shapes.MAYBE)
    mode = s.ChoiceField(("enforce", "shadow", "off"), **shapes.MAYBE)
    policy = PolicyRef(required=False, allow_null=True)
    rules_fired = s.ListField(child=s.CharField(), **shapes.MAYBE)
    verdict = s.ChoiceField(VERDICTS, **shapes.MAYBE)
    severity = s.IntegerField(**shapes.MAYBE)
    versions = shapes.Object(**shapes.MAYBE)
    evidence_digest = s.CharField(**shapes.MAYBE)


class Audit(AuditLine):
    """`evidence` is `erased` once the asset was, or its time was over; the decision and its digest stay."""

    evidence = s.ChoiceField(("kept", "erased"), **shapes.MAYBE)
    item = shapes.Object(**shapes.MAYBE)
    authenticity = Authenticity(required=False)
    provenance = Provenance(required=False)
    generation = s.CharField(**shapes.MAYBE, help_text="Of your workspace, that the watermark names.")
    categories = shapes.Object(**shapes.MAYBE)
    matches = s.ListField(child=shapes.Object(), **shapes.MAYBE)
    fingerprints = shapes.Object(**shapes.MAYBE)
    words = s.ListField(child=shapes.Object(), **shapes.MAYBE)
    detectors = AuditDetector(many=True, required=False)
    could_not_look = s.ListField(child=s.CharField(), **shapes.MAYBE)
    strikes = s.IntegerField(**shapes.MAYBE)
    pictures = shapes.Object(
        **shapes.MAYBE, help_text="Ids of pictures by name: `/audits/{id}/pictures/{picture}`."
    )


class AuditPage(s.Serializer):
    results = AuditLine(many=True)
    next = s.CharField(**shapes.NULL)


class AuditAccepted(s.Serializer):
    audit = Audit()
    job = shapes.Job()


class AuditForm(s.Serializer):
    file = s.FileField(**shapes.MAYBE)
    text = s.CharField(**shapes.MAYBE)
    asset = s.CharField(**shapes.MAYBE)
    subject = s.CharField(**shapes.MAYBE)
    policy = s.CharField(**shapes.MAYBE)


class DetectorInfo(s.Serializer):
    name = s.CharField()
    version = s.CharField()
    tier = s.ChoiceField(("cryptographic", "declared", "match", "rules", "statistical"))
    modalities = s.ListField(child=s.CharField())
    categories = s.ListField(child=s.CharField())
    estimates = s.ChoiceField(tuple(ESTIMATES), **shapes.NULL, help_text="What its `score` is of.")
    looks_for = s.ListField(child=s.CharField(), help_text="Signs of how an item was made that it looks for.")
    sees = s.CharField()
    blind_to = s.CharField()
    timeout_s = s.FloatField()
    missing = s.CharField(**shapes.NULL, help_text="Null where it can run.")


class Detectors(s.Serializer):
    results = DetectorInfo(many=True)
