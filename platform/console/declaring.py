"""The fields of a dataset as they are shown, and the form that declares one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms import StyledForm
from tenants.datasets.metadata import MAX_KEY, MAX_LABEL, expected
from tenants.datasets.values import read_as

KINDS = (
    ("text", gettext_lazy("Text")),
    ("number", gettext_lazy("Number")),
    ("bool", gettext_lazy("Yes or no")),
    ("time", gettext_lazy("Date or time")),
    ("tags", gettext_lazy("Tags: a list of short texts")),
)
SHOWN_VALUES = 5
# A field with so few different values, each of some assets, might be meant to have no others.
FEW = 10


@dataclass(frozen=True)
class Shown:
    """One field: its entry in the schema, its frequent values with the number of assets, and how many do not fit."""

    key: str
    entry: dict[str, Any]
    counted: list[tuple[str, int]]
    misfits: int

    # Not read from `entry` in templates: where a dict lacks "values", they would find its method of that name.
    @property
    def label(self) -> str:
        return self.entry.get("label", "")

    @property
    def guessed(self) -> bool:
        return self.entry.get("guessed", False)

    @property
    def required(self) -> bool:
        return self.entry.get("required", False)

    @property
    def allowed(self) -> list[Any]:
        return self.entry.get("values", [])

    @property
    def kind(self) -> str:
        return str(dict(KINDS)[self.entry["type"]]).split(":")[0].split("：")[0]

    @property
    def values(self) -> list[tuple[str, int]]:
        return [(self._said(text), count) for text, count in self.counted[:SHOWN_VALUES]]

    @property
    def more(self) -> bool:
        return len(self.counted) > SHOWN_VALUES

    @property
    def suggested(self) -> list[str]:
        """The values so far, where they look like all there are to be."""
        few = 1 < len(self.counted) <= FEW and all(count > 1 for _, count in self.counted)
        fit = self.entry["type"] in {"text", "tags"} and not self.allowed
        return [text for text, _ in self.counted] if few and fit else []

    def _said(self, text: str) -> str:
        if self.entry["type"] == "number" and text.endswith(".0"):
            return text[:-2]
        return {"true": _("yes"), "false": _("no")}.get(text, text) if self.entry["type"] == "bool" else text


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
    def of(cls, shown: Shown) -> FieldForm:
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
