"""`/standing-queries`: searches that are asked of what arrives; `/alerts`: what they found."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of
from api.components import page_of
from api.fields import Body, Flag, Number, Text
from api.idempotency import Answer, IdempotentRequest
from api.paging import MAX_LIMIT, read_choice, read_page, refuse_unknown
from api.parsers import Form
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from api.search.forms import Id, SearchBody, require_named
from api.search.saved import Saved
from api.search.views import build_query
from tenants.accounts.permissions import MODERATE, SEARCH
from tenants.accounts.watchers import by_key
from tenants.errors import Invalid, NotAllowed, NotFound
from tenants.moderation.audits import standing as audits
from tenants.retrieval import saved, shapes, standing
from tenants.retrieval.models import StandingAlert, StandingQuery
from tenants.scope import tenant_scope

QUERY = (
    "A body of `POST /search`, without `cursor`; or `filter`, `datasets` or `modalities` alone. Or, with the scope "
    "`moderate`, `audit` and `datasets`: audits that meet all that is sent of `when`, an expression of policies, "
    "`decision`, a list, and `rules`, of which one has to have fired."
)
MIN_SCORE = (
    "For searches whose relevance is not known, by likeness, vectors or several kinds: the cosine from which on an "
    "asset meets it. By default as much as the tenth best asset of today has."
)
MIN_RELEVANCE = "How likely an asset has to be right: the same as `min_relevance` of `query`."


def _deliver() -> Any:
    return serializers.ListField(
        child=serializers.ChoiceField(shapes.DELIVER),
        required=False,
        max_length=len(shapes.DELIVER),
        help_text="Who is told: webhooks, and the inbox of the console; both by default.",
    )


def _frequency() -> Any:
    return serializers.ChoiceField(
        StandingQuery.Frequency.values,
        required=False,
        help_text=(
            "How webhooks are told: `at_once`, an event an alert, or `hourly`, one `standing_query.digest` for the "
            "alerts of an hour. The inbox has them at once."
        ),
    )


class StandingFields(Body):
    """What is the same for a new one and a change."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "deliver" in attrs:
            muted = "webhook" not in attrs["deliver"]
            if attrs.setdefault("muted", muted) != muted:
                raise ValidationError({"muted": ["It says something else than deliver: send one of both."]})
            attrs["inbox"] = "inbox" in attrs.pop("deliver")
        asked = attrs.get("query") or {}
        if attrs.get("min_relevance", asked.get("min_relevance")) != asked.get(
            "min_relevance", attrs.get("min_relevance")
        ):
            raise ValidationError({"min_relevance": ["It differs from that of query: send one of both."]})
        return attrs


class StandingQueryChange(StandingFields):
    name = Text(required=False, min_length=1, max_length=saved.MAX_NAME)
    query = SearchBody(required=False, help_text=QUERY)
    min_relevance = Number(required=False, min_value=0, max_value=1, help_text=MIN_RELEVANCE)
    min_score = Number(required=False, min_value=-1, max_value=1, help_text=f"{MIN_SCORE} Needs `query`.")
    state = serializers.ChoiceField(StandingQuery.State.values, required=False)
    muted = Flag(required=False, help_text="Keep alerts, and tell no webhook.")
    deliver = _deliver()
    frequency = _frequency()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        if not attrs:
            raise ValidationError("Send what is to change.")
        if "min_score" in attrs and "query" not in attrs:
            raise ValidationError({"min_score": ["Send query, too: its score belongs to it."]})
        return attrs


class NewStandingQuery(StandingFields):
    """Either `query` with a `name`, or `saved_search`, whose name is taken where none is sent."""

    name = Text(required=False, min_length=1, max_length=saved.MAX_NAME)
    query = SearchBody(required=False, help_text=QUERY)
    saved_search = Id(required=False)
    min_relevance = Number(required=False, min_value=0, max_value=1, help_text=MIN_RELEVANCE)
    min_score = Number(required=False, min_value=-1, max_value=1, help_text=MIN_SCORE)
    muted = Flag(required=False, help_text="Keep alerts, and tell no webhook.")
    deliver = _deliver()
    frequency = _frequency()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        if ("query" in attrs) == ("saved_search" in attrs):
            raise ValidationError({"query": ["Send either query or saved_search."]})
        if "query" in attrs and "name" not in attrs:
            raise ValidationError({"name": ["This field is required."]})
        return attrs


class AlertChange(Body):
    # The field leaves the class's method alone: serializers take their fields out of it.
    read = Flag()  # type: ignore[assignment]


class AlertsToRead(Body):
    alerts = serializers.ListField(
        child=Id(),
        required=False,
        min_length=1,
        max_length=MAX_LIMIT,
        help_text="All that are unread if absent.",
    )


class Standing(Saved):
    """What these resources share."""

    def read(self, body: type[Body], request: Request) -> dict[str, Any]:
        """The fields, with the search as it was sent. Raises Invalid, NotFound."""
        sent = cast("dict[str, Any]", request.data)
        if isinstance(sent, dict) and audits.is_of_audits(sent.get("query")):
            return {**body.read({**sent, "query": {}}), "query": sent["query"]}
        try:
            fields = body.read(sent)
            if "query" in fields and not standing.is_filter_only(sent["query"]):
                build_query(fields["query"], Form(fields["query"]))
        except (ValidationError, Invalid):
            if isinstance(sent, dict):
                # What is not there is told before what is wrong.
                require_named(self.tenant_id, sent.get("query"))
            raise
        return {name: sent[name] if name == "query" else value for name, value in fields.items()}

    def prepare(self, fields: dict[str, Any]) -> standing.Prepared:
        query = fields["query"]
        if audits.is_of_audits(query):
            return self._prepare_audits(fields)
        if "min_relevance" in fields:
            if standing.is_filter_only(query):
                raise Invalid("A filter alone has no relevance.", "/min_relevance")
            query = {**query, "min_relevance": fields["min_relevance"]}
        return standing.prepare(tenant_id=self.tenant_id, query=query, min_score=fields.get("min_score"))

    def _prepare_audits(self, fields: dict[str, Any]) -> standing.Prepared:
        if MODERATE not in key_of(self.request).scopes:
            raise NotAllowed("Standing queries of audits need the scope “moderate”.")
        for name in ("min_relevance", "min_score"):
            if name in fields:
                raise Invalid("An audit has no relevance and no score.", f"/{name}")
        with tenant_scope(self.tenant_id):
            return audits.prepare(fields["query"])


class StandingQueries(Standing):
    scopes = {"GET": SEARCH, "POST": SEARCH}

    @extend_schema(
        summary="List standing queries", parameters=PAGING, responses=page_of(shapes.StandingQuery)
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(standing.list_standing(self.who), standing.shape_of))

    @extend_schema(
        summary="Be told when something like this arrives",
        description=(
            "Assets that become ready from now on are compared with it; each that meets it is an alert, and a "
            "`standing_query.matched` for webhooks. What is there already is not told."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewStandingQuery},
        responses={201: shapes.StandingQuery},
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = self.read(NewStandingQuery, request)
        repeated = IdempotentRequest(request, fields)
        if (earlier := repeated.replay()) is not None:
            return earlier.response()
        if "saved_search" in fields:
            with tenant_scope(self.tenant_id):
                row = saved.get_saved(fields["saved_search"], self.who)
            fields = {"name": row.name, **fields, "query": row.query}
        prepared = self.prepare(fields)
        return repeated.run(lambda: self._create(fields, prepared)).response()

    def _create(self, fields: dict[str, Any], prepared: standing.Prepared) -> Answer:
        given = {name: fields[name] for name in ("muted", "inbox", "frequency") if name in fields}
        row = standing.create_standing(who=self.who, name=fields["name"], prepared=prepared, **given)
        return Answer.of(201, standing.shape_of(row), {"Location": f"/api/v1/standing-queries/{row.id}"})


class OneStandingQuery(Standing):
    scopes = {"GET": SEARCH, "PATCH": SEARCH, "DELETE": SEARCH}
    found: StandingQuery

    def find(self, standing_id: uuid.UUID | None) -> StandingQuery:
        return standing.get_standing(standing_id, self.who)

    @extend_schema(summary="A standing query", responses=shapes.StandingQuery)
    def get(self, request: Request, standing_id: uuid.UUID) -> Response:
        return Response(standing.shape_of(self.found))

    @extend_schema(
        summary="Rename, change, pause or mute a standing query",
        description=(
            "By the key that made it, or one that an owner of the workspace made. What arrives while it is paused is "
            "not told later."
        ),
        request={"application/json": StandingQueryChange},
        responses=shapes.StandingQuery,
        extensions={"x-problems": [409]},
    )
    def patch(self, request: Request, standing_id: uuid.UUID) -> Response:
        fields = self.read(StandingQueryChange, request)
        with tenant_scope(self.tenant_id):
            # Before the search is encoded, which costs something.
            standing.require_changeable(standing_id, self.who)
        if "min_relevance" in fields:
            # What it asks stays, but for how likely it has to be.
            fields.setdefault("query", self.found.query)
        prepared = self.prepare(fields) if "query" in fields else None
        names = ("name", "state", "muted", "inbox", "frequency")
        given = {name: fields[name] for name in names if name in fields}
        with tenant_scope(self.tenant_id):
            row = standing.change_standing(who=self.who, standing_id=standing_id, prepared=prepared, **given)
        return Response(standing.shape_of(row))

    @extend_schema(
        summary="Delete a standing query with its alerts",
        description="By the key that made it, or one that an owner of the workspace made.",
        responses={204: None},
    )
    def delete(self, request: Request, standing_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            standing.delete_standing(who=self.who, standing_id=standing_id)
        return Response(status=204)


class AlertsOfQuery(Standing):
    scopes = {"GET": SEARCH}
    found: StandingQuery

    def find(self, standing_id: uuid.UUID | None) -> StandingQuery:
        return standing.get_standing(standing_id, self.who)

    @extend_schema(
        summary="Alerts of a standing query",
        description="Newest first, as `GET /alerts` lists those of all.",
        parameters=PAGING,
        responses=page_of(shapes.Alert),
    )
    def get(self, request: Request, standing_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            rows = standing.list_alerts(self.who, standing_id=standing_id)
            return Response(page.of(rows, standing.alert_shape))


class Alerts(Saved):
    scopes = {"GET": SEARCH}

    @extend_schema(
        summary="List alerts",
        description="Newest first; those of assets that are held back or blocked are left out.",
        parameters=[
            *PAGING,
            OpenApiParameter("standing_query", OpenApiTypes.UUID, description="Of this one alone."),
            OpenApiParameter("read", OpenApiTypes.STR, enum=["true", "false"]),
        ],
        responses=page_of(shapes.Alert),
        extensions={"x-problems": [404]},
    )
    def get(self, request: Request) -> Response:
        asked = request.query_params
        refuse_unknown(asked, "standing_query", "read")
        page, read = read_page(asked), read_choice(asked, "read", ("true", "false"))
        named = asked.get("standing_query")
        with tenant_scope(self.tenant_id):
            standing_id = None
            if named is not None:
                standing_id = standing.get_standing(_id(named), self.who).id
            rows = standing.list_alerts(
                self.who, standing_id=standing_id, read=read == "true" if read else None
            )
            return Response(page.of(rows, standing.alert_shape))


def _id(named: str) -> uuid.UUID | None:
    try:
        return Id().to_internal_value(named)
    except NotFound:
        return None


EVENT = {
    "type": "object",
    "description": "`data` has `newest`, the id of the newest alert or null, and `unread`, at most 100.",
    "properties": {
        "event": {"const": "alerts"},
        "id": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
    "required": ["event", "id", "data"],
}


class AlertEvents(Resource):
    scopes = {"GET": SEARCH}

    @extend_schema(
        summary="Follow alerts",
        description=(
            "Server-Sent Events: `event: alerts` at the start and whenever an alert comes or is read. A stream ends "
            "after a while, and its client connects again."
        ),
        responses={(200, "text/event-stream"): EVENT},
    )
    def get(self, request: Request) -> HttpResponse:
        refuse_unknown(request.query_params)
        watcher = by_key(key_of(request).prefix, request.META.get("REMOTE_ADDR", ""))
        with tenant_scope(self.tenant_id):
            body, headers = standing.open_stream(watcher)
        return HttpResponse(body, headers=headers)


class OneAlert(Saved):
    scopes = {"GET": SEARCH, "PATCH": SEARCH}
    found: StandingAlert

    def find(self, alert_id: uuid.UUID | None) -> StandingAlert:
        return standing.get_alert(alert_id, self.who)

    @extend_schema(summary="An alert", responses=shapes.Alert)
    def get(self, request: Request, alert_id: uuid.UUID) -> Response:
        return Response(standing.alert_shape(self.found))

    @extend_schema(
        summary="Mark an alert as read or unread",
        description="For everybody in the workspace.",
        request={"application/json": AlertChange},
        responses=shapes.Alert,
    )
    def patch(self, request: Request, alert_id: uuid.UUID) -> Response:
        fields = AlertChange.read(request.data)  # type: ignore[operator]
        with tenant_scope(self.tenant_id):
            standing.mark_read(self.who, alert_ids=[alert_id], read=fields["read"])
            return Response(standing.alert_shape(standing.get_alert(alert_id, self.who)))


class ReadAlerts(Saved):
    scopes = {"POST": SEARCH}

    @extend_schema(
        summary="Mark alerts as read",
        description="For the whole workspace. Alerts that are gone are passed over; what is no id is not found.",
        request={"application/json": AlertsToRead},
        responses={200: shapes.AlertsRead},
        extensions={"x-problems": [404]},
    )
    def post(self, request: Request) -> Response:
        fields = AlertsToRead.read(request.data)
        with tenant_scope(self.tenant_id):
            changed = standing.mark_read(self.who, alert_ids=fields.get("alerts"))
        return Response(shapes.AlertsRead(changed=changed))
