"""How usage and jobs are shown."""

from __future__ import annotations

from collections.abc import Sequence

from django import template
from django.utils.translation import gettext_lazy as _

register = template.Library()

USAGE = {
    "requests": _("API requests"),
    "searches": _("Searches"),
    "assets": _("Assets added"),
    "bytes": _("Bytes added"),
    "ingested_bytes": _("Bytes added"),
    "vectors": _("Vectors made"),
    "generations": _("Generations"),
    "cpu_s": _("CPU time"),
    "gpu_s": _("GPU time"),
}
PRIORITIES = {1: _("low"), 2: _("normal"), 3: _("high")}


@register.filter
def usage_name(kind: str) -> object:
    return USAGE.get(kind, kind.replace("_", " ").capitalize())


@register.filter
def priority_name(priority: int) -> object:
    return PRIORITIES.get(priority, str(priority))


@register.filter
def nth(row: Sequence[object], place: int) -> object:
    return row[place]
