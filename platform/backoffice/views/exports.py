"""Taking a tenant out: the export that it could ask for itself, made by its job and downloaded here."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from backoffice.access import Request, acting_operator, operators
from tenants.datasets import content_responses
from tenants.errors import Conflict
from tenants.pipeline.transfer import exports
from tenants.pipeline.upkeep import operator_acts
from tenants.pipeline.upkeep.tenant_figures import get_tenant
from tenants.scope import tenant_scope


@operators(methods=("POST",), fresh=True)
def request_export(request: Request, slug: str) -> HttpResponse:
    try:
        operator_acts.request_export(
            **acting_operator(request), slug=slug, with_vectors="vectors" in request.POST
        )
    except Conflict as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, _("The export has been started. It appears below when it is ready."))
    return redirect("operator:tenant", slug=slug)


@operators(fresh=True)
def content(request: Request, slug: str, export_id: uuid.UUID) -> HttpResponseBase:
    tenant = get_tenant(slug)
    with tenant_scope(tenant.id):
        export = exports.get_export(export_id)
    operator_acts.note_download(**acting_operator(request), slug=slug, export_id=export_id)
    return content_responses.serve(request, exports.content_of(export))
