"""`/datasets/{id}/stream`: items over one long request, each an asset."""

from __future__ import annotations

import uuid

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from api.auth import key_of
from api.paging import read_choice, refuse_unknown
from api.problems import Problem, Refusal
from api.resource import Resource
from api.schema import choice
from tenants.accounts.permissions import WRITE
from tenants.accounts.watchers import by_key
from tenants.datasets.selectors import require_dataset

CONTENT_TYPE = "application/x-ndjson"
# Between a view and the edge: whose stream of items is to be read (config.ingest).
INGEST = "X-Ingest-Stream"
# What becomes of other content under an id that is there.
ON_CHANGE = ("refuse", "replace")
NOT_LINES = Problem(
    "unsupported-media-type",
    415,
    "This kind of body or file is not accepted",
    f"Send {CONTENT_TYPE}: one JSON object a line.",
)
LINE = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 200},
        "text": {"type": "string", "minLength": 1},
        "metadata": {"type": "object"},
        "key": {"type": "string"},
    },
    "required": ["id", "text"],
}
ACKNOWLEDGEMENT = {
    "type": "object",
    "properties": {
        "line": {"type": "integer"},
        "id": {"type": ["string", "integer", "null"]},
        "asset": {"type": ["string", "null"]},
        "state": {"type": "string", "enum": ["stored", "duplicate", "refused"]},
        "replaced": {"type": "string"},
        "error": {"type": "object"},
        "ended": {"type": "object"},
    },
}


class DatasetStream(Resource):
    scopes = {"POST": WRITE}
    takes_chunks = True

    def find(self, dataset_id: uuid.UUID | None) -> None:
        require_dataset(dataset_id)

    @extend_schema(
        summary="Add assets by a stream of lines",
        description=(
            "The body has no fixed end (chunked): one JSON object a line, of at most 512 kB. Each line is answered by "
            "one, once it is committed: `stored`, `duplicate` (the id is there with this content) or `refused` with a "
            "problem, which does not end the stream. Read the answer while you send. Empty lines say that the server "
            "is still there; `ended` is the last line of a stream that the server ends, with the reason: connect again "
            "and send what was not acknowledged. `on_change=replace` lets other content under an id take its place."
        ),
        parameters=[choice("on_change", ON_CHANGE)],
        request={CONTENT_TYPE: LINE},
        responses={(200, CONTENT_TYPE): ACKNOWLEDGEMENT},
        extensions={"x-problems": [415]},
    )
    def post(self, request: Request, dataset_id: uuid.UUID) -> HttpResponse:
        refuse_unknown(request.query_params, "on_change")
        on_change = read_choice(request.query_params, "on_change", ON_CHANGE) or ON_CHANGE[0]
        if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != CONTENT_TYPE:
            raise Refusal(NOT_LINES)
        watcher = by_key(key_of(request).prefix, request.META.get("REMOTE_ADDR", ""))
        headers = {
            "Cache-Control": "no-store",
            # For reverse proxies that would collect the answer first.
            "X-Accel-Buffering": "no",
            INGEST: f"{self.tenant_id} {dataset_id} {on_change} {watcher}",
        }
        return HttpResponse(b"", content_type=CONTENT_TYPE, headers=headers)
