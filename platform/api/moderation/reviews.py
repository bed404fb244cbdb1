"""`/reviews`, `/outcomes`, `/batches`: the queue of flags, decisions on one or many at once, and taking them back."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import uuid
from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any

from django.http import HttpResponse, QueryDict
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Flag, Number, Text, Whole
from api.idempotency import Answer, IdempotentRequest
from api.paging import read_choice, read_limit, read_page, refuse_unknown
from api.paths import read_dataset_id, read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING, choice
from ml.auditing import CATEGORIES
from tenants.accounts.permissions import MODERATE
from tenants.datasets.models import Asset
from tenants.datasets.selectors import require_dataset
from tenants.errors import Invalid, NotFound
from tenants.moderation import models, reviews, shapes
from tenants.moderation.models import Outcome
from tenants.moderation.reviews import bulk, queue
from tenants.moderation.reviews import serializers as review_serializers
from tenants.scope import tenant_scope

State, Kind = models.Review.State, models.Review.Kind
YES_NO = ("true", "false")
REASON: dict[str, object] = {"max_length": reviews.MAX_REASON, "help_text": "Why; kept for good."}
LABELS: dict[str, Any] = {
    "required": False,
    "allow_null": True,
    "max_length": reviews.MAX_LABELS,
    "help_text": "What the item is shown with; null: what the flag's rule says.",
}


def labels() -> serializers.ListField:
    return serializers.ListField(child=Text(max_length=reviews.MAX_LABEL), **LABELS)


class NextWanted(Body):
    kind = serializers.ChoiceField(Kind.values, required=False)
    rule = Text(required=False, max_length=100)
    order = serializers.ChoiceField(list(queue.ORDERS), default="severity")


class ReviewDecision(Body):
    decision = serializers.ChoiceField(reviews.DECISIONS)
    reason = Text(**REASON)
    labels = labels()
    block_copies = Flag(
        default=False, help_text="Put the item on a hash list, so that its copies are found, older ones too."
    )
    list = Text(required=False, allow_null=True, help_text="The id of that list; null: the workspace's own.")


class Reason(Body):
    reason = Text(**REASON)


class ModeratorResource(Resource):
    """Everything about flags needs the scope `moderate`."""

    scopes: Mapping[str, str | None] = {"GET": MODERATE, "POST": MODERATE}


class Reviews(ModeratorResource):
    @extend_schema(
        summary="The queue",
        description="Flags whose item the caller may read. A claim that ran out counts as open.",
        parameters=[
            *PAGING,
            choice("order", queue.ORDERS),
            choice("state", State.values),
            choice("kind", Kind.values),
            choice("mine", YES_NO),
            choice("overdue", YES_NO),
            OpenApiParameter("rule", str),
            OpenApiParameter("dataset", str, description="The id of a dataset."),
            OpenApiParameter("audit", str, description="The id of an audit."),
        ],
        responses=page_of(shapes.Review),
        extensions={"x-problems": [404]},
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, "order", "state", "kind", "mine", "overdue", "rule", "dataset", "audit")
        order, limit = read_choice(query, "order", queue.ORDERS) or "severity", read_limit(query)
        after = read_cursor(query, order)
        wanted: dict[str, Any] = {
            "state": read_choice(query, "state", State.values),
            "kind": read_choice(query, "kind", Kind.values),
            "mine": read_choice(query, "mine", YES_NO) == "true",
            "overdue": read_choice(query, "overdue", YES_NO) == "true",
            "rule": read_text(query, "rule"),
            "dataset_id": read_dataset_id(query["dataset"]) if "dataset" in query else None,
            "audit_id": id_in(query, "audit"),
        }
        with tenant_scope(self.tenant_id):
            rows = queue.list_reviews(actor=self.actor, order=order, **wanted)
            rows = queue.rows_after(rows, order, after) if after else rows
            found = list(rows[: limit + 1])
            shown = review_serializers.review_shapes(found[:limit])
            more = write_cursor(found[limit - 1], order) if len(found) > limit else None
            return Response({"results": list(shown.values()), "next": more})


class ExistingReview(ModeratorResource):
    def find(self, review_id: uuid.UUID | None) -> models.Review:
        return queue.get_review(review_id=review_id, actor=self.actor)


class OneReview(ExistingReview):
    @extend_schema(
        summary="A flag, and what else is known about its item",
        description="The evidence is in `GET /audits/{id}`.",
        responses=shapes.ReviewDetail,
    )
    def get(self, request: Request, review_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(review_serializers.review_with_details(self.found))


class ClaimReview(ExistingReview):
    @extend_schema(
        summary="Claim a flag",
        description="Exclusive until the lease ends; by who holds it, the lease begins anew.",
        request=None,
        responses=shapes.Review,
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, review_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            queue.claim(review_id=review_id, actor=self.actor)
            return Response(review_serializers.review_shape(self.find(review_id)))


class ReleaseReview(ExistingReview):
    @extend_schema(
        summary="Give a claim back",
        request=None,
        responses=shapes.Review,
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, review_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            queue.release(review_id=review_id, actor=self.actor)
            return Response(review_serializers.review_shape(self.find(review_id)))


class ClaimNext(ModeratorResource):
    @extend_schema(
        summary="Claim the first flag that is free",
        description="Two who ask at once get different ones. `review` is null where none is left for the caller.",
        request={"application/json": NextWanted},
        responses=shapes.NextReview,
    )
    def post(self, request: Request) -> Response:
        fields = NextWanted.read(request.data)
        with tenant_scope(self.tenant_id):
            claimed = queue.claim_next(actor=self.actor, **fields)
            found = queue.get_review(review_id=claimed.id, actor=self.actor) if claimed else None
            return Response({"review": review_serializers.review_shape(found) if found else None})


class DecideReview(ExistingReview):
    @extend_schema(
        summary="Decide a flag",
        description=(
            "Closes this flag only, and needs a claim that stands: 409 otherwise. `stands` is what the item became by "
            "all its flags together."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": ReviewDecision},
        responses=shapes.ReviewDecided,
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request, review_id: uuid.UUID) -> HttpResponse:
        fields = ReviewDecision.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._decide(review_id, fields)).response()

    def _decide(self, review_id: uuid.UUID, fields: dict[str, Any]) -> Answer:
        list_id = fields.pop("list", None)
        if list_id is not None and (list_id := read_id(list_id)) is None:
            raise NotFound("There is no such list.")
        outcome = reviews.decide_review(review_id=review_id, actor=self.actor, list_id=list_id, **fields)
        return Answer.of(200, review_serializers.decided_shape(outcome, self.find(review_id)))


class ReviewFigures(ModeratorResource):
    @extend_schema(
        summary="How the queue and the reviewers do",
        description=(
            "What waits now; of the last `days`, Cohen's kappa of first and second opinions, and per rule how many of "
            "its flags people confirmed."
        ),
        parameters=[
            OpenApiParameter("days", {"type": "integer", "minimum": 1, "maximum": 365, "default": 90})
        ],
        responses=shapes.ReviewFigures,
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        if unknown := [name for name in query if name != "days"]:
            raise Invalid("There is no such query parameter.", pointer=f"/{unknown[0]}")
        days = whole_in(query, "days", 90, 365)
        with tenant_scope(self.tenant_id):
            return Response(review_serializers.figures_shape(days=days))


# --- Reading queries ---------------------------------------------------------------------------------------


def id_in(query: QueryDict, name: str) -> uuid.UUID | None:
    """The id that a filter names; one that is none fits nothing."""
    value = query.get(name)
    return None if value is None else read_id(value) or uuid.UUID(int=0)


def read_text(query: QueryDict, name: str) -> str:
    value = query.get(name, "")
    if "\0" in value or len(value) > 200:
        raise Invalid("This is too long, or holds a NUL character.", pointer=f"/{name}")
    return value


def whole_in(query: QueryDict, name: str, default: int, most: int) -> int:
    value = query.get(name, str(default))
    if not (value.isascii() and value.isdigit() and len(value) < 19 and 1 <= int(value) <= most):
        raise Invalid(f"{name} is a whole number from 1 to {most}.", pointer=f"/{name}")
    return int(value)


def write_cursor(last: models.Review, order: str) -> str:
    key = last.due_at.isoformat() if order == "due" else last.severity if order == "severity" else 0
    return base64.urlsafe_b64encode(json.dumps([order, key, str(last.id)]).encode()).decode().rstrip("=")


def read_cursor(query: QueryDict, order: str) -> models.Review | None:
    """The last flag of the page before, as far as the order needs it. Raises Invalid."""
    cursor = query.get("cursor")
    if cursor is None:
        return None
    try:
        given, key, found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        review = models.Review(id=uuid.UUID(found))
        if order == "severity":
            review.severity = int(key) if 0 <= int(key) <= 100 else 0
        elif order == "due":
            review.due_at = dt.datetime.fromisoformat(key)
        if given == order and write_cursor(review, order) == cursor:
            return review
    except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error):
        pass
    raise Invalid("This is not a cursor from an earlier answer.", pointer="/cursor")


HOURS: dict[str, Any] = {"required": False, "allow_null": True, "min_value": 0, "max_value": 100_000}


class BulkFilter(Body):
    rule = Text(required=False, allow_null=True, max_length=100)
    category = serializers.ChoiceField(CATEGORIES, required=False, allow_null=True)
    modality = serializers.ChoiceField(Asset.Modality.values, required=False, allow_null=True)
    dataset = Text(required=False, allow_null=True)
    older_than_h = Number(**HOURS)
    newer_than_h = Number(**HOURS)
    max_severity = Whole(required=False, allow_null=True, min_value=0, max_value=100)


class BulkWanted(Body):
    filter = BulkFilter(help_text="Every part that is given has to fit; at least one.")
    decision = serializers.ChoiceField(reviews.DECISIONS)


class BulkDecision(BulkWanted):
    reason = Text(**REASON)
    labels = labels()
    as_of = serializers.DateTimeField(
        required=False, allow_null=True, help_text="A preview's: what came later is left alone."
    )
    batch = Text(required=False, allow_null=True, help_text="Of an earlier call, to go on with it.")


def read_filter(given: dict[str, Any]) -> bulk.Filter:
    """Raises NotFound for a dataset that is not there."""
    wanted = {name: value for name, value in given.items() if value is not None}
    if "dataset" in wanted:
        dataset_id = read_dataset_id(wanted.pop("dataset"))
        require_dataset(dataset_id)
        wanted["dataset_id"] = dataset_id
    known = {field.name for field in fields_of(bulk.Filter)}
    return bulk.Filter(**{name: value for name, value in wanted.items() if name in known})


class PreviewBulk(ModeratorResource):
    @extend_schema(
        summary="What a bulk decision would change",
        description="Changes nothing. Only plain flags that nobody else holds.",
        request={"application/json": BulkWanted},
        responses=shapes.BulkPreview,
        extensions={"x-problems": [404]},
    )
    def post(self, request: Request) -> Response:
        fields = BulkWanted.read(request.data)
        with tenant_scope(self.tenant_id):
            found = bulk.preview(
                wanted=read_filter(fields["filter"]), decision=fields["decision"], actor=self.actor
            )
            shown = review_serializers.review_shapes([change.review for change in found.samples])
        return Response(
            {
                "count": found.count,
                "looked_at": found.looked_at,
                "as_of": found.as_of,
                "changes": [
                    {"before": before, "after": after, "count": count}
                    for (before, after), count in found.changes.most_common()
                ],
                "samples": [
                    {"review": shown[c.review.id], "before": c.before, "after": c.after}
                    for c in found.samples
                ],
            }
        )


class BulkReviews(ModeratorResource):
    @extend_schema(
        summary="Decide many flags at once",
        description=f"At most {bulk.AT_MOST} in one call, all or none; `left` says whether to call again.",
        parameters=[IDEMPOTENCY],
        request={"application/json": BulkDecision},
        responses=shapes.BulkApplied,
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = BulkDecision.read(request.data)
        asked = {**fields, "as_of": str(fields.get("as_of"))}
        return IdempotentRequest(request, asked).run(lambda: self._apply(fields)).response()

    def _apply(self, fields: dict[str, Any]) -> Answer:
        batch = fields.get("batch")
        if batch is not None and (batch := read_id(batch)) is None:
            raise Invalid("This is not a batch of yours that goes on.", pointer="/batch")
        done = bulk.apply(
            wanted=read_filter(fields["filter"]),
            decision=fields["decision"],
            reason=fields["reason"],
            labels=fields.get("labels"),
            as_of=fields.get("as_of"),
            batch=batch,
            actor=self.actor,
        )
        body = {"batch": str(done.batch), "decided": done.decided, "left": done.left, "as_of": done.as_of}
        return Answer.of(200, body)


class UndoBatch(ModeratorResource):
    def find(self, batch_id: uuid.UUID | None) -> None:
        if batch_id is None or not Outcome.objects.filter(batch=batch_id).exists():
            raise NotFound("This batch does not exist.")

    @extend_schema(
        summary="Take a bulk decision back",
        description="In parts: cut off, it is called again and goes on. What cannot be undone any more is in `left`.",
        request={"application/json": Reason},
        responses=shapes.BatchUndone,
    )
    def post(self, request: Request, batch_id: uuid.UUID) -> Response:
        reason = Reason.read(request.data)["reason"]
        undone = reviews.undo_batch(tenant_id=self.tenant_id, batch=batch_id, actor=self.actor, reason=reason)
        left = [{"outcome": str(outcome), "reason": why} for outcome, why in undone.left]
        return Response({"batch": str(batch_id), "undone": undone.undone, "left": left})


class Outcomes(ModeratorResource):
    @extend_schema(
        summary="What people decided, the newest first",
        parameters=[
            *PAGING,
            OpenApiParameter("review", str),
            OpenApiParameter("batch", str),
            OpenApiParameter("rule", str),
        ],
        responses=page_of(shapes.Outcome),
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, "review", "batch", "rule")
        page, rule = read_page(query), read_text(query, "rule")
        review_id, batch = id_in(query, "review"), id_in(query, "batch")
        with tenant_scope(self.tenant_id):
            rows = review_serializers.list_outcomes(
                review_id=review_id, batch=batch, rule=rule, actor=self.actor
            )
            return Response(page.of(rows, review_serializers.outcome_shape))


class UndoOutcome(ModeratorResource):
    def find(self, outcome_id: uuid.UUID | None) -> models.Outcome:
        return reviews.get_outcome(outcome_id=outcome_id, actor=self.actor)

    @extend_schema(
        summary="Take a decision back",
        description="A new row points at it; the flag is open again, and the item stands as before.",
        parameters=[IDEMPOTENCY],
        request={"application/json": Reason},
        responses=shapes.ReviewDecided,
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, outcome_id: uuid.UUID) -> HttpResponse:
        fields = Reason.read(request.data)
        return (
            IdempotentRequest(request, fields)
            .run(lambda: self._undo(outcome_id, fields["reason"]))
            .response()
        )

    def _undo(self, outcome_id: uuid.UUID, reason: str) -> Answer:
        undone = reviews.undo_outcome(outcome_id=outcome_id, actor=self.actor, reason=reason)
        review = queue.get_review(review_id=undone.review, actor=self.actor)
        return Answer.of(200, review_serializers.decided_shape(undone, review))
