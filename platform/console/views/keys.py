"""API keys: the list, making one (its secret is shown once) and revoking."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.forms import KeyForm
from console.people_forms import OVERLAPS, RotateForm
from tenants.accounts import keys
from tenants.accounts.permissions import ADMIN
from tenants.errors import Conflict, Invalid
from tenants.events.services import record


@needs(ADMIN, methods=("GET", "POST"))
def index(request: Request) -> HttpResponse:
    if request.method == "POST":
        return _create(request)
    return _index(request, {"form": KeyForm()}, 200)


def _index(request: Request, context: dict[str, Any], status: int) -> HttpResponse:
    with request.workspace.open():
        rows = keys.list_keys()
    listed = [{"key": key, "digest": digest, "state": _state(digest)} for key, digest in rows]
    return page(request, "keys.html", {"keys": listed, "overlaps": OVERLAPS, **context}, status=status)


def _state(digest: Any) -> str:
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
            )
            record(actor=actor_of(request).label, verb="key.created", target=str(key.id))
    except Invalid as error:
        form.refuse(error)
        return _index(request, {"form": form, "open_dialog": True}, 422)
    return _index(request, {"form": KeyForm(), "token": token, "created": key}, 201)


@needs(ADMIN, methods=("POST",))
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
    messages.success(request, _("The key was revoked. It stops working at once."))
    return redirect("console:keys")
