"""`/tasks` and `/gate`: what the parts of a query weigh, by profile and as learned from feedback."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, Flag, Number, Text
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paging import read_page, refuse_unknown
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts.permissions import READ, TRAIN, WRITE
from tenants.errors import Conflict
from tenants.jobs import selectors as jobs
from tenants.jobs.shapes import JobAccepted
from tenants.retrieval import query, shapes
from tenants.retrieval.models import SearchTask
from tenants.scope import tenant_scope


class PartWeights(Body):
    """What is not named weighs as much as the mean of what is."""

    text = Number(required=False, min_value=0, max_value=query.MAX_WEIGHT)
    image = Number(required=False, min_value=0, max_value=query.MAX_WEIGHT)
    audio = Number(required=False, min_value=0, max_value=query.MAX_WEIGHT)
    video = Number(required=False, min_value=0, max_value=query.MAX_WEIGHT)
    vector = Number(required=False, min_value=0, max_value=query.MAX_WEIGHT)
    like = Number(required=False, min_value=0, max_value=query.MAX_WEIGHT)


class NewRule(Body):
    when = serializers.ListField(
        child=Text(min_length=1, max_length=query.MAX_WORD),
        min_length=1,
        max_length=query.MAX_WORDS,
    )
    weights = PartWeights()


class TaskChange(Body):
    description = Text(required=False, allow_blank=True, max_length=query.MAX_DESCRIPTION)
    weights = PartWeights(required=False)
    rules = serializers.ListField(child=NewRule(), required=False, max_length=query.MAX_RULES)
    dynamic = Flag(required=False, help_text="Whether weights are corrected for each query; true by default.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise ValidationError("Send what is to change.")
        return attrs


class NewTask(TaskChange):
    slug = Text(max_length=query.MAX_SLUG, help_text="a-z, 0-9 and -; what `task` of a search names.")
    weights = PartWeights()


class Tasks(Resource):
    scopes = {"GET": READ, "POST": WRITE}

    @extend_schema(summary="List tasks", parameters=PAGING, responses=shapes.TaskPage)
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            found = page.of(query.list_tasks(), row_as_dict)
        return Response({**found, "built_in": [as_dict(task) for task in query.BUILT_IN.values()]})

    @extend_schema(
        summary="Create a task",
        parameters=[IDEMPOTENCY],
        request={"application/json": NewTask},
        responses={201: shapes.TaskShape},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewTask.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._create(fields)).response()

    def _create(self, fields: dict[str, Any]) -> Answer:
        row = query.create_task(**fields, actor=self.actor)
        return Answer.of(201, row_as_dict(row), {"Location": f"/api/v1/tasks/{row.slug}"})


class OneTask(Resource):
    scopes = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}
    found: SearchTask | query.Task

    def find(self, slug: str) -> SearchTask | query.Task:
        return query.BUILT_IN.get(slug) or query.get_task(slug)

    @extend_schema(summary="A task", responses=shapes.TaskShape)
    def get(self, request: Request, slug: str) -> Response:
        return Response(
            as_dict(self.found) if isinstance(self.found, query.Task) else row_as_dict(self.found)
        )

    @extend_schema(
        summary="Change a task",
        description="Built-in ones stay as they are. Searches see the change at once.",
        request={"application/json": TaskChange},
        responses=shapes.TaskShape,
        extensions={"x-problems": [409]},
    )
    def patch(self, request: Request, slug: str) -> Response:
        self._require_own()
        fields = TaskChange.read(request.data)
        with tenant_scope(self.tenant_id):
            row = query.update_task(slug=slug, changes=fields, actor=self.actor)
        return Response(row_as_dict(row))

    @extend_schema(
        summary="Delete a task",
        description="Searches that use it are refused from then on.",
        responses={204: None},
        extensions={"x-problems": [409]},
    )
    def delete(self, request: Request, slug: str) -> Response:
        self._require_own()
        with tenant_scope(self.tenant_id):
            query.delete_task(slug=slug, actor=self.actor)
        return Response(status=204)

    def _require_own(self) -> None:
        if isinstance(self.found, query.Task):
            raise Conflict("This task is built in and stays as it is. Create one of your own.")


def row_as_dict(row: SearchTask) -> dict[str, Any]:
    return {**as_dict(query.profile_of(row)), "built_in": False, "created_at": row.created_at}


def as_dict(task: query.Task) -> dict[str, Any]:
    return {
        "slug": task.slug,
        "description": task.description,
        "weights": task.weights,
        "rules": [{"when": list(rule.words), "weights": rule.weights} for rule in task.rules],
        "dynamic": task.dynamic,
        "built_in": True,
        "created_at": None,
    }


class Gate(Resource):
    scopes = {"GET": READ, "DELETE": TRAIN}

    @extend_schema(summary="The gate that weighs queries", responses=shapes.GateShape)
    def get(self, request: Request) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(query.fusion_as_dict())

    @extend_schema(
        summary="Go back to the built-in gate",
        description="Feedback stays. Other processes follow within ten seconds.",
        responses={204: None},
    )
    def delete(self, request: Request) -> Response:
        with tenant_scope(self.tenant_id):
            query.retire_gate(actor=self.actor)
        return Response(status=204)


class TrainGate(Resource):
    scopes = {"POST": TRAIN}

    @extend_schema(
        summary="Train a gate from feedback",
        description=(
            "The job takes the new gate only if it does no worse than the built-in one and the fixed weights on "
            "searches that it has not seen; its result tells."
        ),
        parameters=[IDEMPOTENCY],
        request=None,
        responses={202: JobAccepted},
        extensions={"x-problems": [409, 422]},
    )
    def post(self, request: Request) -> HttpResponse:
        return IdempotentRequest(request, {}).run(self._start).response()

    def _start(self) -> Answer:
        job = query.start_training(actor=self.actor)
        return Answer.of(202, {"job": jobs.job_shape(job)}, location(job.id))
