"""`/datasets`: folders of assets."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers as s
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Object, Text, Whole
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import accepted, location
from api.paging import read_page, refuse_unknown
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts.permissions import READ, WRITE
from tenants.datasets import selectors, services, shapes
from tenants.datasets.models import Dataset
from tenants.errors import Invalid, NotFound
from tenants.jobs import selectors as jobs
from tenants.jobs.shapes import JobAccepted
from tenants.pipeline.assets.services import delete_dataset
from tenants.pipeline.transfer.merging import start_merge
from tenants.retrieval import dataset_health
from tenants.retrieval import shapes as retrieval_shapes
from tenants.scope import tenant_scope

SCHEMA_HELP = (
    'Fields of the metadata: `{"price": {"type": "number", "required": true}}`. Types are text, number, bool, time and '
    "tags; an entry may have required, values (all that are allowed) and label."
)


def duplicates() -> s.ChoiceField:
    return s.ChoiceField(
        Dataset.Duplicates.values,
        required=False,
        help_text="What becomes of content that is in the dataset already: `keep` (the default) adds it, `skip` "
        "answers with the asset that is there.",
    )


class NewDataset(Body):
    name = Text(max_length=services.MAX_NAME)
    description = Text(required=False, allow_blank=True, max_length=services.MAX_DESCRIPTION)
    metadata_schema = Object(required=False, help_text=SCHEMA_HELP)
    duplicates = duplicates()


class NewMerge(Body):
    plan = Text(required=False, allow_null=True, help_text="The id of the job that said what would be done.")


class DatasetChanges(Body):
    name = Text(required=False, max_length=services.MAX_NAME)
    description = Text(required=False, allow_blank=True, max_length=services.MAX_DESCRIPTION)
    metadata_schema = Object(required=False, help_text=SCHEMA_HELP)
    retention_days = Whole(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=services.MAX_RETENTION_DAYS,
        help_text="Erase assets that are older; null keeps them.",
    )
    duplicates = duplicates()


class Datasets(Resource):
    scopes = {"GET": READ, "POST": WRITE}

    @extend_schema(
        summary="List datasets",
        parameters=[
            *PAGING,
            OpenApiParameter("name", str, description="Only the dataset of this name, to find its id."),
        ],
        responses=page_of(shapes.Dataset),
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, "name")
        page, name = read_page(query), query.get("name")
        if name is not None and "\0" in name:
            raise Invalid("A name holds no NUL character.", pointer="/name")
        with tenant_scope(self.tenant_id):
            rows = selectors.counted_datasets(name=name)
            return Response(page.of(rows, selectors.dataset_shape))

    @extend_schema(
        summary="Create a dataset",
        parameters=[IDEMPOTENCY],
        request={"application/json": NewDataset},
        responses={201: shapes.Dataset},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewDataset.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._create(fields)).response()

    def _create(self, fields: dict[str, Any]) -> Answer:
        dataset = services.create_dataset(**fields)
        body = selectors.dataset_shape(dataset)
        return Answer.of(201, body, {"Location": f"/api/v1/datasets/{dataset.id}"})


class Merges(Resource):
    scopes = {"POST": WRITE}

    def find(self, dataset_id: uuid.UUID | None) -> None:
        selectors.require_dataset(dataset_id)

    @extend_schema(
        summary="Make one asset of the copies of a file",
        description=(
            "Copies are assets of the dataset with the same bytes that differ in nothing but captions, names and ids; "
            "the earliest stays and gets all captions. Without `plan` the job changes nothing and says in its result "
            "what it would do; send its id as `plan` to have it done."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewMerge},
        responses={202: JobAccepted},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, dataset_id: uuid.UUID) -> HttpResponse:
        fields = NewMerge.read(request.data)
        return (
            IdempotentRequest(request, fields)
            .run(lambda: self._start(dataset_id, fields.get("plan")))
            .response()
        )

    def _start(self, dataset_id: uuid.UUID, plan: str | None) -> Answer:
        try:
            plan_id = uuid.UUID(plan) if plan else None
        except ValueError as error:
            raise NotFound("This plan does not exist.") from error
        job = start_merge(dataset_id=dataset_id, plan=plan_id, actor=self.actor)
        return Answer.of(202, {"job": jobs.job_shape(job)}, location(job.id))


class DatasetHealth(Resource):
    scopes = {"GET": READ, "POST": WRITE}

    def find(self, dataset_id: uuid.UUID | None) -> Dataset:
        return selectors.get_dataset(dataset_id)

    @extend_schema(
        summary="What is amiss in a dataset",
        description=(
            "What the newest examination found and how much of it is left, with its age; asking examines nothing. "
            "`job` is the examination that waits or runs now."
        ),
        responses=retrieval_shapes.DatasetHealth,
    )
    def get(self, request: Request, dataset_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(dataset_health.health_shape(self.found))

    @extend_schema(
        summary="Examine a dataset",
        description=(
            "A job looks for near-duplicates, outliers and assets that the live model cannot find. One at a time."
        ),
        parameters=[IDEMPOTENCY],
        request=None,
        responses={202: JobAccepted},
        extensions={"x-problems": [409, 422]},
    )
    def post(self, request: Request, dataset_id: uuid.UUID) -> HttpResponse:
        return IdempotentRequest(request, {}).run(lambda: self._examine(dataset_id)).response()

    def _examine(self, dataset_id: uuid.UUID) -> Answer:
        job = dataset_health.examine(dataset_id=dataset_id)
        return Answer.of(202, {"job": jobs.job_shape(job)}, location(job.id))


class OneDataset(Resource):
    scopes = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}

    def find(self, dataset_id: uuid.UUID | None) -> Dataset:
        return selectors.get_dataset(dataset_id)

    @extend_schema(summary="A dataset", responses=shapes.Dataset)
    def get(self, request: Request, dataset_id: uuid.UUID) -> Response:
        return Response(selectors.dataset_shape(self.found))

    @extend_schema(
        summary="Change a dataset",
        request={"application/json": DatasetChanges},
        responses=shapes.Dataset,
        extensions={"x-problems": [409]},
    )
    def patch(self, request: Request, dataset_id: uuid.UUID) -> Response:
        changes = DatasetChanges.read(request.data)
        with tenant_scope(self.tenant_id):
            services.update_dataset(dataset_id=dataset_id, **changes)
            return Response(selectors.dataset_shape(selectors.get_dataset(dataset_id)))

    @extend_schema(
        summary="Delete a dataset",
        description="Hidden at once, with everything in it; erased by the job.",
        request=None,
        responses={202: JobAccepted},
    )
    def delete(self, request: Request, dataset_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            job = delete_dataset(dataset_id=dataset_id, actor=self.actor)
        return accepted(job)
