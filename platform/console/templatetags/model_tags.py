"""How figures of models are shown: shares as per cent, differences in points, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.labels import label_of
from console.learning import labels

register = template.Library()

_TABLES: Mapping[str, Mapping[str, object]] = {
    "state": labels.STATES,
    "stage": labels.STAGES,
    "method": labels.METHODS,
    "phase": labels.PHASES,
    "way": labels.WAYS,
    "figure": labels.FIGURES,
    "part": labels.PARTS,
}
MINUS = "\N{MINUS SIGN}"


@register.filter
def model_label(code: object, table: str) -> str:
    """The standard term for a code of models; a code that has none as it is."""
    return label_of(_TABLES[table], code)


@register.filter
def entry(found: Any, key: str) -> Any:
    return found.get(key) if isinstance(found, Mapping) else None


@register.filter
def rate(share: object) -> str:
    """A share of 1 in per cent with one digit."""
    return f"{share * 100:.1f}" if isinstance(share, int | float) else "–"


@register.filter
def figure(value: object, name: str) -> str:
    """A figure by its name: shares in per cent, ranks as they are, the means of reciprocals with three digits."""
    if not isinstance(value, int | float):
        return "–"
    if name == "median_rank":
        return f"{value:.0f}"
    return f"{value:.3f}" if name in {"map", "mrr"} else rate(value)


@register.filter
def points(difference: Any) -> str:
    """A difference of shares in percentage points, with its sign."""
    return signed(difference * 100, 1) if isinstance(difference, int | float) else "–"


@register.filter
def change(difference: object, name: str) -> str:
    """The difference of a figure by its name, with its sign."""
    if not isinstance(difference, int | float):
        return "–"
    if name == "median_rank":
        return signed(difference, 0)
    return signed(difference, 3) if name in {"map", "mrr"} else points(difference)


def signed(value: float, digits: int) -> str:
    shown = f"{abs(value):.{digits}f}"
    if not float(shown):
        return f"±{shown}"
    return f"{'+' if value > 0 else MINUS}{shown}"


@register.filter
def short(value: object) -> str:
    """A number of a curve: four digits at most that matter."""
    return f"{value:.4g}" if isinstance(value, int | float) else "–"


@register.filter
def roughly(seconds: object) -> str:
    """A time that is only estimated: whole seconds, minutes or hours."""
    if not isinstance(seconds, int | float):
        return "–"
    if seconds < 90:
        return _("%(n)s s") % {"n": f"{seconds:.0f}"}
    if seconds < 5400:
        return _("%(n)s min") % {"n": f"{seconds / 60:.0f}"}
    return _("%(n)s h") % {"n": f"{seconds / 3600:.1f}"}


@register.filter
def about(seconds: float) -> str:
    """A time that nobody knows better than to the minute, as part of a sentence."""
    minutes = round(seconds / 60)
    if seconds < 45:
        return _("less than a minute")
    if minutes < 90:
        return ngettext("about %(n)s minute", "about %(n)s minutes", minutes) % {"n": minutes}
    hours = round(minutes / 60)
    return ngettext("about %(n)s hour", "about %(n)s hours", hours) % {"n": hours}


#: With fewer queries a figure moves by points when a single one is answered otherwise.
FEW_QUERIES = 30


@register.filter
def few_queries(count: object) -> str:
    """What to bear in mind where a figure was measured on few queries; nothing where there are enough."""
    if not isinstance(count, int) or not 0 < count < FEW_QUERIES:
        return ""
    words = ngettext(
        "%(count)s query: a change of it is 100 points.",
        "%(count)s queries: a change of one is %(points)s points.",
        count,
    )
    return words % {"count": count, "points": f"{100 / count:.0f}"}
