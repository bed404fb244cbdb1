"""Data, Legal holds: what may not be erased, and its release by an owner."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import Request, actor_of, needs, page
from console.forms import StyledForm, style
from console.paging import page_of
from tenants.accounts.permissions import ADMIN
from tenants.datasets import holds, selectors
from tenants.datasets.models import Dataset
from tenants.errors import Conflict, Invalid, NotAllowed

PAGE = 50
OWNER = "owner"


class HoldForm(StyledForm):
    """What is to be kept, and why. Whether there is such a dataset is for the service to say."""

    dataset = forms.UUIDField(required=False, label=gettext_lazy("Scope of the hold"), widget=forms.Select)
    reason = forms.CharField(
        max_length=holds.MAX_REASON, label=gettext_lazy("Reason"), widget=forms.Textarea(attrs={"rows": 3})
    )
    reference = forms.CharField(
        required=False, max_length=holds.MAX_REFERENCE, label=gettext_lazy("Reference, such as a case number")
    )

    def __init__(self, datasets: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", _("The whole workspace")), *((str(one.id), one.name) for one in datasets)]
        self.fields["dataset"].widget = forms.Select(choices=choices)
        style(self.fields["dataset"].widget, invalid="dataset" in self.errors)


@needs(ADMIN, methods=("GET", "POST"), fresh=("POST",))
def index(request: Request) -> HttpResponse:
    with request.workspace.open():
        form = HoldForm(selectors.list_datasets(), request.POST if request.method == "POST" else None)
        if request.method != "POST":
            return _index(request, form, 200)
        if form.is_valid():
            given = form.cleaned_data
            try:
                holds.set_hold(
                    reason=given["reason"],
                    reference=given["reference"],
                    dataset_id=given["dataset"],
                    actor=actor_of(request).label,
                )
            except (Conflict, Invalid) as error:
                form.refuse(error)
            else:
                messages.success(request, _("The hold is in effect."))
                return redirect("console:holds")
        return _index(request, form, 422)


def _index(request: Request, form: HoldForm, status: int) -> HttpResponse:
    found = page_of(holds.list_holds(), request.GET.get("before", ""), PAGE)
    names = dict(Dataset.objects.values_list("id", "name"))
    rows = [(hold, names.get(hold.dataset_id) if hold.dataset_id else None) for hold in found.items]
    context = {"rows": rows, "next": found.next, "form": form, "is_owner": request.workspace.role == OWNER}
    return page(request, "holds.html", {**context, "open_dialog": status != 200}, status=status)


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def release(request: Request, hold_id: uuid.UUID) -> HttpResponse:
    actor = actor_of(request)
    try:
        with request.workspace.open():
            holds.release_hold(hold_id=hold_id, actor=actor.label, owner=actor.role == OWNER)
    except (Conflict, NotAllowed) as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, _("The hold was released. What it held can be erased again."))
    return redirect("console:holds")
