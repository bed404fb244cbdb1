"""The fields of a dataset's metadata: what is guessed, what is declared, what stands in them."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.access import Request, needs, page
from console.declaring import FEW, FieldForm, Shown
from tenants.accounts.permissions import READ, WRITE
from tenants.datasets import fields, selectors
from tenants.datasets.models import Dataset
from tenants.errors import Invalid
from tenants.jobs.models import Job


@needs(READ)
def show(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    """`?field=<key>` opens the form of one, `?field=` an empty one."""
    return _show(request, dataset_id, None, 200)


def _show(request: Request, dataset_id: uuid.UUID, form: FieldForm | None, status: int) -> HttpResponse:
    with request.workspace.open():
        dataset = selectors.get_dataset(dataset_id)
        listed = _fields_of(dataset)
    key = form.data.get("key") if form else request.GET.get("field")
    chosen = next((shown for shown in listed if shown.key == key), None)
    if form is None and key is not None and "write" in request.workspace.scopes:
        form = FieldForm.of(chosen) if chosen else FieldForm(initial={"key": key})
    context = {"dataset": dataset, "listed": listed, "form": form, "chosen": chosen, "sample": fields.SAMPLE}
    return page(request, "schema.html", context, status=status)


def _fields_of(dataset: Dataset) -> list[Shown]:
    schema = dataset.metadata_schema
    counts = fields.facet_counts(dataset.id, list(schema), limit=FEW + 1)
    misfits = fields.count_misfits(dataset.id, schema)
    return [
        Shown(key, entry, counts.get(key, []), misfits.get(key, 0)) for key, entry in sorted(schema.items())
    ]


@needs(WRITE, methods=("POST",))
def save(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        selectors.require_dataset(dataset_id)
    form = FieldForm(request.POST)
    if "forget" in request.POST:
        return _forget(request, dataset_id, request.POST.get("key", ""))
    if form.is_valid():
        key = form.cleaned_data["key"]
        try:
            with request.workspace.open():
                job = fields.declare_field(dataset_id=dataset_id, key=key, entry=form.entry)
                misfits = fields.count_misfits(dataset_id, {key: form.entry}).get(key, 0)
        except Invalid as error:
            form.refuse(error)
            return _show(request, dataset_id, form, 422)
        words = _("“%(key)s” is declared.") % {"key": key}
        messages.success(request, f"{words} {_consequences(job, misfits)}".strip())
        return redirect("console:dataset-fields", dataset_id=dataset_id)
    return _show(request, dataset_id, form, 422)


def _consequences(job: Job | None, misfits: int) -> str:
    said = []
    if misfits:
        words = ngettext(
            "%(n)s asset does not fit; they stay as they are.",
            "%(n)s assets do not fit; they stay as they are.",
            misfits,
        )
        said.append(words % {"n": f"{misfits:,}"})
    if job:
        said.append(_("Filters and search follow in a moment."))
    return " ".join(said)


def _forget(request: Request, dataset_id: uuid.UUID, key: str) -> HttpResponse:
    with request.workspace.open():
        job = fields.forget_field(dataset_id=dataset_id, key=key)
    words = _("“%(key)s” is guessed from the values again.") % {"key": key}
    messages.success(request, f"{words} {_consequences(job, 0)}".strip())
    return redirect("console:dataset-fields", dataset_id=dataset_id)
