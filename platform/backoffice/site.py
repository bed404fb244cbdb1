"""The frame of the operator's pages: unfold's site, without Django's pages for rows and without a sign-in of its own.

Rows are changed by services alone, as everywhere; so no model is registered, and every page is a view of ours.
"""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.urls import include, path
from unfold.sites import UnfoldAdminSite


class OperatorSite(UnfoldAdminSite):
    def has_permission(self, request: HttpRequest) -> bool:
        return bool(getattr(request, "operator", None))

    def get_urls(self) -> list[object]:
        return [path("", include("backoffice.urls"))]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[object]:
        return []


site: AdminSite = OperatorSite("operator")
