"""What a look at the map asks for, in the address; and the form that keeps a map or has one drawn."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms import StyledForm
from console.paging import parse_id
from tenants.datasets.models import Asset
from tenants.datasets.selectors import require_datasets
from tenants.errors import Invalid, NotFound, NotReady
from tenants.retrieval.maps import services
from tenants.retrieval.maps.reading import Wanted
from tenants.retrieval.spaces import Written

MAX_KEY = 100


@dataclass(frozen=True)
class Look:
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

    def as_initial(self) -> dict[str, Any]:
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


def read_look(query: QueryDict) -> Look:
    """In the tenant's scope. Raises NotFound, Invalid."""
    dataset, map_id = _id(query, "dataset"), _id(query, "map")
    require_datasets([dataset] if dataset else [])
    modality = query.get("modality", "")
    if modality and modality not in Asset.Modality.values:
        raise Invalid(_("There is no such modality."), pointer="/modality")
    if map_id:
        services.get_map(map_id)
    model, other = query.get("model", "")[:100], query.get("other", "")[:100]
    return Look(dataset, modality, model, other, map_id, query.get("key", "")[:MAX_KEY])


def _id(query: QueryDict, name: str) -> uuid.UUID | None:
    text = query.get(name, "")
    found = parse_id(text) if text else None
    if text and found is None:
        raise NotFound(_("There is no such thing to show."))
    return found


class MapForm(StyledForm):
    """A map to be kept. What may be drawn is for the service to say."""

    name = forms.CharField(required=False, max_length=services.MAX_NAME, label=gettext_lazy("Name"))
    method = forms.ChoiceField(
        choices=[("umap", "UMAP"), ("pca", "PCA")], initial="umap", label=gettext_lazy("Method")
    )
    neighbours = forms.IntegerField(
        min_value=services.FEWEST_NEIGHBOURS,
        max_value=services.MOST_NEIGHBOURS,
        initial=services.Params.neighbours,
        label=gettext_lazy("Neighbours"),
    )
    min_dist = forms.FloatField(
        min_value=0,
        max_value=services.MOST_DIST,
        initial=services.Params.min_dist,
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
            "params": services.Params(given["neighbours"], given["min_dist"]),
        }

    def refuse(self, error: Any) -> None:
        self.add_error(None, error.detail)
