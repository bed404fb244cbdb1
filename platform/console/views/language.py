"""Choosing the language of pages: kept in a cookie, as it is asked for before anybody has signed in."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme

from console.access import public


@public(methods=("POST",))
def choose(request: HttpRequest) -> HttpResponse:
    """An empty choice, or one that there is not, leaves it to the browser again."""
    response = redirect(_safe(request, request.POST.get("next", "")))
    language = request.POST.get("language", "")
    if language not in dict(settings.LANGUAGES):
        response.delete_cookie(settings.LANGUAGE_COOKIE_NAME, samesite="Lax")
        return response
    response.set_cookie(
        settings.LANGUAGE_COOKIE_NAME,
        language,
        max_age=settings.LANGUAGE_COOKIE_AGE,
        secure=settings.LANGUAGE_COOKIE_SECURE,
        httponly=settings.LANGUAGE_COOKIE_HTTPONLY,
        samesite="Lax",
    )
    return response


def _safe(request: HttpRequest, address: str) -> str:
    """Where the person was, if that is a page of ours."""
    ours = url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure())
    return address if ours else "/"
