"""The OpenAPI document and its pages."""

from __future__ import annotations

import json
from functools import cache

from django.http import HttpRequest, HttpResponse
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.views import SpectacularSwaggerSplitView

from api.groups import GROUPS


@cache
def document() -> str:
    """The OpenAPI document as JSON, made once: it takes a good part of a second."""
    generator = spectacular_settings.DEFAULT_GENERATOR_CLASS()
    schema = generator.get_schema(request=None, public=True)
    groups = [{"name": name, "description": purpose} for name, purpose in GROUPS.items()]
    return json.dumps({**schema, "servers": [{"url": "/"}], "tags": groups})


def serve_document(request: HttpRequest) -> HttpResponse:
    """The document with the address that was asked: a client that is made of a saved copy has no other."""
    here = {**json.loads(document()), "servers": [{"url": request.build_absolute_uri("/").rstrip("/")}]}
    return HttpResponse(json.dumps(here), content_type="application/vnd.oai.openapi+json")


class Docs(SpectacularSwaggerSplitView):
    """Interactive documentation; its script and styles are files of this server."""

    template_name = "api/docs.html"
