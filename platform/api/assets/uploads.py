"""`/uploads`: large files over connections that break (tus 1.0), to be used by id afterwards."""

from __future__ import annotations

import uuid
from typing import IO, Any, cast

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request

from api.idempotency import Answer, IdempotentRequest
from api.problems import Problem, Refusal
from api.resource import Resource
from api.schema import HEADER, IDEMPOTENCY
from tenants.accounts.permissions import WRITE
from tenants.datasets import resumable, tus
from tenants.datasets.resumable import PartialUpload

BASE = "/api/v1/uploads"
NOTHING = OpenApiResponse(description="No body.")
# Needed, though the schema does not say so: its absence answers 412, as the protocol has it.
TUS = OpenApiParameter(
    "Tus-Resumable", {"type": "string", "enum": [tus.VERSION]}, HEADER, description="Always; else 412."
)
# What a request to begin an upload consists of.
ASKED = ("Upload-Length", "Upload-Defer-Length", "Upload-Metadata")
OFFSET = {"type": "integer", "minimum": 0}


class Tus(Resource):
    """What both addresses share: the protocol's headers, and its refusals as problems."""

    scopes = {"GET": WRITE, "POST": WRITE, "PATCH": WRITE, "DELETE": WRITE, "OPTIONS": None}
    http_method_names = ["head", "post", "patch", "delete", "options"]

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {**super().default_response_headers, "Tus-Resumable": tus.VERSION}

    def call(self, upload_id: uuid.UUID | None = None) -> tus.TusRequest:
        return tus.TusRequest(self.tenant_id, str(self.request.method), BASE, self.request.headers, upload_id)

    @extend_schema(exclude=True)
    def options(  # type: ignore[override]  # not REST framework's answer
        self, request: Request, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        return reply_response(tus.handle(self.call()))


class Uploads(Tus):
    @extend_schema(
        summary="Begin an upload",
        description=(
            "tus 1.0 with creation, termination, expiration and checksum (sha1, sha256). The answer's `Location` "
            "takes the bytes; unused uploads are removed after a day. Use a finished one by its id: "
            '`{"upload": id}` in `POST /datasets/{id}/assets` or `/imports`.'
        ),
        parameters=[
            IDEMPOTENCY,
            TUS,
            OpenApiParameter("Upload-Length", OFFSET, HEADER, required=True),
            OpenApiParameter("Upload-Metadata", str, HEADER, description="`filename` in base64."),
        ],
        request=None,
        responses={201: NOTHING},
        extensions={"x-problems": [400, 412, 413, 422, 507]},
    )
    def post(self, request: Request) -> HttpResponse:
        asked = {name: request.headers.get(name, "") for name in ASKED}
        begun = IdempotentRequest(request, asked).run(self._begin)
        return HttpResponse(begun.text, status=begun.status, headers=begun.headers)

    def _begin(self) -> Answer:
        reply = reply_response(tus.handle(self.call()))
        return Answer(reply.status_code, "", dict(reply.headers))


class OneUpload(Tus):
    def find(self, upload_id: uuid.UUID | None) -> PartialUpload:
        return resumable.find(upload_id)

    @extend_schema(
        summary="How far an upload has come",
        parameters=[TUS],
        responses={200: NOTHING},
        extensions={"x-problems": [412]},
    )
    def head(self, request: Request, upload_id: uuid.UUID) -> HttpResponse:
        return reply_response(tus.handle(self.call(upload_id)))

    @extend_schema(
        summary="Send more of an upload",
        description="From the offset on, as much as you like; what arrives before a break is kept.",
        parameters=[
            TUS,
            OpenApiParameter("Upload-Offset", OFFSET, HEADER, required=True),
            OpenApiParameter("Upload-Checksum", str, HEADER, description="`sha256 <base64>` of this body."),
        ],
        request={"application/offset+octet-stream": bytes},
        responses={204: NOTHING},
        extensions={"x-problems": [409, 412, 423, 460, 507]},
    )
    def patch(self, request: Request, upload_id: uuid.UUID) -> HttpResponse:
        # Not `request.data`: that would look for a parser.
        body = cast("IO[bytes]", request._request)
        length = int(request.headers.get("Content-Length") or 0)
        return reply_response(tus.receive(self.call(upload_id), body, length))

    @extend_schema(
        summary="Throw an upload away",
        parameters=[TUS],
        responses={204: None},
        extensions={"x-problems": [412, 423]},
    )
    def delete(self, request: Request, upload_id: uuid.UUID) -> HttpResponse:
        return reply_response(tus.handle(self.call(upload_id)))


def reply_response(reply: tus.Reply) -> HttpResponse:
    if reply.status >= 400:
        slug, title = reply.refusal
        raise Refusal(Problem(slug, reply.status, title, reply.detail))
    return HttpResponse(status=reply.status, headers=reply.headers)
