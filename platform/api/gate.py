"""`/gate`: the gate that corrects the weights of this workspace's queries, and training one from its feedback."""

from __future__ import annotations

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api import shapes as common
from api import task_shapes as shapes
from api.idempotency import Answer, Once
from api.jobs import location
from api.resource import Resource
from api.schema import IDEMPOTENCY
from tenants.accounts.permissions import READ, TRAIN
from tenants.jobs import selectors as jobs
from tenants.retrieval import gate_training
from tenants.scope import tenant_scope


class Gate(Resource):
    scopes = {"GET": READ, "DELETE": TRAIN}

    @extend_schema(summary="The gate that weighs queries", responses=shapes.GateShape)
    def get(self, request: Request) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(gate_training.as_dict())

    @extend_schema(
        summary="Go back to the built-in gate",
        description="Feedback stays. Other processes follow within ten seconds.",
        responses={204: None},
    )
    def delete(self, request: Request) -> Response:
        with tenant_scope(self.tenant_id):
            gate_training.retire_gate(actor=self.actor)
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
        responses={202: common.JobAccepted},
        extensions={"x-problems": [409, 422]},
    )
    def post(self, request: Request) -> HttpResponse:
        return Once(request, {}).run(self._start).response()

    def _start(self) -> Answer:
        job = gate_training.start_training(actor=self.actor)
        return Answer.of(202, {"job": jobs.as_dict(job)}, location(job.id))
