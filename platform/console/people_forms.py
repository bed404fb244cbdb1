"""The forms about people: codes, passwords, names, invitations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.translation import gettext as translated
from django.utils.translation import gettext_lazy as _

from console import words
from console.forms import MAX_PASSWORD, StyledForm
from console.throttle import Attempt
from tenants.accounts import second_factor
from tenants.accounts.permissions import ROLES

OVERLAPS = (
    (0, _("at once")),
    (3600, _("after an hour")),
    (86400, _("after a day")),
    (7 * 86400, _("after 7 days")),
)


class CodeForm(StyledForm):
    """A code of an authenticator app, or a recovery code."""

    code = forms.CharField(
        max_length=40,
        label=_("Code"),
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false", "class": "mono"}
        ),
    )


def password_field(label: Any, *, fresh: bool) -> forms.CharField:
    """A password: a `fresh` one is chosen now, another one is known."""
    kind = "new-password" if fresh else "current-password"
    widget = forms.PasswordInput(attrs={"autocomplete": kind})
    return forms.CharField(label=label, strip=False, max_length=MAX_PASSWORD, widget=widget)


class NewPasswordForm(StyledForm):
    password = password_field(_("New password"), fresh=True)
    again = password_field(_("The same again"), fresh=True)

    def clean_again(self) -> str:
        if self.cleaned_data["again"] != self.cleaned_data.get("password"):
            raise forms.ValidationError(_("The two passwords are not the same."))
        return self.cleaned_data["again"]


class JoinForm(NewPasswordForm):
    name = forms.CharField(
        label=_("Name"), max_length=150, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    field_order = ("name", "password", "again")


class ProofForm(StyledForm):
    """The person's own password again, before something that a borrowed browser must not do.

    `attempts` are counted once every field can be right, and before any is compared. Raises TooManyAttempts when it is
    made of what was sent, as that cleans it.
    """

    current = password_field(_("Your password"), fresh=False)

    def __init__(self, user: Any, *args: Any, attempts: Iterable[Attempt] = (), **kwargs: Any) -> None:
        self.user, self.attempts = user, tuple(attempts)
        super().__init__(*args, **kwargs)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            for attempt in self.attempts:
                attempt.admit()
            if not self.user.check_password(cleaned["current"]):
                self.add_error("current", _("This is not your password."))
        return cleaned

    def succeeded(self) -> None:
        for attempt in self.attempts:
            attempt.succeeded()


class SecondFactorForm(CodeForm, ProofForm):
    """A code, which a service compares, and the password."""

    field_order = ("code", "current")


class SecondFactorProofForm(SecondFactorForm):
    """The password and a code of the factor that is on, which is used up: for what weakens that factor."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not self.errors and not second_factor.verify(user=self.user, code=cleaned["code"]):
            self.add_error("code", translated(second_factor.WRONG))
        return cleaned


class ChangePasswordForm(ProofForm, NewPasswordForm):
    field_order = ("current", "password", "again")


class PersonForm(StyledForm):
    name = forms.CharField(
        label=_("Name"),
        max_length=150,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )


class AddressForm(StyledForm):
    email = forms.EmailField(
        label=_("E-mail"), widget=forms.EmailInput(attrs={"autocomplete": "username", "autofocus": True})
    )


class RoleForm(StyledForm):
    """A role; only those are offered that the person may give, and the service refuses the others."""

    role = forms.ChoiceField(label=_("Role"), choices=[(r, words.ROLES[r]) for r in ROLES], initial="editor")

    def __init__(self, roles: list[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered: Any = self.fields["role"].widget
        offered.choices = [(role, words.ROLES[role]) for role in roles]


class InviteForm(RoleForm):
    email = forms.EmailField(
        label=_("E-mail"),
        widget=forms.EmailInput(attrs={"autocomplete": "off", "placeholder": "ann@example.org"}),
    )
    field_order = ("email", "role")


class RotateForm(forms.Form):
    overlap = forms.TypedChoiceField(choices=OVERLAPS, coerce=int)
