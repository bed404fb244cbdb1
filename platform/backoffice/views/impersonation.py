"""Acting as a tenant: beginning it from the tenant's page, and stopping it from anywhere."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from backoffice.access import Request, operators
from backoffice.forms import ActForm, ApprovalForm
from backoffice.views.tenants import show
from tenants.errors import Conflict, Invalid, NotAllowed
from tenants.people import approvals, impersonation
from tenants.pipeline.upkeep.tenant_figures import get_tenant


@operators(methods=("POST",), fresh=True)
def begin(request: Request, slug: str) -> HttpResponse:
    form = ActForm(request.POST)
    if form.is_valid():
        try:
            impersonation.begin(
                by=request.operator,
                user=request.user,
                session_key=request.session.session_key or "",
                slug=slug,
                **form.cleaned_data,
            )
        except (Invalid, Conflict, NotAllowed) as error:
            form.refuse(error)
        else:
            return redirect("console:home")
    return show(request, slug, status=422, act=form)


@operators(methods=("POST",))
def ask(request: Request, slug: str) -> HttpResponse:
    """Ask the tenant's owners for their approval."""
    form, tenant = ApprovalForm(request.POST), get_tenant(slug)
    if form.is_valid():
        try:
            approvals.request_approval(
                by=request.operator, user=request.user, tenant=tenant, **form.cleaned_data
            )
        except (Invalid, Conflict) as error:
            form.refuse(error)
        else:
            messages.success(request, _("The owners have been asked. Their answer appears here."))
            return redirect("operator:tenant", slug=slug)
    return show(request, slug, status=422, ask=form)


@operators(methods=("POST",))
def stop(request: Request) -> HttpResponse:
    slug = impersonation.end(user=request.user, session_key=request.session.session_key, by=request.operator)
    if not slug:
        return redirect("operator:index")
    messages.success(request, _("You are no longer acting as a tenant."))
    return redirect("operator:tenant", slug=slug)
