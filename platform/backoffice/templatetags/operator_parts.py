"""How the operator's pages show states, resources and times."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import template
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from backoffice.forms import NAMES
from console.labels import STATES, label_of
from tenants.accounts.models import METADATA, METADATA_DEFAULT
from tenants.jobs.models import Job

register = template.Library()

# States that the console's style sheet has a colour for, and those that look like one of them.
_COLOURS = {"suspended": "blocked", "cancelled": "pending"}


@register.simple_tag
def state_badge(state: str, words: str = "") -> SafeString:
    """A state in words, those of the console if none are given; its colour only repeats them."""
    shown = words or capfirst(label_of(STATES, state))
    return format_html('<span class="status status-{}">{}</span>', _COLOURS.get(state, state), shown)


@register.filter
def resource(name: str) -> Any:
    return NAMES.get(name, name)


@register.filter
def quantity(amount: float | None, name: str) -> str:
    """An amount of a resource: bytes in their units, the rest as whole numbers."""
    return filesizeformat(amount or 0) if name in ("bytes", METADATA) else whole(amount)


@register.filter
def used_of(used: dict[str, float], name: str) -> str:
    return quantity(used[name], name) if name in used else "–"


@register.filter
def whole(amount: float | None) -> str:
    """In thousands, which both languages of the pages write so; Django groups only the first one's."""
    return f"{round(amount or 0):,}"


@register.filter
def ceiling(limits: dict[str, float], name: str) -> str:
    value = limits.get(name, METADATA_DEFAULT if name == METADATA else None)
    return "∞" if value is None else quantity(value, name)


@register.filter
def seconds(amount: float | None) -> str:
    """A span of time, as exact as its length makes sense."""
    if amount is None or amount == float("inf"):
        return "–"
    if amount < 10:
        return _("%(n)s s") % {"n": number_format(amount, 1)}
    if amount < 120:
        return _("%(n)s s") % {"n": number_format(round(amount))}
    if amount < 7200:
        return _("%(n)s min") % {"n": number_format(round(amount / 60))}
    return _("%(n)s h") % {"n": number_format(amount / 3600, 1)}


@register.filter
def ran_for(job: Job) -> str:
    if job.started_at is None:
        return "–"
    return seconds(((job.finished_at or timezone.now()) - job.started_at).total_seconds())


@register.filter
def percent(share: float | None) -> str:
    return "–" if share is None else f"{number_format(100 * share, 1)} %"


@register.filter
def moment_of(timestamp: float) -> dt.datetime:
    """A Unix time as a moment."""
    return dt.datetime.fromtimestamp(timestamp, dt.UTC)
