"""`/stream-sources`: brokers whose items become assets, and what could not."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Flag, Object, Text
from api.idempotency import Answer, IdempotentRequest
from api.paging import MAX_LIMIT, read_page, refuse_unknown
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from api.search.forms import DatasetId, Id
from tenants.accounts.permissions import ADMIN
from tenants.datasets.models import StreamDeadLetter, StreamSource
from tenants.events import ssrf_guard
from tenants.pipeline.streams import consuming, shapes, sources
from tenants.scope import tenant_scope

URL_HELP = (
    "`rediss://`, `amqps://` or `kafkas://`, with user name and password where the broker asks for them, which are "
    "kept sealed and never shown. An address of the public internet."
)
MAPPING_HELP = (
    "Which field of an item is `id`, `text`, `metadata` (`*`: all others); of Redis Streams `body` names a field "
    "that holds the item as JSON. By default fields of these names."
)


class SourceChange(Body):
    name = Text(required=False, min_length=1, max_length=sources.MAX_NAME)
    url = Text(required=False, max_length=ssrf_guard.MAX_URL, help_text=URL_HELP)
    mapping = Object(required=False, help_text=MAPPING_HELP)
    on_change = serializers.ChoiceField(
        StreamSource.OnChange.values,
        required=False,
        help_text="Other content under an id that is there: a dead letter, or it takes the place of the asset.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise ValidationError("Send what is to change.")
        return attrs


class NewSource(Body):
    name = Text(min_length=1, max_length=sources.MAX_NAME)
    kind = serializers.ChoiceField(StreamSource.Kind.values)
    url = Text(max_length=ssrf_guard.MAX_URL, help_text=URL_HELP)
    topic = Text(min_length=1, max_length=sources.MAX_TOPIC, help_text="The stream, queue or topic.")
    group = Text(
        required=False,
        min_length=1,
        max_length=sources.MAX_GROUP,
        help_text="The consumer group, for this source alone. RabbitMQ has none.",
    )
    dataset = DatasetId()
    mapping = Object(required=False, help_text=MAPPING_HELP)
    on_change = serializers.ChoiceField(StreamSource.OnChange.values, required=False)
    from_start = Flag(required=False, help_text="Begin with what is there already; true if absent.")


class Letters(Body):
    dead_letters = serializers.ListField(
        child=Id(),
        required=False,
        min_length=1,
        max_length=MAX_LIMIT,
        help_text="The oldest ones if absent.",
    )


class Sources(Resource):
    """What the resources of one source share."""

    found: StreamSource

    def find(self, source_id: uuid.UUID | None) -> StreamSource:
        return sources.get_source(source_id)


class StreamSources(Resource):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(summary="List stream sources", parameters=PAGING, responses=page_of(shapes.StreamSource))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(sources.list_sources(), sources.source_shape))

    @extend_schema(
        summary="Read items from a broker",
        description=(
            "A stream of Redis, a queue of RabbitMQ, or a topic of Kafka: each item becomes an asset, exactly once in "
            "effect. It is read from now on; `problem` says what keeps it from that."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewSource},
        responses={201: shapes.StreamSource},
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewSource.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._create(fields)).response()

    def _create(self, fields: dict[str, Any]) -> Answer:
        given = {name: value for name, value in fields.items() if name != "dataset"}
        row = sources.create_source(dataset_id=fields["dataset"], **given, actor=self.actor)
        return Answer.of(201, sources.source_shape(row), {"Location": f"/api/v1/stream-sources/{row.id}"})


class OneStreamSource(Sources):
    scopes = {"GET": ADMIN, "PATCH": ADMIN, "DELETE": ADMIN}

    @extend_schema(summary="A stream source", responses=shapes.StreamSource)
    def get(self, request: Request, source_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(sources.source_shape(self.found))

    @extend_schema(
        summary="Change a stream source",
        description="Stream, group and dataset stay: how far it was read is told by them.",
        request={"application/json": SourceChange},
        responses=shapes.StreamSource,
        extensions={"x-problems": [409]},
    )
    def patch(self, request: Request, source_id: uuid.UUID) -> Response:
        fields = SourceChange.read(request.data)
        with tenant_scope(self.tenant_id):
            row = sources.update_source(source_id=source_id, changes=fields, actor=self.actor)
            return Response(sources.source_shape(row))

    @extend_schema(
        summary="Delete a stream source",
        description="With its dead letters. Its assets stay, and the group in the broker.",
        responses={204: None},
    )
    def delete(self, request: Request, source_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            sources.delete_source(source_id=source_id, actor=self.actor)
        return Response(status=204)


class PauseStreamSource(Sources):
    scopes = {"POST": ADMIN}

    @extend_schema(
        summary="Pause a stream source",
        description="What has come since waits in the broker.",
        request=None,
        responses=shapes.StreamSource,
    )
    def post(self, request: Request, source_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(sources.source_shape(sources.pause_source(source_id=source_id, actor=self.actor)))


class ResumeStreamSource(Sources):
    scopes = {"POST": ADMIN}

    @extend_schema(
        summary="Resume a stream source",
        description="It goes on from where it was read.",
        request=None,
        responses=shapes.StreamSource,
    )
    def post(self, request: Request, source_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(
                sources.source_shape(sources.resume_source(source_id=source_id, actor=self.actor))
            )


class DeadLetters(Sources):
    scopes = {"GET": ADMIN, "DELETE": ADMIN}

    @extend_schema(
        summary="List dead letters",
        description="Items of the source that became no asset, newest first, with the reason. Kept for 30 days.",
        parameters=PAGING,
        responses=page_of(shapes.StreamDeadLetter),
    )
    def get(self, request: Request, source_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of_bounded(sources.list_letters(source_id), sources.letter_shape))

    @extend_schema(summary="Delete all dead letters", responses={200: shapes.LettersDeleted})
    def delete(self, request: Request, source_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            gone = sources.delete_letters(source_id=source_id, letter_ids=None, actor=self.actor)
        return Response(shapes.LettersDeleted(deleted=gone))


class OneDeadLetter(Resource):
    scopes = {"GET": ADMIN, "DELETE": ADMIN}
    found: StreamDeadLetter

    def find(self, source_id: uuid.UUID | None, letter_id: uuid.UUID | None) -> StreamDeadLetter:
        return sources.get_letter(sources.get_source(source_id).id, letter_id)

    @extend_schema(summary="A dead letter", responses=shapes.StreamDeadLetter)
    def get(self, request: Request, source_id: uuid.UUID, letter_id: uuid.UUID) -> Response:
        return Response(sources.letter_shape(self.found))

    @extend_schema(summary="Delete a dead letter", responses={204: None})
    def delete(self, request: Request, source_id: uuid.UUID, letter_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            sources.delete_letters(source_id=source_id, letter_ids=[letter_id], actor=self.actor)
        return Response(status=204)


class ReplayDeadLetters(Sources):
    scopes = {"POST": ADMIN}

    @extend_schema(
        summary="Try dead letters again",
        description=(
            f"At most {consuming.MOST_REPLAYED} at once, by the mapping of now. Those that are stored are deleted, "
            "others say why they are refused."
        ),
        request={"application/json": Letters},
        responses=shapes.LettersReplayed,
        extensions={"x-problems": [404]},
    )
    def post(self, request: Request, source_id: uuid.UUID) -> Response:
        fields = Letters.read(request.data)
        with tenant_scope(self.tenant_id):
            chosen = fields.get("dead_letters")
            for one in chosen or ():
                sources.get_letter(source_id, one)
        stored, left = consuming.replay_letters(
            tenant_id=self.tenant_id, source_id=source_id, letter_ids=chosen, actor=self.actor
        )
        return Response(shapes.LettersReplayed(stored=stored, left=left))
