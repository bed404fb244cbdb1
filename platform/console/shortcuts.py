"""The single keys of the console: each member sets their own, or turns them off."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import Request, came_from, needs, page
from console.forms import StyledForm
from tenants.accounts.permissions import READ
from tenants.errors import Conflict, Invalid
from tenants.people import shortcuts
from tenants.people.shortcuts import ACTIONS, EVERYWHERE, REVIEW, Action, Shortcuts

PLACES = {
    EVERYWHERE: gettext_lazy("On every page"),
    shortcuts.SEARCH: gettext_lazy("Search"),
    REVIEW: gettext_lazy("Reviews"),
}


class ShortcutsForm(StyledForm):
    on = forms.BooleanField(required=False, label=gettext_lazy("Use single-key shortcuts"))

    @classmethod
    def of(cls, kept: Shortcuts) -> ShortcutsForm:
        return cls(initial={"on": kept.on, **{name: key.upper() for name, key in kept.keys.items()}})

    def groups(self) -> list[tuple[Any, list[Any]]]:
        """The fields of each place under its name."""
        return [
            (label, [self[action.name] for action in ACTIONS if action.place == place])
            for place, label in PLACES.items()
        ]


def _field(action: Action) -> forms.CharField:
    """What is wrong with it is for the service to say."""
    attrs = {
        "class": "key-field",
        "maxlength": 1,
        "autocomplete": "off",
        "spellcheck": "false",
        "data-select": "",
    }
    return forms.CharField(required=False, label=action.label, widget=forms.TextInput(attrs=attrs))


ShortcutsForm.base_fields.update({action.name: _field(action) for action in ACTIONS})


@needs(READ, methods=("GET", "POST"), narrowable=("GET", "POST"))
def show(request: Request) -> HttpResponse:
    if request.method in {"GET", "HEAD"}:
        form = ShortcutsForm.of(request.workspace.shortcuts)
        return page(request, "shortcuts.html", {"form": form})
    if "reset" in request.POST:
        return _reset(request)
    form = ShortcutsForm(request.POST)
    status = 422
    if form.is_valid():
        keys = dict(form.cleaned_data)
        on = keys.pop("on")
        try:
            with request.workspace.open():
                shortcuts.save_shortcuts(user_id=_member(request), on=on, keys=keys)
        except (Invalid, Conflict) as error:
            form.refuse(error)
            status = error.status
        else:
            messages.success(request, _("Your keys were saved for every browser you sign in with."))
            return redirect("console:shortcuts")
    return page(request, "shortcuts.html", {"form": form}, status=status)


def _reset(request: Request) -> HttpResponse:
    try:
        with request.workspace.open():
            shortcuts.reset_shortcuts(user_id=_member(request))
        messages.success(request, _("All keys are back to the defaults."))
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:shortcuts")


@needs(READ, methods=("POST",), narrowable=("POST",))
def switch(request: Request) -> HttpResponse:
    """Turn them on or off, from wherever they are in the way."""
    on = request.POST.get("on") == "1"
    try:
        with request.workspace.open():
            shortcuts.switch_shortcuts(user_id=_member(request), on=on)
        messages.success(
            request, _("Single-key shortcuts are on now.") if on else _("Single-key shortcuts are off now.")
        )
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect(came_from(request, "/"))


def _member(request: Request) -> Any:
    """The person, or None for an operator who acts and is nobody's member."""
    return None if request.workspace.acting else request.user.pk
