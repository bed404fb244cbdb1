"""A policy's document as a request body: its schema is for clients, what may stand in it is the service's concern."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from api.fields import Body, Flag, Number, Text, Whole
from ml.auditing import CATEGORIES
from tenants.moderation.expressions.syntax import MAX_LENGTH
from tenants.moderation.expressions.variables import MODALITIES
from tenants.moderation.rules import document as policies
from tenants.moderation.rules import facts

_TEXT = {"type": "string", "minLength": 1}
_RULE = {
    "type": "object",
    "properties": {
        "id": {**_TEXT, "maxLength": 60, "description": "Letters, digits, dots, hyphens, underscores."},
        "when": {**_TEXT, "maxLength": MAX_LENGTH, "description": "A condition in CEL over the evidence."},
        "then": {"type": "string", "enum": list(policies.DECISIONS)},
        "reason": {**_TEXT, "maxLength": policies.MAX_REASON, "description": "A sentence for people."},
        "labels": {
            "type": "array",
            "items": {**_TEXT, "maxLength": policies.MAX_LABEL},
            "maxItems": policies.MAX_LABELS,
        },
        "severity": {"type": "integer", "minimum": 0, "maximum": 100},
        "stop": {"type": "boolean", "description": "If it fires, no rule after it is asked."},
    },
    "required": ["id", "when", "then", "reason"],
    "additionalProperties": False,
}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}


def _named(names: Any, inner: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict.fromkeys(names, inner),
        "additionalProperties": False,
    }


class _Json(serializers.Field):
    """Anything; the service says what is wrong with it."""

    def to_internal_value(self, data: object) -> object:
        return data

    def to_representation(self, value: object) -> object:
        return value


@extend_schema_field({"type": "array", "items": _RULE, "maxItems": policies.MAX_RULES})
class Rules(_Json):
    pass


@extend_schema_field(_named(CATEGORIES, _SHARE))
class Thresholds(_Json):
    pass


@extend_schema_field(
    {
        "type": "array",
        "items": {**_TEXT, "maxLength": policies.MAX_DETECTOR},
        "minItems": 1,
        "maxItems": policies.MAX_DETECTORS,
    }
)
class Detectors(_Json):
    pass


@extend_schema_field(
    {"type": "array", "items": {"type": "string", "enum": list(MODALITIES)}, "minItems": 1, "maxItems": 4}
)
class Modalities(_Json):
    pass


_TERMS = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": policies.MAX_TERM},
    "maxItems": policies.MAX_TERMS,
}


@extend_schema_field(
    {
        "type": "object",
        "properties": {"trust_anchors": {"type": "string"}, "keywords": _named(CATEGORIES, _TERMS)},
        "additionalProperties": False,
    }
)
class Options(_Json):
    pass


@extend_schema_field(_named(policies.SLA, {"type": "number", "minimum": 0.1, "maximum": 8_760}))
class Hours(_Json):
    pass


@extend_schema_field(_named(("expire_days",), {"type": "integer", "minimum": 1, "maximum": 3_650}))
class Strikes(_Json):
    pass


@extend_schema_field(
    {
        "type": "object",
        "properties": {
            "every_days": {"type": "integer", "minimum": 1, "maximum": policies.MOST_DAYS, "default": 7},
            "lose": {"type": "number", "minimum": 0, "maximum": policies.MOST_LOST, "default": 0.02},
            "activate": {"enum": ["none", "shadow", "enforce"], "default": "none"},
        },
        "additionalProperties": False,
    }
)
class Recalibration(_Json):
    pass


class DocumentBody(Body):
    rules = Rules(required=False)
    thresholds = Thresholds(
        required=False, help_text="From which score a category counts as flagged; .5 else."
    )
    detectors = Detectors(required=False, help_text="Which look; all that are installed if absent.")
    modalities = Modalities(required=False, help_text="What the policy is about; everything if absent.")
    options = Options(
        required=False,
        help_text="Of detectors: `trust_anchors` in PEM, own `keywords` by category.",
    )
    on_failure = serializers.ChoiceField(
        ("review", "allow", "block"),
        required=False,
        help_text="What is decided at least where something failed.",
    )
    quarantine = Flag(required=False, help_text="Uploads are not found before they were audited.")
    audit_uploads = Flag(required=False)
    second_opinion = Number(
        required=False, min_value=0, max_value=1, help_text="The share of reviews that two people decide."
    )
    sla_hours = Hours(required=False)
    strikes = Strikes(required=False)
    appeal_days = Whole(
        required=False,
        min_value=1,
        max_value=policies.MOST_APPEAL_DAYS,
        help_text="For how many days after a decision an appeal can be made; without a limit if absent.",
    )
    recalibrate = Recalibration(
        required=False,
        help_text="How often thresholds are compared with reviewers' decisions while it is enforced; never if absent.",
    )
    facts_rules = Text(
        required=False,
        max_length=facts.MAX_CHARACTERS,
        help_text="Rules over facts (Datalog), whose conclusions conditions read as `facts.NAME.holds`.",
    )
