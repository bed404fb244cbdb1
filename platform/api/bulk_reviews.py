"""`/reviews/bulk` and `/batches`: many flags decided at once, looked at before and undone as a whole."""

from __future__ import annotations

import uuid
from dataclasses import fields as fields_of
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api import review_shapes as shapes
from api.fields import Body, Number, Text, Whole
from api.idempotency import Answer, Once
from api.paths import read_id
from api.reviews import REASON, Moderating, Reason, labels
from api.schema import IDEMPOTENCY
from ml.auditing.fusion import CATEGORIES
from tenants.datasets.models import Asset
from tenants.datasets.selectors import require_dataset
from tenants.errors import Invalid, NotFound
from tenants.moderation import bulk, reviews, showing, undoing
from tenants.moderation.models import Outcome
from tenants.scope import tenant_scope

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
        dataset_id = read_id(wanted.pop("dataset"))
        require_dataset(dataset_id)
        wanted["dataset_id"] = dataset_id
    known = {field.name for field in fields_of(bulk.Filter)}
    return bulk.Filter(**{name: value for name, value in wanted.items() if name in known})


class PreviewBulk(Moderating):
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
            shown = showing.reviews_as_dicts([change.review for change in found.samples])
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


class BulkReviews(Moderating):
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
        return Once(request, asked).run(lambda: self._apply(fields)).response()

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


class UndoBatch(Moderating):
    def find(self, batch_id: uuid.UUID | None) -> None:
        if batch_id is None or not Outcome.objects.filter(batch=batch_id).exists():
            raise NotFound("There is no such batch.")

    @extend_schema(
        summary="Take a bulk decision back",
        description="In parts: cut off, it is called again and goes on. What cannot be undone any more is in `left`.",
        request={"application/json": Reason},
        responses=shapes.BatchUndone,
    )
    def post(self, request: Request, batch_id: uuid.UUID) -> Response:
        reason = Reason.read(request.data)["reason"]
        undone = undoing.undo_batch(tenant_id=self.tenant_id, batch=batch_id, actor=self.actor, reason=reason)
        left = [{"outcome": str(outcome), "reason": why} for outcome, why in undone.left]
        return Response({"batch": str(batch_id), "undone": undone.undone, "left": left})
