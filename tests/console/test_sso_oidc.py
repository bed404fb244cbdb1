"""Signing in by OpenID Connect: with a real provider, and with one that lies."""

from __future__ import annotations

import base64
import hmac
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from joserfc.jwk import ECKey, RSAKey

from tenants.accounts import sign_on
from tenants.accounts.models import Membership, Session, SignOnIdentity, SignOnRequest, User
from tenants.events.models import AuditEvent
from tenants.people.sign_on import connections, oidc
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.sign_on_world import (
    CLIENT_ID,
    OidcForger,
    allow_local,
    come,
    connect_oidc,
    domain_name,
    forging,
    honest_provider,
    leave,
    query_of,
    sign_in_there,
    somebody,
)
from tests.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def _local(settings: Any) -> None:
    allow_local(settings)


@pytest.fixture
def forger() -> Iterator[OidcForger]:
    with forging() as running:
        yield running


def events(party: Party, verb: str) -> list[dict[str, Any]]:
    with tenant_scope(party.id):
        return list(AuditEvent.objects.filter(verb=verb).order_by("id").values_list("details", flat=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the provider's own library
def test_a_new_person_joins_through_a_real_provider(party: Party) -> None:
    email = f"ann@{domain_name(party)}"
    with honest_provider(somebody("sub-1", email, name="Ann Bee", groups=["staff", "catalogue"])) as issuer:
        roles = {"role_claim": "groups", "role_map": [{"value": "catalogue", "role": "editor"}]}
        route = connect_oidc(party, issuer, **roles)
        client = Client()
        address = leave(client, email.upper(), next="/datasets")
        asked = query_of(address)
        assert address.startswith(f"{issuer}/oauth2/authorize?")
        assert asked["client_id"] == CLIENT_ID
        assert asked["redirect_uri"] == connections.redirect_uri(route.id)
        assert asked["code_challenge_method"] == "S256"
        assert len(asked["state"]) == len(asked["nonce"]) == len(asked["code_challenge"]) == 43
        response = client.get(sign_in_there(address, "sub-1"))
        assert (response.status_code, response["Location"]) == (302, "/datasets")
        assert client.get("/datasets").status_code == 200
    user = User.objects.get(email=email)
    assert (user.name, user.has_usable_password(), user.is_staff) == ("Ann Bee", False, False)
    assert Membership.objects.get(user=user).role == "editor"
    assert Session.objects.get(user=user).connection_id == route.id
    with tenant_scope(party.id):
        assert SignOnIdentity.objects.get(user=user).subject == "sub-1"
    joined = {"role": "editor", "by": "Provider 0"}
    assert events(party, "member.joined") == [joined]
    assert events(party, "sign_on.entered") == [{"by": "Provider 0"}]


def answer_of(client: Client, forger: OidcForger, email: str, **query: str) -> Any:
    """The console's answer to what the forger says."""
    asked = query_of(leave(client, email))
    forger.nonce = asked["nonce"]
    forger.claims = {"email": email, **forger.claims}
    path = asked["redirect_uri"].partition("8000")[2]
    return client.get(path, {"state": asked["state"], "code": "c", **query})


def refused(response: Any) -> str:
    assert response.status_code == 422
    assert "_auth_user_id" not in response.wsgi_request.session
    return str(response.context["detail"])


Lie = Callable[[OidcForger, dict[str, object]], object]
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "k1"})


def with_public_key(forger: OidcForger, claims: dict[str, object]) -> object:
    """The classic confusion: the provider's public key, which everybody knows, as the secret of an HMAC."""
    signed = f"eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.{forger.sign(claims).split('.')[1]}"
    digest = hmac.digest(forger.key.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def without_signature(forger: OidcForger, claims: dict[str, object]) -> object:
    signed = forger.sign(claims).split(".")
    return f"eyJhbGciOiJub25lIn0.{signed[1]}."


NOW = int(time.time())
LIES: dict[str, tuple[Lie, str]] = {
    "alg none": (without_signature, "signature of the ID token"),
    "HS256 with the public key": (with_public_key, "signature of the ID token"),
    "another key": (lambda f, c: f.sign(c, key=OTHER_KEY), "signature of the ID token"),
    "a key that nobody published": (lambda f, c: f.sign(c, kid="k2"), "signature of the ID token"),
    "an elliptic key": (
        lambda f, c: f.sign(c, alg="ES256", key=ECKey.generate_key("P-256")),
        "signature of the ID token",
    ),
    "no token": (lambda f, c: None, "without an ID token"),
    "no JWT": (lambda f, c: "a.b.c", "signature of the ID token"),
    "a very large token": (lambda f, c: f.sign({**c, "x": "x" * 70_000}), "very large"),
    "expired": (lambda f, c: f.sign({**c, "exp": NOW - 3600}), "has expired"),
    "without expiry": (lambda f, c: f.sign({k: v for k, v in c.items() if k != "exp"}), "until when"),
    "expiry as text": (lambda f, c: f.sign({**c, "exp": "tomorrow"}), "until when"),
    "from the future": (lambda f, c: f.sign({**c, "iat": NOW + 3600, "exp": NOW + 7200}), "from the future"),
    "not yet valid": (lambda f, c: f.sign({**c, "nbf": NOW + 3600}), "not valid"),
    "wrong issuer": (lambda f, c: f.sign({**c, "iss": "https://evil.example"}), "says issuer https://evil"),
    "wrong audience": (lambda f, c: f.sign({**c, "aud": "shop"}), "says audience shop, expected crosslight"),
    "several audiences without a party": (
        lambda f, c: f.sign({**c, "aud": [CLIENT_ID, "b"]}),
        "was issued to",
    ),
    "another party": (lambda f, c: f.sign({**c, "azp": "shop"}), "was issued to shop, expected crosslight"),
    "another question": (lambda f, c: f.sign({**c, "nonce": "n"}), "another question"),
    "no nonce": (lambda f, c: f.sign({k: v for k, v in c.items() if k != "nonce"}), "another question"),
    "no subject": (lambda f, c: f.sign({**c, "sub": ""}), "not name the person"),
    "an endless subject": (lambda f, c: f.sign({**c, "sub": "s" * 501}), "not name the person"),
    "no address": (lambda f, c: f.sign({**c, "email": None}), "no e-mail address in the claim email"),
    "an odd address": (lambda f, c: f.sign({**c, "email": "a b@c"}), "no usable e-mail address"),
    "an address that is not verified": (lambda f, c: f.sign({**c, "email_verified": False}), "not verified"),
    "an address elsewhere": (lambda f, c: f.sign({**c, "email": "ann@gmail.example"}), "has not proved that"),
    "an address below": (
        lambda f, c: f.sign({**c, "email": f"x@sub.{str(c['email']).split('@')[1]}"}),
        "has not proved",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_of_a_provider(party: Party, forger: OidcForger, name: str) -> None:
    lie, said = LIES[name]
    connect_oidc(party, forger.issuer)
    email = f"ann@{domain_name(party)}"
    forger.token = lambda claims: lie(forger, claims)
    before = User.objects.filter(email__endswith=domain_name(party)).count()
    assert said in refused(answer_of(Client(), forger, email))
    assert User.objects.filter(email__endswith=domain_name(party)).count() == before
    assert [said in line["why"] for line in events(party, "sign_on.refused")] == [True]
    assert events(party, "sign_on.entered") == []


def test_the_same_provider_is_believed_where_it_does_not_lie(party: Party, forger: OidcForger) -> None:
    connect_oidc(party, forger.issuer)
    client, email = Client(), f"ann@{domain_name(party)}"
    assert answer_of(client, forger, email).status_code == 302
    assert client.get("/").status_code == 200
    form = forger.forms[0]
    assert (form["grant_type"], form["code"]) == ("authorization_code", "c")
    assert len(form["code_verifier"]) == 64


def test_what_the_library_would_let_pass_of_the_description(party: Party, forger: OidcForger) -> None:
    connect_oidc(party, forger.issuer)
    email = f"ann@{domain_name(party)}"
    for description, said in (
        ({"issuer": "https://evil.example"}, "calls itself https://evil.example"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "names no usable authorization_endpoint"),
        ({"x": "x" * 300_000}, "has more than 262144 bytes"),
    ):
        forger.description = description
        oidc._kept.clear()
        response = Client().post("/sso", {"email": email})
        assert response.status_code == 422
        assert said in response.context["detail"]


def test_keys_that_change_are_read_again(party: Party, forger: OidcForger) -> None:
    connect_oidc(party, forger.issuer)
    email = f"ann@{domain_name(party)}"
    assert answer_of(Client(), forger, email).status_code == 302
    forger.key = RSAKey.generate_key(2048, {"kid": "k9"})
    forger.jwks = {"keys": [forger.key.as_dict(private=False)]}
    forger.token = lambda claims: forger.sign(claims, kid="k9")
    # As if half a minute had passed: not every token that names an unknown key has them read again.
    for url, kept in list(oidc._kept.items()):
        oidc._kept[url] = replace(kept, at=kept.at - oidc.AGAIN_S - 1)
    assert answer_of(Client(), forger, email).status_code == 302


def test_an_answer_counts_once_and_in_the_browser_that_asked(party: Party, forger: OidcForger) -> None:
    connect_oidc(party, forger.issuer)
    email = f"ann@{domain_name(party)}"
    mine, theirs = Client(), Client()
    asked = query_of(leave(mine, email))
    leave(theirs, email)
    forger.nonce, forger.claims = asked["nonce"], {"email": email}
    path = asked["redirect_uri"].partition("8000")[2]
    answer = {"state": asked["state"], "code": "c"}
    assert "not requested by this browser" in refused(theirs.get(path, answer))
    assert "not requested by this browser" in refused(Client().get(path, answer))
    assert "not requested by this browser" in refused(mine.get(path, {**answer, "state": "other"}))
    assert mine.get(path, answer).status_code == 302
    again = mine.get(path, answer)
    assert "not requested by this browser" in str(again.context["detail"])
    assert len(forger.forms) == 1


def test_a_question_of_another_workspace_is_no_answer_here(
    party: Party, stranger: Party, forger: OidcForger
) -> None:
    connect_oidc(party, forger.issuer)
    other = connect_oidc(stranger, forger.issuer)
    client, email = Client(), f"ann@{domain_name(party)}"
    asked = query_of(leave(client, email))
    response = client.get(f"/sso/{other.id}/callback", {"state": asked["state"], "code": "c"})
    assert "not requested by this browser" in refused(response)
    assert forger.forms == []


def test_an_old_question_is_over(party: Party, forger: OidcForger) -> None:
    route = connect_oidc(party, forger.issuer)
    client, email = Client(), f"ann@{domain_name(party)}"
    asked = query_of(leave(client, email))
    with tenant_scope(party.id):
        SignOnRequest.objects.filter(provider=route.id).update(expires_at="2020-01-01T00:00:00Z")
    path = asked["redirect_uri"].partition("8000")[2]
    assert "not requested" in refused(client.get(path, {"state": asked["state"], "code": "c"}))


def test_what_the_provider_says_instead_is_shown_as_text(party: Party, forger: OidcForger) -> None:
    connect_oidc(party, forger.issuer)
    said = answer_of(Client(), forger, f"ann@{domain_name(party)}", error="access_denied<b>")
    assert refused(said) == "The provider says: access_denied<b>"
    assert b"access_denied&lt;b&gt;" in said.content


def test_an_issuer_must_not_lead_inside(party: Party, settings: Any) -> None:
    settings.SSO_ALLOWED_NETWORKS = ()
    connect_oidc(party, "http://127.0.0.1:9999")
    response = Client().post("/sso", {"email": f"ann@{domain_name(party)}"})
    assert response.status_code == 422
    assert "has an address that is not called from here" in response.context["detail"]


def test_a_provider_that_does_not_answer_holds_nobody_up(
    party: Party, forger: OidcForger, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SSO_TIMEOUT_S = 1.5
    route = connect_oidc(party, forger.issuer)
    held = threading.Event()
    monkeypatch.setattr(forger, "answer", lambda _path, _form: held.wait(PATIENCE_S) and {})
    try:
        said = refused(Client().post("/sso", {"email": f"ann@{domain_name(party)}"}))
    finally:
        held.set()
    assert said.endswith("No answer within 1.5 seconds.")
    with tenant_scope(party.id):
        assert AuditEvent.objects.get(verb="sign_on.refused", target=str(route.id)).details["why"] == said


def test_a_provider_that_answers_without_end_is_not_read_to_the_end(party: Party, forger: OidcForger) -> None:
    forger.description = {"padding": "x" * oidc.MAX_DOCUMENT}
    connect_oidc(party, forger.issuer)
    said = refused(Client().post("/sso", {"email": f"ann@{domain_name(party)}"}))
    assert said.endswith(f"The answer has more than {oidc.MAX_DOCUMENT} bytes.")


def test_the_sign_in_page_offers_it_where_somebody_uses_it(
    party: Party, forger: OidcForger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as nobody:
        nobody.setattr(sign_on, "is_offered", lambda: False)
        assert b"single sign-on" not in Client().get("/login").content
    connect_oidc(party, forger.issuer)
    assert b'href="/sso"' in Client().get("/login").content
    assert b'href="/sso?next=/keys"' in Client().get("/login?next=/keys").content


def test_what_it_costs(party: Party, forger: OidcForger) -> None:
    """Two requests of somebody who came a moment ago (`make bench-sign_on`)."""
    connect_oidc(party, forger.issuer)
    email = f"ann@{domain_name(party)}"
    come(Client(), forger, email)
    with CaptureQueriesContext(connection) as captured:
        assert come(Client(), forger, email).status_code == 302
    assert len([one for one in captured.captured_queries if "SAVEPOINT" not in one["sql"]]) <= 52
