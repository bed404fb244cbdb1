"""Tenants: the list, one of them, and what an operator does with it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from backoffice.access import SIZE, Request, acting_operator, form_data, operators, page
from backoffice.forms import (
    ActForm,
    ApprovalForm,
    LimitsForm,
    NewTenantForm,
    OptionalReasonForm,
    OwnerForm,
    PlanChoiceForm,
    ReasonForm,
    TrialForm,
)
from console.paging import first_of
from tenants.accounts import trials
from tenants.accounts.models import Plan, Tenant
from tenants.errors import Conflict, Invalid, NotAllowed
from tenants.people import approvals, tenancies
from tenants.pipeline.upkeep import tenant_figures

# What a form of the page of a tenant is called, and how it is made.
FORMS: dict[str, Any] = {
    "suspend": ReasonForm,
    "resume": OptionalReasonForm,
    "plan": PlanChoiceForm,
    "limits": LimitsForm,
    "owner": OwnerForm,
    "trial": TrialForm,
    "act": ActForm,
    "ask": ApprovalForm,
}


@operators()
def index(request: Request) -> HttpResponse:
    wanted = {name: request.GET.get(name, "").replace("\0", "") for name in ("q", "state", "plan", "after")}
    found = first_of(tenant_figures.list_tenants(**wanted), "slug", SIZE)
    context = {
        "title": _("Tenants"),
        "tenants": tenant_figures.with_usage(found.items),
        "next": found.next,
        "wanted": wanted,
        "states": Tenant.State.values,
        "plans": list(Plan.objects.order_by("name", "slug")),
    }
    return page(request, "tenants.html", context)


@operators(methods=("GET", "POST"))
def create(request: Request) -> HttpResponse:
    form = NewTenantForm(form_data(request))
    if form.is_valid():
        try:
            made, invited = tenancies.open_tenant(**acting_operator(request), **form.cleaned_data)
            return _created(request, made, invited)
        except (Invalid, Conflict) as error:
            form.refuse(error)
    context = {"title": _("New tenant"), "form": form}
    return page(request, "tenant_new.html", context, status=422 if form.is_bound else 200)


def _created(request: Request, made: Tenant, invited: Any) -> HttpResponse:
    if not invited.link:
        messages.success(request, _("The tenant was created; the invitation is being e-mailed to its owner."))
        return redirect("operator:tenant", slug=made.slug)
    context = {"title": made.name, "tenant": made, "link": invited.link, "email": invited.invitation.email}
    return page(request, "invited.html", context)


@operators()
def tenant(request: Request, slug: str) -> HttpResponse:
    return show(request, slug)


def show(request: Request, slug: str, status: int = 200, **bound: object) -> HttpResponse:
    """The page of a tenant, with the form that was refused where there is one."""
    figures = tenant_figures.figures_of(slug)
    row = figures.tenant
    forms = {
        **{name: form() for name, form in FORMS.items()},
        "plan": PlanChoiceForm(initial={"plan": row.plan_id}),
        "limits": LimitsForm(initial={n: "none" if v is None else v for n, v in row.exceptions.items()}),
        **bound,
    }
    approvals.hide_content(figures.failed, request.operator)
    context = {
        "title": row.name,
        "tenant": row,
        "figures": figures,
        "forms": forms,
        "trial_days": trials.days_left(row),
    }
    if approvals.is_required(row):
        context["asks"] = True
        context["asked"] = approvals.latest_request(row, request.operator)
        context["approved"] = approvals.approved_until(row, request.operator)
    return page(request, "tenant.html", context, status=status)


def _apply_change(request: Request, slug: str, name: str, form: Any, change: Any, done: str) -> HttpResponse:
    """Run one change of a tenant, and go back to its page, or show what was refused there."""
    if form.is_valid():
        try:
            change(form)
        except (Invalid, Conflict) as error:
            form.refuse(error)
        else:
            messages.success(request, done)
            return redirect("operator:tenant", slug=slug)
    return show(request, slug, status=422, **{name: form})


@operators(methods=("POST",))
def suspend(request: Request, slug: str) -> HttpResponse:
    def change(form: Any) -> None:
        tenancies.suspend_tenant(**acting_operator(request), slug=slug, reason=form.cleaned_data["reason"])

    done = _("The tenant is suspended: its keys and members are refused, and its data is kept.")
    return _apply_change(request, slug, "suspend", ReasonForm(request.POST), change, done)


@operators(methods=("POST",))
def resume(request: Request, slug: str) -> HttpResponse:
    def change(form: Any) -> None:
        tenancies.resume_tenant(**acting_operator(request), slug=slug, reason=form.cleaned_data["reason"])

    return _apply_change(
        request, slug, "resume", OptionalReasonForm(request.POST), change, _("The tenant is active again.")
    )


@operators(methods=("POST",))
def change_plan(request: Request, slug: str) -> HttpResponse:
    def change(form: Any) -> None:
        tenancies.change_plan(**acting_operator(request), slug=slug, plan=form.cleaned_data["plan"])

    return _apply_change(
        request, slug, "plan", PlanChoiceForm(request.POST), change, _("The tenant’s plan was changed.")
    )


@operators(methods=("POST",))
def change_limits(request: Request, slug: str) -> HttpResponse:
    def change(form: Any) -> None:
        tenancies.set_exceptions(**acting_operator(request), slug=slug, exceptions=form.exceptions)

    return _apply_change(
        request, slug, "limits", LimitsForm(request.POST), change, _("The limits were changed.")
    )


@operators(methods=("POST",))
def change_trial(request: Request, slug: str) -> HttpResponse:
    def change(form: Any) -> None:
        tenancies.set_trial_end(**acting_operator(request), slug=slug, days=form.cleaned_data["days"])

    return _apply_change(
        request, slug, "trial", TrialForm(request.POST), change, _("The end of the trial is changed.")
    )


@operators(methods=("POST",), fresh=True)
def invite_owner(request: Request, slug: str) -> HttpResponse:
    form = OwnerForm(request.POST)
    if form.is_valid():
        try:
            invited = tenancies.invite_owner(
                **acting_operator(request), slug=slug, email=form.cleaned_data["email"]
            )
            return _created(request, invited.invitation.tenant, invited)
        except (Invalid, Conflict, NotAllowed) as error:
            form.refuse(error)
    return show(request, slug, status=422, owner=form)
