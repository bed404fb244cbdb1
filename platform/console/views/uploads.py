"""Large files of people, in parts: tus over the session. Every change carries the CSRF token as a header."""

from __future__ import annotations

import uuid
from typing import IO, cast

from django.http import HttpResponse, JsonResponse
from django.urls import reverse

from console.access import Request, needs
from tenants.accounts.permissions import WRITE
from tenants.datasets import resumable, tus


@needs(WRITE, methods=("POST",))
def begin(request: Request) -> HttpResponse:
    return _answered(tus.tell(_call(request, None)))


@needs(WRITE, methods=("HEAD", "PATCH", "DELETE"))
def go_on(request: Request, upload_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        resumable.find(upload_id)
    call = _call(request, upload_id)
    if request.method != "PATCH":
        return _answered(tus.tell(call))
    length = int(request.headers.get("Content-Length") or 0)
    return _answered(tus.receive(call, cast(IO[bytes], request), length))


def _call(request: Request, upload_id: uuid.UUID | None) -> tus.Call:
    base = reverse("console:uploads")
    return tus.Call(request.workspace.tenant.id, str(request.method), base, request.headers, upload_id)


def _answered(reply: tus.Reply) -> HttpResponse:
    if reply.status < 400:
        return HttpResponse(status=reply.status, headers=reply.headers)
    slug, title = reply.refusal
    body = {"type": slug, "title": title, "status": reply.status, "detail": reply.detail}
    return JsonResponse(
        body, status=reply.status, headers=reply.headers, content_type="application/problem+json"
    )
