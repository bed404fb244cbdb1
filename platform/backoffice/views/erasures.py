"""Deleting a tenant, and the receipts of those that were."""

from __future__ import annotations

import json
import uuid

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from backoffice.access import SIZE, Request, acting_operator, form_data, operators, page
from backoffice.forms import ConfirmForm, ReasonForm
from console.paging import page_of
from tenants.errors import NotFound
from tenants.events.models import TenantErasure
from tenants.pipeline.care import tenant_erasure
from tenants.pipeline.upkeep import operator_acts
from tenants.pipeline.upkeep.tenant_figures import get_tenant


@operators(methods=("GET", "POST"), fresh=True)
def delete(request: Request, slug: str) -> HttpResponse:
    """First what there is of it; then, with its slug typed and a reason given, the erasure."""
    tenant = get_tenant(slug)
    form = ConfirmForm(slug, form_data(request))
    reason = ReasonForm(form_data(request))
    if form.is_valid() and reason.is_valid():
        receipt = operator_acts.request_erasure(
            **acting_operator(request), slug=slug, reason=reason.cleaned_data["reason"]
        )
        messages.success(request, _("The tenant is closed and is being erased."))
        return redirect("operator:erasure", erasure_id=receipt.id)
    context = {
        "title": _("Delete %(name)s") % {"name": tenant.name},
        "tenant": tenant,
        "form": form,
        "reason": reason,
        "found": sorted(tenant_erasure.survey(slug).items()),
    }
    return page(request, "tenant_delete.html", context, status=422 if form.is_bound else 200)


@operators()
def index(request: Request) -> HttpResponse:
    found = page_of(TenantErasure.objects.order_by("-id"), request.GET.get("before", ""), SIZE)
    context = {"title": _("Erased tenants"), "erasures": found.items, "next": found.next}
    return page(request, "erasures.html", context)


@operators()
def receipt(request: Request, erasure_id: uuid.UUID) -> HttpResponse:
    row = TenantErasure.objects.filter(pk=erasure_id).first()
    if row is None:
        raise NotFound(_("This receipt does not exist."))
    shown = tenant_erasure.as_dict(row)
    if "json" in request.GET:
        response = HttpResponse(json.dumps(shown, indent=2, default=str), content_type="application/json")
        response["Content-Disposition"] = f'attachment; filename="erasure-{row.slug}.json"'
        return response
    context = {
        "title": _("Erasure of %(name)s") % {"name": row.slug},
        "receipt": row,
        "rows": sorted(row.removed.get("rows", {}).items()),
        "others": sorted((k, v) for k, v in row.removed.items() if not isinstance(v, dict)),
        "people": sorted(row.removed.get("people", {}).items()),
        "places": row.remains.get("places", []),
    }
    return page(request, "erasure.html", context)
