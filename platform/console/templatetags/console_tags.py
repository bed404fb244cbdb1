"""How values are shown: sizes, numbers, names of kinds, icons."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from django import template
from django.template.defaultfilters import filesizeformat
from django.templatetags.static import static
from django.utils import timezone
from django.utils.dateformat import format as date_format
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import get_language_info, gettext_noop
from django.utils.translation import gettext as _

from console import labels
from console.generations.labels import generator_message_of, reason_of
from console.kept_sentences import translated_sentence
from tenants.datasets.metadata import tags_of
from tenants.jobs.kinds import name_of
from tenants.retrieval.query import Highlight

register = template.Library()

NEARLY_FULL = 0.9
# How much of a moment is shown, as formats of Django, which languages write in their own way.
MOMENTS = {
    "day": gettext_noop("j M Y"),
    "minute": gettext_noop("j M Y, H:i"),
    "second": gettext_noop("j M Y, H:i:s"),
    "time": gettext_noop("H:i"),
}

# The tables of words that `label` looks codes up in.
_TABLES = {
    "erased": labels.ERASED,
    "modality": labels.MODALITIES,
    "resource": labels.RESOURCES,
    "plan-request": labels.PLAN_REQUESTS,
    "role": labels.ROLES,
    "role-meaning": labels.ROLE_MEANINGS,
    "scope": labels.SCOPES,
    "scope-meaning": labels.SCOPE_MEANINGS,
    "state": labels.STATES,
}


@cache
def _sprite() -> str:
    """Its address, which stays while a process runs; a page of results has a hundred and fifty icons."""
    return static("dist/icons.svg")


@register.simple_tag(takes_context=True)
def shortcut(context: Mapping[str, Any], action: str) -> str:
    """The member's key of an action, as a hint on what it does; nothing where it has none, or keys are off."""
    workspace = context.get("workspace")
    key = workspace.shortcuts.key_of(action) if workspace else ""
    return format_html('<kbd class="key-hint" aria-hidden="true">{}</kbd>', key) if key else ""


@register.simple_tag(takes_context=True)
def keyed(context: Mapping[str, Any], action: str) -> str:
    """The same for assistive technology, as an attribute of what it does."""
    workspace = context.get("workspace")
    key = workspace.shortcuts.key_of(action) if workspace else ""
    return (
        format_html('data-shortcut="{}" aria-keyshortcuts="{}"', action, key)
        if key
        else format_html('data-shortcut="{}"', action)
    )


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """An icon of the sprite; decoration only, so it is hidden from screen readers."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        css,
        _sprite(),
        name,
    )


def written(value: dt.datetime, shown: str) -> str:
    """A moment as the language of the page writes it."""
    form = MOMENTS[shown]
    return date_format(value, _(form))


@register.simple_tag
def moment(value: dt.datetime | None, shown: str = "minute") -> str:
    """A moment in UTC, which the script of the page makes local; a dash for one that has not come yet."""
    if value is None:
        return "–"
    utc = value.astimezone(dt.UTC)
    return format_html(
        '<time datetime="{}" data-moment="{}" title="{} UTC">{}{}</time>',
        utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        shown,
        written(utc, "second"),
        written(utc, shown),
        # Hidden where there is a script: a local time is as wide without it, and nothing moves.
        "" if shown == "day" else mark_safe('<span class="zone"> UTC</span>'),
    )


@register.filter
def marked(highlight: Highlight) -> SafeString:
    """The text with its marks as elements; all of it escaped."""
    pieces, at = [], 0
    for start, end in highlight.marks:
        pieces += [
            escape(highlight.text[at:start]),
            format_html("<mark>{}</mark>", highlight.text[start:end]),
        ]
        at = end
    return mark_safe("".join([*pieces, escape(highlight.text[at:])]))  # noqa: S308 - every piece is escaped


@register.filter
def label(code: Any, table: str) -> str:
    """The word for a code: `{{ job.state|label:"state" }}`. A code that has none stands as it is."""
    return labels.label_of(_TABLES[table], code)


@register.filter
def kind_name(kind: str) -> str:
    return name_of(kind)


@register.filter
def translated(text: object) -> str:
    """A text that was kept in English, such as the error of a job, if it is one of ours."""
    return translated_sentence(str(text)) if text else ""


@register.filter
def advice(error: Any) -> str:
    """What to do about an asset that could not be processed."""
    return str(labels.ADVICE.get((error or {}).get("type", ""), labels.ADVICE[""]))


@register.filter
def tags(asset: Any) -> list[str]:
    return tags_of(asset.metadata)


@register.filter
def failure_reason(job: Any) -> str:
    """Why a job failed: of a generation by the code of its error, of any other by the text that was kept."""
    if job.kind == "generate" and job.error:
        return reason_of(job.error)
    return translated((job.error or {}).get("detail"))


@register.filter
def generator_message(error: Any) -> str:
    """What a generator said itself, in English, beside the words that the page has for it."""
    return generator_message_of(error)


@register.filter
def amount(value: float | None, resource: str) -> str:
    """An amount of a resource in the unit that people read."""
    if value is None:
        return _("unlimited")
    if resource == "bytes":
        return filesizeformat(value)
    if resource.endswith("_s"):
        return duration(value)
    return number(value)


@register.filter
def number(value: float | None, digits: int = 0) -> str:
    """With thousands grouped by commas and a point before decimals, as both English and Chinese write numbers."""
    return "" if value is None else f"{value:,.{digits}f}"


@register.filter
def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 1:
        return _("%(n)s ms") % {"n": f"{seconds * 1000:.0f}"} if seconds else _("%(n)s s") % {"n": "0"}
    if seconds < 59.95:
        return _("%(n)s s") % {"n": f"{seconds:.1f}"}
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return _("%(m)s min %(s)s s") % {"m": minutes, "s": rest} if rest else _("%(n)s min") % {"n": minutes}
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours < 48:
        return _("%(h)s h %(m)s min") % {"h": hours, "m": minutes} if minutes else _("%(n)s h") % {"n": hours}
    return _("%(n)s h") % {"n": number(hours)}


@register.filter
def clock(seconds: float | None) -> str:
    """A moment or length of sound or film: "1:23", "1:02:03"."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@register.filter
def language_names(codes: str | list[str]) -> str:
    """One or more languages as Whisper names them; a code that has no name here stands for itself."""
    return ", ".join(_language_name(code) for code in ([codes] if isinstance(codes, str) else codes))


def _language_name(code: str) -> str:
    if code in ("zh", "yue"):
        return _("Chinese") if code == "zh" else _("Cantonese")
    with suppress(KeyError):
        return str(get_language_info(code)["name_translated"])
    return code


@register.filter
def waveform(peaks: list[int]) -> str:
    """Loudness from 0 to 100 as an SVG path of bars around the middle of a box 100 high, one unit wide each."""
    return "".join(
        f"M{at} {50 - half}h.7v{2 * half}h-.7z" for at, peak in enumerate(peaks) if (half := max(1, peak / 2))
    )


@register.filter
def ago(moment: dt.datetime) -> str:
    """How long ago, in one unit: "just now", "3 minutes ago"."""
    if timezone.now() - moment < dt.timedelta(minutes=1):
        return _("just now")
    return _("%(time)s ago") % {"time": timesince(moment, depth=1)}


@register.filter
def ends(moment: dt.datetime) -> str:
    """When something ends: "in 23 hours" where that is near, else the day."""
    left = moment - timezone.now()
    if dt.timedelta(0) < left < dt.timedelta(days=8):
        return _("in %(time)s") % {"time": timeuntil(moment, depth=1)}
    return written(moment, "day")


BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


@register.filter
def device(user_agent: str) -> str:
    """A browser in labels, "Firefox on Linux"; of one that says something else, the start of that."""
    browser = next((name for mark, name in BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in SYSTEMS if mark in user_agent), "")
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or user_agent[:40] or _("Unknown device")


@register.filter
def mobile(user_agent: str) -> bool:
    return any(mark in user_agent for mark in ("iPhone", "iPad", "Android"))


@register.filter
def verb_name(verb: str) -> str:
    """What was done, in words: "asset.deleted" is "Asset deleted"."""
    return str(labels.VERBS.get(verb, verb.replace(".", " ").replace("_", " ").capitalize()))


@register.filter
def nearly_full(share: float) -> bool:
    return share >= NEARLY_FULL


@register.filter
def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


@register.filter
def took(job: Any) -> float | None:
    """Seconds between the job's start and its end."""
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()
