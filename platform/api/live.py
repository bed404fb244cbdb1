"""`/live`: tickets for live streams. The stream itself is a WebSocket under the same address (`config.live`)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of
from api.fields import Body, Flag, Number, Text, Whole
from api.problems import Problem, Refusal
from api.rendering import to_json
from api.resource import Resource, rate_exceeded
from api.search.forms import MAX_DATASETS, OPTIONAL, Id, require_named
from api.search.views import as_dict
from tenants.accounts import api_admission, keys
from tenants.accounts.permissions import SEARCH
from tenants.accounts.watchers import by_key, may_watch
from tenants.datasets.models import Asset
from tenants.errors import Invalid, NotAllowed
from tenants.pipeline import live
from tenants.retrieval import Query, search
from tenants.retrieval.query import HYDRATED
from tenants.scope import tenant_scope
from tenants.shapes import Shape

# Between Django and the edge: the ticket of a stream that may be opened.
OPENS = "X-Live-Ticket"
TOP_K, MAX_RESULTS = 10, 50
ADDRESS = "/api/v1/live"
UPGRADE = Problem(
    "upgrade-required",
    426,
    "This address is a WebSocket",
    "Connect to it as a WebSocket, or POST to it for a ticket.",
    headers={"Upgrade": "websocket", "Connection": "Upgrade"},
)


class LiveSearch(Body):
    """How what is said is searched by: fields of a search."""

    datasets = serializers.ListField(**OPTIONAL, child=Id(), min_length=1, max_length=MAX_DATASETS)
    modalities = serializers.ListField(
        **OPTIONAL, child=serializers.ChoiceField(Asset.Modality.values), min_length=1, max_length=4
    )
    top_k = Whole(**OPTIONAL, min_value=1, max_value=MAX_RESULTS)
    min_relevance = Number(**OPTIONAL, min_value=0, max_value=1)
    hybrid = Flag(**OPTIONAL)


class LiveBody(Body):
    """`stream`: one that a broken connection was cut off from; then nothing else."""

    purpose = serializers.ChoiceField(list(live.PURPOSES), required=False)
    search = LiveSearch(**OPTIONAL)
    stream = Id(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "stream" in attrs and len(attrs) > 1:
            raise serializers.ValidationError("Send either stream or what a new one is for.")
        if not attrs.keys() & {"stream", "purpose"}:
            raise serializers.ValidationError({"purpose": "Say what the stream is for."})
        return attrs


class LiveTicket(Shape):
    """`url` is to be connected to within `expires_s` seconds; it holds the ticket."""

    stream: str
    ticket: str
    url: str
    expires_s: int


class LiveQuery(Body):
    """The same as parameters of an address."""

    purpose = serializers.ChoiceField(list(live.PURPOSES), required=False)
    datasets = Text(required=False)
    modalities = Text(required=False)
    top_k = Text(required=False)
    min_relevance = Text(required=False)
    stream = Text(required=False)
    after = Text(required=False)
    ticket = Text(required=False)


class Live(Resource):
    scopes = {"GET": SEARCH, "POST": SEARCH}

    @extend_schema(
        summary="Open a live stream",
        description=(
            "A WebSocket: sound goes in while it is recorded, transcripts and results come back as JSON. Programs open "
            "it by a key in `Authorization`, browsers by a ticket."
        ),
        parameters=[
            OpenApiParameter("ticket", str, description="Instead of a key."),
            OpenApiParameter("purpose", str, enum=list(live.PURPOSES)),
            OpenApiParameter("datasets", str, description="Ids, parted by commas."),
            OpenApiParameter("modalities", str, description="Parted by commas."),
            OpenApiParameter("top_k", int),
            OpenApiParameter("min_relevance", OpenApiTypes.NUMBER),
            OpenApiParameter("stream", str, description="One that a broken connection was cut off from."),
            OpenApiParameter("after", str, description="With `stream`: the last event that was read."),
        ],
        responses={101: None},
        extensions={"x-problems": [404, 409, 422, 426, 429]},
    )
    def get(self, request: Request) -> HttpResponse:
        fields = LiveBody.read(_as_body(request.query_params.dict()))
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise Refusal(UPGRADE)
        ticket = self._ticket(fields)
        return HttpResponse(status=200, headers={OPENS: live.sign(ticket)})

    @extend_schema(
        summary="A ticket for a live stream",
        description="For browsers, whose WebSockets carry no key. It opens one stream, and is good for a minute.",
        request=LiveBody,
        responses={201: LiveTicket},
        extensions={"x-problems": [404]},
    )
    def post(self, request: Request) -> Response:
        ticket = self._ticket(LiveBody.read(request.data))
        return Response(ticket_shape(ticket), status=201)

    def _ticket(self, fields: dict[str, Any]) -> live.Ticket:
        watcher = by_key(key_of(self.request).prefix, self.request.META.get("REMOTE_ADDR", ""))
        if stream := fields.get("stream"):
            with tenant_scope(self.tenant_id):
                return live.ticket_for(stream=stream, tenant_id=self.tenant_id, watcher=watcher)
        search = {name: value for name, value in (fields.get("search") or {}).items() if value is not None}
        if "datasets" in search:
            search["datasets"] = [str(one) for one in search["datasets"]]
        require_named(self.tenant_id, search)
        return live.new_ticket(
            tenant_id=self.tenant_id,
            watcher=watcher,
            purpose=fields["purpose"],
            search=search,
        )


def ticket_shape(ticket: live.Ticket) -> LiveTicket:
    signed = live.sign(ticket)
    return LiveTicket(
        stream=str(ticket.stream),
        ticket=signed,
        url=f"{ADDRESS}?ticket={signed}",
        expires_s=live.TICKET_S,
    )


def _as_body(query: Mapping[str, str]) -> dict[str, Any]:
    """The parameters as the body of a POST has them. Raises ValidationError, Invalid."""
    given = LiveQuery.read(query)
    # For the edge.
    given.pop("after", None)
    given.pop("ticket", None)
    search: dict[str, Any] = {
        name: given.pop(name).split(",") for name in ("datasets", "modalities") if name in given
    }
    for name, number in (("top_k", int), ("min_relevance", float)):
        if name in given:
            try:
                search[name] = number(given.pop(name))
            except ValueError:
                raise Invalid(f"{name} is a number.", pointer=f"/{name}") from None
    if "stream" not in given:
        given.setdefault("purpose", live.SEARCH)
    return {**given, **({"search": search} if search else {})}


def results_for(ticket: live.Ticket, text: str) -> bytes:
    """What a search by this text answers now, as `/search` would, on behalf of whoever opened the stream.

    It counts as a request of theirs. Raises Refusal, ServiceError; NotAllowed where they may not any longer.
    """
    _count(ticket)
    asked = dict(ticket.search or {})
    answer = search(
        tenant_id=ticket.tenant_id,
        query=Query(
            text=text,
            datasets=[uuid.UUID(one) for one in asked["datasets"]] if asked.get("datasets") else None,
            modalities=asked.get("modalities"),
            top_k=asked.get("top_k") or TOP_K,
            min_relevance=asked.get("min_relevance"),
            hybrid=bool(asked.get("hybrid")),
        ),
        read=HYDRATED,
    )
    return to_json(as_dict(answer))


def _count(ticket: live.Ticket) -> None:
    if not may_watch(ticket.watcher, ticket.tenant_id):
        raise NotAllowed("Whoever opened this stream may not use it any longer.")
    kind, _, who = ticket.watcher.partition(":")
    if kind != "key":
        return
    prefix = who.partition("@")[0]
    record = keys.look_up(prefix, api_admission.cached(prefix))
    if record is None or SEARCH not in record.scopes:
        raise NotAllowed("The key of this stream may not search any longer.")
    rate = api_admission.count(record).rate
    if rate is not None and rate.exceeded:
        raise Refusal(rate_exceeded(rate))
