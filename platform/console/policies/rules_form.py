"""Rules of a policy by form: what a form can say is edited as fields, every other rule is kept as it was written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from console.audits.labels import CATEGORIES, CATEGORY_ABOUT, MODALITIES, SIGN_ABOUT, SIGNS, THEN
from console.forms import StyledForm
from tenants.errors import Invalid
from tenants.moderation.json_values import why_unstorable
from tenants.moderation.rules import conditions
from tenants.moderation.rules.conditions import Condition
from tenants.moderation.rules.document import (
    DECISIONS,
    MAX_BYTES,
    MAX_LABEL,
    MAX_LABELS,
    MAX_REASON,
    MOST_APPEAL_DAYS,
    SEVERITY,
)

APPEAL_DAYS = "appeal_days"

#: A policy with more is written as JSON: nobody overlooks so many lines.
MOST_ROWS = 100

#: Datasets that a rule can be limited to, beside those that rules name already.
MOST_DATASETS = 100

_SUBJECTS = [
    (gettext_lazy("Categories"), list(CATEGORIES.items())),
    (gettext_lazy("Other"), [(name, SIGNS[name]) for name in (*conditions.SIGNS, conditions.STRIKES)]),
]


class _Known(forms.MultipleChoiceField):
    """Of what the form offers, which `RuleForm.clean_datasets` knows: fields are cleaned before they get choices."""

    def valid_value(self, value: Any) -> bool:
        return True


class RuleForm(StyledForm):
    """One rule as fields. `rule` is what it says; `kept` is the rule that it began as, empty for a new one."""

    kept = forms.CharField(required=False, strip=False, max_length=40_000, widget=forms.HiddenInput)
    subject = forms.ChoiceField(label=gettext_lazy("If it finds"), choices=_SUBJECTS)
    least = forms.FloatField(
        label=gettext_lazy("From"),
        required=False,
        min_value=0,
        max_value=conditions.MOST_STRIKES,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off", "maxlength": 20}),
    )
    then = forms.ChoiceField(label=gettext_lazy("Then"), choices=[(name, THEN[name]) for name in DECISIONS])
    reason = forms.CharField(
        label=gettext_lazy("Reason, for people"),
        strip=False,
        max_length=MAX_REASON,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    labels = forms.CharField(
        label=gettext_lazy("Labels (with commas)"),
        required=False,
        strip=False,
        max_length=MAX_LABELS * (MAX_LABEL + 2),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    severity = forms.IntegerField(
        label=gettext_lazy("Severity, 0 to 100"),
        required=False,
        min_value=0,
        max_value=100,
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off", "maxlength": 20}),
    )
    modalities = forms.MultipleChoiceField(
        label=gettext_lazy("Only in"),
        required=False,
        choices=list(MODALITIES.items()),
        widget=forms.CheckboxSelectMultiple,
    )
    datasets = _Known(
        label=gettext_lazy("Only in these datasets"),
        required=False,
        widget=forms.SelectMultiple(attrs={"size": 4}),
    )
    stop = forms.BooleanField(required=False, label=gettext_lazy("Stop evaluating rules if this one applies"))

    def __init__(self, datasets: Sequence[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        self._datasets = dict(datasets)
        super().__init__(*args, **kwargs)
        self.fields["datasets"].widget.choices = datasets

    def clean_datasets(self) -> list[str]:
        found: list[str] = self.cleaned_data["datasets"]
        if not set(found) <= set(self._datasets):
            raise forms.ValidationError(_("This dataset does not exist."))
        return found

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        subject, least = given.get("subject"), given.get("least")
        if least is not None and (wrong := _why_no_least(subject or "", least)):
            self.add_error("least", wrong)
        if subject == conditions.STRIKES and least is None and "least" not in self.errors:
            self.add_error("least", _("Enter the minimum number of strikes."))
        found = _split(given.get("labels", ""))
        if given.get("then") == "label" and not found and "labels" not in self.errors:
            self.add_error("labels", _("Enter the labels to apply."))
        if len(found) > MAX_LABELS or any(len(one) > MAX_LABEL for one in found):
            said = _("At most {most} labels of {size} characters.")
            self.add_error("labels", said.format(most=MAX_LABELS, size=MAX_LABEL))
        if not given.get("reason", "x").strip():
            self.add_error("reason", _("Give a reason that people can read."))
        return given

    @property
    def condition(self) -> Condition:
        given = self.cleaned_data
        return Condition(
            given["subject"],
            given["least"],
            tuple(given["modalities"]),
            tuple(sorted(given["datasets"])),
        )

    def rule(self, rule_id: str) -> dict[str, Any]:
        """The rule as a person would write it, with the notation that it had where it says the same."""
        given, before = self.cleaned_data, self.before
        when = before.get("when") if isinstance(before.get("when"), str) else ""
        rule: dict[str, Any] = {
            "id": rule_id,
            "when": conditions.keep_or_write(str(when), self.condition),
            "then": given["then"],
            "reason": given["reason"],
        }
        if found := _split(given["labels"]):
            rule["labels"] = found
        if given["severity"] is not None:
            rule["severity"] = given["severity"]
        if given["stop"]:
            rule["stop"] = True
        return rule

    @property
    def before(self) -> dict[str, Any]:
        """The rule that the row began as; empty for a new one."""
        text = (self.data.get(self.add_prefix("kept")) if self.is_bound else self.initial.get("kept")) or ""
        found = _read_json(text) if text else {}
        return found if isinstance(found, dict) else {}

    @property
    def rule_id(self) -> str:
        return str(self.before.get("id", ""))

    @property
    def about(self) -> str:
        subject = str(self["subject"].value() or "")
        return str(CATEGORY_ABOUT.get(subject) or SIGN_ABOUT.get(subject) or "")

    @property
    def opened(self) -> bool:
        """Whether what is seldom needed is shown: it says something, or something is wrong there."""
        names = ("severity", "modalities", "datasets", "stop")
        return any(self[name].value() not in (None, "", [], False) or name in self.errors for name in names)


def _why_no_least(subject: str, least: float) -> str:
    if subject in CATEGORIES:
        if least > 1 or "e" in repr(least):
            return _("A score is between 0 and 1, such as 0.8.")
    elif subject == conditions.STRIKES:
        if not least.is_integer() or least < 1:
            return _("A whole number of strikes, from 1 on.")
    elif subject:
        return _("This has no score: leave it empty.")
    return ""


def _split(text: str) -> list[str]:
    return list(dict.fromkeys(label for part in text.split(",") if (label := part.strip())))


# --- From a rule, and back -------------------------------------------------------------------------------


def fields_of(rule: object) -> dict[str, Any] | None:
    """What stands in the fields for a rule, or None for one that the form cannot say entirely."""
    if not isinstance(rule, dict) or not isinstance(rule.get("when"), str):
        return None
    condition = conditions.read_condition(rule["when"])
    if condition is None:
        return None
    severity = rule.get("severity")
    found = {
        "kept": as_kept(rule),
        "subject": condition.subject,
        "least": _number(condition),
        "then": rule.get("then"),
        "reason": rule.get("reason"),
        "labels": ", ".join(map(str, rule["labels"])) if isinstance(rule.get("labels"), list) else "",
        "severity": None if severity == SEVERITY.get(str(rule.get("then"))) else severity,
        "modalities": list(condition.modalities),
        "datasets": list(condition.datasets),
        "stop": rule.get("stop") is True,
    }
    form = RuleForm([(name, name) for name in condition.datasets], _as_sent(found))
    return found if form.is_valid() and _normal(form.rule(form.rule_id)) == _normal(rule) else None


def _number(condition: Condition) -> str:
    if condition.least is None:
        return ""
    return str(int(condition.least)) if condition.subject == conditions.STRIKES else repr(condition.least)


def _as_sent(fields: Mapping[str, Any]) -> QueryDict:
    """As a browser would send them: it sends one line, and no box that is not ticked."""
    sent = QueryDict(mutable=True)
    for name, value in fields.items():
        if isinstance(value, list):
            sent.setlist(name, value)
        elif value is not None and value is not False:
            sent[name] = " ".join(str(value).splitlines()) if name != "kept" else value
    return sent


def _normal(rule: Mapping[str, Any]) -> dict[str, Any]:
    """With every default, as policies are stored."""
    then = str(rule.get("then"))
    defaults: dict[str, Any] = {"labels": [], "severity": SEVERITY.get(then), "stop": False}
    return {**defaults, **{name: value for name, value in rule.items() if value is not None}}


def as_kept(rule: object) -> str:
    """In one line, and in signs that every form carries."""
    return json.dumps(rule, ensure_ascii=True)


def _read_json(text: str) -> Any:
    """What the page itself has put into a hidden field. Raises Invalid."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if found is None or why_unstorable(found, MAX_BYTES):
        raise Invalid(_("The form was damaged in transit. Open the policy again."))
    return found


class Card:
    """A rule that the form cannot say: shown, moved and removed, and otherwise kept as it is."""

    def __init__(self, prefix: str, kept: str) -> None:
        self.prefix, self.kept = prefix, kept
        self.rule = _read_json(kept)
        self.errors: list[str] = []

    @property
    def rule_id(self) -> str:
        return str(self.rule.get("id", "")) if isinstance(self.rule, dict) else ""


Row = RuleForm | Card


class RulesForm:
    """All rules of a document in their order, and `rest`, what else stands in it."""

    def __init__(self, rows: list[Row], rest: dict[str, Any], datasets: Sequence[tuple[str, str]]) -> None:
        self.rows, self.rest, self.datasets = rows, rest, datasets
        self.errors: list[str] = []
        #: In which an appeal can be made, as it is typed; and what is wrong with it.
        self.appeal_days = _as_typed_days(rest.get(APPEAL_DAYS))
        self.appeal_days_error = ""

    @classmethod
    def of_document(cls, document: Mapping[str, Any], datasets: Iterable[tuple[str, str]]) -> RulesForm:
        """Raises Invalid for what no form shows: it stays JSON."""
        rules = document.get("rules", [])
        if not isinstance(rules, list):
            raise Invalid(_("Rules must be a list. Fix that here to continue with the form."))
        if len(rules) > MOST_ROWS:
            said = _("It has {count} rules; the form shows at most {most}. Continue here.")
            raise Invalid(said.format(count=len(rules), most=MOST_ROWS))
        if wrong := why_unstorable(document, MAX_BYTES):
            raise Invalid(wrong)
        fields = [fields_of(rule) for rule in rules]
        known = dict(datasets)
        named = {name for one in fields if one for name in one["datasets"]}
        choices = [*known.items(), *((name, name) for name in sorted(named - set(known)))]
        rows: list[Row] = [
            Card(f"r{place}", as_kept(rule))
            if found is None
            else RuleForm(choices, prefix=f"r{place}", initial=found)
            for place, (rule, found) in enumerate(zip(rules, fields, strict=True))
        ]
        return cls(rows, {name: value for name, value in document.items() if name != "rules"}, choices)

    @classmethod
    def of_request(
        cls, data: QueryDict, datasets: Iterable[tuple[str, str]], *, judged: bool = True
    ) -> RulesForm:
        """What was sent, in the order in which it stood; unless `judged`, as it was typed, with no word about what is
        wrong. Raises Invalid for what no page of ours sends."""
        rest = _read_json(data.get("rest", "{}"))
        names = list(dict.fromkeys(data.getlist("row")))
        odd = [name for name in names if not (name.isascii() and name.isdecimal() and len(name) < 6)]
        if odd or len(names) > MOST_ROWS or not isinstance(rest, dict):
            raise Invalid(_("The form was damaged in transit. Open the policy again."))
        known = dict(datasets)
        kept = [_read_json(text) for name in names if (text := data.get(f"r{name}-kept"))]
        choices = [*known.items(), *((name, name) for name in sorted(_named_datasets(kept) - set(known)))]
        rows: list[Row] = [
            (_judged if judged else _as_typed)(data, f"r{name}", choices)
            if f"r{name}-subject" in data
            else Card(f"r{name}", data.get(f"r{name}-kept", ""))
            for name in names
        ]
        rest.pop("rules", None)
        form = cls(rows, rest, choices)
        form.read_appeal_days(data.get(APPEAL_DAYS, form.appeal_days).strip(), judged=judged)
        return form

    def read_appeal_days(self, typed: str, *, judged: bool) -> None:
        """What was typed in place of what the document says; what was left as it was stays exactly that."""
        if typed == self.appeal_days:
            return
        self.appeal_days = typed
        if not typed:
            self.rest.pop(APPEAL_DAYS, None)
        elif typed.isascii() and typed.isdecimal() and len(typed) < 6 and 1 <= int(typed) <= MOST_APPEAL_DAYS:
            self.rest[APPEAL_DAYS] = int(typed)
        elif judged:
            said = _("A whole number of days, from 1 to {most}.")
            self.appeal_days_error = said.format(most=MOST_APPEAL_DAYS)

    # --- Changing the list ---

    def add(self) -> str | None:
        """A further rule at the end; its prefix, or None where there are as many as can be."""
        if len(self.rows) >= MOST_ROWS:
            self.errors.append(_("At most {most} rules.").format(most=MOST_ROWS))
            return None
        taken = [int(row.prefix[1:]) for row in self.rows if row.prefix]
        prefix = f"r{max(taken, default=-1) + 1}"
        first = {"subject": "abuse", "then": "review"}
        self.rows.append(RuleForm(self.datasets, prefix=prefix, initial=first))
        return prefix

    def remove(self, prefix: str) -> int | None:
        """The place of what was removed."""
        at = self._place(prefix)
        if at is not None:
            del self.rows[at]
        return at

    def move(self, prefix: str, by: int) -> None:
        at = self._place(prefix)
        if at is not None and 0 <= at + by < len(self.rows):
            self.rows[at], self.rows[at + by] = self.rows[at + by], self.rows[at]

    def _place(self, prefix: str) -> int | None:
        return next((at for at, row in enumerate(self.rows) if row.prefix == prefix), None)

    # --- What it says ---

    @property
    def cards(self) -> int:
        return sum(isinstance(row, Card) for row in self.rows)

    @property
    def kept_rest(self) -> str:
        return as_kept(self.rest)

    def is_valid(self) -> bool:
        rows = all(not row.errors for row in self.rows if isinstance(row, RuleForm))
        return rows and not self.appeal_days_error

    def rules(self) -> list[Any]:
        """Of a valid form."""
        taken = {row.rule_id for row in self.rows} - {""}
        found: list[Any] = []
        for row in self.rows:
            if isinstance(row, Card):
                found.append(row.rule)
                continue
            rule_id = row.rule_id or _free_id(row.cleaned_data["subject"], taken)
            taken.add(rule_id)
            found.append(row.rule(rule_id))
        return found

    def document(self) -> dict[str, Any]:
        """Of a valid form."""
        return {"rules": self.rules(), **self.rest}

    def refuse(self, place: int | None, field: str, detail: str) -> None:
        """Show what is wrong at the row of this place, or above the form."""
        row = self.rows[place] if place is not None and place < len(self.rows) else None
        if row is None:
            self.errors.append(detail)
        elif isinstance(row, Card):
            row.errors.append(detail)
        else:
            row.add_error(field if field in row.fields else None, detail)


def _as_typed_days(value: object) -> str:
    return "" if value is None else json.dumps(value)


def _judged(data: QueryDict, prefix: str, datasets: Sequence[tuple[str, str]]) -> RuleForm:
    return RuleForm(datasets, data, prefix=prefix)


def _as_typed(data: QueryDict, prefix: str, datasets: Sequence[tuple[str, str]]) -> RuleForm:
    typed: dict[str, Any] = {}
    for name in RuleForm.base_fields:
        sent = f"{prefix}-{name}"
        typed[name] = data.getlist(sent) if name in ("modalities", "datasets") else data.get(sent, "")
    return RuleForm(datasets, prefix=prefix, initial={**typed, "stop": bool(typed["stop"])})


def _named_datasets(kept: Iterable[object]) -> set[str]:
    found: set[str] = set()
    for rule in kept:
        when = rule.get("when") if isinstance(rule, dict) else None
        condition = conditions.read_condition(when) if isinstance(when, str) else None
        found.update(condition.datasets if condition else ())
    return found


def _free_id(subject: str, taken: set[str]) -> str:
    base = subject.replace("_", "-")
    return next(
        name
        for number in range(1, MOST_ROWS + 2)
        if (name := base if number == 1 else f"{base}-{number}") not in taken
    )


# --- In words --------------------------------------------------------------------------------------------


def condition_words(when: object, datasets: Mapping[str, str]) -> str:
    """What a rule looks for, in the words of the form, or empty where only CEL says it. `datasets`: names by id."""
    condition = conditions.read_condition(when) if isinstance(when, str) else None
    if condition is None:
        return ""
    name = condition.subject
    if name == conditions.STRIKES:
        count = int(condition.least or 1)
        parts = [
            ngettext(
                "The sender has {count} strike at least", "The sender has {count} strikes at least", count
            ).format(count=count)
        ]
    else:
        parts = [str(CATEGORIES.get(name) or SIGNS[name])]
    if name in CATEGORIES:
        parts.append(
            _("from the policy’s threshold on")
            if condition.least is None
            else _("from a score of {score} on").format(score=_number(condition))
        )
    if condition.modalities:
        kinds = _(" or ").join(str(MODALITIES[one]) for one in condition.modalities)
        parts.append(_("only in: {kinds}").format(kinds=kinds))
    if condition.datasets:
        named = _(" or ").join(datasets.get(one, one) for one in condition.datasets)
        parts.append(_("only in the dataset {names}").format(names=named))
    return _(", ").join(parts)
