"""Feature flags: those that the code knows, and how each is set here."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from backoffice.access import Request, operators, page
from backoffice.forms import FlagForm
from tenants.accounts import flags
from tenants.accounts.models import FeatureFlag, Tenant
from tenants.errors import Invalid, NotFound


@operators()
def index(request: Request) -> HttpResponse:
    return _index(request, {}, 200)


def _index(request: Request, bound: dict[str, FlagForm], status: int) -> HttpResponse:
    known = flags.settings()
    chosen = {i for setting in known.values() for i in setting.chosen}
    slugs = dict(Tenant.objects.filter(pk__in=chosen).values_list("pk", "slug"))
    shown = [
        {
            "flag": flag,
            "setting": known.get(flag.name),
            "state": _state_of(known.get(flag.name)),
            "form": bound.get(flag.name) or _form(flag.name, known.get(flag.name), slugs),
        }
        for flag in flags.FLAGS.values()
    ]
    return page(request, "flags.html", {"title": _("Feature flags"), "flags": shown}, status=status)


def _state_of(setting: flags.Setting | None) -> str:
    return str(FeatureFlag.State(setting.state).label) if setting else ""


def _form(name: str, setting: flags.Setting | None, slugs: dict[Any, str]) -> FlagForm:
    if setting is None:
        return FlagForm(initial={"state": "default", "share": 0}, prefix=name)
    tenants = " ".join(sorted(slugs[i] for i in setting.chosen if i in slugs))
    initial = {"state": setting.state, "share": setting.share, "tenants": tenants}
    return FlagForm(initial=initial, prefix=name)


@operators(methods=("POST",))
def change(request: Request, name: str) -> HttpResponse:
    if name not in flags.FLAGS:
        raise NotFound(_("This flag does not exist."))
    form = FlagForm(request.POST, prefix=name)
    if form.is_valid():
        try:
            _set(request, name, form.cleaned_data)
        except Invalid as error:
            form.refuse(error)
        else:
            seconds = int(flags.CACHE_S)
            messages.success(request, _("The flag is set; it holds everywhere within %d seconds.") % seconds)
            return redirect("operator:flags")
    return _index(request, {name: form}, 422)


def _set(request: Request, name: str, given: dict[str, Any]) -> None:
    if given["state"] == "default":
        flags.reset_flag(by=request.operator, name=name)
        return
    flags.set_flag(
        by=request.operator,
        name=name,
        state=given["state"],
        share=given["share"] or 0,
        slugs=given["tenants"].replace(",", " ").split(),
        reason=given["reason"],
    )
