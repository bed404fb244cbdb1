"""Webhooks: their forms, the labels of types of events, deliveries."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from console.access import Request, actor_of, needs, page
from console.forms import StyledForm
from console.paging import page_of
from tenants.accounts.permissions import ADMIN
from tenants.errors import Conflict, Invalid
from tenants.events import endpoints, replays, ssrf_guard
from tenants.events.models import Webhook, WebhookDelivery
from tenants.events.webhooks import TEST

EVENTS = {
    "asset.created": gettext_lazy("An asset was added"),
    "asset.ready": gettext_lazy("An asset can be found"),
    "asset.failed": gettext_lazy("An asset could not be used, or was blocked"),
    "asset.deleted": gettext_lazy("An asset was deleted"),
    "job.succeeded": gettext_lazy("A job succeeded"),
    "job.failed": gettext_lazy("A job failed"),
    "job.cancelled": gettext_lazy("A job was cancelled"),
    "audit.completed": gettext_lazy("An audit was completed"),
    "review.opened": gettext_lazy("A review was opened"),
    "review.decided": gettext_lazy("A review was decided"),
    "appeal.opened": gettext_lazy("Appealed"),
    "appeal.decided": gettext_lazy("An appeal was decided"),
    "model.trained": gettext_lazy("A model was trained"),
    "model.promoted": gettext_lazy("A model was promoted"),
    "model.rolled_back": gettext_lazy("A model was rolled back"),
    "generation.finished": gettext_lazy("A generation was finished"),
    "generation.failed": gettext_lazy("A generation failed, or was blocked"),
    "quota.warning": gettext_lazy("Four fifths of a quota are used"),
    "quota.exceeded": gettext_lazy("A quota is used up"),
    "record.sealed": gettext_lazy("The record was sealed"),
    "audit.logged": gettext_lazy("Lines were added to the audit log"),
    "standing_query.matched": gettext_lazy("Something met a standing query"),
    "standing_query.digest": gettext_lazy("What met a standing query within an hour"),
}

GROUPS = (
    (gettext_lazy("Assets"), "asset."),
    (gettext_lazy("Jobs"), "job."),
    (gettext_lazy("Audits and reviews"), ("audit.completed", "review.", "appeal.")),
    (gettext_lazy("Models"), "model."),
    (gettext_lazy("Generation"), "generation."),
    (gettext_lazy("Quotas"), "quota."),
    (gettext_lazy("Record and audit log"), ("record.", "audit.logged")),
    (gettext_lazy("Standing queries"), "standing_query."),
)

SINCE = (
    (1, gettext_lazy("in the last hour")),
    (24, gettext_lazy("in the last 24 hours")),
    (72, gettext_lazy("in the last 3 days")),
    (24 * 30, gettext_lazy("in the last 30 days")),
)


def event_name(event_type: str) -> object:
    return gettext_lazy("A test") if event_type == TEST else EVENTS.get(event_type, event_type)


class WebhookForm(StyledForm):
    url = forms.CharField(
        max_length=ssrf_guard.MAX_URL,
        label=gettext_lazy("URL"),
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
        label=gettext_lazy("Description"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    which = forms.ChoiceField(
        choices=(
            ("all", gettext_lazy("All, including future ones")),
            ("some", gettext_lazy("Only these:")),
        ),
        initial="all",
        label=gettext_lazy("Events"),
        widget=forms.RadioSelect,
    )
    events = forms.MultipleChoiceField(
        choices=tuple(EVENTS.items()),
        required=False,
        label=gettext_lazy("Events"),
        widget=forms.CheckboxSelectMultiple,
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if given.get("which") == "some" and not given.get("events") and "events" not in self.errors:
            self.add_error("events", forms.ValidationError(gettext_lazy("Choose at least one.")))
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


PAGE = 50

STATES = WebhookDelivery.State.values


@needs(ADMIN)
def index(request: Request) -> HttpResponse:
    with request.workspace.open():
        rows = list(replays.list_webhooks())
    context = {"lines": [(row, [event_name(name) for name in row.events]) for row in rows]}
    return page(request, "webhooks.html", context)


@needs(ADMIN, methods=("GET", "POST"), fresh=("POST",))
def create(request: Request) -> HttpResponse:
    """Not redirected after it is made: the secret exists only in this answer."""
    form = WebhookForm(request.POST) if request.method == "POST" else WebhookForm()
    if form.is_bound and form.is_valid():
        try:
            with request.workspace.open():
                row, secret = endpoints.create_webhook(**form.values, actor=actor_of(request).label)
            return _show(request, row, {"secret": secret, "is_new": True}, 201)
        except (Invalid, Conflict) as error:
            form.refuse(error)
    return page(request, "webhook_edit.html", {"form": form}, status=422 if form.is_bound else 200)


@needs(ADMIN, methods=("GET", "POST"), fresh=("POST",))
def edit(request: Request, webhook_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        row = endpoints.get_webhook(webhook_id)
    form = WebhookForm(request.POST) if request.method == "POST" else WebhookForm(initial=_initial(row))
    if form.is_bound and form.is_valid():
        try:
            with request.workspace.open():
                endpoints.update_webhook(
                    webhook_id=webhook_id, changes=form.values, actor=actor_of(request).label
                )
            messages.success(request, _("Saved. It applies from the next event and the next attempt on."))
            return redirect("console:webhook", webhook_id=webhook_id)
        except Invalid as error:
            form.refuse(error)
    context = {"form": form, "webhook": row}
    return page(request, "webhook_edit.html", context, status=422 if form.is_bound else 200)


def _initial(row: Webhook) -> dict[str, object]:
    which = "some" if row.events else "all"
    return {"url": row.url, "description": row.description, "which": which, "events": row.events}


@needs(ADMIN)
def show(request: Request, webhook_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        row = endpoints.get_webhook(webhook_id)
    return _show(request, row, {}, 200)


def _show(request: Request, row: Webhook, more: dict[str, Any], status: int) -> HttpResponse:
    state = request.GET.get("state", "")
    state = state if state in STATES else ""
    with request.workspace.open():
        rows = replays.list_deliveries(row.id, state=state)
        found = page_of(rows, request.GET.get("before", ""), PAGE)
    rotated = row.previous_until if row.previous_until and row.previous_until > timezone.now() else None
    context = {
        "webhook": row,
        "event_names": [(name, event_name(name)) for name in row.events],
        "lines": [_line(delivery) for delivery in found.items],
        "next": found.next,
        "state": state,
        "states": STATES,
        "since": SINCE,
        "rotated_until": rotated,
        "base_url": settings.BASE_URL,
        **more,
    }
    return page(request, "webhook.html", context, status=status)


def _line(row: WebhookDelivery) -> dict[str, Any]:
    last = row.attempts[-1] if row.attempts else {}
    return {"row": row, "name": event_name(row.event.type), "last": last, "attempts": len(row.attempts)}


@needs(ADMIN, methods=("POST",))
def change_state(request: Request, webhook_id: uuid.UUID) -> HttpResponse:
    state = request.POST.get("state", "")
    with request.workspace.open():
        endpoints.get_webhook(webhook_id)
        if state in Webhook.State.values:
            endpoints.update_webhook(
                webhook_id=webhook_id, changes={"state": state}, actor=actor_of(request).label
            )
    return redirect("console:webhook", webhook_id=webhook_id)


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def rotate(request: Request, webhook_id: uuid.UUID) -> HttpResponse:
    """Not redirected, as the new secret exists only in this answer."""
    with request.workspace.open():
        row, secret = endpoints.rotate_secret(webhook_id=webhook_id, actor=actor_of(request).label)
    return _show(request, row, {"secret": secret}, 201)


@needs(ADMIN, methods=("POST",))
def delete(request: Request, webhook_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        endpoints.delete_webhook(webhook_id=webhook_id, actor=actor_of(request).label)
    messages.success(request, _("The webhook was deleted with its log."))
    return redirect("console:webhooks")


# --- Deliveries --------------------------------------------------------------------------------------------


@needs(ADMIN, methods=("POST",))
def send_test(request: Request, webhook_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            row = endpoints.send_test(webhook_id=webhook_id, actor=actor_of(request).label)
    except Conflict as error:
        messages.error(request, error.detail)
        return redirect("console:webhook", webhook_id=webhook_id)
    return redirect("console:webhook-delivery", webhook_id=webhook_id, delivery_id=row.id)


@needs(ADMIN)
def delivery(request: Request, webhook_id: uuid.UUID, delivery_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        webhook = endpoints.get_webhook(webhook_id)
        row = replays.get_delivery(webhook_id, delivery_id)
    context = {
        "webhook": webhook,
        "delivery": row,
        "name": event_name(row.event.type),
        "body": json.dumps(json.loads(row.event.body), indent=2, ensure_ascii=False),
        "attempts": [
            {**line, "at": dt.datetime.fromisoformat(line["at"])} for line in reversed(row.attempts)
        ],
    }
    # Asked again by the page itself while the delivery is under way.
    part = "parts/delivery.html" if request.headers.get("HX-Request") else "webhook_delivery.html"
    return page(request, part, context)


@needs(ADMIN, methods=("POST",))
def replay(request: Request, webhook_id: uuid.UUID, delivery_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            replays.replay(webhook_id=webhook_id, delivery_id=delivery_id, actor=actor_of(request).label)
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:webhook-delivery", webhook_id=webhook_id, delivery_id=delivery_id)


@needs(ADMIN, methods=("POST",))
def replay_failed(request: Request, webhook_id: uuid.UUID) -> HttpResponse:
    form = SinceForm(request.POST)
    hours = form.cleaned_data["hours"] if form.is_valid() else 24
    since = timezone.now() - dt.timedelta(hours=hours)
    try:
        with request.workspace.open():
            count, more = replays.replay_failed(
                webhook_id=webhook_id, since=since, actor=actor_of(request).label
            )
    except Conflict as error:
        messages.error(request, error.detail)
    else:
        said = ngettext("%(count)s delivery is sent again.", "%(count)s deliveries are sent again.", count)
        rest = " " + _("There are more; do it again for them.") if more else ""
        messages.success(request, said % {"count": count} + rest)
    return redirect("console:webhook", webhook_id=webhook_id)
