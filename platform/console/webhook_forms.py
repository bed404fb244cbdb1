"""The forms of webhooks, and the words for types of events."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from console.forms import StyledForm
from tenants.events import endpoints, guard
from tenants.events.webhooks import TEST

EVENTS = {
    "asset.created": _("An asset was added"),
    "asset.ready": _("An asset can be found"),
    "asset.failed": _("An asset could not be used, or was blocked"),
    "asset.deleted": _("An asset was deleted"),
    "job.succeeded": _("A job succeeded"),
    "job.failed": _("A job failed"),
    "job.cancelled": _("A job was cancelled"),
    "audit.completed": _("An audit was completed"),
    "review.opened": _("A review was opened"),
    "review.decided": _("A review was decided"),
    "model.trained": _("A model was trained"),
    "model.promoted": _("A model was promoted"),
    "model.rolled_back": _("A model was rolled back"),
    "generation.finished": _("A generation was finished"),
    "generation.failed": _("A generation failed, or was blocked"),
    "quota.warning": _("Four fifths of a quota are used"),
    "quota.exceeded": _("A quota is used up"),
}
GROUPS = (
    (_("Assets"), "asset."),
    (_("Jobs"), "job."),
    (_("Audits and reviews"), ("audit.", "review.")),
    (_("Models"), "model."),
    (_("Generation"), "generation."),
    (_("Quotas"), "quota."),
)
SINCE = (
    (1, _("in the last hour")),
    (24, _("in the last 24 hours")),
    (72, _("in the last 3 days")),
    (24 * 30, _("in the last 30 days")),
)


def event_name(event_type: str) -> Any:
    return _("A test") if event_type == TEST else EVENTS.get(event_type, event_type)


class WebhookForm(StyledForm):
    url = forms.CharField(
        max_length=guard.MAX_URL,
        label=_("URL"),
        widget=forms.TextInput(
            attrs={
                "autocomplete": "off",
                "inputmode": "url",
                "spellcheck": "false",
                "placeholder": "https://example.org/webhooks",
            }
        ),
    )
    description = forms.CharField(
        max_length=endpoints.MAX_DESCRIPTION,
        required=False,
        label=_("Description"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    which = forms.ChoiceField(
        choices=(("all", _("All, also those that come later")), ("some", _("Only these:"))),
        initial="all",
        label=_("Events"),
        widget=forms.RadioSelect,
    )
    events = forms.MultipleChoiceField(
        choices=tuple(EVENTS.items()), required=False, label=_("Events"), widget=forms.CheckboxSelectMultiple
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if given.get("which") == "some" and not given.get("events") and "events" not in self.errors:
            self.add_error("events", forms.ValidationError(_("Choose at least one.")))
        return given

    @property
    def values(self) -> dict[str, Any]:
        """What the services take."""
        given = self.cleaned_data
        events = given["events"] if given["which"] == "some" else []
        return {"url": given["url"].strip(), "description": given["description"], "events": events}

    @property
    def groups(self) -> list[tuple[Any, list[Any]]]:
        """The choices of events under their headings."""
        choices = list(self["events"])
        return [
            (name, [c for c in choices if str(c.data["value"]).startswith(start)]) for name, start in GROUPS
        ]


class SinceForm(forms.Form):
    hours = forms.TypedChoiceField(choices=SINCE, coerce=int)
