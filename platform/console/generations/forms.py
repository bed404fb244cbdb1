"""The form that asks for a generation. What may be asked for is for the service to judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms import StyledForm, style
from console.generations.labels import KINDS
from tenants.generation.disclosure import Changes, Disclosure
from tenants.generation.validation import BOUNDS, MAX_PROMPT, GenerationSpec

SIZES = (256, 384, 512, 768, 1024)


def _number(kind: Any, name: str, label: Any, **more: Any) -> object:
    least, most = BOUNDS[name]
    return kind(min_value=least, max_value=most, initial=getattr(GenerationSpec, name), label=label, **more)


AS_INSTALLED, YES, NO = "", "on", "off"
CHOSEN = {AS_INSTALLED: None, YES: True, NO: False}
CHOICES = [(AS_INSTALLED, ""), (YES, gettext_lazy("On")), (NO, gettext_lazy("Off"))]


class DisclosureForm(StyledForm):
    """Whether people see and hear that a file was generated. What is enforced is no choice."""

    icon = forms.ChoiceField(
        choices=CHOICES, required=False, label=gettext_lazy("Icon on pictures and films")
    )
    notice = forms.ChoiceField(
        choices=CHOICES, required=False, label=gettext_lazy("Spoken notice before sound")
    )

    def __init__(self, kept: Disclosure, *args: Any, **kwargs: Any) -> None:
        marks = {"icon": kept.icon, "notice": kept.notice}
        names = {chosen: name for name, chosen in CHOSEN.items()}
        initial = {name: names[mark.chosen] for name, mark in marks.items()}
        super().__init__(*args, initial=initial, **kwargs)
        for name, mark in marks.items():
            field = self.fields[name]
            installed = _("on") if mark.installation != "off" else _("off")
            first = _("As the installation has it: %(state)s") % {"state": installed}
            field.choices = [(AS_INSTALLED, first), *CHOICES[1:]]  # type: ignore[attr-defined]
            field.disabled = mark.is_enforced

    @property
    def changes(self) -> Changes:
        given = {
            name: CHOSEN[self.cleaned_data[name]] for name in self.fields if not self.fields[name].disabled
        }
        return cast(Changes, given)


class GenerateForm(StyledForm):
    """What shall be made. Everything below the outputs has a default that suits the generators that ship."""

    # Of a remix the caption is taken where nothing is said, so that it is for the service to judge.
    prompt = forms.CharField(
        required=False,
        max_length=MAX_PROMPT,
        label=gettext_lazy("Prompt"),
        widget=forms.Textarea(
            attrs={
                "rows": 2,
                "autofocus": True,
                "placeholder": gettext_lazy("a cat with a hat walks by the sea"),
            }
        ),
    )
    outputs = forms.MultipleChoiceField(
        choices=[*KINDS.items()], widget=forms.CheckboxSelectMultiple, initial=list(GenerationSpec.outputs)
    )
    negative = forms.CharField(
        required=False,
        max_length=MAX_PROMPT,
        label=gettext_lazy("What it should not show"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    seed = _number(forms.IntegerField, "seed", gettext_lazy("Seed"), required=False)
    steps = _number(forms.IntegerField, "steps", gettext_lazy("Steps"))
    guidance = _number(forms.FloatField, "guidance", gettext_lazy("Guidance"))
    size = forms.TypedChoiceField(
        choices=[(one, f"{one} × {one}") for one in SIZES],
        coerce=int,
        initial=GenerationSpec.width,
        label=gettext_lazy("Size"),
    )
    seconds = _number(forms.FloatField, "seconds", gettext_lazy("Length in seconds"))
    anyway = forms.BooleanField(
        required=False, label=gettext_lazy("Draw it even if nothing in the words is known")
    )
    dataset = forms.UUIDField(required=False, label=gettext_lazy("Save to"), widget=forms.Select)
    remix_of = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def __init__(self, datasets: Sequence[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        widget = forms.Select(choices=[("", _("The dataset “Generated”")), *datasets])
        self.fields["dataset"].widget = widget
        style(widget, invalid="dataset" in self.errors if self.is_bound else False)

    @property
    def chosen(self) -> list[str]:
        """The outputs that are ticked, before anything is checked."""
        return [kind for kind in KINDS if kind in (self["outputs"].value() or [])]

    @property
    def wanted(self) -> GenerationSpec:
        given = self.cleaned_data
        same = ("prompt", "negative", "seed", "steps", "guidance", "seconds")
        return GenerationSpec(
            outputs=tuple(given["outputs"]),
            width=given["size"],
            height=given["size"],
            **{name: given[name] for name in same},
        )

    def refuse(self, error: Any) -> None:
        """The service speaks of width and height, which are one field here."""
        for entry in getattr(error, "errors", None) or [{"pointer": "", "detail": error.detail}]:
            name = entry["pointer"].strip("/").split("/")[0]
            name = "size" if name in ("width", "height") else name
            self.add_error(name if name in self.fields else None, entry["detail"])
