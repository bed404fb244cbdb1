"""All addresses of the one port."""

from __future__ import annotations

from django.urls import include, path

from api.docs import Docs, serve_document
from api.problems import unknown_address
from api.scim import views as scim
from api.urls import scim_urlpatterns
from config import operations

urlpatterns = [
    path("api/v1/", include("api.urls")),
    path(".well-known/security.txt", operations.security_txt),
    path("healthz", operations.healthz),
    path("readyz", operations.readyz),
    path("metrics", operations.serve_metrics),
    path("api/schema", serve_document, name="schema"),
    path("api/docs", Docs.as_view(url_name="schema"), name="docs"),
    path("api/<path:rest>", unknown_address),
    path("scim/v2/", include(scim_urlpatterns)),
    path("scim/<path:rest>", scim.unknown_address),
    path("operator/", include("backoffice.urls")),
    path("", include("console.urls")),
]

handler400 = "config.errors.bad_request"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"
