"""How audits are shown: words for codes, scores as bars."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import pgettext_lazy

from console.audits import labels
from console.audits.presenters import describe_evidence
from console.labels import label_of
from console.presenters import asset_name, is_veiled
from console.templatetags.console_tags import icon
from tenants.datasets.models import Asset

register = template.Library()

_TABLES = {
    "decision": labels.DECISIONS,
    "verdict": labels.VERDICTS,
    "mode": labels.MODES,
    "moderation": labels.MODERATION,
    "appeal": labels.APPEAL_STATES,
    "print": labels.PRINTS,
    "label": labels.LABELS,
    "category": labels.CATEGORIES,
    "state": labels.STATES,
    "tier": labels.TIERS,
    "provenance": labels.PROVENANCE,
    "versioned": labels.VERSIONED,
    "c2pa": labels.C2PA,
    "certificate": labels.CERTIFICATES,
    "time-stamp": labels.TIME_STAMPS,
    "declared": labels.DECLARED,
    "watermark": labels.WATERMARK,
    "origin": labels.ORIGINS,
    "algorithm": labels.ALGORITHMS,
    "modality": labels.MODALITIES,
    "kind": labels.REVIEW_KINDS,
    "rule": labels.RULES,
}


@register.filter
def audit_label(code: object, table: str) -> str:
    """The words for a code of audits; a code that has none (a rule's id, a label of a tenant) as it is."""
    return label_of(_TABLES[table], code)


@register.filter
def get(names: dict[str, str], key: str) -> str:
    return names.get(key, "")


@register.filter
def percent(share: float | None) -> str:
    """In whole per cent; what is nearly none or all is not rounded to that."""
    if share is None:
        return ""
    if 0 < share < 0.005 or 0.995 < share < 1:
        return "< 1 %" if share < 0.5 else "> 99 %"
    return f"{share * 100:.0f} %"


@register.filter
def score(value: float | None) -> str:
    """A score or distance with two digits."""
    return "" if value is None else f"{value:.2f}"


@register.filter
def says(evidence: Any) -> str:
    return describe_evidence(evidence) if isinstance(evidence, dict) else ""


@register.filter
def since(moment: dt.datetime) -> str:
    """For how long, in one unit: "3 hours"."""
    return timesince(moment, depth=1) if timezone.now() > moment else _("0 minutes")


@register.filter
def until(moment: dt.datetime) -> str:
    return timeuntil(moment, depth=1)


@register.filter
def is_past(moment: dt.datetime) -> bool:
    return moment < timezone.now()


@register.filter
def span(seconds: float | None) -> str:
    """Seconds as one unit, for what waits: "3 hours"; a dash for nothing."""
    if seconds is None:
        return "–"
    return since(timezone.now() - dt.timedelta(seconds=seconds))


@register.filter
def level(severity: int) -> str:
    """How bad, in one word, as due times are by it."""
    return "high" if severity >= 70 else "medium" if severity >= 40 else "low"


LEVELS = {
    "high": pgettext_lazy("severity", "high"),
    "medium": pgettext_lazy("severity", "medium"),
    "low": pgettext_lazy("severity", "low"),
}
# What a hash list or a rule says, in one word; codes of the API beside their words here.
ACTS = {
    "allow": pgettext_lazy("rule", "allow"),
    "label": pgettext_lazy("rule", "label"),
    "review": pgettext_lazy("rule", "review"),
    "block": pgettext_lazy("rule", "block"),
    "good": pgettext_lazy("stance", "good"),
    "bad": pgettext_lazy("stance", "bad"),
}


@register.filter
def level_name(severity: int) -> str:
    return str(LEVELS[level(severity)])


@register.filter
def severity_name(code: str) -> str:
    return str(LEVELS.get(code, code))


@register.filter
def act_name(code: str) -> str:
    return str(ACTS.get(code, code))


@register.filter
def named(asset: Asset, chars: int = 90) -> str:
    """What an asset is called where everybody reads it in passing (`presenters.asset_name`)."""
    return asset_name(asset, chars, _("Asset without a caption"))


@register.filter
def kind_named(asset: Asset) -> str:
    """The same without its labels, whatever it stands at."""
    return asset_name(asset, veiled=True)


@register.filter
def veiled(asset: Asset | None) -> bool:
    return is_veiled(asset)


@register.filter
def hides(decision: str, asset: Asset | None) -> bool:
    """Whether the words of an audited item are veiled: where the audit asks for that, or the item is veiled now."""
    return decision in ("review", "block") or is_veiled(asset)


@register.simple_block_tag
def veil(content: str, closed: bool, label: str = "") -> SafeString:
    """`{% veil asset|veiled %}…{% endveil %}`: behind something to open, by pointer, keyboard and screen reader alike.

    It is `<details>`, so that it needs no script; without `closed` the content stands there as it is.
    """
    if not closed or not content.strip():
        return SafeString(content)
    return format_html(
        '<details class="veiled-words"><summary>{}{}</summary><div>{}</div></details>',
        icon("eye-slash"),
        label or _("Show the words"),
        SafeString(content),
    )


@register.simple_tag
def score_bar(value: float, interval: object = None, threshold: float | None = None) -> SafeString:
    """A score from 0 to 1 as a bar: its interval a line, the threshold a mark. The numbers stand beside it."""
    low, high = _interval(interval)
    return format_html(
        '<svg class="score-bar" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        '<rect class="track" width="100" height="12" rx="1"></rect>'
        '<rect class="fill" width="{}" height="12" rx="1"></rect>{}{}</svg>',
        _at(value),
        format_html('<path class="whisker" d="M{} 6H{}"></path>', low, high) if interval else "",
        format_html('<path class="mark" d="M{} 0v12"></path>', _at(threshold))
        if threshold is not None
        else "",
    )


def _interval(given: Any) -> tuple[float, float]:
    return (_at(given[0]), _at(given[1])) if given else (0.0, 0.0)


def _at(value: float) -> float:
    return round(100 * min(1.0, max(0.0, float(value))), 1)
