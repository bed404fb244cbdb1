"""Keys of the API, and the origins that may call it from a browser."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console import labels
from console.access import Request, actor_of, needs, page
from console.forms import NetworksField, StyledForm
from tenants.accounts import keys, origins
from tenants.accounts.models import ApiKey, KeyDigest
from tenants.accounts.origins import MAX_LENGTH
from tenants.accounts.permissions import ADMIN, SCOPES, SEARCH
from tenants.errors import Conflict, Invalid
from tenants.events.services import record

LIFETIMES = (
    ("30", gettext_lazy("30 days")),
    ("90", gettext_lazy("90 days")),
    ("365", gettext_lazy("1 year")),
    ("", gettext_lazy("Never")),
)


class LimitsForm(StyledForm):
    """From where a key may be used, and how often."""

    networks = NetworksField(rows=2, placeholder="192.0.2.0/24")
    rate_per_minute = forms.IntegerField(
        required=False, min_value=1, max_value=keys.MAX_RATE, label=gettext_lazy("Requests a minute")
    )

    @property
    def limits(self) -> keys.KeyLimits:
        return keys.KeyLimits(self.cleaned_data["networks"], self.cleaned_data["rate_per_minute"])


class KeyForm(LimitsForm):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": gettext_lazy("Import script")}),
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("Scopes"),
        choices=[(scope, labels.SCOPES[scope]) for scope in SCOPES],
        # What most keys are for, and the least that they can do.
        initial=[SEARCH],
        widget=forms.CheckboxSelectMultiple,
    )
    lifetime = forms.ChoiceField(
        choices=LIFETIMES, required=False, initial="90", label=gettext_lazy("Expires after")
    )

    field_order = ("name", "scopes", "lifetime", "networks", "rate_per_minute")

    @property
    def expires_at(self) -> dt.datetime | None:
        days = self.cleaned_data["lifetime"]
        return timezone.now() + dt.timedelta(days=int(days)) if days else None


OVERLAPS = (
    (0, gettext_lazy("immediately")),
    (3600, gettext_lazy("after an hour")),
    (86400, gettext_lazy("after a day")),
    (7 * 86400, gettext_lazy("after 7 days")),
)


class RotateForm(forms.Form):
    overlap = forms.TypedChoiceField(choices=OVERLAPS, coerce=int)


class OriginForm(StyledForm):
    # What an origin may be is for the service to say.
    origin = forms.CharField(
        max_length=MAX_LENGTH,
        label=gettext_lazy("Origin"),
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "spellcheck": "false", "placeholder": "https://shop.example"}
        ),
    )


@needs(ADMIN, methods=("GET", "POST"), fresh=("POST",))
def index(request: Request) -> HttpResponse:
    if request.method == "POST":
        return _create(request)
    return _index(request, {"form": KeyForm(), "offered": "new" in request.GET}, 200)


def _index(request: Request, context: dict[str, Any], status: int) -> HttpResponse:
    with request.workspace.open():
        rows = keys.list_keys()
    refused: dict[uuid.UUID, LimitsForm] = context.pop("refused", {})
    listed = [_entry(key, digest, refused.get(key.id)) for key, digest in rows]
    return page(request, "keys.html", {"keys": listed, "overlaps": OVERLAPS, **context}, status=status)


def _entry(key: ApiKey, digest: KeyDigest, refused: LimitsForm | None) -> dict[str, Any]:
    kept = {"networks": "\n".join(digest.networks or []), "rate_per_minute": digest.rate_per_minute}
    limits = refused or LimitsForm(initial=kept, prefix=str(key.id))
    shown = {"key": key, "digest": digest, "state": _state(digest)}
    return {**shown, "limits": limits, "open_limits": refused is not None}


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def limit(request: Request, key_id: uuid.UUID) -> HttpResponse:
    form = LimitsForm(request.POST, prefix=str(key_id))
    if form.is_valid():
        try:
            with request.workspace.open():
                changed = keys.limits_of(keys.limit_key(key_id=key_id, changes=form.cleaned_data))
                record(actor=actor_of(request).label, verb="key.limited", target=str(key_id), details=changed)
        except Invalid as error:
            form.refuse(error)
        else:
            messages.success(request, _("The key’s limits were changed. They apply within a second."))
            return redirect("console:keys")
    return _index(request, {"form": KeyForm(), "refused": {key_id: form}}, 422)


def _state(digest: KeyDigest) -> str:
    if digest.revoked_at:
        return "revoked"
    expired = digest.expires_at is not None and digest.expires_at <= timezone.now()
    return "expired" if expired else "active"


def _create(request: Request) -> HttpResponse:
    """Not redirected: the secret exists only in this answer, which is not to be stored anywhere."""
    form = KeyForm(request.POST)
    if not form.is_valid():
        return _index(request, {"form": form, "open_dialog": True}, 422)
    try:
        with request.workspace.open():
            key, token = keys.create_key(
                name=form.cleaned_data["name"],
                scopes=form.cleaned_data["scopes"],
                created_by=request.user,
                expires_at=form.expires_at,
                limits=form.limits,
            )
            record(actor=actor_of(request).label, verb="key.created", target=str(key.id))
    except Invalid as error:
        form.refuse(error)
        return _index(request, {"form": form, "open_dialog": True}, 422)
    return _index(request, {"form": KeyForm(), "token": token, "created": key}, 201)


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def rotate(request: Request, key_id: uuid.UUID) -> HttpResponse:
    """Not redirected, as the new secret exists only in this answer."""
    form = RotateForm(request.POST)
    overlap_s = form.cleaned_data["overlap"] if form.is_valid() else -1
    try:
        with request.workspace.open():
            key, token = keys.rotate_key(key_id=key_id, overlap_s=overlap_s, created_by=request.user)
            details = {"new": str(key.id), "overlap_s": overlap_s}
            record(actor=actor_of(request).label, verb="key.rotated", target=str(key_id), details=details)
    except (Conflict, Invalid) as error:
        messages.error(request, error.detail)
        return redirect("console:keys")
    return _index(request, {"form": KeyForm(), "token": token, "created": key}, 201)


@needs(ADMIN, methods=("POST",))
def revoke(request: Request, key_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        keys.revoke_key(key_id=key_id)
        record(actor=actor_of(request).label, verb="key.revoked", target=str(key_id))
    messages.success(request, _("The key was revoked. It stops working immediately."))
    return redirect("console:keys")


@needs(ADMIN, methods=("GET", "POST"))
def show_origins(request: Request) -> HttpResponse:
    if request.method != "POST":
        return _show_origins(request, OriginForm(), 200)
    form = OriginForm(request.POST)
    if form.is_valid():
        try:
            _change_origins(request, add=form.cleaned_data["origin"])
        except Invalid as error:
            form.add_error("origin", error.detail)
        else:
            messages.success(request, _("Scripts of that origin may call the API now."))
            return redirect("console:origins")
    return _show_origins(request, form, 422)


def _show_origins(request: Request, form: OriginForm, status: int) -> HttpResponse:
    with request.workspace.open():
        known = origins.list_origins()
    context = {"origins": known, "form": form, "most": origins.MAX_ORIGINS}
    return page(request, "origins.html", context, status=status)


@needs(ADMIN, methods=("POST",))
def remove_origin(request: Request) -> HttpResponse:
    _change_origins(request, remove=request.POST.get("origin", ""))
    messages.success(request, _("Removed. Scripts of that origin are refused within seconds."))
    return redirect("console:origins")


def _change_origins(request: Request, **change: Any) -> None:
    with request.workspace.open():
        kept = origins.change_origins(**change)
        record(actor=actor_of(request).label, verb="origins.changed", details={"origins": kept})
