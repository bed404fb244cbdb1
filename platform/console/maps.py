"""The map: what a look at it asks for, its points, and drawing or keeping one."""

from __future__ import annotations

import json
import re
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np
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
from tenants.accounts.permissions import READ, SEARCH, TRAIN, WRITE
from tenants.datasets import metadata, selectors
from tenants.datasets.models import Asset
from tenants.datasets.selectors import require_datasets
from tenants.errors import Invalid, NotFound, NotReady, ServiceError
from tenants.jobs.models import Job
from tenants.learning import golden
from tenants.pipeline.assets.services import update_asset
from tenants.pipeline.care.erasure import erase_asset
from tenants.retrieval import Query, map_points, map_topics, maps, model_routing, search
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
                raise NotReady(_("There are no longer any vectors of this model."))
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
        raise Invalid(_("This modality does not exist."), pointer="/modality")
    if map_id:
        maps.get_map(map_id)
    model, other = query.get("model", "")[:100], query.get("other", "")[:100]
    return MapView(dataset, modality, model, other, map_id, query.get("key", "")[:MAX_KEY])


def _id(query: QueryDict, name: str) -> uuid.UUID | None:
    text = query.get(name, "")
    found = parse_id(text) if text else None
    if text and found is None:
        raise NotFound(_("There is nothing to show."))
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


# Assets that are named, deleted or tagged in one request; what a search rings, and lights by its score.
MOST_NAMED, MOST_DELETED, MOST_TAGGED, FOUND, LIT = 200, 100, 500, 200, 20
# One request tags as many as fit into this; the others are told.
PATIENCE_S = 20.0

MOST_MOVED = 50

# Characters of a name, and of the first words of a text.
NAME, WORDS = 80, 200


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
        "most_tagged": MOST_TAGGED,
        "most_answers": golden.MAX_ANSWERS,
        "max_query": golden.MAX_TEXT,
        "lit": LIT,
        "names_of_datasets": {str(one.id): one.name for one in datasets},
    }
    return page(request, "map.html", context, status=status)


@needs(READ)
def data(request: Request) -> HttpResponse:
    """The points of a map, with what is known of each now; two places a point where two models are compared. As bytes
    if they are wanted `packed`, else as JSON, in which more than so many are thinned out."""
    tenant_id = request.workspace.tenant.id
    with request.workspace.open():
        look = read_map_view(request.GET)
        row = maps.get_map(look.map_id) if look.map_id else None
        wanted = look.wanted(model_routing.written(tenant_id))
    packed = request.GET.get("packed") == "1"
    if look.other:
        placed, found, more = _compared(tenant_id, look, wanted)
    else:
        placed = map_points.points_of(tenant_id, row) if row else map_points.placed(tenant_id, wanted)
        more = {}
        with request.workspace.open():
            found = map_points.shown(placed, key=look.key, most=None if packed else map_points.MOST_AT_ONCE)
    if packed:
        return HttpResponse(
            map_points.as_packed(placed, found, more), content_type="application/octet-stream"
        )
    plain = {name: one.tolist() if isinstance(one, np.ndarray) else one for name, one in more.items()}
    return JsonResponse({**map_points.as_columns(placed, found), **plain})


@needs(READ)
def topics(request: Request) -> HttpResponse:
    """What the topics of a map are called. `stamp` says of which points."""
    tenant_id = request.workspace.tenant.id
    with request.workspace.open():
        look = read_map_view(request.GET)
        row = maps.get_map(look.map_id) if look.map_id else None
        wanted = look.wanted(model_routing.written(tenant_id))
    points = map_points.points_of(tenant_id, row) if row else map_points.placed(tenant_id, wanted)
    found = map_topics.topics_of(tenant_id, points)
    return JsonResponse({"stamp": points.stamp, "topics": [asdict(one) for one in found]})


def _compared(
    tenant_id: uuid.UUID, look: MapView, wanted: Wanted
) -> tuple[map_points.Points, map_points.Shown, dict[str, Any]]:
    made = map_points.compared(tenant_id, wanted, look.other)
    with tenant_scope(tenant_id):
        found = map_points.shown(made.before, key=look.key)
    after, moved = made.after[found.kept].astype(float).round(4), made.moved[found.kept].astype(float)
    more = {
        "other": look.other,
        "x2": after[:, 0],
        "y2": after[:, 1],
        "moved": moved.round(4),
        "most_moved": map_points.ids_of(found.keys[moved.argsort()[::-1][:MOST_MOVED]]),
    }
    return made.before, found, more


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
        "words": asset.excerpt[:WORDS],
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
    """What a search by words finds first: the ids of all, and of the best what they score. Raises Invalid."""
    text = request.GET.get("q", "").strip()
    if not text or len(text) > 1_000:
        raise Invalid(_("Type 1 to 1,000 characters."), pointer="/q")
    answer = search(tenant_id=request.workspace.tenant.id, query=Query(text=text, top_k=FOUND))
    best = [
        {
            "id": str(asset.id),
            "score": round(hit.score, 4),
            "relevance": None if hit.relevance is None else round(hit.relevance, 3),
            **_asset_label(asset),
        }
        for asset, hit in answer.results[:LIT]
    ]
    return JsonResponse({"ids": [str(asset.id) for asset, _hit in answer.results], "best": best})


def _ids(request: Request, most: int) -> list[uuid.UUID]:
    """The ids in the body, a JSON list. Raises Invalid, NotFound."""
    return _read_ids(_body(request), most)


def _body(request: Request) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        return None


def _read_ids(given: Any, most: int) -> list[uuid.UUID]:
    if not isinstance(given, list) or len(given) > most or not all(isinstance(one, str) for one in given):
        raise Invalid(_("Send at most %(most)d ids.") % {"most": most}, pointer="/")
    found = [parse_id(one) for one in given]
    if None in found:
        raise NotFound(_("This asset does not exist."))
    return list(dict.fromkeys(one for one in found if one is not None))


def _read_text(given: dict[str, Any], name: str, most: int) -> str:
    text = given.get(name, "")
    if not isinstance(text, str) or len(text) > most:
        raise Invalid(_("Type at most %(most)d characters.") % {"most": most}, pointer=f"/{name}")
    return text.strip()


# --- What is done with a selection ---------------------------------------------------------------------------

# Tags that are typed in one field, between commas or semicolons.
_BETWEEN_TAGS = re.compile(r"[,;|\n\r，；、]")
MOST_TYPED = 4_000


@needs(WRITE, methods=("POST",))
def tag_assets(request: Request) -> HttpResponse:
    """Add tags to the assets of a selection, or take them away: `{"ids", "add", "remove"}`. Answers which got or lost
    which tag, by which it is undone, and how many were left as they are, with the reason."""
    given = _body(request)
    given = given if isinstance(given, dict) else {}
    wanted = _read_ids(given.get("ids"), MOST_TAGGED)
    add, remove = (_typed_tags(given, name) for name in ("add", "remove"))
    if not add and not remove:
        raise Invalid(_("Enter a tag to add or remove."), pointer="/add")
    actor, until = actor_of(request).label, time.monotonic() + PATIENCE_S
    changed: dict[str, list[str]] = {}
    refused, left, why = 0, 0, ""
    for number, asset_id in enumerate(wanted):
        if time.monotonic() > until:
            left = len(wanted) - number
            break
        try:
            with request.workspace.open():
                before = set(metadata.tags_of(selectors.get_asset(asset_id).metadata))
                update_asset(asset_id=asset_id, add_tags=add, remove_tags=remove, actor=actor)
                after = set(metadata.tags_of(selectors.get_asset(asset_id).metadata))
        except ServiceError as error:
            refused, why = refused + 1, why or str(error.detail)
            continue
        for one in before ^ after:
            changed.setdefault(one, []).append(str(asset_id))
    count = len({one for ids in changed.values() for one in ids})
    return JsonResponse({"changed": count, "tags": changed, "refused": refused, "left": left, "why": why})


def _typed_tags(given: dict[str, Any], name: str) -> list[str]:
    """Raises Invalid."""
    typed = _read_text(given, name, MOST_TYPED)
    return metadata.check_tags(_BETWEEN_TAGS.split(typed), f"/{name}")


@needs(TRAIN, methods=("POST",))
def make_golden(request: Request) -> HttpResponse:
    """A golden query whose right answers are the selection: `{"ids", "text"}`."""
    given = _body(request)
    given = given if isinstance(given, dict) else {}
    wanted = _read_ids(given.get("ids"), golden.MAX_ANSWERS)
    text = _read_text(given, "text", golden.MAX_TEXT)
    with request.workspace.open():
        golden.add_golden_query(text=text, relevant=wanted, actor=actor_of(request).label)
    return JsonResponse({"url": reverse("console:models-golden")}, status=201)


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
    said = _("The map is being drawn.") if job else _("The map was saved.")
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
