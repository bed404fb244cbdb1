"""The map: what a look at it asks for, its points, and drawing or keeping one."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, JsonResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import Request, actor_of, needs, page
from console.forms import StyledForm
from console.learning.presenters import names_of_spaces
from console.paging import parse_id
from console.presenters import asset_name, is_veiled
from tenants.accounts import flags
from tenants.accounts.permissions import READ, SEARCH, WRITE
from tenants.datasets import selectors
from tenants.datasets.models import Asset
from tenants.datasets.selectors import require_datasets
from tenants.errors import Invalid, NotFound, NotReady, ServiceError
from tenants.jobs.models import Job
from tenants.pipeline.care.erasure import erase_asset
from tenants.retrieval import Query, map_points, maps, model_routing, search
from tenants.retrieval.map_points import Wanted
from tenants.retrieval.model_routing import Written
from tenants.scope import tenant_scope

MAX_KEY = 100


@dataclass(frozen=True)
class MapView:
    """`model` and `other` are spaces; `key` is a key of metadata to colour by."""

    dataset: uuid.UUID | None = None
    modality: str = ""
    model: str = ""
    other: str = ""
    map_id: uuid.UUID | None = None
    key: str = ""

    def wanted(self, written: Written) -> Wanted:
        """Raises NotReady for models without vectors."""
        for one in (self.model, self.other):
            if one and one not in written.models:
                raise NotReady(_("There are no vectors of this model any more."))
        datasets = (self.dataset,) if self.dataset else ()
        return Wanted(self.model or written.live, datasets, self.modality, settings.MAP_MAX_POINTS)

    def as_initial(self) -> dict[str, object]:
        return {"dataset": self.dataset, "modality": self.modality, "model": self.model}

    @property
    def address(self) -> str:
        """As the query of an address."""
        given = {
            "dataset": self.dataset,
            "modality": self.modality,
            "model": self.model,
            "other": self.other,
            "map": self.map_id,
        }
        return urlencode({name: str(value) for name, value in given.items() if value})


def read_map_view(query: QueryDict) -> MapView:
    """In the tenant's scope. Raises NotFound, Invalid."""
    dataset, map_id = _id(query, "dataset"), _id(query, "map")
    require_datasets([dataset] if dataset else [])
    modality = query.get("modality", "")
    if modality and modality not in Asset.Modality.values:
        raise Invalid(_("There is no such modality."), pointer="/modality")
    if map_id:
        maps.get_map(map_id)
    model, other = query.get("model", "")[:100], query.get("other", "")[:100]
    return MapView(dataset, modality, model, other, map_id, query.get("key", "")[:MAX_KEY])


def _id(query: QueryDict, name: str) -> uuid.UUID | None:
    text = query.get(name, "")
    found = parse_id(text) if text else None
    if text and found is None:
        raise NotFound(_("There is no such thing to show."))
    return found


class MapForm(StyledForm):
    """A map to be kept. What may be drawn is for the service to say."""

    name = forms.CharField(required=False, max_length=maps.MAX_NAME, label=gettext_lazy("Name"))
    method = forms.ChoiceField(
        choices=[("umap", "UMAP"), ("pca", "PCA")], initial="umap", label=gettext_lazy("Method")
    )
    neighbours = forms.IntegerField(
        min_value=maps.FEWEST_NEIGHBOURS,
        max_value=maps.MOST_NEIGHBOURS,
        initial=maps.Params.neighbours,
        label=gettext_lazy("Neighbours"),
    )
    min_dist = forms.FloatField(
        min_value=0,
        max_value=maps.MOST_DIST,
        initial=maps.Params.min_dist,
        label=gettext_lazy("Least distance"),
    )
    dataset = forms.UUIDField(required=False, widget=forms.HiddenInput)
    modality = forms.CharField(required=False, max_length=5, widget=forms.HiddenInput)
    model = forms.CharField(required=False, max_length=100, widget=forms.HiddenInput)

    def wanted(self) -> dict[str, Any]:
        """For `create_map`."""
        given = self.cleaned_data
        return {
            "name": given["name"],
            "method": given["method"],
            "model": given["model"],
            "dataset_ids": [given["dataset"]] if given["dataset"] else [],
            "modality": given["modality"],
            "params": maps.Params(given["neighbours"], given["min_dist"]),
        }

    def refuse(self, error: Any) -> None:
        self.add_error(None, error.detail)


# Assets that are named, compared or deleted in one request.
MOST_NAMED, MOST_DELETED, FOUND = 200, 100, 200

MOST_MOVED = 50

NAME = 80


@needs(READ)
def show(request: Request) -> HttpResponse:
    """The page; its script asks for the points."""
    return _show(request, None, 200)


def _show(request: Request, form: MapForm | None, status: int) -> HttpResponse:
    with request.workspace.open():
        look = read_map_view(request.GET)
        datasets = list(selectors.list_datasets())
        written = model_routing.written(request.workspace.tenant.id)
        rows = list(maps.list_maps()[: maps.MOST_MAPS])
        unfinished = [row.job_id for row in rows if row.state == "pending"]
        jobs = {job.id: job for job in Job.objects.filter(pk__in=unfinished)}
        found = names_of_spaces([*written.models, *{row.model for row in rows}])
    names = {space: name for space, (_address, name) in found.items()}
    context = {
        "look": look,
        "datasets": datasets,
        "fields": sorted({key for one in datasets for key in one.metadata_schema}),
        "models": [(one, names.get(one, one)) for one in written.models],
        "live": written.live,
        "maps": [(row, names.get(row.model, row.model), jobs.get(row.job_id)) for row in rows],
        "modalities": Asset.Modality.choices,
        "form": form or MapForm(initial=look.as_initial()),
        "is_open": form is not None,
        "umap": flags.enabled(maps.FLAG, request.workspace.tenant.id),
        "most_compared": map_points.MOST_COMPARED,
        "most_deleted": MOST_DELETED,
        "names_of_datasets": {str(one.id): one.name for one in datasets},
    }
    return page(request, "map.html", context, status=status)


@needs(READ)
def data(request: Request) -> HttpResponse:
    """The points of a map, with what is known of each now; two places a point where two models are compared."""
    tenant_id = request.workspace.tenant.id
    with request.workspace.open():
        look = read_map_view(request.GET)
        row = maps.get_map(look.map_id) if look.map_id else None
        wanted = look.wanted(model_routing.written(tenant_id))
    if look.other:
        return JsonResponse(_compared(tenant_id, look, wanted))
    placed = map_points.points_of(tenant_id, row) if row else map_points.placed(tenant_id, wanted)
    with request.workspace.open():
        found = map_points.shown(placed, key=look.key)
    return JsonResponse(map_points.as_columns(placed, found))


def _compared(tenant_id: uuid.UUID, look: MapView, wanted: Any) -> dict[str, Any]:
    made = map_points.compared(tenant_id, wanted, look.other)
    with tenant_scope(tenant_id):
        found = map_points.shown(made.before, key=look.key)
    place = {one: n for n, one in enumerate(map_points.ids_of(made.before.ids))}
    kept = [place[one] for one in found.ids]
    after, moved = made.after[kept].astype(float).round(4), made.moved[kept].astype(float)
    return {
        **map_points.as_columns(made.before, found),
        "other": look.other,
        "x2": after[:, 0].tolist(),
        "y2": after[:, 1].tolist(),
        "moved": moved.round(4).tolist(),
        "most_moved": [found.ids[n] for n in moved.argsort()[::-1][:MOST_MOVED]],
    }


# --- What the script asks for of some assets -----------------------------------------------------------------


@needs(READ, methods=("POST",))
def names(request: Request) -> HttpResponse:
    """Name, kind and picture of some assets, by id; what is gone is absent."""
    wanted = _ids(request, MOST_NAMED)
    with request.workspace.open():
        found = selectors.get_assets(wanted)
    shown = {str(one.id): _asset_label(one) for one in found.values() if one.moderation not in Asset.HIDDEN}
    return JsonResponse({"assets": shown})


def _asset_label(asset: Asset) -> dict[str, Any]:
    seen = asset.blob.has_thumbnail and not is_veiled(asset)
    picture = reverse("console:asset-thumbnail", args=[asset.id]) if seen else ""
    return {
        "name": asset_name(asset, NAME, asset.get_modality_display()),
        "modality": asset.modality,
        "url": reverse("console:asset", args=[asset.id]),
        "picture": picture,
    }


@needs(SEARCH, methods=("POST",))
def similarity(request: Request) -> HttpResponse:
    """How alike some assets are, with their names. Raises Invalid, NotFound."""
    wanted = _ids(request, map_points.MOST_COMPARED)
    found = map_points.matrix_of(request.workspace.tenant.id, wanted)
    with request.workspace.open():
        assets = selectors.get_assets(wanted)
    named = {str(one.id): _asset_label(one) for one in assets.values()}
    return JsonResponse({**found, "names": named})


@needs(SEARCH)
def matches(request: Request) -> HttpResponse:
    """The ids of the assets that a search by words finds first. Raises Invalid."""
    text = request.GET.get("q", "").strip()
    if not text or len(text) > 1_000:
        raise Invalid(_("Type 1 to 1,000 characters."), pointer="/q")
    answer = search(tenant_id=request.workspace.tenant.id, query=Query(text=text, top_k=FOUND))
    return JsonResponse({"ids": [str(asset.id) for asset, _hit in answer.results]})


def _ids(request: Request, most: int) -> list[uuid.UUID]:
    """The ids in the body, a JSON list. Raises Invalid, NotFound."""
    try:
        given = json.loads(request.body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, list) or len(given) > most or not all(isinstance(one, str) for one in given):
        raise Invalid(_("Send at most %(most)d ids.") % {"most": most}, pointer="/")
    found = [parse_id(one) for one in given]
    if None in found:
        raise NotFound(_("There is no such asset."))
    return [one for one in found if one is not None]


# --- Drawing and deleting ------------------------------------------------------------------------------------


@needs(WRITE, methods=("POST",))
def create(request: Request) -> HttpResponse:
    form = MapForm(request.POST)
    if not form.is_valid():
        return _show(request, form, 422)
    try:
        with request.workspace.open():
            row, job = maps.create_map(**form.wanted(), actor=actor_of(request).label)
    except ServiceError as error:
        form.refuse(error)
        return _show(request, form, error.status)
    said = _("The map is being drawn.") if job else _("The map is kept.")
    messages.success(request, said)
    return redirect(f"{reverse('console:map')}?map={row.id}" if job is None else reverse("console:map"))


@needs(WRITE, methods=("POST",))
def delete(request: Request, map_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        maps.delete_map(map_id=map_id, actor=actor_of(request).label)
    messages.success(request, _("The map was deleted."))
    return redirect("console:map")


@needs(WRITE, methods=("POST",))
def delete_assets(request: Request) -> HttpResponse:
    """Delete the assets of a selection, each with its receipt; what is gone already is passed over."""
    deleted = 0
    for asset_id in _ids(request, MOST_DELETED):
        try:
            with request.workspace.open():
                erase_asset(asset_id=asset_id, actor=actor_of(request).label)
            deleted += 1
        except NotFound:
            continue
    return JsonResponse({"deleted": deleted})
