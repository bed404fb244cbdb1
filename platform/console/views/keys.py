"""API keys: the list, making one (its secret is shown once) and revoking."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from console.access import Request, needs, page
from console.forms import KeyForm
from tenants.accounts import keys
from tenants.accounts.permissions import ADMIN
from tenants.errors import Invalid


@needs(ADMIN, methods=("GET", "POST"))
def index(request: Request) -> HttpResponse:
    if request.method == "POST":
        return _create(request)
    return _index(request, {"form": KeyForm()}, 200)


def _index(request: Request, context: dict[str, Any], status: int) -> HttpResponse:
    with request.workspace.open():
        rows = keys.list_keys()
    listed = [{"key": key, "digest": digest, "state": _state(digest)} for key, digest in rows]
    return page(request, "keys.html", {"keys": listed, **context}, status=status)


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
    except Invalid as error:
        form.refuse(error)
        return _index(request, {"form": form, "open_dialog": True}, 422)
    return _index(request, {"form": KeyForm(), "token": token, "created": key}, 201)


@needs(ADMIN, methods=("POST",))
def revoke(request: Request, key_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        keys.revoke_key(key_id=key_id)
    messages.success(request, "The key was revoked. It stops working at once.")
    return redirect("console:keys")
