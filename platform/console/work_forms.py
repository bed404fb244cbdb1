"""The forms about origins, usage and jobs."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from console.forms import StyledForm
from tenants.accounts.origins import MAX_LENGTH


class OriginForm(StyledForm):
    # What an origin may be is for the service to say.
    origin = forms.CharField(
        max_length=MAX_LENGTH,
        label=_("Origin"),
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "spellcheck": "false", "placeholder": "https://shop.example"}
        ),
    )
