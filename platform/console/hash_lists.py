"""Lists of known content: their hashes, and adding by hash or by content."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.forms import ConfirmForm, StyledForm
from console.paging import parse_id
from console.presenters import actor_names
from tenants.accounts.permissions import MODERATE
from tenants.datasets.resumable import file_of
from tenants.errors import Conflict, Invalid, ServiceError
from tenants.moderation import known_content
from tenants.moderation.known_content import RawHash
from tenants.moderation.known_content import selectors as known_selectors
from tenants.moderation.models import HashList
from tenants.pipeline.assets import uploads
from tenants.pipeline.audits import fingerprinting


class HashListForm(StyledForm):
    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    stance = forms.ChoiceField(
        choices=[
            ("bad", gettext_lazy("Bad: known content that must not come back")),
            ("good", gettext_lazy("Good: known to be fine")),
        ],
        label=gettext_lazy("Contents"),
    )
    description = forms.CharField(
        label=gettext_lazy("Description"),
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
    )


class HashesForm(StyledForm):
    """Hashes from elsewhere, one a line: its hexadecimal digits, then a note if wanted."""

    algorithm = forms.ChoiceField(
        choices=[
            ("pdq", gettext_lazy("PDQ, of pictures")),
            ("sha256", gettext_lazy("SHA-256, of the bytes")),
        ],
        label=gettext_lazy("Kind"),
    )
    lines = forms.CharField(
        max_length=2_000_000,
        label=gettext_lazy("Hashes"),
        widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false", "class": "mono"}),
    )

    @property
    def hashes(self) -> list[RawHash]:
        kind = self.cleaned_data["algorithm"]
        pairs = (line.split(None, 1) for line in self.cleaned_data["lines"].splitlines() if line.strip())
        return [RawHash(kind, pair[0], pair[1] if len(pair) > 1 else "") for pair in pairs]

    def refuse_line(self, error: Any) -> None:
        """Show a refusal with the line that it is about."""
        entry = (getattr(error, "errors", None) or [{"pointer": "", "detail": error.detail}])[0]
        parts = entry["pointer"].split("/")
        at = ""
        if len(parts) > 2 and parts[2].isdecimal():
            at = gettext("Line {number}:").format(number=int(parts[2]) + 1) + " "
        self.add_error("lines", f"{at}{entry['detail']}")


class ContentForm(StyledForm):
    """An asset by its id, or else a file beside the form."""

    # Whether there is one of that id is for the service to say.
    asset = forms.UUIDField(
        required=False,
        label=gettext_lazy("Or an asset, by its id"),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "mono"}),
    )
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    copies = forms.BooleanField(label=gettext_lazy("Copies"), required=False)


PAGE = 50


@needs(MODERATE)
def index(request: Request) -> HttpResponse:
    return _index(request, None, 200)


def _index(request: Request, form: HashListForm | None, status: int) -> HttpResponse:
    with request.workspace.open():
        own = list(known_content.list_lists())
        counts = known_selectors.items_of(own)
        lines = [(row, counts[row.id]) for row in own]
        shared = list(known_selectors.list_shapes(list(known_selectors.shared_lists())).values())
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
                row = known_content.create_list(**form.cleaned_data, actor=actor_of(request).label)
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
        row = known_content.get_list(list_id)
        items = known_selectors.entries_of(row.id, before, PAGE + 1)
        names = actor_names({item.created_by for item in items})
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
        known_content.get_list(list_id)
    form = HashesForm(request.POST)
    if not form.is_valid():
        return _show(request, list_id, {"hashes_form": form}, 422)
    try:
        with request.workspace.open():
            added, there = known_content.add_hashes(
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
        row = known_content.get_list(list_id)
    form = ContentForm(request.POST)
    if not form.is_valid():
        return _show(request, list_id, {"content_form": form}, 422)
    try:
        # Outside of any scope, as looking at a file takes seconds.
        prints = _fingerprints(request, form.cleaned_data["asset"])
        with request.workspace.open():
            _add(row, prints, form, actor_of(request).label)
    except ServiceError as error:
        form.refuse(error)
        return _show(request, list_id, {"content_form": form}, error.status)
    messages.success(request, _("Added to the list."))
    return redirect("console:hash-list", list_id=list_id)


def _fingerprints(request: Request, asset_id: uuid.UUID | None) -> dict[str, Any]:
    tenant_id, sent = request.workspace.tenant.id, cast(Any, request.FILES.get("file"))
    if (asset_id is None) == (sent is None):
        raise Invalid(_("Choose a file, or give the id of an asset."), pointer="/asset")
    if asset_id is not None:
        return fingerprinting.of_asset(tenant_id, asset_id)
    with file_of(tenant_id, sent, None, at_most=settings.MAX_UPLOAD_BYTES) as file:
        return fingerprinting.of_upload(uploads.check_upload(file, ""))


def _add(row: HashList, prints: dict[str, object], form: ContentForm, actor: str) -> None:
    given = form.cleaned_data
    item = known_content.add_item(list_id=row.id, fingerprints=prints, note=given["note"], actor=actor)
    if row.stance == "bad" and given["copies"]:
        known_content.match_again(item_id=item, actor=actor)


@needs(MODERATE, methods=("POST",))
def remove_entry(request: Request, list_id: uuid.UUID, item_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        known_content.remove_item(item_id=item_id, list_id=list_id, actor=actor_of(request).label)
    messages.success(request, _("Removed from the list. Earlier decisions based on it stay as they are."))
    return redirect("console:hash-list", list_id=list_id)


@needs(MODERATE, methods=("POST",))
def delete(request: Request, list_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        row = known_content.get_list(list_id)
    form = ConfirmForm(row.name, request.POST)
    if not form.is_valid():
        return _show(request, list_id, {"confirm_form": form}, 422)
    with request.workspace.open():
        known_content.delete_list(list_id=list_id, actor=actor_of(request).label)
    messages.success(request, _("The list was deleted."))
    return redirect("console:hashes")
