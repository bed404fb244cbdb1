"""The forms of the console: what a person typed, cleaned. What it may mean is for the services to judge."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tenants.accounts import networks


class StyledForm(forms.Form):
    """Bootstrap's classes on every field, and the errors tied to it for screen readers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepare()
        for name, field in self.fields.items():
            style(field.widget, invalid=name in self.errors if self.is_bound else False)

    def prepare(self) -> None:
        """Where a form sets what its fields know only now, such as choices: afterwards what was sent is cleaned."""

    def refuse(self, error: Any) -> None:
        """Show a service's refusal at the field that it names, or above the form."""
        for entry in getattr(error, "errors", None) or [{"pointer": "", "detail": error.detail}]:
            name = entry["pointer"].strip("/").split("/")[0]
            self.add_error(name if name in self.fields else None, entry["detail"])


def style(widget: forms.Widget, *, invalid: bool) -> None:
    css = "form-select" if isinstance(widget, forms.Select) else "form-control"
    if isinstance(widget, forms.CheckboxInput | forms.CheckboxSelectMultiple | forms.RadioSelect):
        css = "form-check-input"
    own = widget.attrs.get("class", "")
    widget.attrs["class"] = " ".join(filter(None, [css, own, "is-invalid" if invalid else ""]))


class NetworksField(forms.CharField):
    """One network a line, cleaned to a list. What is one is for the service to say."""

    def __init__(self, *, rows: int, placeholder: str) -> None:
        attributes = {"rows": rows, "class": "mono", "spellcheck": "false", "placeholder": placeholder}
        super().__init__(
            required=False,
            max_length=networks.MOST * (networks.MAX_LENGTH + 2),
            label=_("Networks, one per line"),
            widget=forms.Textarea(attrs=attributes),
        )

    def clean(self, value: Any) -> list[str]:
        return str(super().clean(value)).split()


class ConfirmForm(StyledForm):
    """The name of what is to be deleted, typed."""

    name = forms.CharField()

    def __init__(self, expected: str, *args: Any, **kwargs: Any) -> None:
        self.expected = expected
        super().__init__(*args, **kwargs)

    def clean_name(self) -> str:
        typed = self.cleaned_data["name"].strip()
        if typed != self.expected.strip():
            raise forms.ValidationError(_("Type the name exactly as it is shown."))
        return typed
