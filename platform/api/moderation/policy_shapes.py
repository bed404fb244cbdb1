"""The shapes of policies, their checks and backtests, for the OpenAPI document."""

from __future__ import annotations

from rest_framework import serializers as s

from api import shapes
from tenants.moderation import policy_document
from tenants.moderation.models import PolicyActivation

MODES = PolicyActivation.Mode.values


class Rest(s.Serializer):
    policy = s.CharField()
    version = s.IntegerField()


class PolicyState(s.Serializer):
    mode = s.ChoiceField(MODES, help_text="The strongest of what it does.")
    version = s.IntegerField(**shapes.NULL, help_text="The enforced version.")
    ratio = s.FloatField(**shapes.NULL, help_text="The share of items that it decides for.")
    rest = Rest(
        **shapes.NULL, help_text="What decides for the other items; null: they are decided as in shadow."
    )
    shadow = s.IntegerField(**shapes.NULL, help_text="The version that runs in shadow.")
    since = s.DateTimeField(**shapes.NULL)


class PolicyRule(s.Serializer):
    id = s.CharField()
    when = s.CharField()
    then = s.ChoiceField(policy_document.DECISIONS)
    reason = s.CharField()
    labels = s.ListField(child=s.CharField())
    severity = s.IntegerField(min_value=0, max_value=100)
    stop = s.BooleanField()


class PolicyDocument(s.Serializer):
    rules = PolicyRule(many=True)
    thresholds = s.DictField(child=s.FloatField())
    detectors = s.ListField(child=s.CharField(), **shapes.MAYBE)
    modalities = s.ListField(child=s.CharField(), **shapes.MAYBE)
    options = shapes.Object()
    on_failure = s.ChoiceField(policy_document.DECISIONS)
    quarantine = s.BooleanField()
    audit_uploads = s.BooleanField()
    second_opinion = s.FloatField()
    sla_hours = s.DictField(child=s.FloatField())
    strikes = s.DictField(child=s.IntegerField())


class PolicyVersion(s.Serializer):
    policy = s.CharField()
    version = s.IntegerField()
    digest = s.CharField(help_text="SHA-256 of the document in canonical JSON.")
    document = PolicyDocument()
    created_by = s.CharField(allow_blank=True)
    created_at = s.DateTimeField()


class Policy(s.Serializer):
    id = s.CharField()
    name = s.CharField()
    description = s.CharField(allow_blank=True)
    starter = s.CharField(**shapes.NULL)
    latest_version = s.IntegerField()
    in_force = PolicyState()
    created_by = s.CharField(allow_blank=True)
    created_at = s.DateTimeField()


class PolicyPage(shapes.Page):
    results = Policy(many=True)


class PolicyVersionPage(shapes.Page):
    results = PolicyVersion(many=True)


class PolicyProblem(s.Serializer):
    code = s.CharField()
    rule = s.CharField(allow_blank=True, help_text="Its id; empty for the whole document.")
    pointer = s.CharField(allow_blank=True)
    detail = s.CharField()


class PolicyCheck(s.Serializer):
    errors = PolicyProblem(  # type: ignore[assignment]  # serializers have one too
        many=True, help_text="Why it cannot be stored."
    )
    warnings = PolicyProblem(many=True)
    steps = s.FloatField(help_text="What a decision may cost at most, in steps of about a microsecond.")


class PolicyCreated(s.Serializer):
    policy = Policy()
    version = PolicyVersion()
    warnings = PolicyProblem(many=True)


class PolicyVersionAdded(s.Serializer):
    version = PolicyVersion()
    warnings = PolicyProblem(many=True)


class PolicyActivationLine(s.Serializer):
    id = s.CharField()
    number = s.IntegerField()
    version = s.IntegerField()
    mode = s.ChoiceField(MODES)
    ratio = s.FloatField()
    created_by = s.CharField(allow_blank=True)
    created_at = s.DateTimeField()


class PolicyWithHistory(Policy):
    activations = PolicyActivationLine(many=True, help_text="The last fifty, newest first.")


class PolicyChange(s.Serializer):
    to = s.ChoiceField(policy_document.DECISIONS)
    count = s.IntegerField()

    def get_fields(self) -> dict[str, s.Field]:
        # `from` is a word of Python's.
        return {"from": s.ChoiceField(policy_document.DECISIONS), **super().get_fields()}


class ShadowSample(s.Serializer):
    audit = s.CharField()
    to = s.ChoiceField(policy_document.DECISIONS)
    rules = s.ListField(child=s.CharField())

    def get_fields(self) -> dict[str, s.Field]:
        return {"from": s.ChoiceField(policy_document.DECISIONS), **super().get_fields()}


class ShadowComparison(s.Serializer):
    version = s.IntegerField()
    audits = s.IntegerField()
    changed = s.IntegerField()
    changes = PolicyChange(many=True)
    samples = ShadowSample(many=True, help_text="The newest that differ.")


class StarterPolicy(s.Serializer):
    id = s.CharField()
    title = s.CharField()
    description = s.CharField()
    document = PolicyDocument()


class StarterPolicies(s.Serializer):
    results = StarterPolicy(many=True)


class PolicyVariable(s.Serializer):
    name = s.CharField()
    type = s.CharField()
    about = s.CharField(allow_blank=True)
    values = s.ListField(child=s.CharField(), help_text="All that it can be; empty where that is not known.")


class BacktestAccepted(s.Serializer):
    job = shapes.Job()
