"""`/jobs`: background work, and its events."""

from __future__ import annotations

import re
import uuid

from django.http import HttpResponse, QueryDict
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of
from api.components import page_of
from api.fields import Body, Whole
from api.paging import encode_cursor, read_choice, read_page, refuse_unknown
from api.paths import read_id
from api.resource import Resource
from api.schema import PAGING, choice
from tenants.accounts.permissions import READ, WRITE
from tenants.accounts.watchers import by_key
from tenants.errors import Invalid
from tenants.events.services import cancel_job, retry_job
from tenants.jobs import selectors, server_sent_events, services, shapes
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


NOTHING = uuid.UUID(int=0)
# What a column of line numbers can hold.
LAST_LINE = 2**31 - 1


# Proxies commonly end a connection on which nothing came for a minute.
MAX_WAIT_S = 60
_SECONDS = re.compile(r"[0-9]{1,2}")


def read_wait(query: QueryDict) -> int:
    """Seconds that the answer may be held back. Raises Invalid."""
    wait = query.get("wait", "0")
    if not _SECONDS.fullmatch(wait) or int(wait) > MAX_WAIT_S:
        raise Invalid(f"wait is a whole number of seconds from 0 to {MAX_WAIT_S}.", pointer="/wait")
    return int(wait)


def location(job_id: uuid.UUID | str) -> dict[str, str]:
    return {"Location": f"/api/v1/jobs/{job_id}"}


def accepted(job: Job) -> Response:
    """202 for work that goes on in the background."""
    return Response({"job": selectors.job_shape(job)}, status=202, headers=location(job.id))


class Jobs(Resource):
    scopes = {"GET": READ}

    @extend_schema(
        summary="List jobs",
        parameters=[
            *PAGING,
            choice("state", Job.State.values),
            choice("kind", sorted(KINDS)),
            OpenApiParameter("parent", str, description="Parts of the work of this job."),
        ],
        responses=page_of(shapes.Job),
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, "state", "kind", "parent")
        page, parent = read_page(query), query.get("parent")
        state, kind = read_choice(query, "state", Job.State.values), read_choice(query, "kind", sorted(KINDS))
        of = None if parent is None else read_id(parent) or NOTHING
        with tenant_scope(self.tenant_id):
            rows = selectors.list_jobs(state=state, kind=kind, parent=of)
            return Response(page.of(rows, selectors.job_shape))


class OneJob(Resource):
    scopes = {"GET": READ}

    def find(self, job_id: uuid.UUID | None) -> Job:
        return selectors.get_job(job_id)

    @extend_schema(
        summary="A job",
        description=(
            "With `wait`, the answer comes when the job has ended or after so many seconds, whichever is first, and "
            "shows the job as it is then. Ask again while its state is `queued` or `running`. An answer that comes at "
            "once with `Retry-After` says that too many requests wait already."
        ),
        parameters=[
            OpenApiParameter(
                "wait",
                {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0},
                description="Seconds to wait for the end of the job.",
            )
        ],
        responses=shapes.Job,
    )
    def get(self, request: Request, job_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params, "wait")
        seconds, job = read_wait(request.query_params), self.found
        watcher = by_key(key_of(request).prefix, request.META.get("REMOTE_ADDR", ""))
        headers = (
            server_sent_events.wait_headers(job, watcher, seconds) if seconds and not job.finished else {}
        )
        return Response(selectors.job_shape(job), headers=headers)


class JobLog(Resource):
    scopes = {"GET": READ}

    def find(self, job_id: uuid.UUID | None) -> Job:
        return selectors.get_job(job_id)

    @extend_schema(
        summary="The log of a job",
        description=(
            "Oldest first. `next` stands for the last line, also where none follows yet: ask again with it. It is null "
            "once the job has ended and its last line was answered."
        ),
        parameters=PAGING,
        responses=page_of(shapes.JobLine, "JobLog"),
    )
    def get(self, request: Request, job_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        after = min(page.after.int, LAST_LINE) if page.after else 0
        with tenant_scope(self.tenant_id):
            lines = list(selectors.log_of(job_id, after=after)[: page.limit])
        last = lines[-1].number if lines else after
        over = self.found.finished and last >= self.found.notes
        cursor = None if over else encode_cursor(uuid.UUID(int=last))
        return Response({"results": [selectors.line_shape(line) for line in lines], "next": cursor})


class PriorityBody(Body):
    priority = Whole(min_value=1, max_value=3, help_text="1 low, 2 normal, 3 high.")


class JobPriority(Resource):
    scopes = {"POST": WRITE}

    def find(self, job_id: uuid.UUID | None) -> Job:
        return selectors.get_job(job_id)

    @extend_schema(
        summary="Place a job before or behind your others",
        description="It takes nothing from other tenants, whose turns stay as they are.",
        request=PriorityBody,
        responses=shapes.Job,
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, job_id: uuid.UUID) -> Response:
        priority = PriorityBody.read(request.data)["priority"]
        with tenant_scope(self.tenant_id):
            job = services.set_priority(job_id=job_id, priority=priority)
        return Response(selectors.job_shape(job))


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
            job = cancel_job(job_id=job_id, actor=self.actor)
        status = 200 if job.finished else 202
        return Response(selectors.job_shape(job), status=status, headers=location(job.id))


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
            job = retry_job(job_id=job_id, actor=self.actor)
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
        if server_sent_events.knows_end(self.found, request.headers.get("Last-Event-ID", "")):
            return HttpResponse(status=204)
        body, headers = server_sent_events.open_stream(
            self.found, by_key(key_of(request).prefix, request.META.get("REMOTE_ADDR", ""))
        )
        return HttpResponse(body, headers=headers)
