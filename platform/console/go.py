"""Going anywhere by name: pages, datasets, saved searches, models, policies, assets, and one asset or job by its id. As
a page, and from every page by a key (Ctrl+K), where the script shows its part in a dialog."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.urls import resolve, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import Request, Workspace, needs, page
from console.context_processors import navigation_of, opens
from console.paging import parse_id
from console.presenters import asset_name
from console.search import kept
from tenants.accounts.permissions import MODERATE, READ, SEARCH
from tenants.datasets import selectors
from tenants.datasets.models import Asset, Dataset
from tenants.jobs.models import Job
from tenants.learning.models import LearntModel
from tenants.moderation.models import Policy
from tenants.retrieval import query as retrieval_query
from tenants.retrieval.saved import Who

# Of each kind of thing, and characters that are looked for.
MOST, MAX_WORDS = 6, 100

ICONS = {"text": "card-text", "image": "image", "audio": "soundwave", "video": "film"}

#: Pages that the navigation leads to by way of others.
FURTHER = (
    ("console:models-finetune", gettext_lazy("Fine-tune a model"), "cpu"),
    ("console:models-golden", gettext_lazy("Golden queries"), "bullseye"),
    ("console:classifiers", gettext_lazy("Classifiers"), "bullseye"),
    ("console:tasks", gettext_lazy("Tasks"), "sliders"),
    ("console:hashes", gettext_lazy("Hash lists"), "fingerprint"),
    ("console:outcomes", gettext_lazy("Decisions"), "inbox"),
    ("console:reviews-figures", gettext_lazy("Review figures"), "graph-up"),
    ("console:jobs-archives", gettext_lazy("Archived jobs"), "list-task"),
    ("console:origins", gettext_lazy("CORS origins"), "globe2"),
    ("console:roles", gettext_lazy("Roles"), "people"),
    ("console:sso", gettext_lazy("Single sign-on"), "shield-lock"),
    ("console:provisioning", gettext_lazy("Provisioning"), "shield-lock"),
    ("console:security-networks", gettext_lazy("Networks"), "shield-lock"),
    ("console:data-processing", gettext_lazy("Data processing"), "shield-check"),
    ("console:holds", gettext_lazy("Legal holds"), "shield-check"),
    ("console:account", gettext_lazy("Your account"), "person-circle"),
)


@dataclass(frozen=True)
class Place:
    """Somewhere to go. `kind`: what it is, where that is no page."""

    label: str
    address: str
    icon: str
    kind: str = ""


@needs(READ, narrowable=("GET",))
def show(request: Request) -> HttpResponse:
    """Places by `?q=`; all pages without it. A part for the script."""
    # Without NUL, which the database takes in no text.
    typed = " ".join(request.GET.get("q", "").replace("\0", "").split())[:MAX_WORDS]
    with request.workspace.open():
        places = [*_pages(request.workspace, typed), *_things(request.workspace, kept.who_of(request), typed)]
    shown = {"typed": typed, "places": [*places, *_searches(request.workspace, typed)]}
    part = bool(request.headers.get("HX-Request"))
    return page(request, "parts/places.html" if part else "go.html", shown)


def _pages(workspace: Workspace, typed: str) -> Iterator[Place]:
    listed = [
        (name, label, icon)
        for _heading, entries in navigation_of(workspace)
        for name, label, icon, _s in entries
    ]
    for name, label, icon in [*listed, *(one for one in FURTHER if _may_open(workspace, one[0]))]:
        if typed.lower() in str(label).lower():
            yield Place(str(label), reverse(name), icon)


def _may_open(workspace: Workspace, name: str) -> bool:
    view: Any = resolve(reverse(name)).func
    # A page about the person alone asks for no permission.
    wanted = getattr(view, "needs", None)
    return wanted is None or (wanted in workspace.scopes and opens(workspace, name))


def _things(workspace: Workspace, who: Who, typed: str) -> Iterator[Place]:
    """What has the words in its name, or this id. In the tenant's scope."""
    if not typed:
        return
    for dataset in selectors.list_datasets().filter(name__icontains=typed)[:MOST]:
        yield _place_of(dataset)
    if SEARCH in workspace.scopes:
        for search in kept.find_saved(who, typed, MOST):
            if address := kept.address_of_query(search.query):
                yield Place(search.name, address, "bookmark", _("saved search"))
    if opens(workspace, "console:models"):
        for model in LearntModel.objects.filter(name__icontains=typed).order_by("-id")[:MOST]:
            yield Place(model.name, reverse("console:model", args=[model.id]), "cpu", _("model"))
    if MODERATE in workspace.scopes and opens(workspace, "console:policies"):
        for policy in Policy.objects.filter(name__icontains=typed).order_by("name")[:MOST]:
            yield Place(policy.name, reverse("console:policy", args=[policy.id]), "sliders", _("policy"))
    for asset in _named(typed):
        yield _place_of_asset(asset, typed)
    yield from _by_id(workspace, typed, parse_id(typed))


def _named(typed: str) -> list[Asset]:
    """Assets by the words of their name; what has this external id comes by that."""
    found = retrieval_query.find_named(typed, MOST)
    assets = selectors.get_assets(found)
    return [assets[one] for one in found if one in assets and assets[one].external_id != typed]


def _place_of_asset(asset: Asset, typed: str) -> Place:
    label = asset_name(asset, otherwise=typed)
    return Place(label, reverse("console:asset", args=[asset.id]), ICONS[asset.modality], _("asset"))


def _place_of(dataset: Dataset) -> Place:
    return Place(dataset.name, reverse("console:dataset", args=[dataset.id]), "collection", _("dataset"))


def _by_id(workspace: Workspace, typed: str, one: uuid.UUID | None) -> Iterator[Place]:
    # Named datasets have an index on it, all of a workspace none.
    datasets = list(selectors.list_datasets().values_list("id", flat=True))
    own = Asset.objects.filter(dataset_id__in=datasets, external_id=typed).values_list("id", flat=True)
    wanted = [one] if one is not None else list(own[:MOST])
    for asset in selectors.get_assets(wanted).values():
        yield _place_of_asset(asset, typed)
    if one is None:
        return
    if dataset := selectors.list_datasets().filter(pk=one).first():
        yield _place_of(dataset)
    if opens(workspace, "console:jobs") and Job.objects.filter(pk=one).exists():
        yield Place(str(one), reverse("console:job", args=[one]), "list-task", _("job"))


def _searches(workspace: Workspace, typed: str) -> Iterator[Place]:
    """Where the words themselves can be looked for."""
    if not typed:
        return
    asked = urlencode({"q": typed})
    if SEARCH in workspace.scopes:
        yield Place(
            _("Search for “%(words)s”") % {"words": typed}, f"{reverse('console:search')}?{asked}", "search"
        )
    if opens(workspace, "console:jobs"):
        yield Place(
            _("Jobs with “%(words)s”") % {"words": typed}, f"{reverse('console:jobs')}?{asked}", "list-task"
        )
