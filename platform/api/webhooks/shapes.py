"""The shapes of webhooks, for the OpenAPI document."""

from __future__ import annotations

from rest_framework import serializers as s

from api.shapes import NULL, Page
from tenants.events.models import Webhook as WebhookRow
from tenants.events.models import WebhookDelivery as DeliveryRow
from tenants.events.webhooks import TYPES


class WebhookShape(s.Serializer):
    id = s.CharField()
    url = s.CharField()
    description = s.CharField(allow_blank=True)
    events = s.ListField(child=s.ChoiceField(TYPES), **NULL, help_text="Null: all types.")
    state = s.ChoiceField(WebhookRow.State.values)
    reason = s.ChoiceField(("gone", "failing"), **NULL, help_text="Why it was disabled by itself.")
    failing_since = s.DateTimeField(**NULL, help_text="Since when nothing has come through.")
    previous_secret_until = s.DateTimeField(**NULL, help_text="Until when the secret before signs, too.")
    created_at = s.DateTimeField()


class WebhookWithSecret(WebhookShape):
    secret = s.CharField(**NULL, help_text="Shown once; null in a replayed answer.")


class WebhookPage(Page):
    results = WebhookShape(many=True)


class EventName(s.Serializer):
    id = s.CharField(help_text="The header `webhook-id`: the same at every attempt.")
    type = s.CharField()


class DeliveryShape(s.Serializer):
    id = s.CharField()
    webhook = s.CharField()
    event = EventName()
    state = s.ChoiceField(DeliveryRow.State.values)
    attempt_count = s.IntegerField()
    status = s.IntegerField(**NULL, help_text="What the last attempt was answered with.")
    latency_ms = s.IntegerField(**NULL)
    error = s.CharField(**NULL, help_text="Why the last attempt had no answer.")
    next_attempt_at = s.DateTimeField(**NULL)
    created_at = s.DateTimeField()
    finished_at = s.DateTimeField(**NULL)


class Attempt(s.Serializer):
    at = s.DateTimeField()
    status = s.IntegerField(**NULL)
    latency_ms = s.IntegerField()
    error = s.CharField(allow_blank=True)
    response = s.CharField(allow_blank=True, help_text="The beginning of the answer's body.")


class Sent(s.Serializer):
    body = s.CharField(help_text="Byte for byte what is signed and sent.")


class DeliveryInFull(DeliveryShape):
    request = Sent()
    attempts = Attempt(many=True)


class DeliveryPage(Page):
    results = DeliveryShape(many=True)


class Delivered(s.Serializer):
    delivery = DeliveryShape()


class Replayed(s.Serializer):
    replayed = s.IntegerField()
    more = s.BooleanField(help_text="Whether further ones have failed since; ask again.")
