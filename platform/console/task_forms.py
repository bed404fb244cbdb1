"""The form of a task: weights of the parts, and rules by which words in the query change them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms import StyledForm
from tenants.errors import Conflict, ServiceError
from tenants.retrieval import tasks
from tenants.retrieval.models import SearchTask

#: Those that a person weighs; vectors and examples keep what they have.
SHOWN = ("text", "image", "audio", "video")
# Rows for rules that are still empty.
SPARE = 2

Row = dict[str, str]


@dataclass
class RuleRow:
    """One rule as it was typed, with what is wrong with it."""

    number: int
    words: str = ""
    weights: Row = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def cells(self) -> list[tuple[str, str, str]]:
        """Part, name of the field, and what was typed in it."""
        return [(part, f"rule-{self.number}-{part}", self.weights.get(part, "")) for part in SHOWN]

    @property
    def is_empty(self) -> bool:
        return not self.words.strip() and not any(self.weights.values())


class TaskForm(StyledForm):
    """Weights and rules are read from fields of their own names: `weight-PART`, `rule-N-when`, `rule-N-PART`."""

    slug = forms.CharField(
        max_length=tasks.MAX_SLUG,
        label=gettext_lazy("Name"),
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "furniture", "class": "mono"}),
    )
    description = forms.CharField(
        required=False, max_length=tasks.MAX_DESCRIPTION, widget=forms.Textarea(attrs={"rows": 2})
    )
    dynamic = forms.BooleanField(
        required=False, label=gettext_lazy("The gate may correct them for each query")
    )

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        task: SearchTask | tasks.Task | None = None,
        **kwargs: Any,
    ) -> None:
        typed = _fields_of(task) if data is None else data
        self.kept = dict(task.weights) if task else {}
        self.weights: Row = {part: str(typed.get(f"weight-{part}", "")) for part in SHOWN}
        self.weight_errors: list[str] = []
        self.rules = _rows(typed)
        # Cleans at once where something was sent.
        super().__init__(data, **kwargs)

    @property
    def weight_cells(self) -> list[tuple[str, str, str]]:
        return [(part, f"weight-{part}", self.weights[part]) for part in SHOWN]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        own = _numbers(self.weights, self.weight_errors)
        given["weights"] = {**{part: self.kept[part] for part in self.kept if part not in SHOWN}, **own}
        given["rules"] = [_rule(row) for row in self.rules if not row.is_empty]
        if self.weight_errors or any(row.errors for row in self.rules):
            self.add_error(None, _("Some weights or rules are not valid."))
        return given

    def refuse(self, error: ServiceError) -> None:
        """A taken name at the name, weights at the weights, rules at their row."""
        if isinstance(error, Conflict):
            self.add_error("slug", error.detail)
            return
        for entry in getattr(error, "errors", None) or [{"pointer": "", "detail": error.detail}]:
            name, *rest = entry["pointer"].strip("/").split("/")
            if name == "weights":
                self.weight_errors.append(entry["detail"])
            elif name == "rules" and rest and rest[0].isdecimal():
                filled = [row for row in self.rules if not row.is_empty]
                filled[int(rest[0])].errors.append(entry["detail"])
            else:
                self.add_error(name if name in self.fields else None, entry["detail"])


def _fields_of(task: SearchTask | tasks.Task | None) -> dict[str, str]:
    """What a form that was not sent shows."""
    if task is None:
        return {f"weight-{part}": "1" for part in SHOWN}
    shown = {f"weight-{part}": _shown(task.weights[part]) for part in SHOWN if part in task.weights}
    for number, (words, weights) in enumerate(rules_of(task)):
        shown[f"rule-{number}-when"] = ", ".join(words)
        shown |= {f"rule-{number}-{part}": _shown(weights[part]) for part in SHOWN if part in weights}
    return shown


def rules_of(task: SearchTask | tasks.Task) -> Iterator[tuple[tuple[str, ...], Mapping[str, float]]]:
    """Words and weights of each rule, of a row or of a built-in task."""
    for rule in (tasks.of_row(task) if isinstance(task, SearchTask) else task).rules:
        yield rule.words, rule.weights


def _shown(weight: float) -> str:
    return f"{weight:g}"


def _rows(data: Mapping[str, Any]) -> list[RuleRow]:
    """Rules as typed, then some empty rows."""
    rows = [_row(data, number) for number in range(tasks.MAX_RULES)]
    filled = [row for row in rows if not row.is_empty]
    empty = [row for row in rows if row.is_empty]
    return [*filled, *empty[:SPARE]]


def _row(data: Mapping[str, Any], number: int) -> RuleRow:
    weights = {part: str(data.get(f"rule-{number}-{part}", "")) for part in SHOWN}
    return RuleRow(number, str(data.get(f"rule-{number}-when", "")), weights)


def _rule(row: RuleRow) -> dict[str, Any]:
    words = [word for one in row.words.split(",") if (word := one.strip())]
    if not words:
        row.errors.append(_("Name the words that it is about."))
    if len(words) > tasks.MAX_WORDS or any(len(word) > tasks.MAX_WORD or "\0" in word for word in words):
        row.errors.append(
            _("At most %(words)d words of %(length)d characters.")
            % {"words": tasks.MAX_WORDS, "length": tasks.MAX_WORD}
        )
    return {"when": words, "weights": _numbers(row.weights, row.errors)}


def _numbers(typed: Row, errors: list[str]) -> dict[str, float]:
    """Weights of the parts that were filled in."""
    found: dict[str, float] = {}
    for part, text in typed.items():
        if not text.strip():
            continue
        try:
            value = float(text.strip())
        except ValueError:
            value = math.nan
        if not 0 <= value <= tasks.MAX_WEIGHT:
            errors.append(_("A weight is a number from 0 to %(most)g.") % {"most": tasks.MAX_WEIGHT})
            break
        found[part] = value
    return found
