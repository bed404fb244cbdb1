"""Plans: the list, one of them with the tenants that have it, and its ceilings."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from backoffice.access import SIZE, Request, form_data, operators, page
from backoffice.forms import NewPlanForm, PlanForm
from console.paging import first_of
from tenants.accounts.models import RATE, RESOURCES, Plan
from tenants.errors import Conflict, Invalid
from tenants.people import plans as services
from tenants.pipeline.upkeep.tenant_figures import list_tenants


@operators()
def index(request: Request) -> HttpResponse:
    context = {"title": _("Plans"), "plans": list(services.list_plans()), "resources": RESOURCES}
    return page(request, "plans.html", context)


@operators(methods=("GET", "POST"))
def create(request: Request) -> HttpResponse:
    form = NewPlanForm(form_data(request))
    if form.is_valid():
        try:
            made = services.create_plan(by=request.operator, slug=form.cleaned_data["slug"], **form.values)
        except (Invalid, Conflict) as error:
            form.refuse(error)
        else:
            messages.success(request, _("The plan was created."))
            return redirect("operator:plan", slug=made.slug)
    context = {"title": _("New plan"), "form": form}
    return page(request, "plan.html", context, status=422 if form.is_bound else 200)


@operators(methods=("GET", "POST"))
def plan(request: Request, slug: str) -> HttpResponse:
    row = services.get_plan(slug)
    form = PlanForm(form_data(request), initial=_initial(row))
    if form.is_valid():
        try:
            services.change_plan(by=request.operator, slug=slug, **form.values)
        except Invalid as error:
            form.refuse(error)
        else:
            messages.success(
                request,
                _("The plan was changed. The change applies to all its tenants from their next request on."),
            )
            return redirect("operator:plan", slug=slug)
    found = first_of(
        list_tenants(plan=slug, after=request.GET.get("after", "").replace("\0", "")), "slug", SIZE
    )
    context = {"title": row.name, "plan": row, "form": form, "tenants": found.items, "next": found.next}
    return page(request, "plan.html", context, status=422 if form.is_bound else 200)


def _initial(row: Plan) -> dict[str, object]:
    return {
        "name": row.name,
        **row.limits,
        RATE: row.rate_per_minute,
        "trial_days": row.trial_days,
        "offered": "1" if row.offered else "",
    }


@operators(methods=("POST",))
def delete(request: Request, slug: str) -> HttpResponse:
    try:
        services.delete_plan(by=request.operator, slug=slug)
    except Conflict as error:
        messages.error(request, error.detail)
        return redirect("operator:plan", slug=slug)
    messages.success(request, _("The plan was deleted."))
    return redirect("operator:plans")
