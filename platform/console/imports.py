"""Imports: the receipt, what each column becomes, and how far one is."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, JsonResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console import problems
from console.access import Request, actor_of, needs, page
from console.paging import page_of
from tenants.accounts.permissions import READ, WRITE
from tenants.datasets import selectors
from tenants.datasets.importers import Column, Preview
from tenants.datasets.models import Import, ImportRow
from tenants.datasets.resumable import file_of
from tenants.errors import Invalid, ServiceError
from tenants.jobs.models import Job
from tenants.pipeline.transfer import import_receipts, imports

ROLES = (
    ("metadata", gettext_lazy("Metadata")),
    ("text", gettext_lazy("Text or caption")),
    ("captions", gettext_lazy("More captions")),
    ("file", gettext_lazy("File")),
    ("id", gettext_lazy("External id")),
    ("ignore", gettext_lazy("Leave out")),
)

# A tab has no look in a form, so it has a name there.
DELIMITERS = (
    (",", gettext_lazy("comma")),
    (";", gettext_lazy("semicolon")),
    ("tab", gettext_lazy("tab")),
    ("|", gettext_lazy("bar")),
)

SINGLE = {
    "text": gettext_lazy("the text"),
    "captions": gettext_lazy("the further captions"),
    "file": gettext_lazy("the file"),
    "id": gettext_lazy("the external id"),
}


@dataclass(frozen=True)
class ColumnRow:
    """One column in the editor: its role, and under which key it becomes metadata."""

    column: Column
    role: str
    key: str


def column_rows(preview: Preview) -> list[ColumnRow]:
    roles = {column: role for role in SINGLE if (column := getattr(preview.mapping, role)) is not None}
    return [
        _column_row(column, roles.get(column.name), preview.mapping.metadata) for column in preview.columns
    ]


def _column_row(column: Column, role: str | None, metadata: Any) -> ColumnRow:
    if role is not None:
        return ColumnRow(column, role, column.name)
    if metadata == "*":
        return ColumnRow(column, "metadata", column.name)
    return ColumnRow(
        column, "metadata" if column.name in metadata else "ignore", metadata.get(column.name, column.name)
    )


def read_mapping(form: QueryDict) -> dict[str, object] | None:
    """The mapping that a person chose; None for a source without columns. Raises Invalid."""
    columns, roles, keys = (form.getlist(name) for name in ("column", "role", "key"))
    if not columns:
        return None
    mapping: dict[str, Any] = {"metadata": {}}
    for column, role, key in zip(columns, roles, keys, strict=False):
        if role in SINGLE:
            _assign_role(mapping, role, column)
        elif role == "metadata":
            mapping["metadata"][column] = key.strip() or column
    if _keeps_all_columns(mapping, columns):
        # Also what only later rows have.
        mapping["metadata"] = "*"
    return mapping


def _assign_role(mapping: dict[str, Any], role: str, column: str) -> None:
    if role in mapping:
        words = _("Only one column can be %(role)s: %(one)s or %(other)s.")
        raise Invalid(
            words % {"role": SINGLE[role], "one": mapping[role], "other": column}, pointer="/mapping"
        )
    mapping[role] = column


def _keeps_all_columns(mapping: dict[str, Any], columns: list[str]) -> bool:
    rest = [column for column in columns if column not in [mapping.get(role) for role in SINGLE]]
    return mapping["metadata"] == {column: column for column in rest}


def read_options(form: QueryDict) -> dict[str, object]:
    """How a person says that the file is to be read; empty where the form does not ask."""
    asked = {name: form[name] for name in ("encoding", "delimiter") if form.get(name)}
    return {name: "\t" if value == "tab" else value for name, value in asked.items()}


PAGE = 25

ROWS = 50

OUTCOMES = ImportRow.Outcome.values


@needs(READ)
def index(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        dataset = selectors.get_dataset(dataset_id)
        found = page_of(imports.list_imports(dataset_id=dataset_id), request.GET.get("before", ""), PAGE)
        known = imports.jobs_of(found.items)
    lines = [(row, known.get(row.job_id)) for row in found.items]
    return page(request, "imports.html", {"dataset": dataset, "imports": lines, "next": found.next})


@needs(WRITE, methods=("POST",))
def create(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    """Keep a file as a draft. Scripts are told its page; a form without script is sent there."""
    with request.workspace.open():
        selectors.require_dataset(dataset_id)
    try:
        row = _draft(request, dataset_id)
    except ServiceError as error:
        if problems.wants_json(request):
            raise
        messages.error(request, error.detail)
        return redirect("console:dataset-imports", dataset_id=dataset_id)
    if problems.wants_json(request):
        return JsonResponse({"page": reverse("console:import", args=[row.id])}, status=201)
    return redirect("console:import", import_id=row.id)


def _draft(request: Request, dataset_id: uuid.UUID) -> Import:
    sent: Any = request.FILES.get("file")
    upload_id, at_most = request.POST.get("upload"), settings.MAX_IMPORT_BYTES
    with file_of(request.workspace.tenant.id, sent, upload_id, at_most=at_most) as file:
        if not file:
            raise Invalid(_("Choose a file first."), pointer="/file")
        source = imports.inspect_source(path=Path(file.temporary_file_path()), filename=file.name)
        with request.workspace.open():
            return imports.create_import(dataset_id=dataset_id, source=source, actor=actor_of(request).label)


@needs(READ)
def show(request: Request, import_id: uuid.UUID) -> HttpResponse:
    """A draft with its preview; of a started one the progress and receipt, as a part where htmx asks."""
    row = _import(request, import_id)
    if row.job_id is None:
        return _show_draft(request, row, None, 200)
    context = _progress(request, row)
    if request.headers.get("HX-Request"):
        return page(request, "parts/import_panel.html", context)
    return page(request, "import.html", {**context, "dataset": _dataset(request, row)})


def _show_draft(request: Request, row: Import, seen: Preview | None, status: int) -> HttpResponse:
    if seen is None and WRITE in request.workspace.scopes:
        try:
            seen = imports.preview_import(row)
        except ServiceError as error:
            # The draft can still be thrown away.
            messages.error(request, error.detail)
    context = {
        "import": row,
        "dataset": _dataset(request, row),
        "preview": seen,
        "lines": column_rows(seen) if seen else [],
        "roles": ROLES,
        "delimiters": DELIMITERS,
    }
    return page(request, "import_draft.html", context, status=status)


def _progress(request: Request, row: Import) -> dict[str, object]:
    outcome = request.GET.get("outcome", "")
    outcome = outcome if outcome in OUTCOMES else ""
    after = request.GET.get("after", "")
    after = after if after.isascii() and after.isdecimal() and len(after) < 18 else "0"
    with request.workspace.open():
        job = Job.objects.filter(pk=row.job_id).first()
        lines = imports.list_rows(import_id=row.id, outcome=outcome).filter(row__gt=int(after))
        found = list(lines[: ROWS + 1])
    for line in found:
        line.external_id, line.told = imports.describe_failed_row(line, row)  # type: ignore[attr-defined]  # for the template
    counts = [(name, getattr(row, name)) for name in OUTCOMES]
    return {
        "import": row,
        "job": job,
        "rows": found[:ROWS],
        "next": found[ROWS - 1].row if len(found) > ROWS else None,
        "outcome": outcome,
        "after": after,
        "counts": counts,
        "done": sum(count for _, count in counts),
    }


@needs(WRITE, methods=("POST",))
def preview(request: Request, import_id: uuid.UUID) -> HttpResponse:
    """Look again with the choices of the form; nothing is stored."""
    row = _import(request, import_id)
    try:
        seen = _confirmed_preview(request, row)
    except Invalid as error:
        return _refused(request, row, error)
    return _show_draft(request, row, seen, 200)


@needs(WRITE, methods=("POST",))
def start(request: Request, import_id: uuid.UUID) -> HttpResponse:
    row = _import(request, import_id)
    try:
        seen = _confirmed_preview(request, row) if row.job_id is None else None
        with request.workspace.open():
            imports.start_import(import_id=import_id, preview=seen, actor=actor_of(request).label)
    except Invalid as error:
        return _refused(request, row, error)
    return redirect("console:import", import_id=import_id)


def _confirmed_preview(request: Request, row: Import) -> Preview:
    options = read_options(request.POST)
    if any(row.options.get(name) != value for name, value in options.items()):
        # Read otherwise the columns are others too: guessed anew.
        return imports.preview_import(row, mapping={}, options=options)
    return imports.preview_import(row, mapping=read_mapping(request.POST))


def _refused(request: Request, row: Import, error: Invalid) -> HttpResponse:
    messages.error(request, error.detail)
    return _show_draft(request, row, None, 422)


@needs(WRITE, methods=("POST",))
def delete(request: Request, import_id: uuid.UUID) -> HttpResponse:
    dataset_id = _import(request, import_id).dataset_id
    with request.workspace.open():
        imports.delete_import(import_id=import_id, actor=actor_of(request).label)
    messages.success(request, _("The import was removed. Assets that it made stay."))
    return redirect("console:dataset-imports", dataset_id=dataset_id)


@needs(READ)
def receipt(request: Request, import_id: uuid.UUID) -> HttpResponseBase:
    row = _import(request, import_id)
    outcome = request.GET.get("outcome", "")
    outcome = outcome if outcome in OUTCOMES else ""
    return import_receipts.serve(tenant_id=row.tenant_id, import_id=row.id, outcome=outcome)


def _import(request: Request, import_id: uuid.UUID) -> Import:
    with request.workspace.open():
        return imports.get_import(import_id)


def _dataset(request: Request, row: Import) -> object:
    with request.workspace.open():
        return selectors.get_dataset(row.dataset_id)
