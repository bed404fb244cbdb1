"""Every refusal and failure as RFC 9457 `application/problem+json`.

The types are URNs, `urn:crosslight:problem:<slug>`: stable, and independent of where this installation runs.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.utils.encoders import JSONEncoder

from ml.compression import ModelsMissing
from ml.encoders.base import EncoderUnavailable
from ml.media import MediaError
from tenants import observe
from tenants.datasets.selectors import NoSuchDataset
from tenants.errors import Invalid, ServiceError
from tenants.valkey import Unavailable as ValkeyUnavailable

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
URN = "urn:crosslight:problem:"
RETRY_S = "5"


@dataclass(frozen=True)
class Problem:
    """One refusal: what the body says, and headers that go with it."""

    slug: str
    status: int
    title: str
    detail: str
    errors: list[dict[str, str]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> HttpResponse:
        body: dict[str, Any] = {
            **self.extra,
            "type": URN + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "request_id": observe.request_id.get(),
        }
        if self.errors:
            body["errors"] = self.errors
        # ASCII: a refused name may hold an unpaired surrogate, which UTF-8 cannot encode.
        text = json.dumps(body, cls=JSONEncoder, ensure_ascii=True)
        headers = {"Cache-Control": "no-store", **self.headers}
        return HttpResponse(text, status=self.status, content_type=CONTENT_TYPE, headers=headers)


class Refusal(Exception):
    """Raised by this package for what only HTTP knows: headers, methods, rates, scopes."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def malformed(detail: str, status: int = 400) -> Problem:
    return Problem("malformed", status, "The request cannot be read", detail)


def unavailable(detail: str) -> Problem:
    return Problem(
        "unavailable", 503, "Not available at the moment", detail, headers={"Retry-After": RETRY_S}
    )


def exception_handler(error: Exception, context: dict[str, object]) -> HttpResponse:
    """Django REST framework's hook: the answer to anything that a view raised."""
    return problem_of(error).response()


# --- From an exception to its problem --------------------------------------------------------------------


@singledispatch
def problem_of(error: Exception) -> Problem:
    log.error("unexpected error", exc_info=error)
    return Problem(
        "internal-error", 500, "Something went wrong here", "The log has the details under this id."
    )


@problem_of.register
def _(error: Refusal) -> Problem:
    return error.problem


@problem_of.register
def _(error: ServiceError) -> Problem:
    errors = error.errors if isinstance(error, Invalid) else []
    headers = {"Retry-After": RETRY_S} if error.status in (429, 503) else {}
    return Problem(error.slug, error.status, error.title, error.detail, errors, error.extra, headers)


@problem_of.register
def _(error: NoSuchDataset) -> Problem:
    # The same whatever was given, so that it does not tell what another tenant has.
    detail = (
        f"{error.detail} It is given by its id, not by its name: "
        "GET /api/v1/datasets?name=… answers with the dataset of that name."
    )
    return Problem(error.slug, error.status, error.title, detail)


@problem_of.register
def _(error: MediaError) -> Problem:
    if error.code == "decoder-died":
        return unavailable("The decoder ended before it had read the file. Try again.")
    return Problem(error.code, 422, "This file cannot be used", str(error.message))


@problem_of.register(OperationalError)
@problem_of.register(InterfaceError)
def _(error: Exception) -> Problem:
    log.error("database away", exc_info=error)
    return unavailable("The database does not answer. Try again soon.")


@problem_of.register
def _(error: ValkeyUnavailable) -> Problem:
    log.error("Valkey away", exc_info=error)
    return unavailable("The cache does not answer. Try again soon.")


@problem_of.register(EncoderUnavailable)
@problem_of.register(ModelsMissing)
def _(error: Exception) -> Problem:
    log.error("models missing", exc_info=error)
    return unavailable(
        "The models are not prepared yet. Whoever runs this installation finds more in its log."
    )


@problem_of.register(RecursionError)
def _(error: Exception) -> Problem:
    return malformed("The body is nested too deeply.")


@problem_of.register(UnreadablePostError)
@problem_of.register(MultiPartParserError)
@problem_of.register(SuspiciousOperation)
def _(error: Exception) -> Problem:
    return malformed(str(error) or "The body ended early.")


@problem_of.register(RequestDataTooBig)
def _(error: Exception) -> Problem:
    return too_large("The fields of the request, without its files, are too large together.")


@problem_of.register(Http404)
def _(error: Exception) -> Problem:
    return Problem("not-found", 404, "Not found", "There is nothing at this address.")


@problem_of.register(PermissionDenied)
@problem_of.register(exceptions.PermissionDenied)
def _(error: Exception) -> Problem:
    return Problem("forbidden", 403, "Not allowed", str(error) or "This is not allowed.")


def too_large(detail: str) -> Problem:
    return Problem("too-large", 413, "Too large", detail)


# --- What Django REST framework raises -------------------------------------------------------------------


@problem_of.register
def _(error: exceptions.APIException) -> Problem:
    return Problem("request-failed", error.status_code, "The request cannot be done", str(error.detail))


@problem_of.register
def _(error: exceptions.NotAuthenticated) -> Problem:
    challenge = {"WWW-Authenticate": 'Bearer realm="crosslight"'}
    detail = "Send `Authorization: Bearer <prefix>.<secret>`."
    return Problem("unauthenticated", 401, "A key is needed", detail, headers=challenge)


@problem_of.register
def _(error: exceptions.AuthenticationFailed) -> Problem:
    challenge = {"WWW-Authenticate": 'Bearer realm="crosslight", error="invalid_token"'}
    detail = "This key is unknown, expired or revoked, or its tenant is suspended."
    return Problem("invalid-key", 401, "This key does not open anything", detail, headers=challenge)


@problem_of.register
def _(error: exceptions.ParseError) -> Problem:
    return malformed(str(error.detail))


@problem_of.register
def _(error: exceptions.UnsupportedMediaType) -> Problem:
    detail = "Send application/json or, where a file goes in, multipart/form-data."
    return Problem("unsupported-media-type", 415, "This kind of body is not accepted", detail)


@problem_of.register
def _(error: exceptions.MethodNotAllowed) -> Problem:
    return Problem("method-not-allowed", 405, "This address does not know the method", str(error.detail))


@problem_of.register
def _(error: exceptions.ValidationError) -> Problem:
    errors = list(_flat(error.detail, ""))
    detail = errors[0]["detail"] if len(errors) == 1 else f"{len(errors)} values are not valid."
    return Problem("invalid", 422, Invalid.title, detail, errors)


def _flat(detail: Any, pointer: str) -> Any:
    """The nested messages of a serializer as `{pointer, detail}`, one a message."""
    if isinstance(detail, dict):
        for key, inner in detail.items():
            yield from _flat(inner, pointer if key == "non_field_errors" else f"{pointer}/{key}")
    elif isinstance(detail, list):
        for inner in detail:
            yield from _flat(inner, pointer)
    else:
        yield {"pointer": pointer, "detail": str(detail)}


# --- Outside the views: unknown addresses, and what middleware refused ------------------------------------


@csrf_exempt  # so that every method is told that there is nothing here
def unknown_address(request: HttpRequest, rest: str = "") -> HttpResponse:
    return problem_of(Http404()).response()


def bad_request(request: HttpRequest) -> HttpResponse:
    return malformed("The request was refused before it reached the API.").response()


def server_error(request: HttpRequest) -> HttpResponse:
    # Django has logged the traceback.
    return Problem(
        "internal-error", 500, "Something went wrong here", "The log has the details under this id."
    ).response()
