"""OpenID Connect (Core 1.0): the code flow with PKCE, state and nonce, and what an ID token has to be.

The library's claims and requests are used, and its HTTP clients are not: every address is a tenant's, and is called
through the guard. Algorithms are an allow-list of asymmetric ones, so that neither `none` nor an HMAC under the
provider's public key can pass (RFC 8725, sections 2.1 and 3.1).
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from urllib.parse import quote, urlsplit

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from django.utils.translation import gettext as _
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tenants.events.fetching import Question, Reply, Unreachable, fetch
from tenants.events.ssrf_guard import for_sign_on
from tenants.people.sign_on.assertions import Person, Refused, checked, texts

ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
MAX_DOCUMENT = 256 * 1024
MAX_TOKEN = 64 * 1024
LEEWAY_S = 60
# When somebody has to sign in anew, until the answer is here.
MOST_AGO_S = 660
# Documents of a provider are asked for again after so long; keys sooner if a token names one that is not there.
FRESH_S, AGAIN_S, MAX_KEPT = 600.0, 30.0, 500
SCOPES = "openid email profile"
Claims = Mapping[str, object]


@dataclass(frozen=True)
class Client:
    """This installation as a client of a tenant's provider. An empty secret: a public one, which PKCE protects."""

    issuer: str
    client_id: str
    secret: str
    redirect_uri: str
    scopes: str = ""
    email_claim: str = ""
    role_claim: str = ""


@dataclass(frozen=True)
class Secrets:
    """What one question is bound to: the answer's state, the token's nonce, the code's verifier (RFC 7636)."""

    state: str
    nonce: str
    verifier: str
    # The person has to sign in there anew, whoever is signed in already.
    again: bool = False


@dataclass(frozen=True)
class _Kept:
    at: float
    document: Claims


_kept: dict[str, _Kept] = {}
_lock = Lock()


def authorization_url(client: Client, secrets: Secrets, email: str = "") -> str:
    """Where the browser is sent. Raises Refused when the provider cannot be asked."""
    more = {"login_hint": email} if email else {}
    more |= {"prompt": "login", "max_age": "0"} if secrets.again else {}
    scopes = " ".join(dict.fromkeys(f"{SCOPES} {client.scopes}".split()))
    return prepare_grant_uri(
        _endpoint(discover(client.issuer), "authorization_endpoint"),
        client_id=client.client_id,
        response_type="code",
        redirect_uri=client.redirect_uri,
        scope=scopes,
        state=secrets.state,
        nonce=secrets.nonce,
        code_challenge=create_s256_code_challenge(secrets.verifier),
        code_challenge_method="S256",
        **more,
    )


def discover(issuer: str) -> Claims:
    """The provider's own description (OpenID Connect Discovery 1.0). Raises Refused."""
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    found = _document(url, _("the provider's description"))
    if found.get("issuer") != issuer:
        # Not kept: somebody is about to mend it.
        _kept.pop(url, None)
        raise Refused(
            _("The provider calls itself %(found)s, but the connection names the issuer %(expected)s.")
            % {"found": _short(found.get("issuer")), "expected": issuer}
        )
    return found


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(sign for sign in text[:200] if sign.isprintable()) or "–"


def _endpoint(description: Claims, name: str) -> str:
    found = description.get(name)
    if not isinstance(found, str) or urlsplit(found).scheme not in ("https", "http"):
        raise Refused(_("The provider's description names no usable %(name)s.") % {"name": name})
    return found


def _document(url: str, what: str, *, at_least: float = 0.0) -> Claims:
    """A JSON object, kept for FRESH_S; read again if it was read before `at_least` (time.monotonic)."""
    now = time.monotonic()
    known = _kept.get(url)
    if known is not None and known.at > max(now - FRESH_S, at_least):
        return known.document
    found = _object(_ask(Question(url, MAX_DOCUMENT), what), what)
    with _lock:
        if len(_kept) >= MAX_KEPT:
            _kept.clear()
        _kept[url] = _Kept(now, found)
    return found


def _ask(question: Question, what: str) -> Reply:
    try:
        return fetch(question, for_sign_on())
    except Unreachable as error:
        raise Refused(
            _("Asking for %(what)s at %(url)s failed: %(why)s")
            % {"what": what, "url": _short(question.url), "why": error}
        ) from error


def _object(reply: Reply, what: str) -> dict[str, object]:
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        found = None
    if reply.status != 200 or not isinstance(found, dict):
        error = found.get("error_description") or found.get("error") if isinstance(found, dict) else ""
        raise Refused(
            _("Asking for %(what)s was answered with status %(status)s: %(why)s")
            % {"what": what, "status": reply.status, "why": _short(error or _("no JSON object"))}
        )
    return found


# --- The answer ------------------------------------------------------------------------------------------


def redeem(client: Client, secrets: Secrets, code: str) -> Person:
    """Who signed in, for the code that the browser brought. Raises Refused."""
    description = discover(client.issuer)
    tokens = _exchange(client, secrets, code, description)
    token, access_token = tokens.get("id_token"), tokens.get("access_token")
    if not isinstance(token, str) or len(token) > MAX_TOKEN:
        raise Refused(_("The provider answered without an ID token, or with a very large one."))
    access_token = access_token if isinstance(access_token, str) else ""
    claims: dict[str, object] = dict(verify(client, secrets.nonce, token, access_token))
    if secrets.again:
        _check_signed_in_now(claims)
    if access_token and _lacks(client, claims) and "userinfo_endpoint" in description:
        claims = {**_userinfo(description, access_token, claims), **claims}
    return person_of(client, claims)


def _exchange(client: Client, secrets: Secrets, code: str, description: Claims) -> Claims:
    url = _endpoint(description, "token_endpoint")
    form = {"redirect_uri": client.redirect_uri, "code": code, "code_verifier": secrets.verifier}
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if client.secret and "client_secret_post" not in texts(
        description.get("token_endpoint_auth_methods_supported")
    ):
        headers["Authorization"] = _basic(client)
    else:
        form |= {"client_id": client.client_id, "client_secret": client.secret}
    body = prepare_token_request("authorization_code", **form)
    reply = _ask(Question(url, MAX_DOCUMENT, body.encode(), headers), _("the tokens"))
    return _object(reply, _("the tokens"))


def _basic(client: Client) -> str:
    """RFC 6749, section 2.3.1: each part is encoded as in a form first."""
    pair = f"{quote(client.client_id, safe='')}:{quote(client.secret, safe='')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def verify(client: Client, nonce: str, token: str, access_token: str = "") -> Claims:
    """The claims of an ID token that this provider made for this client and this question, now. Raises Refused."""
    header, claims = _decode(client, token)
    _check_whose(client, nonce, claims)
    _check_when(claims)
    params = {"nonce": nonce, "client_id": client.client_id, "access_token": access_token or None}
    try:
        CodeIDToken(claims, header, params=params).validate(leeway=LEEWAY_S)
    except (JoseError, ValueError, TypeError) as error:
        raise Refused(_("The ID token is not valid: %(why)s") % {"why": _short(str(error))}) from error
    return claims


def _decode(client: Client, token: str) -> tuple[Claims, dict[str, object]]:
    """Its header and claims once the signature is right, by the provider's keys; these are read again once."""
    url, began = _endpoint(discover(client.issuer), "jwks_uri"), time.monotonic()
    for at_least in (0.0, began - AGAIN_S):
        try:
            found = jwt.decode(token, _keys(url, at_least), algorithms=list(ALGORITHMS))
            return found.header, found.claims
        except (JoseError, ValueError, TypeError) as error:
            failure = error
    raise Refused(
        _("The signature of the ID token cannot be verified by the provider's keys: %(why)s")
        % {"why": _short(str(failure))}
    ) from failure


def _keys(url: str, at_least: float) -> KeySet:
    listed = _document(url, _("the provider's keys"), at_least=at_least).get("keys")
    usable = [
        key
        for key in (listed if isinstance(listed, list) else [])[:100]
        if isinstance(key, dict) and key.get("kty") in ("RSA", "EC", "OKP") and key.get("use", "sig") == "sig"
    ]
    if not usable:
        raise Refused(_("The provider publishes no keys for signatures."))
    return KeySet.import_key_set({"keys": usable})


def _check_whose(client: Client, nonce: str, claims: Claims) -> None:
    if claims.get("iss") != client.issuer:
        raise Refused(
            _("The ID token says issuer %(found)s, expected %(expected)s.")
            % {"found": _short(claims.get("iss")), "expected": client.issuer}
        )
    audience = claims.get("aud")
    audiences = texts(audience)
    if client.client_id not in audiences:
        raise Refused(
            _("The provider says audience %(found)s, expected %(expected)s.")
            % {"found": _short(audience), "expected": client.client_id}
        )
    party = claims.get("azp")
    if (party is not None or len(audiences) > 1) and party != client.client_id:
        raise Refused(
            _("The ID token was issued to %(found)s, expected %(expected)s.")
            % {"found": _short(party), "expected": client.client_id}
        )
    if claims.get("nonce") != nonce:
        raise Refused(_("The ID token answers another question: its nonce is not the one that was sent."))


def _check_when(claims: Claims) -> None:
    now = time.time()
    until, since = claims.get("exp"), claims.get("iat")
    if not _is_number(until) or not _is_number(since):
        raise Refused(_("The ID token does not say when it was made and until when it counts."))
    if float(str(until)) <= now - LEEWAY_S:
        raise Refused(_("The ID token has expired. Compare the clocks of both sides."))
    if float(str(since)) > now + LEEWAY_S:
        raise Refused(_("The ID token is from the future. Compare the clocks of both sides."))


def _check_signed_in_now(claims: Claims) -> None:
    """`max_age` makes the claim auth_time needed (Core 1.0, section 3.1.2.1). Raises Refused."""
    when = claims.get("auth_time")
    if not _is_number(when) or float(str(when)) < time.time() - MOST_AGO_S:
        raise Refused(_("The provider does not say that you have signed in there just now (auth_time)."))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _lacks(client: Client, claims: Claims) -> bool:
    wanted = [client.email_claim or "email", *filter(None, [client.role_claim])]
    return any(read_claim(claims, name) is None for name in wanted)


def _userinfo(description: Claims, access_token: str, claims: Claims) -> Claims:
    """More about the same person (Core 1.0, section 5.3). Raises Refused."""
    url = _endpoint(description, "userinfo_endpoint")
    headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
    if not access_token.isascii() or not access_token.isprintable():
        raise Refused(_("The provider's access token is not usable."))
    what = _("what the provider knows of the person")
    found = _object(_ask(Question(url, MAX_DOCUMENT, headers=headers), what), what)
    if found.get("sub") != claims.get("sub"):
        raise Refused(_("The provider's userinfo is about another person than its ID token."))
    return found


def read_claim(claims: Claims, name: str) -> object:
    """A claim by its name, or by the path to it, with dots: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def person_of(client: Client, claims: Claims) -> Person:
    """Raises Refused without an address, or with one that the provider has not verified."""
    email, subject, name = (
        read_claim(claims, client.email_claim or "email"),
        claims.get("sub"),
        claims.get("name"),
    )
    if not isinstance(email, str) or "@" not in email:
        raise Refused(
            _("The provider sends no e-mail address in the claim %(name)s.")
            % {"name": client.email_claim or "email"}
        )
    if claims.get("email_verified", True) not in (True, "true"):
        raise Refused(
            _("The provider says that it has not verified the address %(email)s.") % {"email": _short(email)}
        )
    values = texts(read_claim(claims, client.role_claim)) if client.role_claim else ()
    return checked(
        Person(
            subject if isinstance(subject, str) else "", email, name if isinstance(name, str) else "", values
        )
    )
