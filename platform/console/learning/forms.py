"""The forms about models, golden queries and tasks. What they may mean is for the services to judge."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms import StyledForm, style
from console.learning.labels import METHOD_CHOICES, STAGE_CHOICES
from console.paging import parse_id
from tenants.errors import Conflict, NotReady, ServiceError
from tenants.learning import golden
from tenants.learning.services import MAX_EPOCHS, MAX_KEY, MAX_NAME, Settings

MAX_REASON = 500

MAX_IDS = 100_000


def _text_input(**attrs: Any) -> forms.TextInput:
    return forms.TextInput(attrs={"autocomplete": "off", **attrs})


def source_of(typed: str) -> tuple[uuid.UUID | None, uuid.UUID | None]:
    """The dataset and the version that a choice of the form names; None for what is no id."""
    dataset, _slash, version = typed.partition("/")
    return parse_id(dataset), parse_id(version)


class FinetuneForm(StyledForm):
    """A training: on what, from what, and how. Whether there are such datasets is for the service to say."""

    name = forms.CharField(
        required=False,
        max_length=MAX_NAME,
        label=gettext_lazy("Name"),
        widget=_text_input(placeholder=gettext_lazy("Product photos, spring")),
    )
    # A dataset's id, or one and that of a version of it with a slash between.
    dataset = forms.CharField(
        label=gettext_lazy("Training pairs from"), max_length=2 * 36 + 1, widget=forms.Select
    )
    base = forms.CharField(
        required=False, max_length=100, label=gettext_lazy("Start from"), widget=forms.Select
    )
    stage = forms.ChoiceField(choices=[one[:2] for one in STAGE_CHOICES], initial="adapt")
    method = forms.ChoiceField(choices=[one[:2] for one in METHOD_CHOICES], initial="heads")
    epochs = forms.IntegerField(
        min_value=1, max_value=MAX_EPOCHS, initial=Settings.epochs, label=gettext_lazy("Epochs")
    )
    group_by = forms.CharField(
        required=False,
        max_length=MAX_KEY,
        label=gettext_lazy("Group by"),
        widget=_text_input(list="group-keys"),
    )
    general_dataset = forms.UUIDField(
        required=False, label=gettext_lazy("General pairs from"), widget=forms.Select
    )
    include_generated = forms.BooleanField(
        required=False, label=gettext_lazy("Learn from pictures that were generated here, too")
    )

    def __init__(
        self,
        sources: Sequence[tuple[str, str]],
        datasets: Sequence[tuple[str, str]],
        bases: Sequence[tuple[str, str]],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """`sources` are datasets and their versions, each value as `source_of` reads it."""
        super().__init__(*args, **kwargs)
        for name, choices in (
            ("dataset", [("", _("Choose a dataset")), *sources]),
            ("general_dataset", [("", _("None")), *datasets]),
            ("base", bases),
        ):
            self.fields[name].widget = forms.Select(choices=choices)
            style(self.fields[name].widget, invalid=name in self.errors if self.is_bound else False)

    # Of the dataset that was chosen: a form is cleaned while it is made.
    version: uuid.UUID | None = None

    def clean_dataset(self) -> uuid.UUID:
        """The dataset; the version is `version`."""
        dataset, self.version = source_of(self.cleaned_data["dataset"])
        if dataset is None or ("/" in self.cleaned_data["dataset"] and self.version is None):
            raise forms.ValidationError(_("Choose a dataset, or a version of one."))
        return dataset

    @property
    def settings(self) -> Settings:
        given = self.cleaned_data
        return Settings(
            epochs=given["epochs"],
            group_by=given["group_by"],
            include_generated=given["include_generated"],
        )

    def refuse(self, error: Any) -> None:
        """Names are taken, and bases not ready: the services say so without a pointer. The version stands with the
        dataset."""
        for entry in getattr(error, "errors", ()):
            if entry["pointer"] == "/version":
                self.add_error("dataset", entry["detail"])
                return
        field = "base" if isinstance(error, NotReady) else "name" if isinstance(error, Conflict) else None
        if field:
            self.add_error(field, error.detail)
        else:
            super().refuse(error)


class PromoteForm(StyledForm):
    """With `override` for a model that is worse: then it goes with a reason."""

    override = forms.BooleanField(
        required=False, label=gettext_lazy("Promote it even though it performs worse")
    )
    reason = forms.CharField(
        required=False,
        max_length=MAX_REASON,
        label=gettext_lazy("Reason"),
        widget=forms.Textarea(attrs={"rows": 2}),
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("override") and not given.get("reason"):
            self.add_error("reason", _("Give a reason: it is recorded in the audit log."))
        if given.get("reason") and not given.get("override"):
            self.add_error("override", _("Select this to promote a model that performs worse."))
        return given

    @property
    def override_reason(self) -> str:
        return self.cleaned_data["reason"]


class GoldenForm(StyledForm):
    """Words or a picture, and the assets that it has to find: ticked ones, and others by their ids."""

    text = forms.CharField(
        required=False, max_length=golden.MAX_TEXT, label=gettext_lazy("Words"), widget=_text_input()
    )
    asset = forms.CharField(
        required=False,
        max_length=100,
        label=gettext_lazy("Or a picture, by id"),
        widget=_text_input(**{"class": "mono"}),
    )
    relevant = forms.CharField(
        required=False,
        max_length=MAX_IDS,
        label=gettext_lazy("Relevant assets, by their ids"),
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "class": "mono"}),
    )

    @property
    def ticked(self) -> list[str]:
        """Ids of what was found and ticked, as they were sent."""
        return self.data.getlist("ticked") if isinstance(self.data, QueryDict) else []

    def clean_asset(self) -> uuid.UUID | None:
        typed = self.cleaned_data["asset"].strip()
        return _id(typed) if typed else None

    def clean_relevant(self) -> list[uuid.UUID]:
        typed = self.cleaned_data["relevant"].replace(",", " ").split()
        found = list(dict.fromkeys(_id(one) for one in [*self.ticked, *typed]))
        if not found:
            raise forms.ValidationError(_("Select the right answers below, or enter their ids."))
        return found

    def refuse(self, error: ServiceError) -> None:
        """The service calls the picture an image."""
        for entry in getattr(error, "errors", None) or [{"pointer": "", "detail": error.detail}]:
            name = entry["pointer"].strip("/").split("/")[0]
            name = "asset" if name == "image" else name
            self.add_error(name if name in self.fields else None, entry["detail"])


def _id(typed: str) -> uuid.UUID:
    try:
        return uuid.UUID(typed)
    except ValueError as error:
        raise forms.ValidationError(_("%(id)r is not the id of an asset.") % {"id": typed[:60]}) from error
