"""The plan of a workspace: when it ends, what of it is left, and asking the operators for more."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console import labels
from console.access import Request, actor_of, needs, page
from console.forms import StyledForm
from tenants.accounts.models import RESOURCES
from tenants.accounts.permissions import ADMIN
from tenants.errors import Conflict, Invalid, NotAllowed
from tenants.people import plan_requests


class AskForm(StyledForm):
    """What is wanted, and why."""

    plan = forms.CharField(required=False, label=gettext_lazy("Plan"), widget=forms.Select)
    resource = forms.CharField(required=False, label=gettext_lazy("More of"), widget=forms.Select)
    amount = forms.FloatField(required=False, min_value=0, label=gettext_lazy("How much in all"))
    note = forms.CharField(
        max_length=plan_requests.MAX_WORDS,
        label=gettext_lazy("What you need it for"),
        widget=forms.Textarea(attrs={"rows": 4}),
    )

    def __init__(self, plans: list[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered: Any = self.fields["plan"].widget
        offered.choices = [("", _("as it is")), *((one.slug, one.name) for one in plans)]
        wanted: Any = self.fields["resource"].widget
        named = ((name, labels.label_of(labels.RESOURCES, name)) for name in RESOURCES)
        wanted.choices = [("", _("nothing in particular")), *named]


@needs(ADMIN, methods=("GET", "POST"))
def show(request: Request) -> HttpResponse:
    plan_requests.require_on()
    with request.workspace.open():
        plans = list(plan_requests.offered_plans())
        form = AskForm(plans, request.POST or None)
        if form.is_valid():
            try:
                plan_requests.ask(actor=actor_of(request), **form.cleaned_data)
            except (Invalid, Conflict, NotAllowed) as error:
                form.refuse(error)
            else:
                messages.success(
                    request, _("Your request is on its way. The answer comes by e-mail and stands here.")
                )
                return redirect("console:plan")
        rows = list(plan_requests.list_requests()[: plan_requests.SHOWN])
    context = {"form": form, "requests": rows, "open": any(row.state == "open" for row in rows)}
    return page(request, "plan.html", context, status=422 if form.is_bound else 200)


@needs(ADMIN, methods=("POST",))
def withdraw(request: Request) -> HttpResponse:
    plan_requests.require_on()
    with request.workspace.open():
        plan_requests.withdraw(actor=actor_of(request))
    messages.success(request, _("The request is withdrawn."))
    return redirect("console:plan")
