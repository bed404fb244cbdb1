"""`/classifiers`: yes-or-no questions of the workspace's own, their examples, versions, and what to label next."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Flag, Text
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paging import read_page, refuse_unknown
from api.paths import read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from ml.classification import MAX_EXAMPLES
from tenants.accounts.permissions import READ, TRAIN
from tenants.errors import Invalid, NotFound
from tenants.jobs import selectors as jobs
from tenants.jobs.models import Job
from tenants.learning import shapes
from tenants.learning.classifiers import selectors, services, suggestions
from tenants.learning.models import Classifier, ClassifierVersion
from tenants.retrieval import model_routing
from tenants.scope import tenant_scope

MAX_ID = 100
# Labels in one request; of more, send several.
MAX_LABELS = 1_000
MOST_SUGGESTED, SUGGESTED = 100, 12
NUMBER = OpenApiParameter("number", {"type": "string"}, OpenApiParameter.PATH, description="1, 2, …")
LIMIT = OpenApiParameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MOST_SUGGESTED, "default": SUGGESTED},
    OpenApiParameter.QUERY,
)


class ClassifierMetadata(Body):
    key = Text(max_length=100, help_text="Assets with this key of metadata are examples.")
    value = serializers.JSONField(
        required=False, help_text="With this value (by default true) they are a yes, else a no."
    )


class NewClassifierDecisions(Body):
    rule = Text(
        required=False,
        max_length=services.MAX_DECIDED,
        help_text="Assets with a decided flag of this rule are examples; without it those of all rules.",
    )
    label = Text(  # type: ignore[assignment]  # serializers.Field has one, too
        required=False,
        max_length=services.MAX_DECIDED,
        help_text="A yes where reviewers gave it, else a no; without it a yes where they labelled or blocked the item.",
    )


class NewClassifier(Body):
    name = Text(
        max_length=services.MAX_NAME,
        help_text="Letters, digits, - and _ of any script, unique: filters call it `classifier.<name>.probability`.",
    )
    words = Text(
        required=False,
        max_length=services.MAX_WORDS,
        help_text="What it looks for, in words; it is then made without examples, and its figures are unknown.",
    )
    metadata = ClassifierMetadata(required=False)
    decisions = NewClassifierDecisions(
        required=False, help_text="What reviewers decided: a rule, a label, or both."
    )


class ClassifierLabel(Body):
    asset = Text(max_length=MAX_ID)
    label = Flag(  # type: ignore[assignment]  # serializers.Field has one, too
        allow_null=True, help_text="null takes back what was said."
    )


class ClassifierLabels(Body):
    examples = serializers.ListField(child=ClassifierLabel(), min_length=1, max_length=MAX_LABELS)


class NewClassifierVersion(Body):
    source = serializers.ChoiceField(  # type: ignore[assignment]  # serializers.Field has one, too
        ClassifierVersion.Source.values,
        required=False,
        help_text="By default examples where there are some, else decisions, else metadata, else words.",
    )
    promote = Flag(default=False, help_text="Let it answer once it is trained.")


class Classifiers(Resource):
    scopes = {"GET": READ, "POST": TRAIN}

    @extend_schema(summary="List classifiers", parameters=PAGING, responses=page_of(shapes.ClassifierShape))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            rows = page.fetch(selectors.list_classifiers())
            described = {shape.id: shape for shape in selectors.describe_all(rows)}
            return Response(page.cut(rows, lambda row: described[str(row.id)]))

    @extend_schema(
        summary="Define a classifier",
        description=(
            "From words, from the values of a key of metadata, from reviewers' decisions, or from examples that are "
            "labelled later. It answers "
            "once a version was trained and promoted."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewClassifier},
        responses={201: shapes.ClassifierShape},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewClassifier.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._add(fields)).response()

    def _add(self, fields: dict[str, Any]) -> Answer:
        made_of, decided = fields.get("metadata") or {}, fields.get("decisions")
        if decided is not None and not any(decided.values()):
            raise Invalid("Name a rule, a label, or both.", pointer="/decisions")
        row = services.create_classifier(
            name=fields["name"],
            words=fields.get("words", ""),
            metadata_key=made_of.get("key", ""),
            metadata_value=made_of.get("value", True),
            decisions_rule=(decided or {}).get("rule", ""),
            decisions_label=(decided or {}).get("label", ""),
            actor=self.actor,
        )
        return Answer.of(201, selectors.describe(row), {"Location": f"/api/v1/classifiers/{row.id}"})


class ExistingClassifier(Resource):
    found: Classifier

    def find(self, classifier_id: uuid.UUID | None, **more: Any) -> Classifier:
        return selectors.get_classifier(classifier_id)


class OneClassifier(ExistingClassifier):
    scopes = {"GET": READ, "DELETE": TRAIN}

    @extend_schema(summary="A classifier with its versions", responses=shapes.ClassifierShape)
    def get(self, request: Request, classifier_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(selectors.describe(self.found))

    @extend_schema(
        summary="Delete a classifier",
        description="With its examples, versions and scores; filters that name it are refused from then on.",
        responses={204: None},
    )
    def delete(self, request: Request, classifier_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            services.delete_classifier(classifier_id=self.found.id, actor=self.actor)
        return Response(status=204)


class ClassifierExamples(ExistingClassifier):
    scopes = {"GET": READ, "POST": TRAIN}

    @extend_schema(
        summary="List a classifier's examples",
        parameters=PAGING,
        responses=page_of(shapes.ClassifierExampleShape),
    )
    def get(self, request: Request, classifier_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            rows = page.fetch(selectors.list_examples(self.found))
            return Response(page.cut(rows, selectors.example_shape))

    @extend_schema(
        summary="Label assets",
        description=(
            f"Up to {MAX_LABELS:,} a request, {MAX_EXAMPLES:,} a classifier; all of them, or none. An asset "
            "that is labelled again has the newer label."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": ClassifierLabels},
        responses=shapes.ClassifierShape,
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request, classifier_id: uuid.UUID) -> HttpResponse:
        fields = ClassifierLabels.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._label(fields["examples"])).response()

    def _label(self, examples: list[dict[str, Any]]) -> Answer:
        labels = {_asset(one["asset"]): one["label"] for one in examples}
        if len(labels) < len(examples):
            raise Invalid("An asset is named twice.", pointer="/examples")
        row = services.label_assets(classifier_id=self.found.id, labels=labels, actor=self.actor)
        return Answer.of(200, selectors.describe(row))


def _asset(name: str) -> uuid.UUID:
    if (found := read_id(name)) is None:
        raise NotFound("This asset does not exist.")
    return found


class TrainClassifier(ExistingClassifier):
    scopes = {"POST": TRAIN}

    @extend_schema(
        summary="Train a version of a classifier",
        description=(
            "202 with a draft and the job that trains it, which takes seconds; it becomes a candidate with its "
            "figures. Examples that nothing can be learnt from are refused (409, `classifier-untrainable`)."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewClassifierVersion},
        responses={202: shapes.ClassifierAccepted},
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request, classifier_id: uuid.UUID) -> HttpResponse:
        fields = NewClassifierVersion.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._train(fields)).response()

    def _train(self, fields: dict[str, Any]) -> Answer:
        version, job = services.train(classifier_id=self.found.id, **fields, actor=self.actor)
        return _accepted(version, job)


def _accepted(version: ClassifierVersion, job: Job) -> Answer:
    body = {"version": selectors.version_shape(version, model_routing.live()), "job": jobs.job_shape(job)}
    return Answer.of(202, body, location(job.id))


class PromoteClassifier(ExistingClassifier):
    scopes = {"POST": TRAIN}
    number: int

    def find(self, classifier_id: uuid.UUID | None, **more: Any) -> Classifier:
        row = selectors.get_classifier(classifier_id)
        named = str(more["number"])
        self.number = int(named) if named.isascii() and named.isdigit() and len(named) < 10 else 0
        selectors.get_version(row, self.number)
        return row

    @extend_schema(
        summary="Let a version of a classifier answer",
        description=(
            "202 with the job that scores all assets by it; filters and policies read it once that has ended, and the "
            "version before until then. An older version can be promoted again: that is the way back. A `stale` one "
            "is refused (409, `classifier-stale`)."
        ),
        parameters=[NUMBER, IDEMPOTENCY],
        request=None,
        responses={202: shapes.ClassifierAccepted},
        extensions={"x-problems": [404, 409, 422]},
    )
    def post(self, request: Request, classifier_id: uuid.UUID, number: str) -> HttpResponse:
        return IdempotentRequest(request, {}).run(self._promote).response()

    def _promote(self) -> Answer:
        version, job = services.promote(classifier_id=self.found.id, number=self.number, actor=self.actor)
        return _accepted(version, job)


class SuggestLabels(ExistingClassifier):
    scopes = {"GET": READ}

    @extend_schema(
        summary="What to label next",
        description=(
            "Assets without a label, those with the smallest `margin` first: how far the probability lies from the "
            "decision line at 0.5. Of what is nearly the same only one is named while there is other."
        ),
        parameters=[LIMIT],
        responses=shapes.ClassifierSuggestions,
        extensions={"x-problems": [404, 409]},
    )
    def get(self, request: Request, classifier_id: uuid.UUID) -> Response:
        if "cursor" in request.query_params:
            raise Invalid("There is no such query parameter.", pointer="/cursor")
        refuse_unknown(request.query_params)
        count = _read_limit(request.query_params.get("limit", str(SUGGESTED)))
        with tenant_scope(self.tenant_id):
            found = suggestions.suggest(self.found, count)
        return Response(
            {
                "results": [
                    {"asset": str(one.asset_id), "probability": one.probability, "margin": one.margin}
                    for one in found
                ]
            }
        )


def _read_limit(given: str) -> int:
    if not (given.isascii() and given.isdigit() and 1 <= int(given[:9]) <= MOST_SUGGESTED):
        raise Invalid(f"A limit is 1 to {MOST_SUGGESTED}.", pointer="/limit")
    return int(given)
