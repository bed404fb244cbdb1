"""What Django itself refuses: as problems under /api/, as pages elsewhere."""

from __future__ import annotations

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.views import defaults

from api import problems
from console import problems as pages
from tenants.valkey import Unavailable as ValkeyUnavailable


def _of_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problems.bad_request(request) if _of_api(request) else defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return (
        problems.unknown_address(request) if _of_api(request) else defaults.page_not_found(request, exception)
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """Called while the error is handled: that a server is away for a moment is said as that."""
    error = sys.exception()
    if isinstance(error, OperationalError | InterfaceError | ValkeyUnavailable):
        return problems.problem_of(error).response() if _of_api(request) else pages.away(request)
    return problems.server_error(request) if _of_api(request) else defaults.server_error(request)
