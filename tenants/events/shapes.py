"""Webhooks and deliveries as the API shows them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from tenants.events.models import Webhook as WebhookRow
from tenants.events.models import WebhookDelivery as DeliveryRow
from tenants.events.webhooks import TYPES
from tenants.shapes import Choices, Doc, JsonObject, Shape


class AuditEvent(Shape, kw_only=True):
    id: str
    actor: Annotated[
        str,
        Doc(
            "`key:` and a key's prefix, a person's id, `operator:` and an address; empty: the system, or nobody known."
        ),
    ]
    verb: str
    target: str
    details: JsonObject
    created_at: dt.datetime


class WebhookShape(Shape, kw_only=True):
    id: str
    url: str
    description: str
    events: Annotated[list[Annotated[str, Choices(TYPES)]] | None, Doc("Null: all types.")]
    state: Annotated[str, Choices(WebhookRow.State.values)]
    reason: Annotated[str | None, Choices(("gone", "failing")), Doc("Why it was disabled by itself.")]
    failing_since: Annotated[dt.datetime | None, Doc("Since when nothing has come through.")]
    previous_secret_until: Annotated[dt.datetime | None, Doc("Until when the secret before signs, too.")]
    created_at: dt.datetime


class WebhookWithSecret(WebhookShape, kw_only=True):
    secret: Annotated[str | None, Doc("Shown once; null in a replayed answer.")]


class EventName(Shape, kw_only=True):
    id: Annotated[str, Doc("The header `webhook-id`: the same at every attempt.")]
    type: str


class DeliveryShape(Shape, kw_only=True):
    id: str
    webhook: str
    event: EventName
    state: Annotated[str, Choices(DeliveryRow.State.values)]
    attempt_count: int
    status: Annotated[int | None, Doc("What the last attempt was answered with.")]
    latency_ms: int | None
    error: Annotated[str | None, Doc("Why the last attempt had no answer.")]
    next_attempt_at: dt.datetime | None
    created_at: dt.datetime
    finished_at: dt.datetime | None


class Attempt(Shape, kw_only=True):
    at: dt.datetime
    status: int | None
    latency_ms: int
    error: str
    response: Annotated[str, Doc("The beginning of the answer's body.")]


class Sent(Shape, kw_only=True):
    body: Annotated[str, Doc("Byte for byte what is signed and sent.")]


class DeliveryInFull(DeliveryShape, kw_only=True):
    request: Sent
    attempts: list[Annotated[JsonObject, Attempt]]


class Delivered(Shape, kw_only=True):
    delivery: DeliveryShape


class Replayed(Shape, kw_only=True):
    replayed: int
    more: Annotated[bool, Doc("Whether further ones have failed since; ask again.")]
