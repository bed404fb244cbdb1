"""Identity providers for tests, and workspaces that trust them.

`honest_provider` is a real OpenID provider (oidc-provider-mock). `OidcForger` speaks the same and says whatever
a test has it say, with keys of its own.
"""

from __future__ import annotations

import html
import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.test import Client
from joserfc import jwt
from joserfc.jwk import RSAKey

from console.account.throttle import Attempt
from tenants.accounts.models import SignOnConnection
from tenants.accounts.operators import Operator
from tenants.people.sign_on import connections, domains
from tenants.scope import tenant_scope
from tenants.valkey import client
from tests.conftest import Party

with warnings.catch_warnings():
    # It uses a part of its own library that will go.
    warnings.simplefilter("ignore")
    import oidc_provider_mock

CLIENT_ID = "crosslight"
OPERATOR = Operator("operator@house.example")


def domain_name(party: Party) -> str:
    return f"{party.tenant.slug}.example"


def allow_local(settings: Any) -> None:
    """Providers of the tests are on this machine."""
    settings.SSO_ALLOW_HTTP, settings.SSO_PORTS = True, ("1024-65535",)
    settings.SSO_ALLOWED_NETWORKS = ("127.0.0.1/32", "::1/128")
    # Attempts are counted by address, and all tests of a process have one.
    for place in ("127.0.0.1", ""):
        client().delete(*Attempt("", place, "open")._keys)


def prove(party: Party, domain: str, connection_id: Any = None) -> Any:
    """As the operator does it."""
    row = domains.prove_by_operator(
        by=OPERATOR, label="operator:o", slug=party.tenant.slug, domain=domain, reason="test"
    )
    with tenant_scope(party.id):
        return domains.route_domain(domain_id=row.id, connection_id=connection_id, actor="key:t")


def connect(party: Party, protocol: str, *, enabled: bool = True, **values: Any) -> SignOnConnection:
    """A connection by which the party's domain signs in."""
    with tenant_scope(party.id):
        have = {one.protocol for one in SignOnConnection.objects.filter(tenant=party.id)}
    changes = connections.read_values(party.id, protocol, {"name": f"Provider {len(have)}", **values})
    with tenant_scope(party.id):
        found = connections.create_connection(protocol=protocol, changes=changes, actor="key:t")
        connections.update_connection(
            connection_id=found.id, changes={}, switches={"enabled": enabled}, actor="key:t"
        )
    prove(party, domain_name(party), found.id)
    return SignOnConnection.objects.select_related("tenant").get(pk=found.id)


def connect_oidc(party: Party, issuer: str, **values: Any) -> SignOnConnection:
    sent = {"issuer": issuer, "client_id": CLIENT_ID, "client_secret": "s3cret", "default_role": "viewer"}
    return connect(party, "oidc", **{**sent, **values})


# --- A browser, as far as these flows need one -----------------------------------------------------------


def leave(client: Client, email: str, **fields: str) -> str:
    """Ask for single sign-on; the address at the provider to which the browser is sent."""
    response = client.post("/sso", {"email": email, **fields})
    return address_of(response.content.decode())


def address_of(page: str) -> str:
    found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', page)
    assert found, page
    return html.unescape(found[1])


def query_of(address: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query))


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def sign_in_there(address: str, subject: str) -> str:
    """What a person does at the honest provider; the address that it sends the browser back to, from the path on."""
    form = urllib.parse.urlencode({"sub": subject}).encode()
    try:
        urllib.request.build_opener(_Stay).open(address, form, timeout=10)
    except urllib.error.HTTPError as answer:
        back = urllib.parse.urlsplit(answer.headers["Location"])
        return f"{back.path}?{back.query}"
    raise AssertionError("the provider did not redirect")


@contextmanager
def honest_provider(*people: oidc_provider_mock.User) -> Iterator[str]:
    """The issuer of a running provider that knows these people."""
    with oidc_provider_mock.run_server_in_thread(user_claims=people) as server:
        yield f"http://localhost:{server.server_port}"


def somebody(subject: str, email: str, **claims: object) -> oidc_provider_mock.User:
    return oidc_provider_mock.User(sub=subject, claims={"email": email, "email_verified": True, **claims})


class OidcForger:
    """An OpenID provider that says what `token` makes of the usual claims; one code, "c", for everybody."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig"})
        self.description: dict[str, object] = {}
        self.jwks: object = {"keys": [self.key.as_dict(private=False)]}
        self.token: Callable[[dict[str, object]], object] = self.sign
        self.claims: dict[str, object] = {}
        self.nonce = ""
        self.forms: list[dict[str, str]] = []
        self.asked: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.issuer = f"http://127.0.0.1:{self.server.server_address[1]}"

    def sign(
        self, claims: Mapping[str, object], *, alg: str = "RS256", key: Any = None, **header: str
    ) -> str:
        return jwt.encode(
            {"alg": alg, "kid": "k1", **header}, dict(claims), key or self.key, algorithms=[alg]
        )

    def usual_claims(self) -> dict[str, object]:
        now = int(time.time())
        usual = {"iss": self.issuer, "aud": CLIENT_ID, "sub": "s1", "nonce": self.nonce}
        return {**usual, "iat": now, "exp": now + 300, "email_verified": True, **self.claims}

    def answer(self, path: str, form: dict[str, str]) -> object:
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            paths = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/jwks"}
            return {
                "issuer": self.issuer,
                **{n: self.issuer + p for n, p in paths.items()},
                **self.description,
            }
        if path == "/jwks":
            return self.jwks
        self.forms.append(form)
        claims = {name: value for name, value in self.usual_claims().items() if value is not None}
        return {"access_token": "a", "token_type": "Bearer", "id_token": self.token(claims)}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        forger = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode()))
                found = forger.answer(self.path, form)
                body = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *args: Any) -> None:
                """Silent."""

        return Handler


@contextmanager
def forging() -> Iterator[OidcForger]:
    forger = OidcForger()
    thread = threading.Thread(target=forger.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield forger
    finally:
        forger.server.shutdown()
        forger.server.server_close()
