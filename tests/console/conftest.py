"""The console in the test client: people with every role, and pages read as HTML."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.test import Client

from standalone.frontend import OUTPUT
from tests.conftest import Party


@pytest.fixture(autouse=True)
def _plain_static_files(settings: Any) -> None:
    """Names without hashes, so that these tests need no collectstatic; the bundle itself must be there."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture(autouse=True, scope="session")
def _front_end_is_built() -> None:
    missing = [n for n in ("app.js", "app.css", "icons.svg") if not (OUTPUT / n).exists()]
    if missing:
        pytest.exit(
            f"The front end is not built ({', '.join(missing)}): run `make prepare-test`.", returncode=1
        )


@pytest.fixture(autouse=True)
def _waits_from_a_minute_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between attempts begin long enough for a busy machine not to sit the first one out."""
    from console.account import throttle

    monkeypatch.setattr(throttle, "NARROW", replace(throttle.NARROW, first_s=60))
    monkeypatch.setattr(throttle, "WIDE", replace(throttle.WIDE, first_s=30))


@pytest.fixture
def person(party: Party) -> Callable[..., Client]:
    """`person("viewer")` is a client signed in as a new person with that role in the party's tenant."""
    from tenants.accounts import services

    def sign_in(role: str = "owner", *, tenants: tuple[Any, ...] = ()) -> Client:
        email = f"{role}-{secrets.token_hex(4)}@{party.tenant.slug}.example"
        user = services.create_user(email=email, password=secrets.token_urlsafe(12))
        for tenant in tenants or (party.tenant,):
            services.set_role(tenant=tenant, user=user, role=role)
        client = Client()
        client.force_login(user)
        client.user = user
        return client

    return sign_in


@pytest.fixture
def owner(person: Callable[..., Client]) -> Client:
    return person("owner")


@pytest.fixture
def fresh_address() -> str:
    """An address in a network that nobody has tried to sign in from."""
    return f"2001:db8:{secrets.randbelow(1 << 16):x}:{secrets.randbelow(1 << 16):x}::5"


# --- A real browser against the running stack (tests.console.browsing) ------------------------------------


# Not for the session: while Playwright runs, its event loop is this thread's, and Django refuses its database there.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    from tests.console.browsing import CHROMIUM, FLAGS

    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, stack: Any) -> Iterator[Any]:
    """A new window; the test fails if the console of the browser shows an error or a refused resource."""
    from tests.console.browsing import PATIENCE_MS

    context = browser.new_context(base_url=stack.base_url, permissions=["microphone"])
    context.set_default_timeout(PATIENCE_MS)
    window = context.new_page()
    complaints: list[str] = []
    window.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    window.on("pageerror", lambda error: complaints.append(str(error)))
    # For a test that cuts the line, and clears what the browser says of that.
    window.complaints = complaints
    yield window
    context.close()
    # The browser also reports answers that a test asks for on purpose: a file that is refused.
    assert [line for line in complaints if "status of 415" not in line] == []


@pytest.fixture
def grocery(stack: Any) -> dict[str, Any]:
    return next(tenant for tenant in stack.demo["tenants"] if tenant["slug"] == "grocery")


@pytest.fixture(scope="session")
def cookies() -> dict[str, Any]:
    """Of people who signed in before: hashing a password and two pages for each test would take minutes in all."""
    return {}


@pytest.fixture
def signed_in(page: Any, grocery: dict[str, Any], cookies: dict[str, Any]) -> Any:
    page.context.add_cookies(cookies.get(grocery["user"], []))
    page.goto("/")
    if "/login" in page.url:
        page.get_by_label("E-mail").fill(grocery["user"])
        page.get_by_label("Password").fill(grocery["password"])
        page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    cookies[grocery["user"]] = page.context.cookies()
    return page
