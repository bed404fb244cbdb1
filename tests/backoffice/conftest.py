"""The operator's pages in the test client: operators, tenants, and pages read as text."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.console.conftest import _plain_static_files as _plain_static_files


@pytest.fixture
def make_operator() -> Callable[[], Client]:
    """`make_operator()` is a client signed in as a new operator who belongs to no tenant."""
    from tenants.accounts import services

    def make() -> Client:
        email = f"operator-{secrets.token_hex(4)}@operators.example"
        user = services.create_user(email=email, password=secrets.token_urlsafe(12), operator=True)
        client = Client()
        client.force_login(user)
        client.user = user
        return client

    return make


@pytest.fixture
def operator(make_operator: Callable[[], Client]) -> Client:
    return make_operator()


@pytest.fixture
def owner(party: Any) -> Client:
    """The party's owner, signed in."""
    client = Client()
    client.force_login(party.owner)
    client.user = party.owner
    return client
