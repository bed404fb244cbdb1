"""The forms about people: codes, passwords, names, invitations."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from console import words
from console.forms import StyledForm
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
    return forms.CharField(label=label, strip=False, max_length=4096, widget=widget)


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
    """The person's own password again, before something that a borrowed browser must not do."""

    current = password_field(_("Your password"), fresh=False)

    def __init__(self, user: Any, *args: Any, **kwargs: Any) -> None:
        self.user = user
        super().__init__(*args, **kwargs)

    def clean_current(self) -> str:
        if not self.user.check_password(self.cleaned_data["current"]):
            raise forms.ValidationError(_("This is not your password."))
        return self.cleaned_data["current"]


class SecondFactorForm(CodeForm, ProofForm):
    field_order = ("code", "current")


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
