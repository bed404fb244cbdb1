"""The forms about audits, reviews, policies and hash lists. What they may mean is for the services to judge."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from console.audit_words import CATEGORIES, MODALITIES
from console.forms import StyledForm, style
from tenants.errors import Invalid
from tenants.moderation.known import RawHash
from tenants.moderation.reviews import MAX_LABELS, MAX_REASON
from tenants.pipeline.assets.uploads import MAX_TEXT
from tenants.pipeline.audits.audit_requests import MAX_SUBJECT


class AuditForm(StyledForm):
    text = forms.CharField(
        required=False,
        strip=False,
        max_length=MAX_TEXT,
        label=_("Text"),
        widget=forms.Textarea(attrs={"rows": 3}),
    )
    subject = forms.CharField(
        required=False,
        max_length=MAX_SUBJECT,
        label=_("Sender"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    # Whether there is one of that id is for the service to say.
    policy = forms.UUIDField(required=False, label=_("Policy"), widget=forms.Select)

    def __init__(self, policies: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", _("The one in force")), *((str(p.id), p.name) for p in policies)]
        self.fields["policy"].widget = forms.Select(choices=choices)
        style(self.fields["policy"].widget, invalid="policy" in self.errors)

    def refusal(self) -> Invalid:
        """What is wrong, as a service would say it."""
        name, found = next(iter(self.errors.items()))
        return Invalid(" ".join(map(str, found)), pointer=f"/{name}")


def _labels(text: str) -> list[str]:
    return list(dict.fromkeys(label for part in text.split(",") if (label := part.strip())))


class DecideForm(StyledForm):
    """What a person says about a flag. Labels left empty are those of the rule."""

    decision = forms.ChoiceField(
        label=_("Decision"),
        choices=[("allow", _("Allow")), ("label", _("Label")), ("block", _("Block"))],
        widget=forms.RadioSelect,
    )
    reason = forms.CharField(
        label=_("Reason"), max_length=MAX_REASON, widget=forms.Textarea(attrs={"rows": 3})
    )
    labels = forms.CharField(
        label=_("Labels"),
        required=False,
        max_length=MAX_LABELS * 60,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    block_copies = forms.BooleanField(required=False, label=_("Block this and its copies"))

    def clean_labels(self) -> list[str] | None:
        return _labels(self.cleaned_data["labels"]) or None


class BulkForm(StyledForm):
    """Which flags, and what becomes of them. Without a reason it is only a preview."""

    rule = forms.CharField(
        label=_("Rule"), required=False, max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    category = forms.ChoiceField(
        label=_("Category"), required=False, choices=[("", _("Any")), *CATEGORIES.items()]
    )
    modality = forms.ChoiceField(
        required=False, choices=[("", _("Any")), *MODALITIES.items()], label=_("Kind")
    )
    dataset = forms.UUIDField(label=_("Dataset"), required=False, widget=forms.Select)
    older_than_h = forms.FloatField(
        required=False, min_value=0, max_value=87_600, label=_("Waiting for more than (hours)")
    )
    max_severity = forms.IntegerField(required=False, min_value=0, max_value=100, label=_("Severity at most"))
    decision = forms.ChoiceField(
        label=_("Decision"), choices=[("allow", _("Allow")), ("label", _("Label")), ("block", _("Block"))]
    )
    reason = forms.CharField(
        label=_("Reason"), required=False, max_length=MAX_REASON, widget=forms.Textarea(attrs={"rows": 2})
    )
    labels = forms.CharField(label=_("Labels"), required=False, max_length=MAX_LABELS * 60)
    as_of = forms.DateTimeField(required=False, widget=forms.HiddenInput)
    batch = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def __init__(self, datasets: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", _("Any")), *((str(d.id), d.name) for d in datasets)]
        self.fields["dataset"].widget = forms.Select(choices=choices)
        style(self.fields["dataset"].widget, invalid="dataset" in self.errors)

    def clean_labels(self) -> list[str] | None:
        return _labels(self.cleaned_data["labels"]) or None

    @property
    def kept(self) -> list[tuple[str, str]]:
        """What the second form repeats of the first, as text."""
        names = (
            "rule",
            "category",
            "modality",
            "dataset",
            "older_than_h",
            "max_severity",
            "decision",
            "batch",
        )
        return [(name, value) for name in names if (value := self.data.get(name))]

    @property
    def wanted(self) -> dict[str, Any]:
        """Parts of the services' filter."""
        given = self.cleaned_data
        return {
            "rule": given["rule"],
            "category": given["category"],
            "modality": given["modality"],
            "dataset_id": given["dataset"],
            "older_than_h": given["older_than_h"],
            "max_severity": given["max_severity"],
        }


class UndoForm(StyledForm):
    reason = forms.CharField(
        label=_("Reason"), max_length=MAX_REASON, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )


class PolicyForm(StyledForm):
    """A new policy: empty, or from a starter."""

    name = forms.CharField(
        label=_("Name"), max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    description = forms.CharField(
        label=_("Description"), required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 2})
    )
    # Whether there is one of that name is for the service to say.
    starter = forms.CharField(required=False, label=_("Begin with"), widget=forms.Select)

    def __init__(self, starters: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", _("An empty policy")), *((one.id, one.title) for one in starters)]
        self.fields["starter"].widget = forms.Select(choices=choices)
        style(self.fields["starter"].widget, invalid="starter" in self.errors)


class DocumentForm(StyledForm):
    """A policy's document as JSON text. What stands in it is checked by the service, with a pointer for each error."""

    document = forms.CharField(
        strip=False,
        max_length=600_000,
        label=_("Document"),
        widget=forms.Textarea(attrs={"rows": 28, "spellcheck": "false", "class": "mono editor"}),
    )

    def clean_document(self) -> Any:
        try:
            return json.loads(self.cleaned_data["document"])
        except json.JSONDecodeError as error:
            raise forms.ValidationError(
                gettext("This is not JSON: {problem} (line {line}, column {column}).").format(
                    problem=error.msg, line=error.lineno, column=error.colno
                )
            ) from error
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(gettext("This is not JSON that can be read.")) from error


class ActivateForm(StyledForm):
    MODES = (
        ("shadow", _("Shadow: decides, changes nothing")),
        ("enforce", _("Enforce")),
        ("off", _("Off")),
    )
    version = forms.IntegerField(label=_("Version"), min_value=1, max_value=2**31 - 1)
    mode = forms.ChoiceField(label=_("Mode"), choices=MODES)
    percent = forms.IntegerField(
        required=False, min_value=1, max_value=100, initial=100, label=_("For how many of 100 items")
    )

    @property
    def ratio(self) -> float:
        given = self.cleaned_data
        return (given["percent"] or 100) / 100 if given["mode"] == "enforce" else 1.0


class HashListForm(StyledForm):
    name = forms.CharField(
        label=_("Name"), max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    stance = forms.ChoiceField(
        choices=[
            ("bad", _("Bad: known content that must not come back")),
            ("good", _("Good: known to be fine")),
        ],
        label=_("What is on it"),
    )
    description = forms.CharField(
        label=_("Description"), required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 2})
    )


class HashesForm(StyledForm):
    """Hashes from elsewhere, one a line: its hexadecimal digits, then a note if wanted."""

    algorithm = forms.ChoiceField(
        choices=[("pdq", _("PDQ, of pictures")), ("sha256", _("SHA-256, of the bytes"))], label=_("Kind")
    )
    lines = forms.CharField(
        max_length=2_000_000,
        label=_("Hashes"),
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
        label=_("Or an asset, by its id"),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "mono"}),
    )
    note = forms.CharField(
        label=_("Note"), required=False, max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    copies = forms.BooleanField(label=_("Copies"), required=False)
