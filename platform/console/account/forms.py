"""The forms about one's own account: signing in, codes, passwords, names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.core.validators import MaxLengthValidator
from django.http import HttpRequest
from django.utils.translation import gettext as translated
from django.utils.translation import gettext_lazy as _

from console.account.throttle import Attempt
from console.forms import StyledForm, style
from tenants.accounts import second_factor
from tenants.accounts.passkeys import MAX_NAME

MAX_PASSWORD = 4096


class SignInForm(AuthenticationForm):
    """What is missing is said before anything is counted or hashed. Raises TooManyAttempts when it is cleaned."""

    attempt: Attempt

    error_messages = {
        "invalid_login": _("Wrong e-mail address or password."),
        "inactive": _("This account is not active."),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        email, password = self.fields["username"], self.fields["password"]
        email.label = _("E-mail")
        email.widget = forms.EmailInput(
            attrs={"autocomplete": "username", "autofocus": True, "maxlength": 254, "class": "form-control"}
        )
        style(password.widget, invalid=False)
        password.validators.append(MaxLengthValidator(MAX_PASSWORD))

    def clean_username(self) -> str:
        return self.cleaned_data["username"].strip().lower()

    def clean(self) -> dict[str, Any]:
        if self.errors:
            return self.cleaned_data
        self.attempt = Attempt.of(cast(HttpRequest, self.request), "login", self.cleaned_data["username"])
        self.attempt.admit()
        return super().clean()


class CodeForm(StyledForm):
    """A code of an authenticator app, or a recovery code."""

    code = forms.CharField(
        max_length=40,
        label=_("Code"),
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false", "class": "mono"}
        ),
    )


def password_field(label: Any, *, fresh: bool, required: bool = True) -> forms.CharField:
    """A password: a `fresh` one is chosen now, another one is known."""
    kind = "new-password" if fresh else "current-password"
    widget = forms.PasswordInput(attrs={"autocomplete": kind})
    return forms.CharField(
        label=label, strip=False, max_length=MAX_PASSWORD, widget=widget, required=required
    )


class NewPasswordForm(StyledForm):
    password = password_field(_("New password"), fresh=True)
    again = password_field(_("Repeat it"), fresh=True)

    def clean_again(self) -> str:
        if self.cleaned_data["again"] != self.cleaned_data.get("password"):
            raise forms.ValidationError(_("The passwords do not match."))
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
                self.add_error("current", _("Wrong password."))
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


class VerifyForm(StyledForm):
    """One proof that it is still the person: the password, or a code where an app is on, which is used up.

    Raises TooManyAttempts when what was sent is cleaned.
    """

    password = password_field(_("Your password"), fresh=False, required=False)
    code = forms.CharField(
        max_length=40,
        required=False,
        label=_("Or a code from your authenticator app"),
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "spellcheck": "false", "class": "mono"}
        ),
    )

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self.request, self.user = request, cast(Any, request.user)
        super().__init__(*args, **kwargs)
        if not second_factor.app_is_on(self.user):
            del self.fields["code"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if self.errors:
            return cleaned
        if cleaned.get("code"):
            attempt = self._admitted("code")
            if second_factor.verify(user=self.user, code=cleaned["code"]):
                attempt.succeeded()
            else:
                self.add_error("code", translated(second_factor.WRONG))
        elif cleaned["password"]:
            attempt = self._admitted("proof")
            if self.user.check_password(cleaned["password"]):
                attempt.succeeded()
            else:
                self.add_error("password", _("This is not your password."))
        else:
            self.add_error("password", _("Enter your password."))
        return cleaned

    def _admitted(self, purpose: str) -> Attempt:
        attempt = Attempt.of(self.request, purpose, self.user.email)
        attempt.admit()
        return attempt


class PasskeyForm(StyledForm):
    name = forms.CharField(
        max_length=MAX_NAME,
        label=_("Name"),
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": _("Laptop")}),
    )


class ConfirmForm(ProofForm):
    """The password of an account that is to be linked, and a code where it has a second factor."""

    code = forms.CharField(
        max_length=40,
        required=False,
        label=_("Code of your app, or a recovery code"),
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "spellcheck": "false", "class": "mono"}
        ),
    )
    field_order = ("current", "code")

    def __init__(self, user: Any, *args: Any, asks_code: bool, **kwargs: Any) -> None:
        self.asks_code = asks_code
        super().__init__(user, *args, **kwargs)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        asked = self.asks_code and not self.errors
        if asked and not second_factor.verify(user=self.user, code=cleaned["code"]):
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
