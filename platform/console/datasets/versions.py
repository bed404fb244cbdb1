"""Versions of a dataset: their list, one with its assets, two compared, and how one is made."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console import labels
from console.access import Request, actor_of, needs, page
from console.datasets import presenters
from console.datasets.views import offered_tags
from console.forms import ConfirmForm, StyledForm, style
from console.paging import page_of, parse_id
from console.presenters import actor_names, asset_card
from tenants.accounts.permissions import READ, WRITE
from tenants.datasets import selectors
from tenants.datasets.models import Asset, DatasetVersion
from tenants.datasets.values import FACET_TEXT
from tenants.errors import Conflict, Invalid, NotFound, ServiceError
from tenants.jobs.models import Job
from tenants.learning import dataset_versions as versions

PAGE, TILES = 50, 24


class VersionForm(StyledForm):
    """A name, and what is listed: all that meets the conditions, or the ticked assets that are sent with it."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=versions.MAX_NAME,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=versions.MAX_NOTE,
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    status = forms.ChoiceField(
        label=gettext_lazy("Status"),
        required=False,
        choices=[
            ("", gettext_lazy("Any status")),
            (Asset.State.READY, gettext_lazy("Ready")),
            (Asset.State.PENDING, gettext_lazy("Processing")),
            (Asset.State.FAILED, gettext_lazy("Failed")),
        ],
    )
    modality = forms.ChoiceField(
        label=gettext_lazy("Kind"),
        required=False,
        choices=[("", gettext_lazy("Any kind")), *labels.MODALITIES.items()],
    )
    tag = forms.CharField(
        label=gettext_lazy("Tag"), required=False, max_length=FACET_TEXT, widget=forms.Select
    )

    def __init__(self, tags: list[tuple[str, int]], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", _("Any tag")), *((tag, tag) for tag, _count in tags)]
        self.fields["tag"].widget = forms.Select(choices=choices)
        style(self.fields["tag"].widget, invalid="tag" in self.errors if self.is_bound else False)

    def refuse(self, error: ServiceError) -> None:
        """A name that is taken comes without a pointer."""
        if isinstance(error, Conflict):
            self.add_error("name", error.detail)
        else:
            super().refuse(error)


@needs(READ, narrowable=("GET",))
def index(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    """The list; the form is filled by `?status=&modality=&tag=`, as the list of assets was narrowed."""
    return _index(request, dataset_id, None, 200)


def _index(request: Request, dataset_id: uuid.UUID, form: VersionForm | None, status: int) -> HttpResponse:
    with request.workspace.open():
        dataset = selectors.get_dataset(dataset_id)
        if form is None:
            form = VersionForm(offered_tags(dataset_id, _asked_tag(request)), initial=request.GET.dict())
        found = page_of(versions.list_versions(dataset_id), request.GET.get("before", ""), PAGE)
        context = {
            "dataset": dataset,
            "found": found.items,
            "next": found.next,
            "who": actor_names({row.created_by for row in found.items}),
            "form": form,
            "ticked": len(presenters.read_ids(request.POST)),
            "assets": presenters.read_ids(request.POST),
            "is_open": form.is_bound or any(request.GET.get(name) for name in ("status", "tag", "new")),
            "enough": len(found.items) > 1,
        }
    return page(request, "dataset_versions.html", context, status=status)


def _asked_tag(request: Request) -> str:
    return request.GET.get("tag", "").replace("\0", "")[:FACET_TEXT]


@needs(WRITE, methods=("POST",))
def create(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    """Of the ticked assets where some are sent, else of all that meets the conditions."""
    with request.workspace.open():
        selectors.require_dataset(dataset_id)
        form = VersionForm(offered_tags(dataset_id, request.POST.get("tag", "")), request.POST)
    if not form.is_valid():
        return _index(request, dataset_id, form, 422)
    given = form.cleaned_data
    try:
        ticked = presenters.read_ids(request.POST)
        if "ticked" in request.POST and not ticked:
            raise Invalid(_("Select assets first."))
        named = {name: given[name] for name in ("status", "modality", "tag")}
        chosen = versions.Chosen(assets=ticked) if ticked else versions.Chosen(**named)
        with request.workspace.open():
            row, job = versions.make_version(
                dataset_id=dataset_id,
                name=given["name"],
                note=given["note"],
                chosen=chosen,
                actor=actor_of(request).label,
            )
    except (Invalid, Conflict, NotFound) as error:
        form.refuse(error)
        return _index(request, dataset_id, form, error.status)
    messages.success(request, _("The version is being made.") if job else _("The version was made."))
    return redirect("console:dataset-version", dataset_id=dataset_id, version_id=row.id)


@needs(READ, narrowable=("GET",))
def show(request: Request, dataset_id: uuid.UUID, version_id: uuid.UUID) -> HttpResponse:
    return _show(request, dataset_id, version_id, None, 200)


def _show(
    request: Request, dataset_id: uuid.UUID, version_id: uuid.UUID, form: ConfirmForm | None, status: int
) -> HttpResponse:
    with request.workspace.open():
        dataset = selectors.get_dataset(dataset_id)
        row = versions.get_version(dataset_id, version_id)
        if "changed" in request.GET:
            changed = versions.count_changed(row.id)
            return page(request, "parts/version_changed.html", {"changed": changed, "version": row})
        before = request.GET.get("before", "")
        # Models are the whole workspace's.
        models = [] if request.workspace.narrowing else list(versions.models_of(row.id)[: versions.MOST_USES])
        others = (
            versions.list_versions(dataset_id).filter(state=DatasetVersion.State.READY).exclude(pk=row.pk)
        )
        context = {
            "dataset": dataset,
            "version": row,
            "made_from": _made_from(row),
            "kinds": sorted(row.kinds.items(), key=lambda one: -one[1]),
            "left": row.asset_count - row.gone,
            "who": actor_names([row.created_by]).get(row.created_by, ""),
            "models": models,
            "others": list(others[: versions.MOST_VERSIONS]),
            "job": _job_of(row) if row.state != DatasetVersion.State.READY else None,
            "confirm_form": form or ConfirmForm(row.name),
            **_tiles(versions.page_of(versions.lines_of(row.id), parse_id(before), TILES + 1)),
        }
    part = request.headers.get("HX-Request")
    return page(request, "parts/dataset_version.html" if part else "dataset_version.html", context, status)


def _made_from(row: DatasetVersion) -> str:
    """In words, what was listed."""
    said = row.made_from
    if "assets" in said:
        return _("Assets that were chosen one by one")
    parts = []
    if "status" in said:
        parts.append(_("status “%(name)s”") % {"name": labels.label_of(labels.STATES, said["status"])})
    if "modality" in said:
        parts.append(_("kind “%(name)s”") % {"name": labels.label_of(labels.MODALITIES, said["modality"])})
    if "tag" in said:
        parts.append(_("tag “%(name)s”") % {"name": said["tag"]})
    if "filter" in said:
        parts.append(_("a filter"))
    return (
        _("All with %(conditions)s") % {"conditions": ", ".join(parts)} if parts else _("The whole dataset")
    )


def _job_of(row: DatasetVersion) -> Job | None:
    return Job.objects.filter(pk=row.job_id).first() if row.job_id else None


def _tiles(assets: list[Asset]) -> dict[str, Any]:
    """The cards of a page, of which one more than fits is read, and the place of the next page."""
    shown = assets[:TILES]
    return {
        "cards": [asset_card(one) for one in shown],
        "next": str(shown[-1].pk) if len(assets) > TILES else "",
    }


@needs(READ, narrowable=("GET",))
def compare(request: Request, dataset_id: uuid.UUID, version_id: uuid.UUID) -> HttpResponse:
    """`?with=` is the earlier version, `?change=` what is listed below the figures."""
    wanted = request.GET.get("change", "")
    before = parse_id(request.GET.get("before", ""))
    with request.workspace.open():
        dataset = selectors.get_dataset(dataset_id)
        row = versions.get_version(dataset_id, version_id)
        other = versions.get_version(dataset_id, parse_id(request.GET.get("with", "")))
        found = versions.compare(other, row)
        figures = [
            (versions.ADDED, _("Added"), found.added),
            (versions.REMOVED, _("Removed"), found.removed),
            (versions.CHANGED, _("Other captions"), found.changed),
        ]
        # What is asked for, else what there is something of.
        first = next((name for name, _words, count in figures if count), versions.ADDED)
        shown = wanted if wanted in versions.CHANGES else first
        count = {name: count for name, _words, count in figures}[shown]
        lines = versions.changes_of(other, row, shown)
        assets = versions.page_of(lines, before, TILES + 1) if count else []
        context = {
            "dataset": dataset,
            "version": row,
            "other": other,
            "alike": row.digest == other.digest,
            "figures": figures,
            "same": found.same,
            "change": shown,
            "address": f"?{urlencode({'with': other.id, 'change': shown})}",
            **_tiles(assets),
        }
    return page(request, "dataset_comparison.html", context)


@needs(WRITE, methods=("POST",))
def delete(request: Request, dataset_id: uuid.UUID, version_id: uuid.UUID) -> HttpResponse:
    """The name is typed: models that learnt from it cannot learn the same again."""
    with request.workspace.open():
        row = versions.get_version(dataset_id, version_id)
    form = ConfirmForm(row.name, request.POST)
    if not form.is_valid():
        return _show(request, dataset_id, version_id, form, 422)
    try:
        with request.workspace.open():
            versions.delete_version(
                dataset_id=dataset_id, version_id=version_id, confirmed=True, actor=actor_of(request).label
            )
    except Conflict as error:
        messages.error(request, error.detail)
        return redirect("console:dataset-version", dataset_id=dataset_id, version_id=version_id)
    messages.success(request, _("The version was deleted."))
    return redirect(reverse("console:dataset-versions", args=[dataset_id]))
