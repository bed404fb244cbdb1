"""The forms of the console: what a person typed, cleaned. What it may mean is for the services to judge."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import Any, cast

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.core.validators import MaxLengthValidator
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from console import words
from console.throttle import Attempt
from tenants.accounts.permissions import SCOPES
from tenants.datasets.models import Dataset
from tenants.datasets.services import MAX_DESCRIPTION, MAX_NAME, MAX_RETENTION_DAYS

MAX_PASSWORD = 4096
LIFETIMES = (("30", _("30 days")), ("90", _("90 days")), ("365", _("1 year")), ("", _("Never")))


class StyledForm(forms.Form):
    """Bootstrap's classes on every field, and the errors tied to it for screen readers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            style(field.widget, invalid=name in self.errors if self.is_bound else False)

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


class SignInForm(AuthenticationForm):
    """What is missing is said before anything is counted or hashed. Raises TooManyAttempts when it is cleaned."""

    attempt: Attempt

    error_messages = {
        "invalid_login": _("This e-mail address and password do not belong together."),
        "inactive": _("This account is not active."),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        email, password = self.fields["username"], self.fields["password"]
        email.label = _("E-mail")
        email.widget = forms.EmailInput(
            attrs={"autocomplete": "username", "autofocus": True, "maxlength": 254, "class": "form-control"}
        )
        style(password.widget, invalid=False)
        password.validators.append(MaxLengthValidator(MAX_PASSWORD))

    def clean_username(self) -> str:
        return self.cleaned_data["username"].strip().lower()

    def clean(self) -> dict[str, Any]:
        if self.errors:
            return self.cleaned_data
        self.attempt = Attempt.of(cast(HttpRequest, self.request), "login", self.cleaned_data["username"])
        self.attempt.admit()
        return super().clean()


class DatasetForm(StyledForm):
    name = forms.CharField(
        label=_("Name"), max_length=MAX_NAME, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    description = forms.CharField(
        label=_("Description"),
        required=False,
        max_length=MAX_DESCRIPTION,
        widget=forms.Textarea(attrs={"rows": 3}),
    )


class DatasetEditForm(DatasetForm):
    retention_days = forms.IntegerField(
        required=False, min_value=1, max_value=MAX_RETENTION_DAYS, label=_("Days that assets are kept")
    )
    duplicates = forms.ChoiceField(
        required=False,
        label=_("Content that is here already"),
        choices=((Dataset.Duplicates.KEEP, _("Add it again")), (Dataset.Duplicates.SKIP, _("Skip it"))),
    )

    @property
    def changes(self) -> dict[str, Any]:
        """What was sent: a form without the choice leaves it as it is."""
        given = self.cleaned_data
        return given if given["duplicates"] else {k: v for k, v in given.items() if k != "duplicates"}


class SubjectForm(StyledForm):
    """Whose data is to be erased. What it means is for `tenants.pipeline.care.subject_erasure`."""

    key = forms.CharField(required=False, max_length=100, label=_("Metadata key, such as customer_id"))
    value = forms.CharField(required=False, max_length=1000, label=_("Its value"))
    external_ids = forms.CharField(
        required=False, label=_("External ids"), widget=forms.Textarea(attrs={"rows": 3, "class": "mono"})
    )
    # Whether there is one of that id is for the service to say.
    dataset = forms.UUIDField(required=False, label=_("Only in"), widget=forms.Select)

    def __init__(self, datasets: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", _("All datasets")), *((str(d.id), d.name) for d in datasets)]
        self.fields["dataset"].widget = forms.Select(choices=choices)
        style(self.fields["dataset"].widget, invalid="dataset" in self.errors)

    @property
    def criteria(self) -> dict[str, Any]:
        given = self.cleaned_data
        return {
            "values": {given["key"]: given["value"]} if given["key"] else {},
            "external_ids": [line.strip() for line in given["external_ids"].splitlines() if line.strip()],
            "dataset_id": given["dataset"],
        }

    def refuse(self, error: Any) -> None:
        """The service speaks of a filter, which is two fields here."""
        for entry in error.errors:
            ids = entry["pointer"].startswith("/external_ids")
            self.add_error("external_ids" if ids else "value", entry["detail"])


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
            raise forms.ValidationError(_("This is not JSON: %(error)s.") % {"error": error}) from error
        if not isinstance(found, dict):
            raise forms.ValidationError(_('Write a JSON object, such as {"colour": "red", "price": 12.5}.'))
        return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


class UploadForm(forms.Form):
    caption = forms.CharField(required=False)
    text = forms.CharField(required=False, strip=False)
    metadata = JsonObjectField(required=False)


class AssetForm(StyledForm):
    caption = forms.CharField(label=_("Caption"), required=False, widget=forms.Textarea(attrs={"rows": 3}))
    metadata = JsonObjectField(
        label=_("Metadata"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "class": "mono"}),
    )


class KeyForm(StyledForm):
    name = forms.CharField(
        label=_("Name"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": _("Import script")}),
    )
    scopes = forms.MultipleChoiceField(
        label=_("Scopes"),
        choices=[(scope, words.SCOPES[scope]) for scope in SCOPES],
        widget=forms.CheckboxSelectMultiple,
    )
    lifetime = forms.ChoiceField(choices=LIFETIMES, required=False, initial="90", label=_("Expires after"))

    @property
    def expires_at(self) -> dt.datetime | None:
        days = self.cleaned_data["lifetime"]
        return timezone.now() + dt.timedelta(days=int(days)) if days else None
