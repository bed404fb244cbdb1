"""People for tests: without passwords, whose hashing is slow by design, unless one is asked for."""

from __future__ import annotations

import secrets
import time
from typing import Any
from urllib.parse import parse_qs, urlparse

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from tenants.accounts import second_factor, services
from tenants.accounts.models import Membership, User
from tenants.accounts.permissions import Actor


def new_user(password: str = "") -> User:
    user = User(email=f"p-{secrets.token_hex(6)}@people.example", name="Pat Doe")
    user.set_password(password or None)
    user.save()
    return user


def new_member(tenant: Any, role: str, password: str = "") -> User:
    user = new_user(password)
    services.set_role(tenant=tenant, user=user, role=role)
    return user


def acting(tenant: Any, user: User) -> Actor:
    role = Membership.objects.get(tenant=tenant, user=user).role
    return Actor(str(user.pk), role, user.pk)


def token_of(link: str) -> str:
    return parse_qs(urlparse(link).query)["token"][0]


class App:
    """An authenticator app that was shown the person's secret."""

    def __init__(self, user: User) -> None:
        from base64 import b32decode

        text = parse_qs(urlparse(second_factor.begin(user)).query)["secret"][0]
        self._totp = TOTP(b32decode(text), 6, SHA1(), 30)

    def code(self, steps: int = 0) -> str:
        """The code that the app shows now, or some steps of 30 s later."""
        return self._totp.generate(time.time() + 30 * steps).decode()


def turn_on(user: User) -> tuple[App, list[str]]:
    """The person's app and recovery codes; the app's present code is used up."""
    app = App(user)
    return app, second_factor.confirm(user=user, code=app.code())
