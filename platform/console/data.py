"""Exports of a workspace, and erasing the data of one subject."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from console.access import Request, actor_of, needs, page
from console.forms import StyledForm, style
from console.paging import page_of, parse_id
from tenants.accounts.permissions import ADMIN
from tenants.datasets import content_responses, selectors
from tenants.errors import Conflict, Invalid, NotReady
from tenants.pipeline.care import data_inventory, subject_erasure
from tenants.pipeline.care import erasure_receipts as receipts
from tenants.pipeline.transfer import exports


class SubjectForm(StyledForm):
    """Whose data is to be erased. What it means is for `tenants.pipeline.care.subject_erasure`."""

    key = forms.CharField(required=False, max_length=100, label=_("Metadata key, such as customer_id"))
    value = forms.CharField(required=False, max_length=1000, label=_("Its value"))
    external_ids = forms.CharField(
        required=False, label=_("External ids"), widget=forms.Textarea(attrs={"rows": 3, "class": "mono"})
    )
    # Whether there is one of that id is for the service to say.
    dataset = forms.UUIDField(required=False, label=_("Only in"), widget=forms.Select)

    def __init__(self, datasets: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", _("All datasets")), *((str(d.id), d.name) for d in datasets)]
        self.fields["dataset"].widget = forms.Select(choices=choices)
        style(self.fields["dataset"].widget, invalid="dataset" in self.errors)

    @property
    def criteria(self) -> dict[str, Any]:
        given = self.cleaned_data
        return {
            "values": {given["key"]: given["value"]} if given["key"] else {},
            "external_ids": [line.strip() for line in given["external_ids"].splitlines() if line.strip()],
            "dataset_id": given["dataset"],
        }

    def refuse(self, error: Any) -> None:
        """The service speaks of a filter, which is two fields here."""
        for entry in error.errors:
            ids = entry["pointer"].startswith("/external_ids")
            self.add_error("external_ids" if ids else "value", entry["detail"])


PAGE = 25


@needs(ADMIN)
def index(request: Request) -> HttpResponse:
    with request.workspace.open():
        form = SubjectForm(selectors.list_datasets())
    return _index(request, form, 200)


def _index(request: Request, form: SubjectForm, status: int) -> HttpResponse:
    with request.workspace.open():
        found = page_of(receipts.list_erasures(), request.GET.get("before", ""), PAGE)
        listed = list(exports.list_exports()[:PAGE])
    context = {"erasures": found.items, "next": found.next, "exports": listed, "form": form}
    context["keep_days"] = settings.EXPORT_KEEP_DAYS
    return page(request, "data.html", context, status=status)


@needs(ADMIN)
def processing(request: Request) -> HttpResponse:
    """What is kept where, and who outside gets something."""
    report = data_inventory.report(request.workspace.tenant.id)
    return page(request, "data_processing.html", {"report": report})


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def export(request: Request) -> HttpResponse:
    try:
        with request.workspace.open():
            _, job = exports.request_export(
                with_vectors="vectors" in request.POST,
                recipient=request.POST.get("recipient", ""),
                dataset_id=parse_id(request.POST.get("dataset", "")),
                version_id=parse_id(request.POST.get("version", "")),
                actor=actor_of(request).label,
            )
    except (Conflict, Invalid, NotReady) as error:
        messages.error(request, error.detail)
        return redirect("console:data")
    return redirect("console:job", job_id=job.id)


@needs(ADMIN, fresh=("GET",))
def export_content(request: Request, export_id: uuid.UUID) -> HttpResponseBase:
    with request.workspace.open():
        found = exports.get_export(export_id)
    return content_responses.serve(request, exports.content_of(found))


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def erase(request: Request) -> HttpResponse:
    """First how much it would be, to be confirmed by its number; then the job."""
    with request.workspace.open():
        form = SubjectForm(selectors.list_datasets(), request.POST)
        if not form.is_valid():
            return _index(request, form, 422)
        try:
            criteria = subject_erasure.check_criteria(**form.criteria)
        except Invalid as error:
            form.refuse(error)
            return _index(request, form, 422)
        preview = subject_erasure.preview_subject(criteria)
        typed = request.POST.get("count")
        if typed is None or typed.strip() != str(preview.matched):
            context: dict[str, Any] = {"form": form, "preview": preview, "mistyped": typed is not None}
            return page(request, "data_erasure.html", context, status=422 if typed is not None else 200)
        receipt, _ = subject_erasure.request_erasure(criteria=criteria, actor=actor_of(request).label)
    messages.success(request, gettext("The erasure has started."))
    return redirect("console:erasure", erasure_id=receipt.id)


@needs(ADMIN)
def erasure(request: Request, erasure_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        receipt = receipts.get_erasure(erasure_id)
    return page(request, "erasure.html", {"receipt": receipt, "shown": receipts.erasure_shape(receipt)})
