"""The operator's forms: what was typed, cleaned. What it may mean is for the services to judge."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms import StyledForm
from tenants.accounts import trials
from tenants.accounts.models import METADATA, METADATA_DEFAULT, RATE, RESOURCES, Acting, FeatureFlag, Plan
from tenants.accounts.operators import MAX_REASON
from tenants.people import approvals, plan_requests

NAMES = {
    "requests": gettext_lazy("Requests a month"),
    "assets": gettext_lazy("Assets"),
    "bytes": gettext_lazy("Bytes"),
    "vectors": gettext_lazy("Vectors"),
    "generations": gettext_lazy("Generations a month"),
    "cpu_s": gettext_lazy("CPU seconds a month"),
    "gpu_s": gettext_lazy("GPU seconds a month"),
    METADATA: gettext_lazy("Bytes of metadata an asset"),
    RATE: gettext_lazy("Requests a minute"),
}


class OperatorForm(StyledForm):
    """Several forms of a page ask for a reason: each field has an id of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("auto_id", f"id_{type(self).__name__.lower()}_%s")
        super().__init__(*args, **kwargs)
        if "plan" in self.fields:
            self.fields["plan"].widget.choices = [
                (plan.slug, plan.name) for plan in Plan.objects.order_by("name", "slug")
            ]


class ReasonForm(OperatorForm):
    reason = forms.CharField(max_length=MAX_REASON, label=gettext_lazy("Reason"), strip=True)


class OptionalReasonForm(OperatorForm):
    reason = forms.CharField(max_length=MAX_REASON, label=gettext_lazy("Reason"), required=False)


class NewTenantForm(OperatorForm):
    slug = forms.CharField(
        max_length=50,
        label=gettext_lazy("Slug"),
        help_text=gettext_lazy(
            "Small letters, digits and hyphens. It names the tenant and cannot be changed."
        ),
    )
    name = forms.CharField(max_length=200, label=gettext_lazy("Name"))
    plan = forms.CharField(label=gettext_lazy("Plan"), widget=forms.Select)
    owner = forms.EmailField(
        label=gettext_lazy("E-mail of the first owner"), help_text=gettext_lazy("They receive an invitation.")
    )


class PlanChoiceForm(OperatorForm):
    plan = forms.CharField(label=gettext_lazy("Plan"), widget=forms.Select)


class TrialForm(OperatorForm):
    days = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=trials.MAX_DAYS,
        label=gettext_lazy("Days from now"),
        help_text=gettext_lazy("Empty: it never ends."),
    )


class OwnerForm(OperatorForm):
    email = forms.EmailField(label=gettext_lazy("E-mail"))


class CeilingField(forms.FloatField):
    """A ceiling; `none` is one that is infinite, and empty is left to whoever asks."""

    widget = forms.TextInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, min_value=0, **kwargs)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and value.strip().lower() in ("none", "∞"):
            return NO_CEILING
        return super().to_python(value)

    def clean(self, value: Any) -> Any:
        """Whole numbers as such, as the plans have them."""
        cleaned = super().clean(value)
        whole = isinstance(cleaned, float) and cleaned.is_integer()
        return int(cleaned) if whole else cleaned

    def validate(self, value: Any) -> None:
        if value is not NO_CEILING:
            super().validate(value)

    def run_validators(self, value: object) -> None:
        if value is not NO_CEILING:
            super().run_validators(value)


class _NoCeiling:
    def __str__(self) -> str:
        return "none"


NO_CEILING = _NoCeiling()


class LimitsForm(OperatorForm):
    """Where a tenant differs from its plan. Empty: as the plan; `none`: no ceiling."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Known before the form begins to check what was typed.
        self.base_fields = self.limit_fields()  # type: ignore[misc]  # Django reads it from the form itself
        super().__init__(*args, **kwargs)

    def limit_fields(self) -> dict[str, forms.Field]:
        return {name: CeilingField(label=label) for name, label in NAMES.items()}

    @property
    def exceptions(self) -> dict[str, float | None]:
        given = {name: value for name, value in self.cleaned_data.items() if value is not None}
        return {name: None if value is NO_CEILING else value for name, value in given.items()}


class GrantForm(LimitsForm):
    """The plan and the limits that a tenant is to have, and words to who asked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order_fields(["plan", "words"])

    @property
    def exceptions(self) -> dict[str, float | None]:
        given = {name: self.cleaned_data[name] for name in NAMES if self.cleaned_data[name] is not None}
        return {name: None if value is NO_CEILING else value for name, value in given.items()}

    def limit_fields(self) -> dict[str, forms.Field]:
        return {
            "plan": forms.CharField(label=gettext_lazy("Plan"), widget=forms.Select),
            "words": forms.CharField(
                required=False, max_length=plan_requests.MAX_WORDS, label=gettext_lazy("Words to who asked")
            ),
            **super().limit_fields(),
        }


class DeclineForm(OperatorForm):
    words = forms.CharField(
        max_length=plan_requests.MAX_WORDS,
        label=gettext_lazy("Words to who asked"),
        widget=forms.Textarea(attrs={"rows": 3}),
    )


def _ceilings() -> dict[str, forms.Field]:
    """The fields of a plan that bound something, in the order in which they are shown."""
    return {
        **{name: CeilingField(label=NAMES[name]) for name in RESOURCES},
        METADATA: CeilingField(
            label=NAMES[METADATA],
            help_text=gettext_lazy("Empty: %(default)s.") % {"default": METADATA_DEFAULT},
        ),
        RATE: forms.IntegerField(required=False, min_value=1, label=NAMES[RATE]),
        "trial_days": forms.IntegerField(
            required=False,
            min_value=1,
            max_value=trials.MAX_DAYS,
            label=gettext_lazy("Days of a trial"),
            help_text=gettext_lazy("Then a tenant may only read. Empty: the plan has no end."),
        ),
    }


class PlanForm(OperatorForm):
    """A plan; an empty ceiling is none."""

    name = forms.CharField(max_length=100, label=gettext_lazy("Name"))
    offered = forms.BooleanField(
        required=False,
        label=gettext_lazy("Offered to members who ask for more"),
        widget=forms.Select(choices=[("", gettext_lazy("No")), ("1", gettext_lazy("Yes"))]),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.base_fields = {**self.base_fields, **_ceilings()}  # type: ignore[misc]  # as above
        super().__init__(*args, **kwargs)

    @property
    def values(self) -> dict[str, Any]:
        given = self.cleaned_data
        named = (*RESOURCES, METADATA)
        limits = {name: given[name] for name in named if given[name] not in (None, NO_CEILING)}
        return {
            "name": given["name"],
            "limits": limits,
            "rate_per_minute": given[RATE],
            "trial_days": given["trial_days"],
            "offered": given["offered"],
        }


class NewPlanForm(PlanForm):
    slug = forms.CharField(max_length=50, label=gettext_lazy("Slug"))
    field_order = ["slug", "name"]


class ConfirmForm(OperatorForm):
    """The slug of what is to be deleted, typed."""

    slug = forms.CharField(label=gettext_lazy("Slug"), widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, expected: str, *args: Any, **kwargs: Any) -> None:
        self.expected = expected
        super().__init__(*args, **kwargs)

    def clean_slug(self) -> str:
        typed = self.cleaned_data["slug"]
        if typed != self.expected:
            raise forms.ValidationError(_("Type the slug exactly as it is shown."))
        return typed


class ActForm(ReasonForm):
    access = forms.ChoiceField(
        choices=Acting.Access.choices, initial=Acting.Access.READ, label=gettext_lazy("Access")
    )
    field_order = ["reason", "access"]


class ApprovalForm(ActForm):
    """What a tenant's owners are asked for."""

    minutes = forms.IntegerField(
        min_value=approvals.LEAST_MINUTES,
        max_value=approvals.MOST_MINUTES,
        initial=60,
        label=gettext_lazy("Duration in minutes"),
    )
    field_order = ["reason", "access", "minutes"]


class FlagForm(OptionalReasonForm):
    state = forms.ChoiceField(
        choices=[("default", gettext_lazy("Default")), *FeatureFlag.State.choices],
        label=gettext_lazy("State"),
    )
    share = forms.IntegerField(
        min_value=0, max_value=100, required=False, label=gettext_lazy("Percentage of all tenants")
    )
    tenants = forms.CharField(
        required=False,
        max_length=5000,
        label=gettext_lazy("Also these tenants"),
        help_text=gettext_lazy("Slugs, separated by spaces."),
    )
    field_order = ["state", "share", "tenants", "reason"]
