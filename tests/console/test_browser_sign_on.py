"""Single sign-on in Chromium: an owner connects a provider, and people come in through it, by OpenID Connect and SAML.

Against a server in this process, with oidc-provider-mock and pysaml2 as the providers: what a client without a browser
cannot show is that policies of content and cookies across sites let the way through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tenants.accounts.models import Membership, Session, SignOnConnection
from tests.conftest import Party, new_party
from tests.console.browsing import CHROMIUM, PATIENCE_MS, aside, serving_here
from tests.tenants.saml_world import honest_idp
from tests.tenants.sign_on_world import (
    CLIENT_ID,
    allow_local,
    connect,
    domain_name,
    honest_provider,
    prove,
    somebody,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore"),  # the providers' own libraries
]


@pytest.fixture
def address(settings: Any) -> Iterator[str]:
    aside(lambda: allow_local(settings))
    with serving_here(settings) as url:
        yield url


@pytest.fixture
def party(address: str) -> Party:
    return aside(new_party)


@pytest.fixture
def window(address: str, browser: Any) -> Iterator[Callable[[], Page]]:
    """Makes windows that share nothing, each as a person's own."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def opened() -> Page:
        context = browser.new_context(base_url=address)
        context.set_default_timeout(PATIENCE_MS)
        # The provider's page asks for a style sheet that is nowhere here.
        context.route("https://**", lambda route: route.abort())
        contexts.append(context)
        page: Page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        return page

    yield opened
    for context in contexts:
        context.close()
    refused = [line for line in complaints if "Content Security Policy" in line or "cookie" in line.lower()]
    assert refused == []


def by_password(page: Page, party: Party) -> None:
    page.goto("/login")
    page.get_by_label("E-mail").fill(party.owner.email)
    page.get_by_label("Password").fill(party.password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def leave(page: Page, email: str) -> None:
    page.goto("/login?next=/datasets")
    page.get_by_role("link", name="Continue with single sign-on").click()
    page.get_by_label("E-mail").fill(email)
    page.get_by_role("button", name="Continue").click()


def authorize(page: Page, subject: str) -> None:
    page.get_by_placeholder("sub").fill(subject)
    page.get_by_role("button", name="Authorize").click()


def role_of(party: Party, email: str) -> str:
    return aside(lambda: Membership.objects.get(tenant=party.tenant, user__email=email).role)


def test_an_owner_connects_an_openid_provider_and_somebody_joins(
    party: Party, window: Callable[[], Page]
) -> None:
    email = f"ann@{domain_name(party)}"
    person = somebody("sub-1", email, name="Ann Bee", groups=["staff", "catalogue"])
    with honest_provider(person) as issuer:
        page = window()
        by_password(page, party)
        page.goto("/security/single-sign-on")
        page.get_by_role("link", name="OpenID Connect").click()
        page.get_by_label("Name").fill("House login")
        page.get_by_label("Issuer").fill(issuer)
        page.get_by_label("Client ID").fill(CLIENT_ID)
        page.get_by_label("Client secret").fill("s3cret")
        page.locator("[name=role_lines]").fill("catalogue = editor")
        page.locator("[name=role_claim]").fill("groups")
        page.get_by_role("button", name="Create connection").click()
        expect(page.get_by_role("heading", name="House login")).to_be_visible()
        route = page.url.rpartition("/")[2]
        aside(lambda: prove(party, domain_name(party), route))

        # The test goes the whole way and signs nobody in.
        page.get_by_role("button", name="Test").click()
        authorize(page, "sub-1")
        expect(page.get_by_role("heading", name="The test worked")).to_be_visible()
        expect(page.get_by_text(email)).to_be_visible()
        page.get_by_role("link", name="Back to the connection").click()
        page.get_by_role("button", name="Turn it on").click()
        expect(page.get_by_role("button", name="Require it")).to_be_visible()

        # A new person, in a window that knows nobody, is led to where they wanted to go.
        theirs = window()
        leave(theirs, email)
        authorize(theirs, "sub-1")
        expect(theirs.get_by_role("heading", name="Datasets", exact=True)).to_be_visible()
        assert role_of(party, email) == "editor"
        assert aside(lambda: str(Session.objects.get(user__email=email).connection_id)) == route

        # Turned off, their session ends.
        page.get_by_role("button", name="Turn it off").click()
        expect(page.get_by_role("button", name="Turn it on")).to_be_visible()
        theirs.goto("/datasets")
        expect(theirs.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_form_of_another_site_brings_somebody_in_by_saml(
    party: Party, address: str, window: Callable[[], Page]
) -> None:
    """The provider's page posts to ours, without the cookies of our site; the session begins all the same."""
    email = f"bob@{domain_name(party)}"
    with honest_idp() as idp:
        aside(lambda: connect(party, "saml", metadata=idp.metadata, default_role="viewer"))
        page = window()
        route = aside(lambda: SignOnConnection.objects.get(tenant=party.tenant).pk)
        idp.service_metadata = page.request.get(f"{address}/sso/{route}/metadata").text()
        idp.identity = {"mail": [email], "displayName": ["Bob Cee"]}
        leave(page, email)
        expect(page.get_by_role("heading", name="Datasets", exact=True)).to_be_visible()
        assert role_of(party, email) == "viewer"


def test_somebody_whom_the_provider_gives_no_role_is_told_so(
    party: Party, window: Callable[[], Page]
) -> None:
    email = f"dan@{domain_name(party)}"
    with honest_provider(somebody("sub-9", email)) as issuer:
        values = {"issuer": issuer, "client_id": CLIENT_ID, "client_secret": "s3cret", "default_role": ""}
        aside(lambda: connect(party, "oidc", **values))
        page = window()
        leave(page, email)
        authorize(page, "sub-9")
        expect(page.get_by_text("gives you no role in this workspace")).to_be_visible()
        page.goto("/datasets")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
