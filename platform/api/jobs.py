"""`/jobs`: background work, and its events."""

from __future__ import annotations

import uuid

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api import shapes
from api.auth import key_of
from api.paging import read_choice, read_page, refuse_unknown
from api.resource import Resource
from api.schema import PAGING, choice
from tenants.accounts.permissions import READ, WRITE
from tenants.accounts.watchers import by_key
from tenants.jobs import live, selectors, services
from tenants.jobs.kinds import KINDS
from tenants.jobs.models import Job
from tenants.scope import tenant_scope

# One event; `data` is a job as JSON.
EVENT = {
    "type": "object",
    "properties": {
        "event": {"const": "job"},
        "id": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
    "required": ["event", "id", "data"],
}


def location(job_id: uuid.UUID | str) -> dict[str, str]:
    return {"Location": f"/api/v1/jobs/{job_id}"}


def accepted(job: Job) -> Response:
    """202 for work that goes on in the background."""
    return Response({"job": selectors.as_dict(job)}, status=202, headers=location(job.id))


class Jobs(Resource):
    scopes = {"GET": READ}

    @extend_schema(
        summary="List jobs",
        parameters=[*PAGING, choice("state", Job.State.values), choice("kind", KINDS)],
        responses=shapes.JobPage,
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, "state", "kind")
        page = read_page(query)
        state, kind = read_choice(query, "state", Job.State.values), read_choice(query, "kind", KINDS)
        with tenant_scope(self.tenant_id):
            return Response(page.of(selectors.list_jobs(state=state, kind=kind), selectors.as_dict))


class OneJob(Resource):
    scopes = {"GET": READ}

    def find(self, job_id: uuid.UUID | None) -> Job:
        return selectors.get_job(job_id)

    @extend_schema(summary="A job", responses=shapes.Job)
    def get(self, request: Request, job_id: uuid.UUID) -> Response:
        return Response(selectors.as_dict(self.found))


class CancelJob(Resource):
    scopes = {"POST": WRITE}

    @extend_schema(
        summary="Cancel a job",
        description="A queued job ends at once (200), a running one at its next step (202).",
        request=None,
        responses={200: shapes.Job, 202: shapes.Job},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, job_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            job = services.cancel(job_id=job_id)
        status = 200 if job.finished else 202
        return Response(selectors.as_dict(job), status=status, headers=location(job.id))


class RetryJob(Resource):
    scopes = {"POST": WRITE}

    @extend_schema(
        summary="Queue a failed or cancelled job again",
        request=None,
        responses={202: shapes.JobAccepted},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, job_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            job = services.retry(job_id=job_id)
        return accepted(job)


class JobEvents(Resource):
    scopes = {"GET": READ}

    def find(self, job_id: uuid.UUID | None) -> Job:
        return selectors.get_job(job_id)

    @extend_schema(
        summary="Follow a job",
        description=(
            "Server-Sent Events: `event: job` with the job at the start and after each change, until it has ended. "
            "204 tells a client that connects again with the last id that there is nothing more."
        ),
        parameters=[OpenApiParameter("Last-Event-ID", str, OpenApiParameter.HEADER)],
        responses={(200, "text/event-stream"): EVENT, 204: None},
    )
    def get(self, request: Request, job_id: uuid.UUID) -> HttpResponse:
        if live.seen_to_the_end(self.found, request.headers.get("Last-Event-ID", "")):
            return HttpResponse(status=204)
        body, headers = live.opening(self.found, by_key(key_of(request).prefix))
        return HttpResponse(body, headers=headers)
