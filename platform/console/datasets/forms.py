"""The forms of datasets, their fields and their assets."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from console.datasets.presenters import KINDS, FieldSummary
from console.forms import StyledForm
from tenants.datasets.metadata import MAX_KEY, MAX_LABEL, expected
from tenants.datasets.models import Dataset
from tenants.datasets.services import MAX_DESCRIPTION, MAX_NAME, MAX_RETENTION_DAYS
from tenants.datasets.values import read_as


class DatasetForm(StyledForm):
    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=MAX_NAME, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    description = forms.CharField(
        label=gettext_lazy("Description"),
        required=False,
        max_length=MAX_DESCRIPTION,
        widget=forms.Textarea(attrs={"rows": 3}),
    )


class DatasetEditForm(DatasetForm):
    retention_days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_RETENTION_DAYS,
        label=gettext_lazy("Days that assets are kept"),
    )
    duplicates = forms.ChoiceField(
        required=False,
        label=gettext_lazy("Content that is here already"),
        choices=(
            (Dataset.Duplicates.KEEP, gettext_lazy("Add it again")),
            (Dataset.Duplicates.SKIP, gettext_lazy("Skip it")),
        ),
    )

    @property
    def changes(self) -> dict[str, Any]:
        """What was sent: a form without the choice leaves it as it is."""
        given = self.cleaned_data
        return given if given["duplicates"] else {k: v for k, v in given.items() if k != "duplicates"}


class JsonObjectField(forms.CharField):
    """Metadata as JSON text; empty means none."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return {}
        try:
            found = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(
                gettext_lazy("This is not JSON: %(error)s.") % {"error": error}
            ) from error
        if not isinstance(found, dict):
            raise forms.ValidationError(
                gettext_lazy('Write a JSON object, such as {"colour": "red", "price": 12.5}.')
            )
        return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON value")


class UploadForm(forms.Form):
    caption = forms.CharField(required=False)
    text = forms.CharField(required=False, strip=False)
    metadata = JsonObjectField(required=False)


class AssetForm(StyledForm):
    caption = forms.CharField(
        label=gettext_lazy("Caption"), required=False, widget=forms.Textarea(attrs={"rows": 3})
    )
    metadata = JsonObjectField(
        label=gettext_lazy("Metadata"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "class": "mono"}),
    )


class FieldForm(StyledForm):
    key = forms.CharField(
        label=gettext_lazy("Name in the metadata"),
        max_length=MAX_KEY,
        strip=False,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    label = forms.CharField(required=False, max_length=MAX_LABEL, label=gettext_lazy("Label for people"))
    type = forms.ChoiceField(choices=KINDS, label=gettext_lazy("Type"))
    required = forms.BooleanField(required=False, label=gettext_lazy("Every asset must have it"))
    values = forms.CharField(
        required=False,
        label=gettext_lazy("Allowed values, one a line"),
        widget=forms.Textarea(attrs={"rows": 4}),
    )

    @classmethod
    def of(cls, shown: FieldSummary) -> FieldForm:
        lines = "\n".join(str(value) for value in shown.allowed)
        return cls(initial={**shown.entry, "key": shown.key, "values": lines})

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        kind = "text" if cleaned.get("type") == "tags" else cleaned.get("type", "text")
        lines = [line.strip() for line in cleaned.get("values", "").splitlines() if line.strip()]
        cleaned["values"] = [read_as(line, kind) for line in lines]
        for line, value in zip(lines, cleaned["values"], strict=True):
            if value is None:
                self.add_error("values", f"“{line[:40]}”: {expected(kind)}")
        return cleaned

    def refuse(self, error: Any) -> None:
        """A service names `/metadata_schema/<key>/<part>`: shown at that part."""
        for entry in getattr(error, "errors", None) or [{"pointer": "", "detail": error.detail}]:
            part = entry["pointer"].removeprefix(f"/metadata_schema/{self.cleaned_data['key']}").strip("/")
            name = part.split("/")[0]
            self.add_error(name if name in self.fields else None, entry["detail"])

    @property
    def entry(self) -> dict[str, Any]:
        """What was filled in, as an entry of the schema."""
        given = {name: self.cleaned_data[name] for name in ("type", "label", "required", "values")}
        return {name: value for name, value in given.items() if value}
