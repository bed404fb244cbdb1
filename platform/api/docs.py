"""The OpenAPI document and its pages."""

from __future__ import annotations

import json
from functools import cache

from django.http import HttpRequest, HttpResponse
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.views import SpectacularSwaggerSplitView


@cache
def document() -> str:
    """The OpenAPI document as JSON, made once: it takes a good part of a second."""
    generator = spectacular_settings.DEFAULT_GENERATOR_CLASS()
    return json.dumps(generator.get_schema(request=None, public=True))


def serve_document(request: HttpRequest) -> HttpResponse:
    return HttpResponse(document(), content_type="application/vnd.oai.openapi+json")


class Docs(SpectacularSwaggerSplitView):
    """Interactive documentation; its script and styles are files of this server."""

    template_name = "api/docs.html"
