"""`/webhooks`: who is told what happens, and the log of what was told."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from msgspec.structs import asdict
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Text
from api.idempotency import Answer, IdempotentRequest
from api.paging import read_choice, read_page, refuse_unknown
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING, choice
from tenants.accounts.permissions import ADMIN
from tenants.events import endpoints, replays, shapes, ssrf_guard
from tenants.events.models import Webhook, WebhookDelivery
from tenants.events.webhooks import TYPES
from tenants.scope import tenant_scope

STATES = WebhookDelivery.State.values


class WebhookChange(Body):
    url = Text(
        required=False,
        max_length=ssrf_guard.MAX_URL,
        help_text="https, and an address of the public internet.",
    )
    description = Text(required=False, allow_blank=True, max_length=endpoints.MAX_DESCRIPTION)
    events = serializers.ListField(
        child=serializers.ChoiceField(TYPES),
        required=False,
        allow_null=True,
        min_length=1,
        max_length=100,
        help_text="Types of events; null for all.",
    )
    state = serializers.ChoiceField(
        Webhook.State.values,
        required=False,
        help_text="While it is paused events are kept, while disabled not.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise ValidationError("Send what is to change.")
        return {**attrs, "events": attrs["events"] or []} if "events" in attrs else attrs


class NewWebhook(WebhookChange):
    url = Text(max_length=ssrf_guard.MAX_URL, help_text="https, and an address of the public internet.")
    state = None  # type: ignore[assignment]  # a new one is active


class Since(Body):
    since = serializers.DateTimeField(help_text="Of when the events happened.")


class Hooks(Resource):
    """What the resources of one webhook share."""

    found: Webhook

    def find(self, webhook_id: uuid.UUID | None) -> Webhook:
        return endpoints.get_webhook(webhook_id)


class Webhooks(Resource):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(summary="List webhooks", parameters=PAGING, responses=page_of(shapes.WebhookShape))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(replays.list_webhooks(), replays.webhook_shape))

    @extend_schema(
        summary="Create a webhook",
        description=(
            "Events are sent as Standard Webhooks has it, with a signature. The secret is shown in this answer only; "
            "a replay of it has `secret: null`."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewWebhook},
        responses={201: shapes.WebhookWithSecret},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewWebhook.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._create(fields)).response()

    def _create(self, fields: dict[str, Any]) -> Answer:
        row, secret = endpoints.create_webhook(**fields, actor=self.actor)
        return _with_secret(201, row, secret, {"Location": f"/api/v1/webhooks/{row.id}"})


def _with_secret(status: int, row: Webhook, secret: str, headers: dict[str, str] | None = None) -> Answer:
    return Answer.of(
        status,
        shapes.WebhookWithSecret(**asdict(replays.webhook_shape(row)), secret=secret),
        headers,
        withheld="secret",
    )


class OneWebhook(Hooks):
    scopes = {"GET": ADMIN, "PATCH": ADMIN, "DELETE": ADMIN}

    @extend_schema(summary="A webhook", responses=shapes.WebhookShape)
    def get(self, request: Request, webhook_id: uuid.UUID) -> Response:
        return Response(replays.webhook_shape(self.found))

    @extend_schema(
        summary="Change a webhook",
        request={"application/json": WebhookChange},
        responses=shapes.WebhookShape,
    )
    def patch(self, request: Request, webhook_id: uuid.UUID) -> Response:
        fields = WebhookChange.read(request.data)
        with tenant_scope(self.tenant_id):
            row = endpoints.update_webhook(webhook_id=webhook_id, changes=fields, actor=self.actor)
        return Response(replays.webhook_shape(row))

    @extend_schema(
        summary="Delete a webhook", description="With the log of its deliveries.", responses={204: None}
    )
    def delete(self, request: Request, webhook_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            endpoints.delete_webhook(webhook_id=webhook_id, actor=self.actor)
        return Response(status=204)


class TestWebhook(Hooks):
    scopes = {"POST": ADMIN}
    # Not a test of ours, whatever its name says.
    __test__ = False

    @extend_schema(
        summary="Send a test event",
        description="`webhook.test`, to this endpoint alone. It is sent in the background; the delivery tells how.",
        parameters=[IDEMPOTENCY],
        request=None,
        responses={202: shapes.Delivered},
        extensions={"x-problems": [409, 422]},
    )
    def post(self, request: Request, webhook_id: uuid.UUID) -> HttpResponse:
        return IdempotentRequest(request, {}).run(lambda: self._test(webhook_id)).response()

    def _test(self, webhook_id: uuid.UUID) -> Answer:
        return _delivery_accepted(endpoints.send_test(webhook_id=webhook_id, actor=self.actor))


def _delivery_accepted(row: WebhookDelivery) -> Answer:
    where = f"/api/v1/webhooks/{row.webhook_id}/deliveries/{row.id}"
    return Answer.of(202, {"delivery": replays.delivery_shape(row)}, {"Location": where})


class RotateWebhookSecret(Hooks):
    scopes = {"POST": ADMIN}

    @extend_schema(
        summary="Rotate the secret",
        description=(
            "For 24 hours both secrets sign. The new one is shown in this answer only; a replay of it has "
            "`secret: null`."
        ),
        parameters=[IDEMPOTENCY],
        request=None,
        responses={200: shapes.WebhookWithSecret},
        extensions={"x-problems": [422]},
    )
    def post(self, request: Request, webhook_id: uuid.UUID) -> HttpResponse:
        return IdempotentRequest(request, {}).run(lambda: self._rotate(webhook_id)).response()

    def _rotate(self, webhook_id: uuid.UUID) -> Answer:
        return _with_secret(200, *endpoints.rotate_secret(webhook_id=webhook_id, actor=self.actor))


class Deliveries(Hooks):
    scopes = {"GET": ADMIN}

    @extend_schema(
        summary="List deliveries",
        parameters=[*PAGING, choice("state", STATES)],
        responses=page_of(shapes.DeliveryShape),
    )
    def get(self, request: Request, webhook_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params, "state")
        page, state = read_page(request.query_params), read_choice(request.query_params, "state", STATES)
        with tenant_scope(self.tenant_id):
            rows = replays.list_deliveries(webhook_id, state=state)
            return Response(page.of(rows, replays.delivery_shape))


class OneDelivery(Resource):
    scopes = {"GET": ADMIN}

    def find(self, webhook_id: uuid.UUID | None, delivery_id: uuid.UUID | None) -> WebhookDelivery:
        return replays.get_delivery(webhook_id, delivery_id)

    @extend_schema(summary="A delivery", responses=shapes.DeliveryInFull)
    def get(self, request: Request, webhook_id: uuid.UUID, delivery_id: uuid.UUID) -> Response:
        return Response(replays.delivery_in_full(self.found))


class ReplayDelivery(Resource):
    scopes = {"POST": ADMIN}

    def find(self, webhook_id: uuid.UUID | None, delivery_id: uuid.UUID | None) -> WebhookDelivery:
        return replays.get_delivery(webhook_id, delivery_id)

    @extend_schema(
        summary="Send a delivery again",
        description="The same body under the same event id, signed anew, with all its tries.",
        parameters=[IDEMPOTENCY],
        request=None,
        responses={202: shapes.Delivered},
        extensions={"x-problems": [409, 422]},
    )
    def post(self, request: Request, webhook_id: uuid.UUID, delivery_id: uuid.UUID) -> HttpResponse:
        return IdempotentRequest(request, {}).run(lambda: self._replay(webhook_id, delivery_id)).response()

    def _replay(self, webhook_id: uuid.UUID, delivery_id: uuid.UUID) -> Answer:
        row = replays.replay(webhook_id=webhook_id, delivery_id=delivery_id, actor=self.actor)
        return _delivery_accepted(row)


class ReplayFailed(Hooks):
    scopes = {"POST": ADMIN}

    @extend_schema(
        summary="Send again all that failed since a moment",
        description=f"The oldest first, {replays.MAX_REPLAYED} at a time.",
        parameters=[IDEMPOTENCY],
        request={"application/json": Since},
        responses={202: shapes.Replayed},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, webhook_id: uuid.UUID) -> HttpResponse:
        since = Since.read(request.data)["since"]
        idempotent = IdempotentRequest(request, {"since": since.isoformat()})
        return idempotent.run(lambda: self._replay(webhook_id, since)).response()

    def _replay(self, webhook_id: uuid.UUID, since: Any) -> Answer:
        count, more = replays.replay_failed(webhook_id=webhook_id, since=since, actor=self.actor)
        return Answer.of(202, {"replayed": count, "more": more})
