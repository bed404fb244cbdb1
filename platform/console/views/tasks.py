"""Tasks: how words, picture and speech of a query are weighed; the built-in ones, and a tenant's own."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.forms import ConfirmForm
from console.task_forms import SHOWN, TaskForm, rules_of
from tenants.accounts.permissions import READ, TRAIN
from tenants.errors import Conflict, NotFound, NotReady, QuotaExceeded, ServiceError
from tenants.jobs import selectors as jobs
from tenants.jobs.models import Job
from tenants.retrieval import gate_training, tasks
from tenants.retrieval.models import SearchTask

GATE_JOB = "train_gate"


@needs(READ)
def index(request: Request) -> HttpResponse:
    """All of them with the gate; only the gate where htmx asks, while one is trained."""
    with request.workspace.open():
        context: dict[str, Any] = {"gate": gate_training.as_dict(), "job": _training()}
        if request.headers.get("HX-Request"):
            return page(request, "parts/gate.html", context)
        context["own"] = [_line(row) for row in tasks.list_tasks()[: tasks.MAX_TASKS]]
    context["built_in"] = [_line(task) for task in tasks.BUILT_IN.values()]
    return page(request, "tasks.html", context)


def _training() -> Job | None:
    """The newest job that trains or trained a gate. In the tenant's scope."""
    return jobs.list_jobs(kind=GATE_JOB).first()


def _line(task: SearchTask | tasks.Task) -> dict[str, Any]:
    total = sum(task.weights.get(part, 0) for part in SHOWN) or 1
    return {
        "task": task,
        "shares": [(part, task.weights[part] / total) for part in SHOWN if part in task.weights],
        "rules": [(words, list(weights.items())) for words, weights in rules_of(task)],
    }


@needs(TRAIN, methods=("GET", "POST"))
def create(request: Request) -> HttpResponse:
    """A new task, with `?from=` as a copy of another one."""
    if request.method != "POST":
        source = _source(request, request.GET.get("from", ""))
        initial = (
            {"description": source.description, "dynamic": source.dynamic} if source else {"dynamic": True}
        )
        return _form(request, TaskForm(task=source, initial=initial))
    form = TaskForm(request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                row = tasks.create_task(**form.cleaned_data, actor=actor_of(request).label)
            messages.success(request, _("The task %(name)s can be searched by.") % {"name": row.slug})
            return redirect("console:tasks")
        except ServiceError as error:
            form.refuse(error)
    return _form(request, form, status=422)


def _source(request: Request, slug: str) -> SearchTask | tasks.Task | None:
    if slug in tasks.BUILT_IN:
        return tasks.BUILT_IN[slug]
    try:
        with request.workspace.open():
            return tasks.get_task(slug)
    except NotFound:
        return None


def _form(request: Request, form: TaskForm, status: int = 200, slug: str = "", **more: Any) -> HttpResponse:
    context = {"form": form, "slug": slug, "confirm_form": ConfirmForm(slug), **more}
    return page(request, "task.html", context, status=status)


@needs(TRAIN, methods=("GET", "POST"))
def edit(request: Request, slug: str) -> HttpResponse:
    with request.workspace.open():
        row = tasks.get_task(slug)
    if request.method != "POST":
        initial = {"slug": slug, "description": row.description, "dynamic": row.dynamic}
        return _form(request, TaskForm(task=row, initial=initial), slug=slug)
    # The name stays: searches ask by it.
    form = TaskForm({**request.POST.dict(), "slug": slug}, task=row)
    if form.is_valid():
        changes = {name: value for name, value in form.cleaned_data.items() if name != "slug"}
        try:
            with request.workspace.open():
                tasks.update_task(slug=slug, changes=changes, actor=actor_of(request).label)
            messages.success(request, _("Saved. Searches use it from now on."))
            return redirect("console:tasks")
        except ServiceError as error:
            form.refuse(error)
    return _form(request, form, status=422, slug=slug)


@needs(TRAIN, methods=("POST",))
def delete(request: Request, slug: str) -> HttpResponse:
    with request.workspace.open():
        row = tasks.get_task(slug)
    confirm = ConfirmForm(slug, request.POST)
    if not confirm.is_valid():
        initial = {"slug": slug, "description": row.description, "dynamic": row.dynamic}
        form = TaskForm(task=row, initial=initial)
        return _form(request, form, status=422, slug=slug, confirm_form=confirm, open_delete=True)
    with request.workspace.open():
        tasks.delete_task(slug=slug, actor=actor_of(request).label)
    messages.success(request, _("The task was deleted."))
    return redirect("console:tasks")


# --- The gate --------------------------------------------------------------------------------------------


@needs(TRAIN, methods=("POST",))
def train_gate(request: Request) -> HttpResponse:
    try:
        with request.workspace.open():
            gate_training.start_training(actor=actor_of(request).label)
        messages.success(request, _("The gate is being trained."))
    except (NotReady, Conflict, QuotaExceeded) as error:
        messages.error(request, error.detail)
    return redirect("console:tasks")


@needs(TRAIN, methods=("POST",))
def retire_gate(request: Request) -> HttpResponse:
    with request.workspace.open():
        gate_training.retire_gate(actor=actor_of(request).label)
    messages.success(request, _("The built-in gate corrects the weights again."))
    return redirect("console:tasks")
