"""Hash lists: known bad and known good content, by hashes. Nothing of the content itself is kept on them."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.forms import ConfirmForm
from console.moderation_forms import ContentForm, HashesForm, HashListForm
from console.paging import parse_id
from console.people_names import names_of
from tenants.accounts.permissions import MODERATE
from tenants.datasets.resumable import file_of
from tenants.errors import Conflict, Invalid, ServiceError
from tenants.moderation import known, known_selectors
from tenants.moderation.models import HashEntry, HashList
from tenants.pipeline.assets import uploads
from tenants.pipeline.audits import fingerprinting

PAGE = 50


@needs(MODERATE)
def index(request: Request) -> HttpResponse:
    return _index(request, None, 200)


def _index(request: Request, form: HashListForm | None, status: int) -> HttpResponse:
    with request.workspace.open():
        counted = HashEntry.objects.values("hash_list").annotate(items=Count("item", distinct=True))
        counts = dict(counted.order_by().values_list("hash_list", "items"))
        lines = [(row, counts.get(row.id, 0)) for row in known.list_lists()]
        shared = [known_selectors.shared_as_dict(row) for row in known_selectors.shared_lists()]
    context = {
        "lines": lines,
        "shared": shared,
        "form": form or HashListForm(),
        "open_dialog": form is not None,
        "asset": parse_id(request.GET.get("asset", "")),
    }
    return page(request, "hash_lists.html", context, status=status)


@needs(MODERATE, methods=("POST",))
def create(request: Request) -> HttpResponse:
    form = HashListForm(request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                row = known.create_list(**form.cleaned_data, actor=actor_of(request).label)
            return redirect("console:hash-list", list_id=row.id)
        except (Invalid, Conflict) as error:
            form.refuse(error)
    return _index(request, form, 422)


@needs(MODERATE)
def show(request: Request, list_id: uuid.UUID) -> HttpResponse:
    return _show(request, list_id, {}, 200)


def _show(request: Request, list_id: uuid.UUID, forms: dict[str, Any], status: int) -> HttpResponse:
    before = parse_id(request.GET.get("before", ""))
    with request.workspace.open():
        row = known.get_list(list_id)
        items = known_selectors.entries_of(row.id, before, PAGE + 1)
        names = names_of({item.created_by for item in items})
    context = {
        "list": row,
        "items": [(item, names.get(item.created_by, "")) for item in items[:PAGE]],
        "next": items[PAGE - 1].id if len(items) > PAGE else None,
        "hashes_form": HashesForm(),
        "content_form": ContentForm(initial={"asset": request.GET.get("asset", ""), "copies": True}),
        "confirm_form": ConfirmForm(row.name),
        **forms,
    }
    return page(request, "hash_list.html", context, status=status)


# --- Entries ---------------------------------------------------------------------------------------------


@needs(MODERATE, methods=("POST",))
def add_hashes(request: Request, list_id: uuid.UUID) -> HttpResponse:
    """Hashes from elsewhere, one a line."""
    with request.workspace.open():
        known.get_list(list_id)
    form = HashesForm(request.POST)
    if not form.is_valid():
        return _show(request, list_id, {"hashes_form": form}, 422)
    try:
        with request.workspace.open():
            added, there = known.add_hashes(
                list_id=list_id, hashes=form.hashes, actor=actor_of(request).label
            )
    except (Invalid, Conflict) as error:
        form.refuse_line(error)
        return _show(request, list_id, {"hashes_form": form}, 422)
    already = f" {there} {'was' if there == 1 else 'were'} on it already." if there else ""
    messages.success(request, f"{len(added)} added.{already}")
    return redirect("console:hash-list", list_id=list_id)


@needs(MODERATE, methods=("POST",))
def add_content(request: Request, list_id: uuid.UUID) -> HttpResponse:
    """What a file or an asset is known by; on a bad list a job can block the copies that came before."""
    with request.workspace.open():
        row = known.get_list(list_id)
    form = ContentForm(request.POST)
    if not form.is_valid():
        return _show(request, list_id, {"content_form": form}, 422)
    try:
        # Outside of any scope, as looking at a file takes seconds.
        prints = _prints(request, form.cleaned_data["asset"])
        with request.workspace.open():
            _add(row, prints, form, actor_of(request).label)
    except ServiceError as error:
        form.refuse(error)
        return _show(request, list_id, {"content_form": form}, error.status)
    messages.success(request, _("It is on the list."))
    return redirect("console:hash-list", list_id=list_id)


def _prints(request: Request, asset_id: uuid.UUID | None) -> dict[str, Any]:
    tenant_id, sent = request.workspace.tenant.id, cast(Any, request.FILES.get("file"))
    if (asset_id is None) == (sent is None):
        raise Invalid(_("Choose a file, or give the id of an asset."), pointer="/asset")
    if asset_id is not None:
        return fingerprinting.of_asset(tenant_id, asset_id)
    with file_of(tenant_id, sent, None, at_most=settings.MAX_UPLOAD_BYTES) as file:
        return fingerprinting.of_upload(uploads.check_upload(file, ""))


def _add(row: HashList, prints: dict[str, Any], form: ContentForm, actor: str) -> None:
    given = form.cleaned_data
    item = known.add_item(list_id=row.id, fingerprints=prints, note=given["note"], actor=actor)
    if row.stance == "bad" and given["copies"]:
        known.match_again(item_id=item, actor=actor)


@needs(MODERATE, methods=("POST",))
def remove_entry(request: Request, list_id: uuid.UUID, item_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        known.remove_item(item_id=item_id, list_id=list_id, actor=actor_of(request).label)
    messages.success(request, _("It is off the list. What was decided because of it stays as it is."))
    return redirect("console:hash-list", list_id=list_id)


@needs(MODERATE, methods=("POST",))
def delete(request: Request, list_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        row = known.get_list(list_id)
    form = ConfirmForm(row.name, request.POST)
    if not form.is_valid():
        return _show(request, list_id, {"confirm_form": form}, 422)
    with request.workspace.open():
        known.delete_list(list_id=list_id, actor=actor_of(request).label)
    messages.success(request, _("The list was deleted."))
    return redirect("console:hashes")
